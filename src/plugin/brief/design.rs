//! The design of a plugin for a brief: its parts, its gates and styles, and the least that it needs.

use std::collections::BTreeMap;

use super::{Action, Brief, Classification, Datum, Moment, System, SystemRole, Write};
use crate::gate::{Gate, Style};
use crate::plugin::{Need, StorageScope};

/// A gate at which the plugin runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The gate.
    pub gate: Gate,
    /// How it runs relative to its siblings.
    pub style: Style,
    /// The reason for this gate.
    pub why: &'static str,
}

impl Place {
    /// The public name of the gate, as in a brief.
    pub fn moment(&self) -> &'static str {
        match self.gate {
            Gate::PreRoute | Gate::PreUpstream => "before_upstream",
            Gate::PostUpstream => "after_upstream",
            Gate::PostResponse => "after_response",
        }
    }
}

/// What the plugin does with one half of an exchange.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Side {
    /// Refuses texts in which a word occurs.
    pub words: bool,
    /// Replaces words.
    pub replaces: bool,
    /// Counts words.
    pub signals: bool,
    /// Asks the external system that decides or informs.
    pub asks: bool,
    /// Includes the texts in the question.
    pub tells_text: bool,
    /// Headers, by name, with the templates of their values.
    pub headers: BTreeMap<String, String>,
}

impl Side {
    pub fn reads(&self) -> bool {
        self.words || self.replaces || self.signals || self.tells_text
    }

    fn writes(&self) -> bool {
        self.replaces || !self.headers.is_empty()
    }
}

/// The parts of a plugin, and where they run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Design {
    /// The gates, in the order of a request's life.
    pub places: Vec<Place>,
    /// The least that it needs.
    pub needs: Vec<Need>,
    /// What it does with the request, and at which gate.
    pub(super) request: Option<(Gate, Side)>,
    /// What it does with the answer.
    pub(super) answer: Option<Side>,
    /// Refuses callers without the required metadata.
    pub(super) require: bool,
    /// Refuses outside of certain hours.
    pub(super) hours: bool,
    /// Acts only on calls of certain tools.
    pub(super) tools: bool,
    /// Chooses another model.
    pub(super) reroutes: bool,
    /// Tags, by name, with the templates of their values.
    pub(super) tags: BTreeMap<String, String>,
    /// Whether signals become tags, which later steps and external systems see.
    pub(super) tags_signals: bool,
    /// The external system that decides or informs.
    pub(super) asked: Option<Told>,
    /// The external system that is notified after the request.
    pub(super) told: Option<Told>,
    /// Notes in evidence how the request ended.
    pub(super) notes_end: bool,
    /// The metadata that it looks up.
    pub(super) scopes: Vec<StorageScope>,
}

/// An external system, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub name: String,
    pub url: String,
    pub private: bool,
    pub secret: Option<String>,
    pub leaves: Vec<Datum>,
    /// Whether its answer is only attached and refuses nothing.
    pub informs: bool,
}

impl Design {
    /// The design for a brief that was classified as a plugin's work.
    pub fn of(brief: &Brief, classification: &Classification) -> Self {
        Draft { brief: &brief.completed(), classification }.design()
    }

    /// Whether the plugin can refuse.
    pub fn refuses(&self) -> bool {
        self.needs.contains(&Need::Block)
    }

    pub(super) fn sides(&self) -> impl Iterator<Item = &Side> {
        self.request.iter().map(|(_, side)| side).chain(&self.answer)
    }

    pub(super) fn uses_words(&self) -> bool {
        self.sides().any(|side| side.words || side.replaces)
    }

    pub(super) fn uses_signals(&self) -> bool {
        self.sides().any(|side| side.signals)
    }

    pub(super) fn asks(&self) -> bool {
        self.sides().any(|side| side.asks)
    }

    pub(super) fn reads_text(&self) -> bool {
        self.sides().any(Side::reads)
    }
}

/// The placeholder of templates for the metadata of a scope.
pub(super) fn metadata(scope: StorageScope) -> &'static str {
    match scope {
        StorageScope::Teams => "caller.team.metadata",
        StorageScope::Users => "caller.user.metadata",
        _ => "organisation.metadata",
    }
}

struct Draft<'b> {
    brief: &'b Brief,
    classification: &'b Classification,
}

