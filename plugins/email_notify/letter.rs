//! The subject and text of mails: templates over the facts of an event.

use std::fmt::Write;

use crate::plugin::prelude::*;

/// Longest value of a fact in a mail, in characters.
const LONGEST: usize = 200;

/// A template with `{name}` for facts of an event: `{status}`, `{organisation.name}`. `{facts}` stands for all facts, one
/// per line, `{count}` for the number of events in the mail; `{{` and `}}` are literal braces.
#[derive(Debug)]
pub(super) struct Letter(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    Fact(Vec<String>),
}

impl Letter {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const ALONE: &str = "a brace stands alone; write {{ or }} for the character itself";
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                plain.push_str(&rest[..1]);
                rest = after;
                continue;
            }
            let (name, after) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')).ok_or(ALONE)?;
            if name.is_empty() || name.contains('{') {
                return Err(ALONE);
            }
            parts.push(Part::Text(std::mem::take(&mut plain)));
            parts.push(Part::Fact(name.split('.').map(str::to_owned).collect()));
            rest = after;
        }
        plain.push_str(rest);
        parts.push(Part::Text(plain));
        Ok(Self(parts))
    }

    fn fill(&self, event: &Value, count: usize) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Fact(path) if path.len() == 1 && path[0] == "count" => out.push_str(&count.to_string()),
                Part::Fact(path) if path.len() == 1 && path[0] == "facts" => facts(event, "", &mut out),
                Part::Fact(path) => {
                    let found = path.iter().try_fold(event, |value, name| value.get(name.as_str()));
                    out.push_str(&found.map_or_else(|| "-".to_owned(), shown));
                }
            }
        }
        out
    }
}

/// The subject and text of a mail about one or more events.
pub(super) fn letter(subject: &Letter, text: &Letter, events: &[Value]) -> (String, String) {
    let first = events.first().unwrap_or(&Value::Null);
    let mut kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    // The subject is about all events.
    let mut all = first.clone();
    if let Value::Object(all) = &mut all {
        all.insert("event".to_owned(), kinds.join(", ").into());
    }
    let subject: String = subject.fill(&all, events.len()).chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    let texts: Vec<String> = events.iter().map(|event| text.fill(event, events.len())).collect();
    (subject, texts.join("\n\n") + "\n")
}

/// Appends `name: value`, one per line, sorted by name.
fn facts(value: &Value, before: &str, out: &mut String) {
    for (name, value) in value.as_object().into_iter().flatten() {
        if value.is_object() {
            facts(value, &format!("{before}{name}."), out);
        } else {
            let _ = writeln!(out, "  {before}{name}: {}", shown(value));
        }
    }
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_mail_speaks_of_all_its_events() {
        let events = [
            json!({"event": "security.finding", "organisation": {"name": "acme"}, "status": 403}),
            json!({"event": "budget.threshold", "name": "month\r\nBcc: x@y"}),
        ];
        let read = |text: &str| Letter::parse(text).unwrap();
        let (subject, text) = letter(&read("{count}: {event} {{{name}}}"), &read("{event} {organisation.name}\n{facts}"), &events);
        assert_eq!(subject, "2: budget.threshold, security.finding {-}");
        assert!(text.contains("security.finding acme\n") && text.contains("  organisation.name: acme\n  status: 403\n"), "{text}");
        assert!(text.contains("  name: month  Bcc: x@y\n"), "no fact makes a line of its own: {text}");
        for wrong in ["{", "a}", "{}", "{a"] {
            assert!(Letter::parse(wrong).is_err(), "{wrong}");
        }
    }
}
