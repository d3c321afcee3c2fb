//! Decides whether a brief is a plugin's work or belongs to an existing control, by weighing what it says.
//!
//! Each structured field adds weight to the class that is responsible for it; each topic of the goal does too, with less
//! weight. A control claims the brief if its weight reaches [`CLAIM`]; a plugin does if the brief asks for something that no
//! control does. Both can be the case, because a brief may ask for two things.

use std::collections::BTreeMap;

use serde::Serialize;

use super::words;
use super::{Action, Brief, Datum, Moment, SystemRole, Traffic, Write};

/// The weight from which on a class claims the brief, or a part of it.
const CLAIM: i32 = 5;
/// The most weight that the words of the goal add to a class.
const WORDS: i32 = 6;

/// A class: what is responsible for a brief, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Belongs {
    /// A custom workflow.
    Plugin,
    /// Which keys may call what.
    Grants,
    /// The shape of traffic: rate, concurrency, size, address.
    Policies,
    /// Spend and usage over time.
    Budgets,
    /// The safety of content.
    SafetySec,
    /// Which provider answers.
    Routing,
    /// Which tools may be offered and called.
    McpSecurity,
}

impl Belongs {
    const CONTROLS: [Self; 6] = [Self::Grants, Self::Policies, Self::Budgets, Self::SafetySec, Self::Routing, Self::McpSecurity];

    /// The spelling in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plugin => "plugin",
            Self::Grants => "grants",
            Self::Policies => "policies",
            Self::Budgets => "budgets",
            Self::SafetySec => "safety_sec",
            Self::Routing => "routing",
            Self::McpSecurity => "mcp_security",
        }
    }

    /// Why the class is responsible.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Plugin => "a custom workflow that no standard control has is a plugin's work",
            Self::Grants => "who may call a model or a server is granted, and an absent grant is a refusal already",
            Self::Policies => "the shape of traffic (rate, concurrency, size, address) is a policy, counted over all replicas",
            Self::Budgets => "spend and use over days or months are budgets and quotas, reserved before a request leaves",
            Self::SafetySec => {
                "attacks, harmful content, personal data and secrets are SafetySec's, which reads every text of every dialect"
            }
            Self::Routing => "which provider answers, and what happens when it does not, is the router's",
            Self::McpSecurity => "which tools a server may offer and a caller may call is MCP security",
        }
    }

    /// Where the control is configured.
    pub fn configured(self) -> &'static str {
        match self {
            Self::Plugin => "plugins[] and chains.<name>",
            Self::Grants => "organisations[].api_keys[].models, or `odock-edge keys grant KEY --model NAME`",
            Self::Policies => "policies.ratelimit and policies.ip, of the gateway, an organisation, a team, a key or a model",
            Self::Budgets => "organisations[].budgets and organisations[].quotas",
            Self::SafetySec => "safety.mode and safety.modules.<name>; measure with `odock-edge safety eval` first",
            Self::Routing => "routes[].retries, providers[].timeout and the models of an organisation",
            Self::McpSecurity => "organisations[].mcp_servers and the grants of its keys",
        }
    }
}

/// An indication for a class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signal {
    /// The class.
    pub belongs: Belongs,
    /// Its weight.
    pub weight: i32,
    /// The part of the brief that it was found in, such as `action_model: deliver`.
    pub from: String,
    /// What that part is about.
    pub about: &'static str,
}

/// A class that the brief, or a part of it, belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// The class.
    pub belongs: Belongs,
    /// The sum of its signals' weights.
    pub weight: i32,
    /// The signals, heaviest first.
    pub because: Vec<Signal>,
}

/// The classes that a brief belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Classification {
    /// The plugin's part, if there is one.
    pub plugin: Option<Claim>,
    /// The parts of standard controls, heaviest first.
    pub controls: Vec<Claim>,
    /// Remarks for the author of the brief.
    pub remarks: Vec<String>,
}

impl Classification {
    /// `plugin`, the control's name, `both`, or `unclear`.
    pub fn verdict(&self) -> &'static str {
        match (&self.plugin, self.controls.first()) {
            (Some(_), Some(_)) => "both",
            (Some(_), None) => "plugin",
            (None, Some(claim)) => claim.belongs.as_str(),
            (None, None) => "unclear",
        }
    }
}