impl Draft<'_> {
    fn does(&self, action: Action) -> bool {
        self.brief.action_model.contains(&action)
    }

    fn reads(&self, datum: Datum) -> bool {
        self.brief.data_fields.reads.contains(&datum)
    }

    fn says(&self, moment: Moment) -> bool {
        self.brief.moment.contains(&moment)
    }

    fn system(&self, roles: &[SystemRole]) -> Option<&System> {
        self.brief.external_systems.iter().find(|system| roles.contains(&system.role()))
    }

    /// Whether the brief is about the request, and whether it is about the answer.
    fn halves(&self) -> (bool, bool) {
        let reads = &self.brief.data_fields.reads;
        let of_answer = reads.iter().any(|datum| matches!(datum, Datum::ResponseContent | Datum::ResponseHeaders));
        let of_request =
            reads.iter().any(|datum| matches!(datum, Datum::RequestContent | Datum::McpArguments | Datum::McpTool | Datum::RequestHeaders));
        let answer = of_answer || self.says(Moment::AfterUpstream);
        let request = of_request || self.says(Moment::BeforeUpstream) || !answer;
        (request, answer)
    }

    fn design(&self) -> Design {
        let (for_request, for_answer) = self.halves();
        let reads_content = self.brief.data_fields.reads.iter().any(|datum| datum.is_content());
        let asked = self.system(&[SystemRole::Decides]).or_else(|| self.system(&[SystemRole::Informs]));
        let asked = asked
            .filter(|system| system.role() == SystemRole::Informs || self.does(Action::Ask) || self.does(Action::Block) || !self.acts());
        let told = self.system(&[SystemRole::Receives]).filter(|_| self.does(Action::Deliver) || !self.acts());
        let told = told.or_else(|| self.brief.external_systems.first().filter(|_| self.does(Action::Deliver) && asked.is_none()));
        let refuses = self.does(Action::Block) && asked.is_none_or(|system| system.role() == SystemRole::Informs);
        let has_words = !self.brief.data_fields.words.is_empty();
        let refuses_words = refuses && reads_content && (has_words || self.classification.controls.is_empty());
        let replaces = self.does(Action::Transform) || self.does(Action::Redact) && self.classification.plugin_redacts();
        let signals = !refuses_words && !replaces && (has_words || reads_content && !self.does(Action::Block)) && asked.is_none();
        let tells_text = |datum: Datum| self.brief.data_fields.leaves.contains(&datum);

        let mut request = Side {
            words: refuses_words && for_request,
            replaces: replaces && (self.writes(&Write::RequestContent) || for_request && !self.writes(&Write::ResponseContent)),
            signals: signals && for_request && reads_content,
            asks: asked.is_some() && for_request,
            tells_text: asked.is_some() && for_request && (tells_text(Datum::RequestContent) || tells_text(Datum::McpArguments)),
            ..Side::default()
        };
        let mut answer = Side {
            words: refuses_words && for_answer,
            replaces: replaces && (self.writes(&Write::ResponseContent) || for_answer && !self.writes(&Write::RequestContent)),
            signals: signals && for_answer && self.reads(Datum::ResponseContent),
            asks: asked.is_some_and(|system| system.role() == SystemRole::Decides) && for_answer,
            tells_text: asked.is_some() && for_answer && tells_text(Datum::ResponseContent),
            ..Side::default()
        };
        let signalled = request.signals || answer.signals;
        let mut tags = BTreeMap::new();
        for write in &self.brief.data_fields.writes {
            match write {
                Write::RequestHeader(name) => request.headers.insert(name.clone(), self.value_of(name, signalled)),
                Write::ResponseHeader(name) => answer.headers.insert(name.clone(), self.value_of(name, signalled)),
                Write::Tag(name) if !signalled => tags.insert(name.clone(), self.value_of(name, false)),
                _ => None,
            };
        }
        self.defaults(&mut request, &mut answer, &mut tags, (for_request, for_answer), signalled);

        let gating = self.does(Action::Block) || asked.is_some();
        let require = gating && !self.scopes().is_empty() && asked.is_none();
        let hours = self.does(Action::Block) && self.reads(Datum::Time);
        let tools = gating && self.reads(Datum::McpTool) && (asked.is_some() || require || hours || refuses_words);
        let tags_signals = signalled && (self.does(Action::Tag) || told.is_some() || self.writes_any_tag() || !answer.headers.is_empty());
        let reroutes = self.does(Action::Reroute);
        let tag_here = !tags.is_empty();
        let request_used =
            request.reads() || request.writes() || request.asks || require || hours || reroutes || tag_here && (for_request || !for_answer);
        let answer_used = answer.reads() || answer.writes() || answer.asks || tag_here && !request_used;
        let told_anything = told.is_some();
        let notes_end = !told_anything && !request_used && !answer_used;
        let mut design = Design {
            places: Vec::new(),
            needs: Vec::new(),
            request: None,
            answer: answer_used.then_some(answer),
            require,
            hours,
            tools,
            reroutes,
            tags,
            tags_signals,
            asked: asked.map(|system| self.told(system)),
            told: told.map(|system| self.told(system)),
            notes_end,
            scopes: self.scopes(),
        };
        if request_used {
            // Earlier than `pre_upstream` only to choose the model, or if everything it uses is known from the start.
            let early = reroutes || !(request.reads() || request.writes() || request.asks || require || hours);
            design.request = Some((if early { Gate::PreRoute } else { Gate::PreUpstream }, request));
        }
        let templates: Vec<&String> = design.sides().flat_map(|side| side.headers.values()).chain(design.tags.values()).collect();
        let used = |scope: &StorageScope| design.require || templates.iter().any(|template| template.contains(metadata(*scope)));
        design.scopes = design.scopes.iter().copied().filter(used).collect();
        design.places = places(&design);
        design.needs = needs(&design);
        design
    }

    /// Whether the brief names any action.
    fn acts(&self) -> bool {
        !self.brief.action_model.is_empty()
    }

    fn writes(&self, what: &Write) -> bool {
        self.brief.data_fields.writes.contains(what)
    }

    fn writes_any_tag(&self) -> bool {
        self.brief.data_fields.writes.iter().any(|write| matches!(write, Write::Tag(_)))
    }

    /// Adds headers and tags that the brief asks for without naming them.
    fn defaults(
        &self,
        request: &mut Side,
        answer: &mut Side,
        tags: &mut BTreeMap<String, String>,
        (for_request, for_answer): (bool, bool),
        signalled: bool,
    ) {
        let header = format!("x-{}", self.brief.name.replace('_', "-"));
        if self.does(Action::SetHeaders) && request.headers.is_empty() && answer.headers.is_empty() {
            let value = self.value_of(&header, signalled);
            let side = if for_answer && !for_request { answer } else { request };
            side.headers.insert(header, value);
        }
        // A system that informs names its tags itself.
        let informed = self.system(&[SystemRole::Informs]).is_some();
        if self.does(Action::Tag) && tags.is_empty() && !signalled && !informed {
            tags.insert(self.brief.name.clone(), self.value_of(&self.brief.name, false));
        }
    }

    fn scopes(&self) -> Vec<StorageScope> {
        [
            (Datum::OrganisationMetadata, StorageScope::Organisations),
            (Datum::TeamMetadata, StorageScope::Teams),
            (Datum::UserMetadata, StorageScope::Users),
        ]
        .into_iter()
        .filter(|(datum, _)| self.reads(*datum))
        .map(|(_, scope)| scope)
        .collect()
    }

    /// The template that best fits the name of a header or tag, among the data that the brief reads.
    fn value_of(&self, name: &str, signalled: bool) -> String {
        let name = name.to_ascii_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        let key = name.trim_start_matches("x-").replace('-', "_");
        let named: &[(Datum, &[&str], &str)] = &[
            (Datum::TraceId, &["trace", "correlation", "span"], "{trace.id|request.id}"),
            (Datum::RequestId, &["request", "correlation"], "{request.id}"),
            (Datum::Team, &["team", "department"], "{caller.team.name}"),
            (Datum::User, &["user"], "{caller.user.name}"),
            (Datum::Key, &["key", "app"], "{caller.key_name}"),
            (Datum::Organisation, &["tenant", "org", "customer"], "{organisation.name}"),
            (Datum::Model, &["model"], "{model}"),
            (Datum::Provider, &["provider", "served", "upstream"], "{provider}"),
            (Datum::Route, &["route"], "{route}"),
            (Datum::Endpoint, &["endpoint", "api"], "{endpoint}"),
        ];
        if signalled && !has(&["trace", "request", "team", "tenant", "model", "provider"]) {
            return "{tag.signals}".to_owned();
        }
        let by_name = named.iter().find(|(datum, words, _)| has(words) && self.reads(*datum));
        if let Some((_, _, template)) = by_name {
            return (*template).to_owned();
        }
        let metadata = [
            (Datum::OrganisationMetadata, "organisation.metadata"),
            (Datum::TeamMetadata, "caller.team.metadata"),
            (Datum::UserMetadata, "caller.user.metadata"),
        ];
        if let Some((_, from)) = metadata.iter().find(|(datum, _)| self.reads(*datum)) {
            return format!("{{{from}.{key}}}");
        }
        let anything = named.iter().find(|(datum, _, _)| self.reads(*datum)).or_else(|| named.iter().find(|(_, words, _)| has(words)));
        anything.map_or("{request.id}", |(_, _, template)| template).to_owned()
    }

    fn told(&self, system: &System) -> Told {
        let asked = system.role() != SystemRole::Receives;
        let fits = |datum: &Datum| {
            if asked {
                !matches!(datum, Datum::Status | Datum::Outcome | Datum::Tokens | Datum::Latency | Datum::Decisions)
            } else {
                !datum.is_content()
            }
        };
        let mut leaves: Vec<Datum> = self.brief.data_fields.leaves.iter().copied().filter(fits).collect();
        if leaves.is_empty() {
            leaves = match asked {
                true => vec![Datum::Organisation, Datum::Team, Datum::User, Datum::Key, Datum::Model],
                false => vec![Datum::Organisation, Datum::Team, Datum::Model, Datum::Status, Datum::Outcome],
            };
        }
        leaves.retain(|datum| *datum != Datum::RequestId);
        leaves.insert(0, Datum::RequestId);
        leaves.dedup();
        Told {
            name: system.name.clone(),
            url: system
                .url
                .clone()
                .unwrap_or_else(|| format!("https://{}.invalid/", system.name.to_ascii_lowercase().replace(['_', '.'], "-"))),
            private: system.private,
            secret: system.secret.clone(),
            leaves,
            informs: system.role() == SystemRole::Informs,
        }
    }
}

