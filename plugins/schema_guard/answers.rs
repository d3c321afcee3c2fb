//! The texts of an answer that are the model's reply: one for each choice, without reasoning, refusals and tool calls.

use std::collections::BTreeMap;

use crate::plugin::prelude::*;
use wire::{Lane, Part, Parts};

/// The model's reply in one choice.
pub struct Answer {
    pub text: String,
    /// The index of its part, if it is a single part that can be changed.
    pub part: Option<usize>,
}

/// The replies in a body, in order. A choice without text (a tool call or a refusal) has none.
pub fn of(dialect: Dialect, body: &[u8], parts: &Parts) -> Vec<Answer> {
    let streamed = parts.parts.iter().any(|part| part.channel.is_some());
    // Gemini's reasoning is in ordinary parts with a marker beside them.
    let whole: Value = match dialect {
        Dialect::Gemini if !streamed => serde_json::from_slice(body).unwrap_or_default(),
        _ => Value::Null,
    };
    let mut choices: BTreeMap<usize, Answer> = BTreeMap::new();
    for (place, part) in parts.parts.iter().enumerate() {
        let Some(choice) = (if streamed { of_stream(dialect, part) } else { of_body(dialect, part, &whole) }) else { continue };
        match choices.get_mut(&choice) {
            Some(answer) => {
                answer.text.push_str(&part.text);
                answer.part = None;
            }
            None => {
                choices.insert(choice, Answer { text: part.text.clone(), part: Some(place) });
            }
        }
    }
    choices.into_values().filter(|answer| !answer.text.trim().is_empty()).collect()
}

/// The choice to which a fragment belongs. For Anthropic all text is one reply, and so is all text of an output message.
fn of_stream(dialect: Dialect, part: &Part) -> Option<usize> {
    let channel = part.channel.filter(|channel| channel.lane == Lane::Text)?;
    Some(if dialect == Dialect::Anthropic { 0 } else { usize::try_from(channel.outer).unwrap_or(usize::MAX) })
}

fn of_body(dialect: Dialect, part: &Part, whole: &Value) -> Option<usize> {
    let steps: Vec<&str> = part.path.split('/').skip(1).collect();
    let number = |text: &str| text.parse::<usize>().ok();
    match (dialect, steps.as_slice()) {
        (Dialect::OpenAi, ["choices", choice, "message", "content"]) => number(choice),
        (Dialect::OpenAi, ["choices", choice, "message", "content", _, "text"]) => number(choice),
        (Dialect::OpenAi, ["output", item, "content", _, "text"]) => number(item),
        (Dialect::Anthropic, ["content", _, "text"]) => Some(0),
        (Dialect::Gemini, ["candidates", candidate, "content", "parts", piece, "text"]) => {
            let thought = whole.pointer(&format!("/candidates/{candidate}/content/parts/{piece}/thought"));
            number(candidate).filter(|_| thought != Some(&Value::Bool(true)))
        }
        _ => None,
    }
}