/// Classifies a brief.
pub fn classify(brief: &Brief) -> Classification {
    let facts = Facts::of(brief);
    let mut scale = Scale::default();
    facts.weigh(&mut scale);
    let structured = scale.signals.len();
    let gated = facts.gates() || brief.action_model.is_empty();
    let words = words::signals(&brief.goal);
    let mut spent: BTreeMap<Belongs, i32> = BTreeMap::new();
    for mut signal in words {
        let most = match signal.belongs {
            Belongs::Plugin => WORDS,
            // A plugin that only observes or notifies does no control's work, whatever the goal mentions.
            _ if !gated => 2,
            // No control can make a decision that depends on a person, an external system or the tenant's own data.
            Belongs::Grants | Belongs::SafetySec | Belongs::McpSecurity if facts.decided_elsewhere() => 3,
            _ => WORDS,
        };
        let so_far = spent.entry(signal.belongs).or_default();
        signal.weight = signal.weight.min(most - *so_far);
        if signal.weight > 0 {
            *so_far += signal.weight;
            scale.signals.push(signal);
        }
    }
    let mut plugin = Some(scale.claim(Belongs::Plugin)).filter(|claim| claim.weight >= 3);
    let mut controls: Vec<Claim> =
        Belongs::CONTROLS.into_iter().map(|control| scale.claim(control)).filter(|c| c.weight >= CLAIM).collect();
    controls.sort_by_key(|claim| -claim.weight);
    if let Some(strongest) = controls.first().map(|claim| claim.weight) {
        controls.retain(|claim| claim.weight * 10 >= strongest * 6);
        // Beside a control, a word or two in the goal do not make a plugin.
        let apart = structured == 0 && words::has_a_sentence_of_its_own(&brief.goal);
        let own = |claim: &Claim| claim.weight >= CLAIM || facts.asks_for_a_plugin() || apart;
        plugin = plugin.filter(own);
    }
    let mut remarks = facts.remarks();
    if structured == 0 {
        remarks.push("only the goal says what is wanted; fill in action_model and data_fields to be sure".to_owned());
    }
    if plugin.is_none() && controls.is_empty() {
        remarks.push(
            "nothing says what is to happen: name an action under action_model, and what it looks at under data_fields.reads".to_owned(),
        );
    }
    Classification { plugin, controls, remarks }
}

#[derive(Default)]
struct Scale {
    signals: Vec<Signal>,
}

impl Scale {
    fn add(&mut self, belongs: Belongs, weight: i32, from: impl Into<String>, about: &'static str) {
        self.signals.push(Signal { belongs, weight, from: from.into(), about });
    }

    fn claim(&self, belongs: Belongs) -> Claim {
        let mut because: Vec<Signal> = self.signals.iter().filter(|signal| signal.belongs == belongs).cloned().collect();
        because.sort_by_key(|signal| -signal.weight);
        Claim { belongs, weight: because.iter().map(|signal| signal.weight).sum(), because }
    }
}

/// The structured fields of a brief.
struct Facts<'b> {
    brief: &'b Brief,
}

impl<'b> Facts<'b> {
    fn of(brief: &'b Brief) -> Self {
        Self { brief }
    }

    fn does(&self, action: Action) -> bool {
        self.brief.action_model.contains(&action)
    }

    fn reads(&self, datum: Datum) -> bool {
        self.brief.data_fields.reads.contains(&datum)
    }

    fn reads_any(&self, fits: fn(Datum) -> bool) -> bool {
        self.brief.data_fields.reads.iter().any(|datum| fits(*datum))
    }

