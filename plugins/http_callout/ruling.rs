//! Rulings: OPA's `{"result": …}` with an object or a boolean.

use std::collections::HashMap;
use std::ops::Range;

use crate::plugin::prelude::*;
use wire::Parts;
use wire::parts::Edit;

/// What `start` and `end` of a span count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Offsets {
    /// Bytes of UTF-8.
    #[default]
    Bytes,
    /// Unicode characters, as Python and Rego count.
    Characters,
    /// Units of UTF-16, as JavaScript and Java count.
    Utf16,
}

/// A ruling.
#[derive(Debug, Default)]
pub struct Ruling {
    pub allow: bool,
    pub reason: Option<String>,
    pub code: Option<String>,
    pub status: Option<u16>,
    pub redact: Vec<Span>,
    pub transform: Option<Transform>,
}

/// A part of a text to be redacted.
#[derive(Debug, Deserialize)]
pub struct Span {
    path: String,
    start: usize,
    end: usize,
    replacement: Option<String>,
}

/// Changes other than redaction.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Transform {
    pub model: Option<String>,
    pub tags: std::collections::BTreeMap<String, String>,
    pub headers: std::collections::BTreeMap<String, String>,
    /// New values by JSON pointer; `null` removes the member.
    pub fields: std::collections::BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    // As written: a `Value` would take the last of two members of one name, and let pass what may have been refused.
    #[serde(borrow)]
    result: Option<&'a serde_json::value::RawValue>,
    decision_id: Option<String>,
}

#[derive(Deserialize)]
struct Told {
    allow: Option<bool>,
    reason: Option<String>,
    code: Option<String>,
    status: Option<u16>,
    #[serde(default)]
    redact: Vec<Span>,
    transform: Option<Transform>,
}

impl Ruling {
    /// Parses an answer. Also returns the id of the decision in the external system, if it can be recorded.
    ///
    /// An answer without a result is OPA's reply for an undefined document: no ruling, and therefore a failure.
    pub fn read(body: &[u8]) -> Result<(Self, Option<String>), &'static str> {
        let answer: Answer<'_> = serde_json::from_slice(body).map_err(|_| "the callout's answer is not a JSON object")?;
        let plain = |id: &String| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b));
        let id = answer.decision_id.filter(plain);
        let ruling = match answer.result.map(serde_json::value::RawValue::get) {
            None | Some("null") => return Err("the callout's answer has no result"),
            Some("true") => Self { allow: true, ..Self::default() },
            Some("false") => Self { allow: false, ..Self::default() },
            Some(result) => {
                let told: Told = serde_json::from_str(result).map_err(|_| "the callout's result cannot be read")?;
                let allow = told.allow.ok_or("the callout's result does not say `allow`")?;
                let Told { reason, code, status, redact, transform, .. } = told;
                Self { allow, reason, code, status, redact, transform }
            }
        };
        Ok((ruling, id))
    }

    /// A word for evidence.
    pub fn summary(&self) -> &'static str {
        match (self.allow, self.redact.is_empty(), self.transform.is_none()) {
            (false, ..) => "deny",
            (true, true, true) => "allow",
            (true, false, true) => "redact",
            (true, true, false) => "transform",
            (true, false, false) => "redact transform",
        }
    }

    /// The edits of each text. A span that fits no text is an error: what was to be redacted must not pass.
    pub fn edits(&self, parts: &Parts, offsets: Offsets, replacement: &str) -> Result<Vec<(usize, Vec<Edit>)>, &'static str> {
        let places: HashMap<&str, usize> = parts.parts.iter().enumerate().map(|(place, part)| (part.path.as_str(), place)).collect();
        let mut by_place: std::collections::BTreeMap<usize, Vec<Edit>> = std::collections::BTreeMap::new();
        for span in &self.redact {
            let place = *places.get(span.path.as_str()).ok_or("a span to redact in a text that is not there")?;
            let text = parts.parts.get(place).map(|part| part.text.as_str()).unwrap_or_default();
            let range = offsets.bytes(text, span.start, span.end).ok_or("a span to redact does not fit its text")?;
            let replacement = span.replacement.as_deref().unwrap_or(replacement).to_owned();
            by_place.entry(place).or_default().push((range, replacement));
        }
        for edits in by_place.values_mut() {
            edits.sort_by_key(|(range, _)| (range.start, range.end));
            // Overlapping spans are merged, with the replacement of the first.
            let mut merged: Vec<Edit> = Vec::with_capacity(edits.len());
            for (range, text) in edits.drain(..) {
                match merged.last_mut() {
                    Some((last, _)) if range.start < last.end => last.end = last.end.max(range.end),
                    _ => merged.push((range, text)),
                }
            }
            *edits = merged;
        }
        Ok(by_place.into_iter().collect())
    }
}

