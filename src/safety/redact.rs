//! Replaces spans of a text by markers.

use std::ops::Range;

use super::{Category, Opening};

/// The marker that replaces a value.
pub fn marker(category: &str) -> String {
    format!("[REDACTED:{category}]")
}

/// Sorts spans and merges overlapping ones; a merged span has the category of its longest part.
pub fn merged(mut spans: Vec<(Range<usize>, Category)>) -> Vec<(Range<usize>, Category)> {
    spans.retain(|(span, _)| span.start < span.end);
    spans.sort_by_key(|(span, _)| (span.start, usize::MAX - span.end));
    let mut out: Vec<(Range<usize>, Category)> = Vec::with_capacity(spans.len());
    let mut longest = 0;
    for (span, category) in spans {
        match out.last_mut() {
            Some((last, name)) if span.start < last.end => {
                if span.len() > longest {
                    longest = span.len();
                    *name = category;
                }
                last.end = last.end.max(span.end);
            }
            _ => {
                longest = span.len();
                out.push((span, category));
            }
        }
    }
    out
}

/// The text with every span replaced by its marker. Spans must be as [`merged`] returns them; one that is not on character
/// boundaries is widened.
pub fn redacted(text: &str, spans: &[(Range<usize>, Category)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (span, category) in spans {
        let start = floor(text, span.start).max(at);
        let end = ceil(text, span.end).max(start);
        out.push_str(text.get(at..start).unwrap_or_default());
        out.push_str(&marker(category));
        at = end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// [`redacted`] for a text that is JSON itself, as the arguments of tool calls are: a marker that would stand outside a
/// string becomes one. If that breaks the JSON, because a span reaches over the end of a string, all of it is replaced.
pub fn redacted_json(text: &str, spans: &[(Range<usize>, Category)]) -> String {
    let is_whole = is_json(text);
    if !is_whole && Opening::of(text) != Opening::Json {
        return redacted(text, spans);
    }
    let out = redacted_within(text, spans, &mut Quotes::default());
    if !is_whole || is_json(&out) {
        return out;
    }
    let category = spans.first().map_or("text", |(_, category)| category.as_ref());
    format!("{{\"redacted\":\"{}\"}}", marker(category))
}

/// [`redacted`] for a piece of a text that is JSON itself, of which `quotes` has read what stands before. A marker that would
/// stand outside a string becomes one, and an escape before a span stays whole.
pub fn redacted_within(text: &str, spans: &[(Range<usize>, Category)], quotes: &mut Quotes) -> String {
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for (span, category) in spans {
        let mut start = floor(text, span.start).max(at);
        let end = ceil(text, span.end).max(start);
        quotes.read(text.get(at..start).unwrap_or_default());
        let escape = quotes.rest_of_escape(text.get(start..end).unwrap_or_default());
        quotes.read(text.get(start..start + escape).unwrap_or_default());
        start += escape;
        out.push_str(text.get(at..start).unwrap_or_default());
        let bare = !quotes.inside();
        if bare {
            out.push('"');
        }
        out.push_str(&marker(category));
        if bare {
            out.push('"');
        }
        quotes.read(text.get(start..end).unwrap_or_default());
        at = end;
    }
    let rest = text.get(at..).unwrap_or_default();
    quotes.read(rest);
    out.push_str(rest);
    out
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '[']) && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// Whether the current position in a JSON text is within a string.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quotes {
    inside: bool,
    escaped: bool,
}

impl Quotes {
    /// Reads more of the text.
    pub fn read(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.inside => self.escaped = true,
                b'"' => self.inside = !self.inside,
                _ => {}
            }
        }
    }

    /// How much of what comes next belongs to an escape that has begun.
    fn rest_of_escape(self, text: &str) -> usize {
        match text.as_bytes() {
            [b'u', digits @ ..] if self.escaped => 1 + digits.iter().take(4).take_while(|digit| digit.is_ascii_hexdigit()).count(),
            [letter, ..] if self.escaped && letter.is_ascii() => 1,
            _ => 0,
        }
    }

    /// What comes next stands inside a string.
    pub fn inside(self) -> bool {
        self.inside
    }
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spans(list: &[(Range<usize>, &'static str)]) -> Vec<(Range<usize>, Category)> {
        merged(list.iter().map(|(span, name)| (span.clone(), Category::Borrowed(name))).collect())
    }

    #[test]
    fn overlapping_spans_become_one_marker() {
        let text = "mail ada@example.com now";
        assert_eq!(redacted(text, &spans(&[(5..20, "email"), (9..20, "host")])), "mail [REDACTED:email] now");
        assert_eq!(redacted(text, &spans(&[(5..8, "name"), (8..20, "rest")])), "mail [REDACTED:name][REDACTED:rest] now");
    }

    #[test]
    fn arguments_stay_json() {
        let text = r#"{"to":"ada@example.com","card":4111111111111111,"n":[1]}"#;
        let (mail, card) = (7..22, 31..47);
        assert_eq!(
            redacted_json(text, &spans(&[(mail.clone(), "email"), (card, "card")])),
            r#"{"to":"[REDACTED:email]","card":"[REDACTED:card]","n":[1]}"#
        );
        assert_eq!(redacted_json(text, &spans(&[(10..30, "x")])), r#"{"redacted":"[REDACTED:x]"}"#);
        // A marker keeps the escape before it whole, and a number in a JSON answer becomes a string.
        assert_eq!(redacted_json(r#"{"a":"\fbob@x.com"}"#, &spans(&[(7..17, "e")])), r#"{"a":"\f[REDACTED:e]"}"#);
        assert_eq!(redacted_json(r#"{"a":"\u0022bob"}"#, &spans(&[(7..15, "e")])), r#"{"a":"\u0022[REDACTED:e]"}"#);
        assert_eq!(redacted_json(r#"{"card":41, "x"#, &spans(&[(8..10, "c")])), r#"{"card":"[REDACTED:c]", "x"#);
        assert_eq!(redacted_json("no json ada", &spans(&[(8..11, "x")])), "no json [REDACTED:x]");
    }

    proptest! {
        /// Whatever is redacted in an argument text, it stays JSON, and nothing of a span remains.
        #[test]
        fn what_was_json_stays_json(values in prop::collection::vec("[a-z\\\\\"é ]{0,12}", 1..4), at in 0usize..60, len in 1usize..30) {
            let text = serde_json::to_string(&values).unwrap();
            let spans = merged(vec![(at.min(text.len())..(at + len).min(text.len()), Category::Borrowed("x"))]);
            let out = redacted_json(&text, &spans);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{} -> {}", text, out);
        }
    }
}
