//! Which texts of a stream an event ends. Filters that hold back fragments must release what they hold of a text before the
//! event that ends it.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The texts that an event ends. Fragments in the event itself still belong to these texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ends {
    /// Every text of the stream.
    pub everything: bool,
    /// All texts with one of these [`super::Channel::outer`].
    pub outer: Vec<u32>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(alias = "output_index")]
    index: Option<u32>,
    #[serde(borrow, alias = "candidates")]
    choices: Option<Vec<Choice<'a>>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    index: Option<u32>,
    #[serde(borrow, alias = "finishReason")]
    finish_reason: Option<&'a RawValue>,
}

static FINISH: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("finish"));
static TYPE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"type\""));
static ESCAPED: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\\u"));

/// Values of `type` in events, and in the objects within them, that end no text.
const ON: [&str; 7] =
    ["content_block_delta", "text_delta", "input_json_delta", "thinking_delta", "text", "function", "response.output_text.delta"];

/// Whether an event that is JSON visibly ends no text, as nearly all do; without parsing it. A name could also be spelled
/// with escapes, so any `\u` in the event counts as a doubt; a quote within a string is always escaped, so what matches
/// here is a real member.
pub fn goes_on(data: &str) -> bool {
    let bytes = data.as_bytes();
    let after = |at: usize| data.get(at..).unwrap_or_default();
    bytes.first() == Some(&b'{')
        && bytes.last() == Some(&b'}')
        && FINISH.find_iter(bytes).all(|at| after(at).starts_with("finish_reason\":null"))
        && TYPE.find_iter(bytes).all(|at| {
            let value = after(at).strip_prefix("\"type\":\"").and_then(|value| value.split_once('"'));
            value.is_some_and(|(kind, _)| ON.contains(&kind))
        })
        && ESCAPED.find(bytes).is_none()
}

/// Parses which texts the `data` of an event ends. An event that cannot be parsed ends all of them.
pub fn ends(data: &str) -> Ends {
    let everything = Ends { everything: true, outer: Vec::new() };
    let Ok(event) = serde_json::from_str::<Event<'_>>(data) else {
        return everything;
    };
    let mut found = Ends::default();
    for (position, choice) in (0u32..).zip(event.choices.iter().flatten()) {
        if choice.finish_reason.is_some() {
            found.outer.push(choice.index.unwrap_or(position));
        }
    }
    match event.kind.as_deref().unwrap_or_default() {
        "message_delta" | "message_stop" | "error" | "response.completed" | "response.failed" | "response.incomplete" => everything,
        "content_block_stop" => {
            found.outer.push(event.index.unwrap_or(0));
            found
        }
        kind if kind.starts_with("response.") && kind.ends_with(".done") => {
            found.outer.push(event.index.unwrap_or(0));
            found
        }
        _ => found,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_by_dialect() {
        for (data, all, outer) in [
            (r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#, false, vec![]),
            (r#"{"choices":[{"index":2,"delta":{},"finish_reason":"stop"},{"finish_reason":"length"}]}"#, false, vec![2, 1]),
            (r#"{"candidates":[{"content":{},"finishReason":"STOP"}]}"#, false, vec![0]),
            (r#"{"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"a"}}"#, false, vec![]),
            (r#"{"type":"content_block_stop","index":3}"#, false, vec![3]),
            (r#"{"type":"message_stop"}"#, true, vec![]),
            (r#"{"type":"response.output_text.done","output_index":1,"text":"a"}"#, false, vec![1]),
            (r#"{"type":"response.completed","response":{}}"#, true, vec![]),
            ("[DONE]", true, vec![]),
        ] {
            assert_eq!(ends(data), Ends { everything: all, outer }, "{data}");
        }
    }

    #[test]
    fn what_is_seen_to_go_on_does() {
        for data in [
            r#"{"choices":[{"index":0,"delta":{"content":"said \"type\":\"message_stop\""},"finish_reason":null}]}"#,
            r#"{"type":"content_block_delta","index":3,"delta":{"type":"text_delta","text":"a"}}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#,
        ] {
            assert!(goes_on(data), "{data}");
            assert_eq!(ends(data), Ends::default(), "{data}");
        }
        for data in [
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"candidates":[{"content":{},"finishReason":"STOP"}]}"#,
            r#"{"type":"message_stop"}"#,
            r#"{"type" : "message_stop"}"#,
            r#"{"\u0074ype":"message_stop"}"#,
            "[DONE]",
            r#"{"choices":"#,
        ] {
            assert!(!goes_on(data), "{data}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(data in any::<String>()) {
            let _ = ends(&data);
        }
    }
}
