//! Which texts of a stream an event ends, for filters that hold fragments back: what is held of a text must leave
//! before the event that ends it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// What an event ends. Fragments in the event itself still belong to the texts it ends.
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

/// Reads what the `data` of one event ends. An event that cannot be read ends everything.
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

    proptest! {
        #[test]
        fn never_panics(data in any::<String>()) {
            let _ = ends(&data);
        }
    }
}