impl Offsets {
    /// The span in bytes; `None` if it is empty, beyond the text, or would split a character.
    fn bytes(self, text: &str, start: usize, end: usize) -> Option<Range<usize>> {
        if start >= end {
            return None;
        }
        let range = match self {
            Self::Bytes => start..end,
            Self::Characters => place(text, start, |_| 1)?..place(text, end, |_| 1)?,
            Self::Utf16 => place(text, start, char::len_utf16)?..place(text, end, char::len_utf16)?,
        };
        text.get(range.clone()).map(|_| range)
    }
}

/// The byte offset after `count` units, if a character begins there.
fn place(text: &str, count: usize, units: impl Fn(char) -> usize) -> Option<usize> {
    let mut passed = 0;
    for (at, c) in text.char_indices() {
        if passed >= count {
            return (passed == count).then_some(at);
        }
        passed += units(c);
    }
    (passed == count).then_some(text.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Parts {
        let body = Bytes::from(json!({"messages": [{"role": "user", "content": text}]}).to_string());
        Parts::of(&body, wire::Form::Json, false, 9, |kind| kind != wire::Kind::Structural).unwrap()
    }

    fn redact(text: &str, offsets: Offsets, spans: &[(usize, usize)]) -> Result<String, &'static str> {
        let spans: Vec<Value> =
            spans.iter().map(|(start, end)| json!({"path": "/messages/0/content", "start": start, "end": end})).collect();
        let answer = json!({"result": {"allow": true, "redact": spans}}).to_string();
        let (ruling, _) = Ruling::read(answer.as_bytes())?;
        let parts = parts(text);
        let new = parts.rewrite(&ruling.edits(&parts, offsets, "#")?).map_err(|_| "rewrite")?;
        let new: Value = serde_json::from_slice(&new).unwrap();
        Ok(new["messages"][0]["content"].as_str().unwrap().to_owned())
    }

    #[test]
    fn booleans_and_objects_are_rulings_and_nothing_else_is() {
        assert!(Ruling::read(br#"{"result":true}"#).unwrap().0.allow);
        assert!(!Ruling::read(br#"{"result":false,"decision_id":"a-1"}"#).unwrap().0.allow);
        assert_eq!(Ruling::read(br#"{"result":false,"decision_id":"a-1"}"#).unwrap().1.as_deref(), Some("a-1"));
        assert_eq!(Ruling::read(b"{\"result\":true,\"decision_id\":\"a\\nb\"}").unwrap().1, None);
        let (ruling, _) = Ruling::read(br#"{"result":{"allow":false,"reason":"no","code":"x_y","status":451,"more":1}}"#).unwrap();
        assert_eq!((ruling.reason.as_deref(), ruling.code.as_deref(), ruling.status), (Some("no"), Some("x_y"), Some(451)));
        for none in [
            "",
            "{}",
            "[]",
            "true",
            r#"{"result":null}"#,
            r#"{"result":1}"#,
            r#"{"result":{}}"#,
            r#"{"result":{"allow":"yes"}}"#,
            r#"{"result":{"allow":false,"allow":true}}"#,
            r#"{"result":false,"result":true}"#,
            r#"{"result":{"allow":true,"redact":[{"path":"/a"}]}}"#,
            r#"{"result":{"allow":true,"transform":{"shell":"x"}}}"#,
        ] {
            assert!(Ruling::read(none.as_bytes()).is_err(), "{none}");
        }
    }

    #[test]
    fn spans_are_counted_as_configured() {
        let text = "héllo 😀 Bob!";
        assert_eq!(redact(text, Offsets::Bytes, &[(12, 15)]), Ok("héllo 😀 #!".into()));
        assert_eq!(redact(text, Offsets::Characters, &[(8, 11)]), Ok("héllo 😀 #!".into()));
        assert_eq!(redact(text, Offsets::Utf16, &[(9, 12)]), Ok("héllo 😀 #!".into()));
        // A character is never split, and a span beyond the text is invalid.
        for (offsets, start, end) in [(Offsets::Bytes, 2, 3), (Offsets::Utf16, 7, 9), (Offsets::Characters, 0, 99), (Offsets::Bytes, 3, 3)]
        {
            assert!(redact(text, offsets, &[(start, end)]).is_err(), "{offsets:?} {start}..{end}");
        }
    }

    #[test]
    fn spans_that_overlap_or_touch_hide_all_they_name() {
        assert_eq!(redact("abcdefgh", Offsets::Bytes, &[(4, 6), (1, 3), (2, 5)]), Ok("a#gh".into()));
        assert_eq!(redact("abcdefgh", Offsets::Bytes, &[(0, 2), (2, 4)]), Ok("##efgh".into()));
        assert_eq!(redact("abcdefgh", Offsets::Bytes, &[(0, 8), (1, 2)]), Ok("#".into()));
    }
}