impl Classification {
    /// Whether redaction is the plugin's own, and not SafetySec's.
    fn plugin_redacts(&self) -> bool {
        !self.controls.iter().any(|claim| claim.belongs == super::Belongs::SafetySec)
    }
}

/// The gates and styles. Everything that changes or refuses is sequential.
fn places(design: &Design) -> Vec<Place> {
    let mut places = Vec::new();
    let informs = design.asked.as_ref().is_some_and(|asked| asked.informs);
    let ordered = |side: &Side| side.writes() || side.words || side.asks || side.signals && design.tags_signals || informs;
    if let Some((gate, side)) = &design.request {
        let sequential = ordered(side) || design.require || design.hours || design.reroutes || !design.tags.is_empty();
        let why = match gate {
            Gate::PreRoute => "the model may still change, and nothing else is needed to know",
            _ => "grants hold and the model is settled: the last look before bytes leave",
        };
        places.push(Place { gate: *gate, style: if sequential { Style::Sequential } else { Style::Parallel }, why });
    }
    if let Some(side) = &design.answer {
        let sequential = ordered(side) || design.request.is_none() && !design.tags.is_empty();
        let why = "the provider answered and the caller has seen nothing";
        places.push(Place { gate: Gate::PostUpstream, style: if sequential { Style::Sequential } else { Style::Parallel }, why });
    }
    if design.told.is_some() || design.notes_end {
        places.push(Place { gate: Gate::PostResponse, style: Style::Background, why: "everything is known and nobody waits" });
    }
    places
}

