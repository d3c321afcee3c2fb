//! The product's evaluation checklist, filled in from a plugin's manifest, its test cases and the operator's configuration;
//! the remaining items are questions to people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::config::sections::{ChainEntry, PluginEntry};
use crate::gate::{Gate, Style};
use crate::plugin::harness::Used;
use crate::plugin::{Manifest, Mode, Need, OnError};

/// The state of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Answered by the manifest, the cases or the configuration.
    Stated,
    /// Must be answered by a person.
    Open,
    /// Was answered by a person.
    Answered,
    /// The plugin asks for more, or is granted more, than it uses.
    Exceeds,
}

/// One line of the checklist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The part of the checklist.
    pub section: &'static str,
    /// Its name; for a question, the key under which it is answered.
    pub item: String,
    /// The value, or the question.
    pub value: String,
    /// Its state.
    pub state: State,
}

/// The questions to people: key and text.
pub const QUESTIONS: [(&str, &str); 11] = [
    ("requirement", "what requirement, in one sentence, does it meet here?"),
    ("belongs_here", "why is it no grant, policy, budget, SafetySec module, route or MCP rule?"),
    ("owner", "who answers for it?"),
    ("content", "it reads what people say: who agreed, and for which traffic?"),
    ("data_leaving", "data leaves the gateway: who agreed to these systems, and what may they keep?"),
    ("secrets", "who may read the secrets, and how are they changed?"),
    ("stored_data", "it reads stored data: why is what every view shows not enough?"),
    ("latency", "it stands in a request's way: how much may it add, and who measured that?"),
    ("system_down", "a system outside is away or slow: what should happen to requests, and was it tried?"),
    ("non_production", "where was it tried before production, and with what result?"),
    ("rollback", "how is it taken back, by whom, how fast?"),
];

/// A plugin instance of a configuration, and its places in chains.
pub struct Listed<'c> {
    /// The instance as written.
    pub entry: &'c PluginEntry,
    /// The places: chain, gate and style.
    pub places: Vec<(String, Gate, Style)>,
}

impl<'c> Listed<'c> {
    /// The instances of a plugin, in the order of the file.
    pub fn all(plugin: &str, entries: &'c [PluginEntry], chains: &BTreeMap<String, ChainEntry>) -> Vec<Self> {
        let ours = entries.iter().filter(|entry| entry.plugin() == plugin);
        ours.map(|entry| Self { entry, places: chains.iter().flat_map(|(name, chain)| places(&entry.name, name, chain)).collect() })
            .collect()
    }
}

fn places(instance: &str, name: &str, chain: &ChainEntry) -> Vec<(String, Gate, Style)> {
    let after = &chain.post_response;
    let late = |style| if after.background { Style::Background } else { style };
    let lists = [
        (Gate::PreRoute, Style::Sequential, &chain.pre_route.sequential),
        (Gate::PreRoute, Style::Parallel, &chain.pre_route.parallel),
        (Gate::PreUpstream, Style::Sequential, &chain.pre_upstream.sequential),
        (Gate::PreUpstream, Style::Parallel, &chain.pre_upstream.parallel),
        (Gate::PostUpstream, Style::Sequential, &chain.post_upstream.sequential),
        (Gate::PostUpstream, Style::Parallel, &chain.post_upstream.parallel),
        (Gate::PostResponse, late(Style::Sequential), &after.sequential),
        (Gate::PostResponse, late(Style::Parallel), &after.parallel),
    ];
    let listed = lists.into_iter().filter(|(.., names)| names.iter().any(|known| known == instance));
    listed.map(|(gate, style, _)| (name.to_owned(), gate, style)).collect()
}

/// The facts from which a checklist is filled in.
pub struct Facts<'f> {
    /// The plugin's manifest.
    pub manifest: &'static Manifest,
    /// What its cases use; `None` if it has no cases.
    pub used: Option<&'f Used>,
    /// Its instances in the configuration.
    pub instances: &'f [Listed<'f>],
    /// Answers of people, by key of the question.
    pub answers: &'f BTreeMap<String, String>,
}

/// A filled-in checklist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checklist {
    /// Name of the plugin.
    pub plugin: &'static str,
    /// Its version.
    pub version: &'static str,
    /// All items, by section.
    pub items: Vec<Item>,
}

impl Checklist {
    /// Number of items in a state.
    pub fn count(&self, state: State) -> usize {
        self.items.iter().filter(|item| item.state == state).count()
    }

    /// Whether no item is open, and none exceeds what is used.
    pub fn is_complete(&self) -> bool {
        self.count(State::Open) + self.count(State::Exceeds) == 0
    }

    /// The checklist as text for people.
    pub fn text(&self) -> String {
        let mut text = format!("{} {}\n", self.plugin, self.version);
        let mut section = "";
        for item in &self.items {
            if item.section != section {
                section = item.section;
                let _ = writeln!(text, "\n{section}");
            }
            let mark = match item.state {
                State::Stated => "      ",
                State::Open => "OPEN  ",
                State::Answered => "ok    ",
                State::Exceeds => "EXCESS",
            };
            let _ = writeln!(text, "  {mark} {:<20} {}", item.item, item.value);
        }
        let _ = writeln!(text, "\n{} open, {} exceed what is used", self.count(State::Open), self.count(State::Exceeds));
        text
    }
}

