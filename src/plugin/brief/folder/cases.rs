//! The generated cases, which prove what the code does: each part at work, each refusal, and failures of external systems.

use serde_json::{Map, Value, json};

use super::super::design::{Side, Told, metadata};
use super::Plan;
use super::flow::{flow, scalar};
use super::sample::{STORED, case_host};
use crate::gate::Gate;

/// A case under construction.
struct Draft(Map<String, Value>);

impl Draft {
    fn set(mut self, path: &[&str], value: Value) -> Self {
        let mut at = &mut self.0;
        let Some((last, before)) = path.split_last() else { return self };
        for member in before {
            let entry = at.entry((*member).to_owned()).or_insert_with(|| json!({}));
            if !entry.is_object() {
                *entry = json!({});
            }
            let Value::Object(inner) = entry else { return self };
            at = inner;
        }
        at.insert((*last).to_owned(), value);
        self
    }

    fn expect(self, member: &str, value: Value) -> Self {
        self.set(&["expect", member], value)
    }

    fn written(&self) -> String {
        let order = [
            "name",
            "mode",
            "style",
            "gates",
            "config",
            "grant",
            "storage_access",
            "provider",
            "caller",
            "request",
            "response",
            "replies",
            "expect",
        ];
        let line = |key: &&str| {
            self.0
                .get(*key)
                .map(|value| format!("{key}: {}\n", if *key == "name" { scalar(value.as_str().unwrap_or_default()) } else { flow(value) }))
        };
        order.iter().filter_map(line).collect()
    }
}

