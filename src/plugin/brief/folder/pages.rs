//! The generated pages: README, example, acceptance checklist, rollout plan.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::super::design::Told;
use super::Plan;
use super::flow::flow;
use crate::gate::{Gate, Style};
use crate::plugin::network::Target;
use crate::plugin::{Need, Scope};

impl Plan<'_> {
    pub(super) fn readme(&self) -> String {
        let design = self.design;
        let goal = self.brief.goal.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut text = format!("# {}\n\n## What it does\n\n{goal}\n\n", self.brief.name);
        for line in self.does() {
            let _ = writeln!(text, "* {line}");
        }
        text.push_str("\n## When it runs\n\n");
        for place in &design.places {
            let _ = writeln!(text, "* `{}`, {}: {}.", place.gate.as_str(), place.style.as_str(), place.why);
        }
        if design.needs.contains(&Need::ReadResponse) {
            text.push_str("\nIt reads whole answers, so the gateway holds streamed ones back until they are complete.\n");
        }
        text.push_str("\n## Configuration\n\n");
        let config = self.case_config();
        match config.as_object().filter(|config| !config.is_empty()) {
            Some(config) => {
                text.push_str("| Key | In the example |\n|---|---|\n");
                for (key, value) in config {
                    let _ = writeln!(text, "| `{key}` | `{}` |", flow(value).replace('|', "\\|"));
                }
                let _ = writeln!(text, "\n`odock-edge plugins show {}` prints all of them with their defaults.", self.brief.name);
            }
            None => text.push_str("It has none.\n"),
        }
        text.push_str("\n## What it may do\n\n");
        let needs: Vec<String> = design.needs.iter().map(|need| format!("`{need}`")).collect();
        let _ =
            writeln!(text, "{}", if needs.is_empty() { "It needs nothing.".to_owned() } else { format!("Needs {}.", needs.join(", ")) });
        for told in self.outside() {
            let fields: Vec<&str> = told.leaves.iter().map(|datum| datum.as_str()).collect();
            let _ = writeln!(text, "\n`{}` is told {} and nothing else.", told.name, fields.join(", "));
        }
        text.push_str("\n## Evidence\n\n");
        for (key, meaning) in self.notes() {
            let _ = writeln!(text, "* `{key}`: {meaning}");
        }
        for line in &self.brief.evidence {
            let _ = writeln!(text, "* asked for: {}", line.trim());
        }
        if self.notes().is_empty() && self.brief.evidence.is_empty() {
            text.push_str("What the gateway records of every execution, and of every attempt at a delivery.\n");
        }
        text.push_str("\n## Failure\n\n");
        text.push_str(self.failure());
        text
    }

    fn outside(&self) -> impl Iterator<Item = &Told> {
        self.design.asked.iter().filter(|_| self.design.asks()).chain(&self.design.told)
    }

    fn does(&self) -> Vec<String> {
        let design = self.design;
        let mut lines = Vec::new();
        let refusal = format!("{} `{}`", self.status(), self.refusal_code());
        let halves = |of: fn(&super::super::design::Side) -> bool| match (
            design.request.as_ref().is_some_and(|(_, side)| of(side)),
            design.answer.as_ref().is_some_and(of),
        ) {
            (true, true) => Some("requests and answers"),
            (true, false) => Some("requests"),
            (false, true) => Some("answers"),
            (false, false) => None,
        };
        if design.tools {
            lines.push("Acts on calls of the MCP tools under `tools` alone.".to_owned());
        }
        if design.require {
            lines.push(format!("Refuses ({refusal}) callers whose metadata has none of the values under `require`."));
        }
        if design.hours {
            lines.push(format!("Refuses ({refusal}) outside of its hours, UTC."));
        }
        if let Some(what) = halves(|side| side.words) {
            lines.push(format!("Refuses ({refusal}) {what} in which a word of `words` occurs."));
        }
        if let Some(what) = halves(|side| side.replaces) {
            lines.push(format!("Replaces the words of `words` in {what} by `replacement`."));
        }
        if let Some(what) = halves(|side| side.signals) {
            lines.push(format!("Counts the signals of `signals` in {what}; the words themselves are never kept."));
        }
        if design.reroutes {
            lines.push("Takes another model in place of those under `models`, before grants are checked.".to_owned());
        }
        if let (Some(asked), Some(what)) = (&design.asked, halves(|side| side.asks)) {
            lines.push(match asked.informs {
                true => format!("Asks `{}` about {what} and attaches the `tags` of its answer.", asked.name),
                false => format!("Asks `{}` about {what} with a JSON document; its answer is `{{\"allow\": true | false}}`, and `false` refuses ({refusal}).", asked.name),
            });
        }
        for (headers, whom) in [
            (design.request.as_ref().map(|(_, side)| &side.headers), "provider"),
            (design.answer.as_ref().map(|side| &side.headers), "caller"),
        ] {
            if let Some(headers) = headers.filter(|headers| !headers.is_empty()) {
                lines.push(format!(
                    "Sets headers towards the {whom}: {}.",
                    headers.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                ));
            }
        }
        if !design.tags.is_empty() {
            lines.push(format!(
                "Attaches tags for usage and evidence: {}.",
                design.tags.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ));
        }
        if let Some(told) = &design.told {
            lines.push(format!("Tells `{}` how each request ended, after the answer.", told.name));
        }
        if design.notes_end {
            lines.push("Puts on record how each request ended.".to_owned());
        }
        lines
    }

    fn failure(&self) -> &'static str {
        let design = self.design;
        match (design.asks(), design.told.is_some(), design.refuses()) {
            (true, _, true) => {
                "A system that does not answer, answers with anything but 200, or without `allow`, is a failure: with `on_error: deny` (the\ndefault) the request is refused with `plugin_unavailable`, with `allow` it goes on as if the plugin were not there. To go back, take\nit out of the chain.\n"
            }
            (true, ..) => {
                "A system that does not answer is a failure: `on_error: deny` (the default) refuses the request, `allow` lets it go on without\nwhat would have been attached. To go back, take it out of the chain.\n"
            }
            (false, true, _) => {
                "What the system outside does not take is tried again by the outbox' schedule, and is a dead letter after the last attempt\n(`odock-edge outbox list`); the caller has long had the answer. To go back, take it out of the chain.\n"
            }
            _ => {
                "It calls nobody and waits for nothing. A body that it cannot read, or a need that was taken away, is a failure, and `on_error`\ndecides. To go back, take it out of the chain.\n"
            }
        }
    }

    fn network(&self) -> Vec<String> {
        let rule = |told: &Told| {
            let target = Target::parse(&told.url).ok()?;
            Some(format!("{}:{}{}", target.host, target.port, if told.private { " private" } else { "" }))
        };
        let mut rules: Vec<String> = self.outside().filter_map(rule).collect();
        rules.dedup();
        rules
    }

    /// The instance with which the rollout begins: observing, for a few keys.
    pub(super) fn entry(&self) -> Value {
        let brief = self.brief;
        let design = self.design;
        let mut entry = Map::new();
        let mut put = |key: &str, value: Value| entry.insert(key.to_owned(), value);
        put("name", json!(brief.name));
        if brief.rollout.observe_first {
            put("mode", json!("observe"));
        }
        if brief.rollout.percent < 100 {
            put("rollout", json!(brief.rollout.percent));
        }
        let scope = if brief.rollout.first.is_everybody() { &brief.scope } else { &brief.rollout.first };
        if !scope.is_everybody() {
            put("scope", scope_of(scope));
        }
        let mut grant = Map::new();
        let network = self.network();
        if !network.is_empty() {
            grant.insert("network".to_owned(), json!(network));
        }
        let secrets: Vec<&String> = self.outside().filter_map(|told| told.secret.as_ref()).collect();
        if !secrets.is_empty() {
            grant.insert("secrets".to_owned(), json!(secrets));
        }
        if !grant.is_empty() {
            put("grant", Value::Object(grant));
        }
        if !design.scopes.is_empty() {
            put("storage_access", json!(design.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>()));
        }
        let config = self.config_with(&|told| told.url.clone());
        if config.as_object().is_some_and(|config| !config.is_empty()) {
            put("config", config);
        }
        Value::Object(entry)
    }

    pub(super) fn example(&self) -> String {
        let mut text =
            format!("# {}\n# It begins by observing: nothing changes, and evidence says what it would have done.\n", self.summary());
        let entry = self.entry();
        let mut secrets: Vec<&str> = entry["grant"]["secrets"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        secrets.sort_unstable();
        secrets.dedup();
        if !secrets.is_empty() {
            text.push_str("secrets:\n");
        }
        for secret in secrets {
            let _ = writeln!(text, "  {secret}: {{ env: {} }}", secret.to_ascii_uppercase().replace('-', "_"));
        }
        text.push_str("plugins:\n");
        for (place, (key, value)) in ordered(&entry).into_iter().enumerate() {
            let _ = writeln!(text, "  {} {key}: {}", if place == 0 { "-" } else { " " }, flow(value));
        }
        text.push_str("chains:\n  default:\n");
        for place in &self.design.places {
            let list = match place.style {
                Style::Sequential => format!("sequential: [{}]", self.brief.name),
                Style::Parallel => format!("parallel: [{}]", self.brief.name),
                Style::Background => format!("parallel: [{}], async: true", self.brief.name),
            };
            let _ = writeln!(text, "    {}: {{ {list} }}", place.gate.as_str());
        }
        text
    }

    /// The checklist. Open boxes are for people to check; a plugin with open boxes is not accepted yet.
    pub(super) fn acceptance(&self) -> String {
        let design = self.design;
        let brief = self.brief;
        let mut text = format!("# Acceptance of {}\n\nOwner: {}\n\n", brief.name, self.owner());
        let mut open = |line: &str| {
            let _ = writeln!(text, "- [ ] {line}");
        };
        open("It is a plugin's work, and no grant, policy, budget, SafetySec module, route or MCP rule does it already.");
        open("The manifest asks for the least that works; `odock-edge plugins evaluate` says nothing is unused.");
        open("Its moments are the right ones, and README says why.");
        open("Its behaviour is stable: the cases say what it does, also where it refuses, fails, and only observes.");
        if design.refuses() {
            open("Callers were told what the refusal looks like, and what to do about it.");
        }
        open("Request ids lead from an answer to its evidence, and to what systems outside were told.");
        for told in self.outside() {
            open(&format!(
                "`{}` was called from a system that is not production, with its real credential, and was slow, wrong and away on purpose.",
                told.name
            ));
        }
        if self.outside().any(|told| told.leaves.iter().any(|datum| datum.is_content())) {
            open("Somebody who may agreed that content leaves, and to whom.");
        }
        open("What happens when it fails is known and wanted: `on_error` and `timeout` are chosen, not left.");
        open("It began with few, observing (rollout.md), and `odock-edge plugins report` was read.");
        open("Going back was tried: out of the chain, reload.");
        if brief.owner.is_none() {
            open("Somebody answers for it.");
        }
        for rule in &brief.compliance {
            open(&format!("Compliance: {}", rule.trim()));
        }
        for line in &brief.evidence {
            open(&format!("On record: {}", line.trim()));
        }
        for claim in &self.classification.controls {
            open(&format!(
                "The other part of the brief is configured where it belongs ({}): {}.",
                claim.belongs.as_str(),
                claim.belongs.configured()
            ));
        }
        open(
            "In the gateway's tree, when all boxes are ticked: its evaluation is on file (`UPDATE_GOLDEN=1 cargo test --test gateway plugin_life`).",
        );
        open("In the gateway's tree: its configuration is in the schema (`odock-edge schema > conf/odock.schema.json`).");
        text
    }

    pub(super) fn rollout(&self) -> String {
        let wish = &self.brief.rollout;
        let name = &self.brief.name;
        let first = if wish.first.is_everybody() { "the keys of the rollout".to_owned() } else { flow(&scope_of(&wish.first)) };
        let mut text = format!("# Rollout of {name}\n\n");
        let mut step = 0;
        let mut say = |line: String| {
            step += 1;
            let _ = writeln!(text, "{step}. {line}");
        };
        say("Not in production: a configuration of its own, the cases, and each system outside as it really is.".to_owned());
        if wish.observe_first {
            say(format!("`mode: observe` for {first}, `rollout: {}`, {} days. Nothing changes for anybody.", wish.percent, wish.days));
            say(format!(
                "`odock-edge plugins report {name} --since {}d -c FILE`: read what it would have done, to whom, and what it costs.",
                wish.days
            ));
        }
        say(format!("`mode: enforce` for {first}, `rollout: {}`; a day.", wish.percent));
        say("`rollout: 50`, then 100; the same keys stay in.".to_owned());
        say("The whole of its scope.".to_owned());
        let _ = write!(
            text,
            "\nStop where `gateway_plugin_executions_total{{plugin_name=\"{name}\"}}` shows errors or timeouts, or refusals that the report did not. "
        );
        let on_path = self.design.places.iter().any(|place| place.gate != Gate::PostResponse);
        text.push_str(if on_path {
            "Back is `mode: observe`, or out of the chain, and a reload.\n"
        } else {
            "Back is out of the chain, and a reload.\n"
        });
        text
    }
}

/// The members in the order in which people write an instance.
fn ordered(entry: &Value) -> Vec<(&'static str, &Value)> {
    let order = ["name", "mode", "rollout", "scope", "grant", "storage_access", "config"];
    order.into_iter().filter_map(|key| Some((key, entry.get(key)?))).collect()
}

fn scope_of(scope: &Scope) -> Value {
    let all = serde_json::to_value(scope).unwrap_or_default();
    let used = all.as_object().into_iter().flatten().filter(|(_, list)| list.as_array().is_some_and(|list| !list.is_empty()));
    Value::Object(used.map(|(key, list)| (key.clone(), list.clone())).collect())
}