    fn system(&self, role: SystemRole) -> Option<&'b super::System> {
        self.brief.external_systems.iter().find(|system| system.role() == role)
    }

    /// Whether it can refuse or change a request.
    fn gates(&self) -> bool {
        [Action::Block, Action::Limit, Action::Redact, Action::Reroute].iter().any(|action| self.does(*action))
    }

    /// Whether the decision depends on something that no control reads.
    fn decided_elsewhere(&self) -> bool {
        self.system(SystemRole::Decides).is_some()
            || self.does(Action::Ask)
            || self.gates()
                && (self.reads_any(Datum::is_metadata)
                    || [Datum::McpArguments, Datum::Time, Datum::RequestHeaders].iter().any(|datum| self.reads(*datum)))
    }

    /// Whether it asks for something that only a plugin does.
    fn asks_for_a_plugin(&self) -> bool {
        let own = [Action::Ask, Action::Deliver, Action::Tag, Action::SetHeaders, Action::Note, Action::Transform];
        own.iter().any(|action| self.does(*action)) || self.decided_elsewhere() || !self.brief.external_systems.is_empty()
    }

    fn weigh(&self, scale: &mut Scale) {
        self.weigh_actions(scale);
        self.weigh_systems(scale);
        if self.does(Action::Block) || self.does(Action::Limit) {
            self.weigh_gate(scale);
        }
        if self.does(Action::Redact) {
            match self.system(SystemRole::Decides).is_some() || !self.brief.data_fields.words.is_empty() {
                true => scale.add(Belongs::Plugin, 4, "action_model: redact", "values that only you can tell"),
                false => scale.add(Belongs::SafetySec, 5, "action_model: redact", "removing sensitive values"),
            }
        }
        if self.does(Action::Reroute) {
            match self.reads(Datum::ProviderHealth) || self.brief.data_fields.reads.is_empty() {
                true => scale.add(Belongs::Routing, 6, "action_model: reroute", "which provider answers"),
                false => scale.add(Belongs::Plugin, 5, "action_model: reroute", "a choice by rules of your own"),
            }
        }
        if self.brief.moment.contains(&Moment::AfterResponse) && !self.gates() {
            scale.add(Belongs::Plugin, 2, "moment: after_response", "no control acts when everything is over");
        }
    }

    fn weigh_actions(&self, scale: &mut Scale) {
        let own = [
            (Action::Ask, 6, "action_model: ask", "a decision outside the gateway"),
            (Action::Deliver, 6, "action_model: deliver", "telling a system outside"),
            (Action::SetHeaders, 5, "action_model: set_headers", "headers of your own"),
            (Action::Tag, 4, "action_model: tag", "what usage and evidence are to be told apart by"),
            (Action::Note, 4, "action_model: note", "evidence of your own"),
            (Action::Transform, 4, "action_model: transform", "content changed by rules of your own"),
        ];
        for (action, weight, from, about) in own {
            if self.does(action) {
                scale.add(Belongs::Plugin, weight, from, about);
            }
        }
        for write in &self.brief.data_fields.writes {
            if matches!(write, Write::RequestHeader(_) | Write::ResponseHeader(_) | Write::Tag(_)) {
                scale.add(Belongs::Plugin, 4, format!("data_fields.writes: {write}"), "something attached");
                break;
            }
        }
        if !self.brief.data_fields.words.is_empty() {
            scale.add(Belongs::Plugin, 4, "data_fields.words", "words that mean something to you");
        }
    }

    fn weigh_systems(&self, scale: &mut Scale) {
        for system in &self.brief.external_systems {
            let (weight, about) = match system.role() {
                SystemRole::Decides => (6, "its answer decides"),
                SystemRole::Informs => (5, "its answer is attached"),
                SystemRole::Receives => (4, "it is told"),
            };
            scale.add(Belongs::Plugin, weight, format!("external_systems: {}", system.name), about);
        }
    }

    /// Weighs a refusal by what it depends on.
    fn weigh_gate(&self, scale: &mut Scale) {
        let limit = self.does(Action::Limit);
        let mut counted = false;
        for datum in &self.brief.data_fields.reads {
            let from = format!("refuses by {}", datum.as_str());
            match datum {
                Datum::RequestRate | Datum::Concurrency | Datum::RequestSize | Datum::Address => {
                    scale.add(Belongs::Policies, 6, from, "the shape of traffic");
                    counted = true;
                }
                Datum::Cost | Datum::Requests => {
                    scale.add(Belongs::Budgets, 6, from, "spend and use over time");
                    counted = true;
                }
                Datum::Tokens => {
                    scale.add(Belongs::Budgets, if limit { 5 } else { 3 }, from, "use over time");
                    counted = true;
                }
                Datum::OrganisationMetadata | Datum::TeamMetadata | Datum::UserMetadata => {
                    scale.add(Belongs::Plugin, 6, from, "what only your own data says of a caller");
                }
                Datum::McpArguments => scale.add(Belongs::Plugin, 5, from, "what a tool is called with"),
                Datum::Time | Datum::RequestHeaders => scale.add(Belongs::Plugin, 5, from, "a rule of the house"),
                Datum::McpDescription => scale.add(Belongs::McpSecurity, 6, from, "what a server says of its tools"),
                Datum::ProviderHealth => scale.add(Belongs::Routing, 5, from, "which provider answers"),
                _ => {}
            }
        }
        if limit && !counted {
            scale.add(Belongs::Policies, 2, "action_model: limit", "an amount");
            scale.add(Belongs::Budgets, 2, "action_model: limit", "an amount");
        }
        if self.decided_elsewhere() || counted || !self.brief.data_fields.words.is_empty() {
            return;
        }
        // It depends only on the caller and on what is called, as grants do.
        if self.reads(Datum::McpTool) || self.brief.traffic_type == [Traffic::Mcp] && self.reads(Datum::McpServer) {
            scale.add(Belongs::McpSecurity, 6, "refuses by caller and tool alone", "which tools may be called");
        } else if self.reads_any(|datum| datum.is_content()) {
            scale.add(Belongs::SafetySec, 4, "refuses by content alone", "whether content is safe");
        } else if [Datum::Model, Datum::McpServer, Datum::Key, Datum::Team, Datum::User, Datum::Organisation]
            .iter()
            .any(|datum| self.reads(*datum))
        {
            scale.add(Belongs::Grants, 5, "refuses by caller and model alone", "who may call");
        }
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let after = self.brief.moment == [Moment::AfterResponse];
        if after && (self.gates() || self.does(Action::Ask)) {
            remarks
                .push("moment says after_response, when nothing can be refused or changed any more: it is placed before that".to_owned());
        }
        if self.does(Action::Deliver) && self.brief.data_fields.leaves.is_empty() {
            remarks.push(
                "data_fields.leaves is empty: systems outside are told the request's id, the caller's team and how it ended, no content"
                    .to_owned(),
            );
        }
        if self.brief.data_fields.leaves.iter().any(|datum| datum.is_content()) {
            remarks.push(
                "content leaves the gateway: SafetySec redacts before plugins run, if it is on; say under compliance who agreed".to_owned(),
            );
        }
        if !self.brief.rollout.observe_first && self.gates() {
            remarks.push("rollout.observe_first is off for something that can refuse: the first mistake is a caller's".to_owned());
        }
        if self.brief.owner.is_none() {
            remarks.push("nobody answers for it: name an owner".to_owned());
        }
        remarks
    }
}