impl Plan<'_> {
    pub(super) fn cases(&self) -> Vec<(String, String)> {
        let design = self.design;
        let mut cases: Vec<(String, Draft)> = Vec::new();
        let mut add = |name: &str, case: Draft| cases.push((name.to_owned(), case));
        if let Some((gate, side)) = &design.request {
            self.request_cases(*gate, side, &mut add);
        }
        if let Some(side) = &design.answer {
            self.answer_cases(side, &mut add);
        }
        if let Some(told) = &design.told {
            self.told_cases(told, &mut add);
        } else if design.notes_end {
            add(
                "end",
                self.draft("the end of a request is on record", &[Gate::PostResponse])
                    .set(&["style"], json!("background"))
                    .expect("notes", json!({"end": "complete"})),
            );
        }
        let gates: Vec<Gate> = design.places.iter().map(|place| place.gate).take(1).collect();
        add(
            "unknown_key",
            self.draft("a misspelt key is told at load", &gates)
                .set(&["config", "no_such_setting"], json!(1))
                .expect("build_error", json!("no_such_setting")),
        );
        if !self.systems().is_empty() {
            add(
                "not_granted",
                self.draft("a host that is not granted is told at load", &gates)
                    .set(&["grant", "network"], json!([]))
                    .expect("build_error", json!("grant.network")),
            );
        }
        if !design.scopes.is_empty() {
            add(
                "no_storage",
                self.draft("metadata that is not granted is told at load", &gates)
                    .set(&["storage_access"], json!([]))
                    .expect("build_error", json!("storage_access")),
            );
        }
        cases.into_iter().map(|(name, case)| (name, case.written())).collect()
    }

    fn systems(&self) -> Vec<&Told> {
        self.design.asked.iter().filter(|_| self.design.asks()).chain(&self.design.told).collect()
    }

    /// A case in which everything is in order.
    fn draft(&self, name: &str, gates: &[Gate]) -> Draft {
        let gates: Vec<&str> = gates.iter().map(|gate| gate.as_str()).collect();
        let mut draft = Draft(Map::new()).set(&["name"], json!(name)).set(&["gates"], json!(gates));
        let config = self.case_config();
        if config.as_object().is_some_and(|config| !config.is_empty()) {
            draft = draft.set(&["config"], config);
        }
        let hosts: Vec<String> = self.systems().iter().map(|system| format!("{}:443", case_host(system))).collect();
        if !hosts.is_empty() {
            draft = draft.set(&["grant", "network"], json!(hosts));
        }
        for secret in self.systems().iter().filter_map(|system| system.secret.as_ref()) {
            draft = draft.set(&["grant", "secrets", secret], json!("opens-it"));
        }
        let scopes: Vec<&str> = self.design.scopes.iter().map(|scope| scope.as_str()).collect();
        if !scopes.is_empty() {
            draft = draft.set(&["storage_access"], json!(scopes));
        }
        draft = draft.set(&["provider"], json!("mock")).set(&["caller"], json!({"organisation": "acme", "team": "support", "user": "ada"}));
        for key in self.metadata_keys() {
            for member in ["metadata", "team_metadata", "user_metadata"] {
                let scope = match member {
                    "metadata" => "organisation.",
                    "team_metadata" => "caller.team.",
                    _ => "caller.user.",
                };
                if key.starts_with(scope)
                    && let Some((_, bare)) = key.split_once("metadata.")
                {
                    draft = draft.set(&["caller", member, bare], json!(STORED));
                }
            }
        }
        draft.set(&["request"], self.request("Good morning."))
    }

    fn metadata_keys(&self) -> Vec<String> {
        let templates = self.design.sides().flat_map(|side| side.headers.values()).chain(self.design.tags.values());
        let mut keys: Vec<String> = templates
            .filter(|template| template.contains("metadata."))
            .map(|template| template.trim_matches(['{', '}']).to_owned())
            .collect();
        if self.design.require {
            keys.extend(self.design.scopes.iter().map(|scope| format!("{}.plan", metadata(*scope))));
        }
        keys
    }

    fn refused(&self, case: Draft, rule: &str) -> Draft {
        case.expect("verdict", json!("abort"))
            .expect("status", json!(self.status()))
            .expect("code", json!(self.refusal_code()))
            .expect("decision", json!("blocked"))
            .expect("notes", json!({"rule": rule}))
    }

    fn request_cases(&self, gate: Gate, side: &Side, add: &mut dyn FnMut(&str, Draft)) {
        let design = self.design;
        let gates = [gate];
        let answered = |case: Draft| self.answered(case, side);
        let hit = self.words().first().cloned().unwrap_or_default();
        let passes = || answered(self.draft("a request that is in order goes on", &gates));
        let mut fine = passes().expect("verdict", json!("next"));
        if let Some(asked) = design.asked.as_ref().filter(|_| side.asks) {
            fine = fine
                .expect("sent", self.question(asked, side, "Good morning."))
                .expect("notes", json!({"answer": if asked.informs { "1" } else { "allow" }}));
        }
        if design.reroutes {
            fine = fine.expect("model", json!("gpt-4o-mini")).expect("notes", json!({"model": "gpt-4o=gpt-4o-mini"}));
        }
        if !side.headers.is_empty() {
            fine = fine.expect("headers", self.values(&side.headers, false));
        }
        let informs = design.asked.as_ref().is_some_and(|asked| asked.informs);
        let mut tags = self.values(&design.tags, false);
        if informs && side.asks {
            tags["segment"] = json!("gold");
        }
        if tags.as_object().is_some_and(|tags| !tags.is_empty()) {
            fine = fine.expect("tags", tags);
        }
        add("passes", fine);
        if side.asks {
            self.asked_cases("request", &gates, side, add);
        }
        if design.require {
            let case = answered(self.draft("a caller without what is required is refused", &gates))
                .set(&["caller"], json!({"organisation": "acme", "team": "support", "user": "ada"}));
            add("without", self.refused(case, "require.0"));
            let case = answered(self.draft("in observe mode it is only said", &gates))
                .set(&["caller"], json!({"organisation": "acme"}))
                .set(&["mode"], json!("observe"));
            add("without_observed", case.expect("verdict", json!("next")).expect("decision", json!("would_block")));
        }
        if design.hours {
            let case = answered(self.draft("outside of its hours it refuses", &gates))
                .set(&["config", "from_hour"], json!(0))
                .set(&["config", "until_hour"], json!(0));
            add("closed", self.refused(case, "hours"));
        }
        if side.words {
            let case = answered(self.draft("a word that must not occur", &gates))
                .set(&["request"], self.request(&format!("About {hit}, please.")));
            add("word", self.refused(case, "words"));
            let case = self
                .draft("in observe mode it is only said", &gates)
                .set(&["mode"], json!("observe"))
                .set(&["request"], self.request(&format!("{} again", hit.to_uppercase())));
            add("word_observed", answered(case).expect("verdict", json!("next")).expect("decision", json!("would_block")));
            add(
                "no_word",
                self.draft("a list without words is told at load", &gates)
                    .set(&["config", "words"], json!([]))
                    .expect("build_error", json!("names no word")),
            );
        }
        if side.replaces {
            let body = self.request("Is [removed] here?")["body"].clone();
            let case = || {
                answered(
                    self.draft("the words are replaced where they stand", &gates)
                        .set(&["request"], self.request(&format!("Is {hit} here?"))),
                )
            };
            add("replaced", case().expect("decision", json!("changed")).expect("body", body).expect("notes", json!({"replaced": "1"})));
            add(
                "replaced_observed",
                case()
                    .set(&["name"], json!("in observe mode not one byte changes"))
                    .set(&["mode"], json!("observe"))
                    .expect("decision", json!("would_change"))
                    .expect("body", self.request(&format!("Is {hit} here?"))["body"].clone()),
            );
        }
        if side.signals {
            self.signal_case("signal", &gates, |case, text| case.set(&["request"], self.request(text)), &side.headers, "headers", add);
        }
        let shown = design.answer.as_ref().map(|answer| &answer.headers).filter(|headers| side.signals && !headers.is_empty());
        if let Some(headers) = shown {
            let case = self.draft("what was noticed in the request is shown with the answer", &[gate, Gate::PostUpstream]);
            let case = case.set(&["request"], self.request(&format!("{hit}!"))).set(&["response"], self.response("Good day."));
            add("signal_shown", case.expect("response_headers", self.values(headers, true)));
        }
        if !side.headers.is_empty() && !side.replaces {
            add(
                "headers_observed",
                passes()
                    .set(&["name"], json!("in observe mode no header is set"))
                    .set(&["mode"], json!("observe"))
                    .expect("headers", json!({})),
            );
        }
        if design.tools {
            let other = json!({"path": self.path(), "body": self.call("list", "Good morning.")});
            let case = self
                .draft("calls of other tools are none of its business", &gates)
                .set(&["request"], other)
                .set(&["caller"], json!({"organisation": "acme"}));
            add("another_tool", case.expect("verdict", json!("next")).expect("decision", json!("allowed")).expect("sent", json!([])));
        }
    }

    /// The expected call for a question. The texts of an MCP call, and their order, are not checked.
    fn question(&self, asked: &Told, side: &Side, text: &str) -> Value {
        let mut call = json!({"url": format!("https://{}/v1/events", case_host(asked)), "headers": self.authorization(asked)});
        if !(self.is_mcp() && side.tells_text) {
            let mut document = self.document(asked, side.tells_text.then_some(text), false);
            if self.tells_any_text() && !side.tells_text {
                document["text"] = Value::Null;
            }
            call["body"] = document;
        }
        json!([call])
    }

    fn authorization(&self, told: &Told) -> Value {
        match &told.secret {
            Some(_) => json!({"authorization": "Bearer opens-it"}),
            None => json!({"content-type": "application/json"}),
        }
    }

    /// Adds a positive answer of the system that is asked.
    fn answered(&self, case: Draft, side: &Side) -> Draft {
        match &self.design.asked {
            Some(asked) if side.asks && asked.informs => {
                case.set(&["replies"], json!([{"status": 200, "body": {"tags": {"segment": "gold"}}}]))
            }
            Some(_) if side.asks => case.set(&["replies"], json!([{"status": 200, "body": {"allow": true, "id": "d-1"}}])),
            _ => case,
        }
    }

    fn asked_cases(&self, what: &str, gates: &[Gate], side: &Side, add: &mut dyn FnMut(&str, Draft)) {
        let draft = |name: &str| match what {
            "answer" => self.draft(name, gates).set(&["response"], self.response("Good day.")),
            _ => self.draft(name, gates),
        };
        let unavailable = |case: Draft| {
            case.expect("verdict", json!("abort"))
                .expect("status", json!(503))
                .expect("code", json!("plugin_unavailable"))
                .expect("decision", json!("error"))
        };
        if self.design.asked.as_ref().is_some_and(|asked| !asked.informs) {
            let denied = |name: &str| draft(name).set(&["replies"], json!([{"status": 200, "body": {"allow": false}}]));
            let case = denied("what is denied is refused")
                .expect("verdict", json!("abort"))
                .expect("status", json!(self.status()))
                .expect("code", json!(self.refusal_code()));
            add(&format!("{what}_denied"), case.expect("decision", json!("blocked")).expect("notes", json!({"answer": "deny"})));
            let case = denied("in observe mode a denial is only said").set(&["mode"], json!("observe"));
            add(&format!("{what}_denied_observed"), case.expect("verdict", json!("next")).expect("decision", json!("would_block")));
        }
        add(
            &format!("{what}_unreachable"),
            unavailable(draft("nobody there to ask: on_error decides").set(&["replies"], json!([{"unreachable": true}]))),
        );
        add(
            &format!("{what}_misunderstood"),
            unavailable(draft("an answer that says nothing is no permission").set(&["replies"], json!([{"status": 200, "body": {}}]))),
        );
        debug_assert!(side.asks);
    }

    fn signal_case(
        &self,
        name: &str,
        gates: &[Gate],
        with: impl Fn(Draft, &str) -> Draft,
        headers: &std::collections::BTreeMap<String, String>,
        expected: &str,
        add: &mut dyn FnMut(&str, Draft),
    ) {
        let Some((signal, words)) = self.signals().into_iter().next() else { return };
        let word = words.into_iter().find(|word| !word.trim().is_empty()).unwrap_or_default();
        let text = format!("{word}? Yes, {}!", word.to_uppercase());
        let mut case = with(self.draft("a signal is counted, and nothing of the words is kept", gates), &text)
            .expect("notes", json!({"signals": format!("{signal}=2")}));
        if self.design.tags_signals {
            case = case.expect("tags", json!({"signals": signal}));
        }
        if !headers.is_empty() {
            case = case.expect(expected, self.values(headers, true));
        }
        add(name, case);
        let quiet = with(self.draft("without a signal nothing is noted", gates), "Good morning.");
        add(&format!("no_{name}"), quiet.expect("verdict", json!("next")).expect("tags", json!({})));
    }

    fn answer_cases(&self, side: &Side, add: &mut dyn FnMut(&str, Draft)) {
        let gates = [Gate::PostUpstream];
        let hit = self.words().first().cloned().unwrap_or_default();
        let draft = |name: &str, text: &str| self.answered(self.draft(name, &gates).set(&["response"], self.response(text)), side);
        let alone = self.design.request.is_none();
        let mut fine = draft("an answer that is in order reaches the caller", "Good day.").expect("verdict", json!("next"));
        if let Some(asked) = self.design.asked.as_ref().filter(|_| side.asks) {
            fine = fine.expect("sent", self.question(asked, side, "Good day.")).expect("notes", json!({"answer": "allow"}));
        }
        if !side.headers.is_empty() {
            fine = fine.expect("response_headers", self.values(&side.headers, false));
        }
        if alone && !self.design.tags.is_empty() {
            fine = fine.expect("tags", self.values(&self.design.tags, false));
        }
        add("answer_passes", fine);
        if side.asks {
            self.asked_cases("answer", &gates, side, add);
        }
        if side.words {
            add("answer_word", self.refused(draft("a word that must not reach the caller", &format!("About {hit}.")), "words"));
            if !self.is_mcp() {
                let case = self
                    .draft("a word that a held stream says in pieces", &gates)
                    .set(&["response"], json!({"stream": stream(&hit, said)}));
                add("answer_word_streamed", self.refused(self.answered(case, side), "words"));
            }
        }
        if side.replaces {
            let case = draft("the words are replaced where they stand", &format!("It is {hit}."));
            add(
                "answer_replaced",
                case.expect("decision", json!("changed"))
                    .expect("response_body", self.response("It is [removed].")["body"].clone())
                    .expect("notes", json!({"replaced": "1"})),
            );
            if !self.is_mcp() {
                let case = self
                    .draft("a word that a held stream says in pieces is replaced as a whole", &gates)
                    .set(&["response"], json!({"stream": stream(&hit, said)}));
                let after = stream(&hit, |_, _| ("It is [removed]".to_owned(), ".".to_owned()));
                add(
                    "answer_replaced_streamed",
                    self.answered(case, side)
                        .expect("decision", json!("changed"))
                        .expect("response_stream", after)
                        .expect("notes", json!({"replaced": "1"})),
                );
            }
        }
        if side.signals {
            self.signal_case(
                "answer_signal",
                &gates,
                |case, text| case.set(&["response"], self.response(text)),
                &side.headers,
                "response_headers",
                add,
            );
        }
        if !side.headers.is_empty() && !side.replaces {
            let case = draft("in observe mode no header is set", "Good day.").set(&["mode"], json!("observe"));
            add("answer_headers_observed", case.expect("response_headers", json!({})));
        }
    }

    fn told_cases(&self, told: &Told, add: &mut dyn FnMut(&str, Draft)) {
        let draft = |name: &str| {
            self.draft(name, &[Gate::PostResponse]).set(&["style"], json!("background")).set(&["response"], json!({"status": 200}))
        };
        let document = self.document(told, None, true);
        let sent =
            json!([{"url": format!("https://{}/v1/events", case_host(told)), "headers": self.authorization(told), "body": document}]);
        let came = |outcome: &str| json!([{"destination": told.name, "body": document, "outcome": outcome}]);
        add(
            "delivered",
            draft("what happened is told, these fields and no others")
                .set(&["replies"], json!([{"status": 202}]))
                .expect("sent", sent)
                .expect("deliveries", came("done")),
        );
        add(
            "not_taken",
            draft("what was not taken is tried again")
                .set(&["replies"], json!([{"status": 503}]))
                .expect("decision", json!("allowed"))
                .expect("deliveries", came("retry")),
        );
        add("unreachable", draft("so is what reached nobody").expect("deliveries", came("retry")));
        add(
            "refused",
            draft("what the system refuses is given up").set(&["replies"], json!([{"status": 400}])).expect("deliveries", came("dead")),
        );
        add(
            "deliver_observed",
            draft("in observe mode nothing is told")
                .set(&["mode"], json!("observe"))
                .expect("deliveries", json!([]))
                .expect("sent", json!([])),
        );
    }
}

/// A stream in which a word is split over two events; `texts` makes the texts of the events from the two parts.
fn stream(word: &str, texts: impl Fn(&str, &str) -> (String, String)) -> Value {
    let middle = word.char_indices().nth(word.chars().count() / 2).map_or(0, |(at, _)| at);
    let (first, second) = word.split_at(middle);
    let (first, second) = texts(first, second);
    let event = |text: &str| json!({"data": json!({"choices": [{"index": 0, "delta": {"content": text}}]}).to_string()});
    json!([event(&first), event(&second), {"data": "[DONE]"}])
}

/// The texts of a stream with the word unchanged.
fn said(first: &str, second: &str) -> (String, String) {
    (format!("It is {first}"), format!("{second}."))
}
