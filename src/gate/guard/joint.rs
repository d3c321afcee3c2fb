//! Short texts that stand side by side in one message: the model reads them as one text, so the modules do too.
//!
//! They are joined without a separator, as most providers do, and once more with spaces for the modules that score, because a
//! message with one word per part means the same. Longer texts are read by themselves, so a conversation with one text per
//! message costs nothing extra.

use std::ops::Range;

use super::body::quoted;
use crate::safety::Category;
use crate::wire::{Kind, Text};

/// Parts of more bytes are not joined.
const SHORT: usize = 256;

/// Texts that are read as one.
#[derive(Debug)]
pub(super) struct Joint {
    /// The number of its first text.
    pub first: usize,
    /// The offset in `text` at which each part begins, and the end of the last.
    edges: Vec<usize>,
    /// All parts, joined.
    pub text: String,
    /// All parts, joined with spaces, if that may be read differently.
    pub spaced: Option<String>,
}

impl Joint {
    fn of(first: usize, parts: &[Text<'_>]) -> Self {
        let mut this = Self { first, edges: vec![0], text: String::new(), spaced: None };
        for part in parts {
            this.text.push_str(&part.text);
            this.edges.push(this.text.len());
        }
        let letters = parts.iter().all(|part| part.text.chars().nth(1).is_none());
        let words = |pair: &[Text<'_>]| match pair {
            [before, after] => !before.text.ends_with(char::is_whitespace) && !after.text.starts_with(char::is_whitespace),
            _ => false,
        };
        if !letters && parts.windows(2).any(words) {
            let all: Vec<&str> = parts.iter().map(|part| &*part.text).collect();
            this.spaced = Some(all.join(" "));
        }
        this
    }

    /// The numbers of its texts.
    pub fn range(&self) -> Range<usize> {
        self.first..self.first + self.edges.len() - 1
    }

    /// Splits spans of the joined text into those of its parts.
    pub fn shares(&self, spans: &[(Range<usize>, Category)]) -> impl Iterator<Item = (usize, Vec<(Range<usize>, Category)>)> {
        self.range().zip(self.edges.windows(2)).filter_map(move |(number, edge)| {
            let &[from, to] = edge else { return None };
            let inside = spans.iter().filter_map(|(span, category)| {
                let share = span.start.max(from)..span.end.min(to);
                (share.start < share.end).then(|| (share.start - from..share.end - from, category.clone()))
            });
            let inside: Vec<_> = inside.collect();
            (!inside.is_empty()).then_some((number, inside))
        })
    }
}

/// Finds the texts of a request that are read as one. A text for which `single` holds is never joined.
pub(super) fn joints(body: &[u8], texts: &[Text<'_>], single: impl Fn(usize) -> bool) -> Vec<Joint> {
    let mut all = Vec::new();
    let mut first = 0;
    while first < texts.len() {
        let pairs = texts.get(first..).unwrap_or_default().windows(2).enumerate();
        let joined = |(n, pair): &(usize, &[Text<'_>])| match pair {
            [before, after] => follows(body, before, after) && !single(first + n) && !single(first + n + 1),
            _ => false,
        };
        let more = pairs.take_while(joined).count();
        if more > 0 {
            all.push(Joint::of(first, texts.get(first..=first + more).unwrap_or_default()));
        }
        first += more + 1;
    }
    all
}

fn follows(body: &[u8], before: &Text<'_>, after: &Text<'_>) -> bool {
    let short = |text: &Text<'_>| !text.key && text.text.len() <= SHORT;
    before.role == after.role
        && before.kind == after.kind
        && matches!(before.kind, Kind::Content | Kind::Instruction | Kind::ToolResult)
        && short(before)
        && short(after)
        && quoted(body, before)
        && quoted(body, after)
        && body.get(before.span.end..after.span.start).is_some_and(|between| neighbours(between, before.kind))
}

/// Whether the bytes between two strings mean that both are members of neighbouring objects in one list. Tool results also
/// must belong to the same call, so that no member between them may name one.
fn neighbours(between: &[u8], kind: Kind) -> bool {
    let names_call = |name: &[u8]| memchr::memmem::find(between, name).is_some();
    if kind == Kind::ToolResult && [&b"\"role\""[..], b"tool_use_id\"", b"call_id\""].iter().any(|name| names_call(name)) {
        return false;
    }
    // `between` begins with the closing quote of the first string and ends with the opening quote of the second.
    let (mut quoted, mut escaped) = (true, false);
    let (mut braces, mut lowest, mut lists) = (0_i32, 0_i32, 0_i32);
    for byte in between {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'[' => lists += 1,
            b']' if lists == 0 => return false,
            b']' => lists -= 1,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                lowest = lowest.min(braces);
            }
            _ => {}
        }
    }
    lists == 0 && braces == 0 && lowest == -1
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::wire;

    fn joined(body: &str) -> Vec<String> {
        let mut texts = Vec::new();
        wire::texts(body.as_bytes(), &mut |text| {
            if text.kind != Kind::Structural {
                texts.push(text);
            }
        })
        .unwrap();
        joints(body.as_bytes(), &texts, |_| false).into_iter().map(|joint| joint.text).collect()
    }

    #[test]
    fn parts_of_one_message_are_one_text_and_messages_of_others_are_not() {
        for (body, expected) in [
            (
                r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b "},{"text":"c"}]}]}"#,
                &["ab c"][..],
            ),
            (r#"{"messages":[{"content":[{"text":"a"},{"url":"data:,]}[","ids":[],"text":"b"}],"role":"user"}]}"#, &["ab"]),
            (r#"{"contents":[{"parts":[{"text":"a"},{"text":"b"}]},{"role":"model","parts":[{"text":"c"}]}]}"#, &["ab"]),
            (r#"{"system":[{"type":"text","text":"a","cache_control":{"type":"x"}},{"type":"text","text":"b"}]}"#, &["ab"]),
            (r#"{"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]}"#, &["ab"]),
            (r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]}"#, &[]),
            (r#"{"messages":[{"role":"tool","tool_call_id":"1","content":"a"},{"role":"tool","tool_call_id":"2","content":"b"}]}"#, &[]),
            (r#"{"messages":[{"role":"assistant","reasoning_content":"a","content":"b"}]}"#, &[]),
            (r#"{"input":["a","b"]}"#, &[]),
        ] {
            assert_eq!(joined(body), expected, "{body}");
        }
        let long = format!(r#"{{"messages":[{{"role":"user","content":[{{"text":"{}"}},{{"text":"b"}}]}}]}}"#, "x".repeat(300));
        assert!(joined(&long).is_empty());
    }

    #[test]
    fn a_span_is_shared_out_among_its_texts() {
        let joint = Joint { first: 3, edges: vec![0, 4, 4, 8], text: "4111 111".into(), spaced: None };
        let spans = [(2..6, Category::Borrowed("card"))];
        let shares: Vec<_> = joint.shares(&spans).map(|(number, spans)| (number, spans[0].0.clone())).collect();
        assert_eq!(shares, [(3, 2..4), (5, 0..2)]);
    }
}