fn needs(design: &Design) -> Vec<Need> {
    let request = design.request.as_ref().map(|(_, side)| side);
    let reads_request = request.is_some_and(Side::reads) || design.tools;
    let decides = design.asked.as_ref().is_some_and(|asked| !asked.informs);
    let informs = design.asked.as_ref().is_some_and(|asked| asked.informs);
    let systems = || design.asked.iter().chain(&design.told);
    let all = [
        (Need::ReadRequest, reads_request),
        (Need::WriteRequest, request.is_some_and(|side| side.replaces) || design.reroutes),
        (Need::ReadResponse, design.answer.as_ref().is_some_and(Side::reads)),
        (Need::WriteResponse, design.answer.as_ref().is_some_and(|side| side.replaces)),
        (Need::Block, decides || design.require || design.hours || design.sides().any(|side| side.words)),
        (Need::Tags, !design.tags.is_empty() || design.tags_signals || informs),
        (Need::Headers, design.sides().any(|side| !side.headers.is_empty())),
        (Need::Network, systems().next().is_some()),
        (Need::Secrets, systems().any(|system| system.secret.is_some())),
        (Need::Background, design.told.is_some() || design.notes_end),
        (Need::Deliver, design.told.is_some()),
    ];
    let mut needs: Vec<Need> = all.into_iter().filter(|(_, needed)| *needed).map(|(need, _)| need).collect();
    needs.extend(design.scopes.iter().map(|scope| Need::Storage(*scope)));
    needs
}