impl Facts<'_> {
    /// Fills in the checklist.
    pub fn checklist(&self) -> Checklist {
        let mut sheet = Sheet { answers: self.answers, items: Vec::new() };
        self.requirement(&mut sheet);
        self.moments(&mut sheet);
        self.capabilities(&mut sheet);
        self.data(&mut sheet);
        self.observability(&mut sheet);
        self.failure(&mut sheet);
        self.rollout(&mut sheet);
        Checklist { plugin: self.manifest.name, version: self.manifest.version, items: sheet.items }
    }

    fn needs(&self, need: Need) -> bool {
        self.manifest.needs.contains(&need)
    }

    fn requirement(&self, sheet: &mut Sheet<'_>) {
        sheet.state("Requirement", "summary", self.manifest.summary);
        sheet.state("Requirement", "listing", format!("{}, {}, by {}", self.manifest.category, self.manifest.kind, self.manifest.author));
        sheet.ask("Requirement", "requirement");
        sheet.ask("Requirement", "belongs_here");
        sheet.ask("Requirement", "owner");
    }

    fn moments(&self, sheet: &mut Sheet<'_>) {
        let names = |styles: &[Style]| styles.iter().map(|style| style.as_str()).collect::<Vec<_>>().join(", ");
        for gate in self.manifest.gates {
            let fits: Vec<Style> =
                self.manifest.styles.iter().copied().filter(|style| crate::gate::placement(self.manifest, *gate, *style).is_ok()).collect();
            sheet.state("Moments", gate.as_str(), names(&fits));
        }
        for instance in self.instances {
            for (chain, gate, style) in &instance.places {
                sheet.state(
                    "Moments",
                    &format!("`{}`", instance.entry.name),
                    format!("chain {chain}: {}, {}", gate.as_str(), style.as_str()),
                );
            }
        }
    }

    fn capabilities(&self, sheet: &mut Sheet<'_>) {
        let yes = |needed: bool| if needed { "yes" } else { "no" };
        let asked = [
            ("inspect request", Need::ReadRequest),
            ("mutate request", Need::WriteRequest),
            ("inspect response", Need::ReadResponse),
            ("mutate response", Need::WriteResponse),
            ("block", Need::Block),
            ("headers", Need::Headers),
            ("tags", Need::Tags),
            ("network", Need::Network),
            ("secrets", Need::Secrets),
            ("webhooks, deliveries", Need::Deliver),
            ("mail", Need::Mail),
            ("background", Need::Background),
        ];
        for (what, need) in asked {
            sheet.state("Capabilities", what, yes(self.needs(need)));
        }
        let scopes: Vec<&str> = self
            .manifest
            .needs
            .iter()
            .filter_map(|need| if let Need::Storage(scope) = need { Some(scope.as_str()) } else { None })
            .collect();
        sheet.state("Capabilities", "storage scopes", if scopes.is_empty() { "none".to_owned() } else { scopes.join(", ") });
        let needs: Vec<String> = self.manifest.needs.iter().map(ToString::to_string).collect();
        sheet.state("Capabilities", "all needs", if needs.is_empty() { "none".to_owned() } else { needs.join(", ") });
        match self.used {
            None => sheet.add("Capabilities", "cases", "none were found, so nothing shows which needs are used (--cases DIR)", State::Open),
            Some(used) => {
                sheet.state("Capabilities", "cases", used.cases.to_string());
                for need in self.manifest.needs.iter().filter(|need| !used.has(**need)) {
                    let value = "asked for by the manifest, and every case comes out the same without it";
                    sheet.add("Capabilities", &need.to_string(), value, State::Exceeds);
                }
            }
        }
        for instance in self.instances {
            self.grants(sheet, instance);
        }
    }

    /// Compares an instance's grants with what the cases and its configuration use.
    fn grants(&self, sheet: &mut Sheet<'_>, instance: &Listed<'_>) {
        let entry = instance.entry;
        let name = format!("`{}`", entry.name);
        let config = entry.config.to_string();
        for rule in &entry.grant.network {
            let host = rule.split_whitespace().next().unwrap_or_default();
            let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
            match self.needs(Need::Network) && config.contains(bare) {
                true => sheet.state("Capabilities", &name, format!("may call {rule}")),
                false => {
                    sheet.add("Capabilities", &name, format!("may call {rule}, which its configuration names nowhere"), State::Exceeds)
                }
            }
        }
        for secret in &entry.grant.secrets {
            let named = config.contains(&format!("\"{secret}\""));
            let shown = self.used.is_some_and(|used| used.secrets.contains(secret));
            match named || shown {
                true => sheet.state("Capabilities", &name, format!("may read the secret {secret}")),
                false => sheet.add(
                    "Capabilities",
                    &name,
                    format!("may read the secret {secret}, which its configuration names nowhere"),
                    State::Exceeds,
                ),
            }
        }
        for scope in &entry.storage_access {
            let need = self.manifest.needs.iter().find(|need| matches!(need, Need::Storage(known) if known.as_str() == scope));
            let shown = need.is_none_or(|need| self.used.is_none_or(|used| used.has(*need)));
            match shown {
                true => sheet.state("Capabilities", &name, format!("may look up {scope}")),
                false => sheet.add("Capabilities", &name, format!("may look up {scope}, and no case does"), State::Exceeds),
            }
        }
    }

    fn data(&self, sheet: &mut Sheet<'_>) {
        let reads = |need, what: &str| if self.needs(need) { format!("reads {what}") } else { format!("does not read {what}") };
        let content = format!("{}, {}", reads(Need::ReadRequest, "requests"), reads(Need::ReadResponse, "answers"));
        sheet.state("Data", "content", content);
        if self.needs(Need::ReadRequest) || self.needs(Need::ReadResponse) {
            sheet.ask("Data", "content");
        }
        let leaves = self.needs(Need::Network) || self.needs(Need::Deliver) || self.needs(Need::Mail);
        let hosts: Vec<&str> = self.instances.iter().flat_map(|one| &one.entry.grant.network).map(String::as_str).collect();
        sheet.state(
            "Data",
            "leaves the gateway",
            match (leaves, hosts.is_empty()) {
                (false, _) => "nothing".to_owned(),
                (true, true) => "what its README says, to hosts that are granted".to_owned(),
                (true, false) => format!("what its README says, to {}", hosts.join(", ")),
            },
        );
        if leaves {
            sheet.ask("Data", "data_leaving");
        }
        if self.needs(Need::Secrets) {
            sheet.ask("Data", "secrets");
        }
        if self.manifest.needs.iter().any(|need| matches!(need, Need::Storage(_))) {
            sheet.ask("Data", "stored_data");
        }
    }

    fn observability(&self, sheet: &mut Sheet<'_>) {
        sheet.state("Evidence", "by the gateway", "request id, moment, style, mode, decision, what changed, scope, time, error");
        for (key, meaning) in self.manifest.evidence {
            sheet.state("Evidence", key, *meaning);
        }
    }

    fn failure(&self, sheet: &mut Sheet<'_>) {
        let on_path = self.manifest.gates.iter().any(|gate| *gate != Gate::PostResponse);
        sheet.state("Failure", "by default", if on_path { "on_error: deny, timeout: 1s" } else { "on record; nobody waits for it" });
        for Listed { entry, .. } in self.instances {
            let open = entry.on_error == OnError::Allow && self.needs(Need::Block);
            let means = if open { ": a failure lets through what it would have looked at" } else { "" };
            sheet.state(
                "Failure",
                &format!("`{}`", entry.name),
                format!("on_error: {}, timeout: {}{means}", entry.on_error.as_str(), entry.timeout),
            );
        }
        if on_path {
            sheet.ask("Failure", "latency");
        }
        if self.needs(Need::Network) || self.needs(Need::Deliver) {
            sheet.ask("Failure", "system_down");
        }
        if self.needs(Need::ReadResponse) {
            let streams = if self.manifest.streams { "looked at frame by frame" } else { "held back until they are complete" };
            sheet.state("Failure", "streamed answers", streams);
        }
    }

    fn rollout(&self, sheet: &mut Sheet<'_>) {
        for Listed { entry, places } in self.instances {
            let whom = if entry.scope.is_everybody() { "everybody" } else { "its scope" };
            let name = format!("`{}`", entry.name);
            let state = match (entry.enabled && !places.is_empty(), entry.mode) {
                (false, _) => "switched off, or in no chain".to_owned(),
                (true, mode) => format!("mode: {}, for {whom}, {} % of keys", mode.as_str(), entry.rollout),
            };
            sheet.state("Rollout", &name, state);
            if entry.mode == Mode::Enforce && entry.enabled && entry.rollout == 100 && entry.scope.is_everybody() && self.needs(Need::Block)
            {
                sheet.state("Rollout", &name, "refuses for everybody: `plugins report` says what observing showed");
            }
        }
        sheet.ask("Rollout", "non_production");
        sheet.ask("Rollout", "rollback");
    }
}

struct Sheet<'a> {
    answers: &'a BTreeMap<String, String>,
    items: Vec<Item>,
}

impl Sheet<'_> {
    fn add(&mut self, section: &'static str, item: &str, value: impl Into<String>, state: State) {
        self.items.push(Item { section, item: item.to_owned(), value: value.into(), state });
    }

    fn state(&mut self, section: &'static str, item: &str, value: impl Into<String>) {
        self.add(section, item, value, State::Stated);
    }

    fn ask(&mut self, section: &'static str, key: &str) {
        let question = QUESTIONS.iter().find(|(known, _)| *known == key).map_or("", |(_, question)| question);
        match self.answers.get(key).map(|answer| answer.trim()).filter(|answer| !answer.is_empty()) {
            Some(answer) => self.add(section, key, answer.split_whitespace().collect::<Vec<_>>().join(" "), State::Answered),
            None => self.add(section, key, question, State::Open),
        }
    }
}

#[cfg(test)]
#[path = "checklist_test.rs"]
mod tests;
