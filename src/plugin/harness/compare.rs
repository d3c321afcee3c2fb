//! Compares the result of a case with its expectation.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use super::{Case, Seen};
use crate::error::Denial;
use crate::gate::HeaderEdit;
use crate::plugin::OwnedFrame;

impl Case {
    pub(super) fn compare(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |what: &str, want: String, got: String| {
            if want != got {
                wrong.push(format!("{what}: expected {want}, got {got}"));
            }
        };
        let Some(ex) = &seen.exchange else { return vec!["nothing ran".to_owned()] };
        let expect = &self.expect;
        if let Some(part) = &expect.build_error {
            check("configuration", format!("refused for {part}"), "accepted".to_owned());
        }
        let denial = seen.denial.as_deref();
        let verdict = if denial.is_some() { "abort" } else { "next" };
        check("verdict", expect.verdict.clone().unwrap_or_else(|| "next".to_owned()), verdict.to_owned());
        if let Some(code) = &expect.code {
            check("code", code.clone(), denial.map(|d| d.code.to_string()).unwrap_or_default());
        }
        if let Some(status) = expect.status {
            check("status", status.to_string(), denial.map_or(0, Denial::status).to_string());
        }
        if let Some(decision) = &expect.decision {
            let last = ex.executions.last().map(|e| e.decision.as_str()).unwrap_or_default();
            check("decision", decision.clone(), last.to_owned());
        }
        if let Some(body) = &expect.body {
            let (want, got) = comparable(body, &ex.draft.body);
            check("body", want, got);
        }
        if let Some(model) = &expect.model {
            check("model", model.clone(), ex.draft.model.clone().unwrap_or_default());
        }
        if let Some(want) = &expect.headers {
            check("headers", format!("{want:?}"), format!("{:?}", edits(&ex.draft.request_edits)));
        }
        if let Some(want) = &expect.response_headers {
            check("response_headers", format!("{want:?}"), format!("{:?}", edits(&ex.draft.response_edits)));
        }
        if let Some(want) = &expect.tags {
            let got: BTreeMap<_, _> = ex.draft.tags.iter().cloned().collect();
            check("tags", format!("{want:?}"), format!("{got:?}"));
        }
        if let Some(body) = &expect.response_body {
            let held = ex.draft.response.as_ref().and_then(|r| r.body.clone()).unwrap_or_default();
            let (want, got) = comparable(body, &held);
            check("response_body", want, got);
        }
        if let Some(want) = &expect.response_stream {
            let want: Vec<OwnedFrame> = want.iter().map(|f| (f.event.clone(), f.data.clone())).collect();
            check("response_stream", format!("{want:#?}"), format!("{:#?}", seen.frames));
        }
        for (key, value) in &expect.notes {
            let notes = ex.executions.iter().flat_map(|e| &e.notes);
            let got: Vec<_> = notes.filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect();
            if !got.contains(&value.as_str()) {
                check(&format!("note {key}"), value.clone(), format!("{got:?}"));
            }
        }
        if let Some(want) = &expect.sent {
            check("calls", want.len().to_string(), seen.sent.len().to_string());
            for (want, (url, headers, body)) in want.iter().zip(&seen.sent) {
                check("url", want.url.clone(), url.clone());
                for (name, value) in &want.headers {
                    let got = headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
                    check(&format!("sent {name}"), value.clone(), got.to_owned());
                }
                if let Some(expected) = &want.body {
                    let (want, got) = comparable(expected, body);
                    check("sent body", want, got);
                }
            }
        }
        if !seen.notices.is_empty() {
            check("notices", "taken".to_owned(), seen.notices.join("; "));
        }
        if let Some(want) = &expect.deliveries {
            check("deliveries", want.len().to_string(), seen.deliveries.len().to_string());
            for (want, (delivery, outcome)) in want.iter().zip(&seen.deliveries) {
                if let Some(destination) = &want.destination {
                    check("destination", destination.clone(), delivery.destination.clone());
                }
                if let Some(key) = &want.ordering_key {
                    check("ordering key", key.clone(), delivery.ordering_key.clone().unwrap_or_default());
                }
                if let Some(expected) = &want.body {
                    let (want, got) = comparable(expected, &delivery.body);
                    check("delivery body", want, got);
                }
                if let Some(expected) = &want.outcome {
                    check("delivery outcome", expected.clone(), (*outcome).to_owned());
                }
            }
        }
        wrong
    }
}

fn edits(edits: &[HeaderEdit]) -> BTreeMap<String, Option<String>> {
    let value = |edit: &HeaderEdit| match edit {
        HeaderEdit::Set(_, value) => value.to_str().ok().map(str::to_owned),
        HeaderEdit::Remove(_) => None,
    };
    edits.iter().map(|edit| (edit.name().to_string(), value(edit))).collect()
}

/// Both sides as texts: byte for byte if a text is expected, else as JSON.
fn comparable(want: &Value, got: &Bytes) -> (String, String) {
    let raw = String::from_utf8_lossy(got).into_owned();
    match want {
        Value::String(text) => (text.clone(), raw),
        json => (json.to_string(), serde_json::from_slice::<Value>(got).map_or(raw, |value| value.to_string())),
    }
}
