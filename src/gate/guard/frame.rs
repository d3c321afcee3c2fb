//! Frames of a stream's own: what waits of a text leaves in one when the text ends.

use std::ops::Range;

use serde_json::{Value, json};

use crate::wire::{self, Channel, Ends, Lane};

/// Whether a channel ends here.
pub(super) fn ended(ends: &Ends, channel: Channel) -> bool {
    ends.everything || ends.outer.contains(&channel.outer)
}

/// A frame that carries only `text` of the channel: the template with everything taken out that a client would add up twice
/// (roles, names and ids of calls, other texts, usage).
pub(super) fn alone(template: &str, span: &Range<usize>, channel: Channel, text: &str) -> String {
    let spliced = wire::splice(template.as_bytes(), &[(span.clone(), text.to_owned())]);
    let Some(mut frame) = spliced.ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok()) else { return String::new() };
    if let Some(block) = frame.get("content_block").cloned() {
        // An Anthropic block that says its first words as it opens: more of it is a delta.
        let kind = block.get("type").and_then(Value::as_str).unwrap_or("text");
        let (delta, member) = match kind {
            "thinking" => ("thinking_delta", "thinking"),
            _ => ("text_delta", "text"),
        };
        return json!({"type": "content_block_delta", "index": channel.outer, "delta": {"type": delta, member: text}}).to_string();
    }
    let Some(fields) = frame.as_object_mut() else { return String::new() };
    fields.remove("usage");
    fields.remove("usageMetadata");
    for list in ["choices", "candidates"] {
        let Some(choices) = fields.get_mut(list).and_then(Value::as_array_mut) else { continue };
        let index = |value: &Value| value.get("index").and_then(Value::as_u64);
        choices.retain(|choice| index(choice).is_none_or(|i| i == u64::from(channel.outer)));
        for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
            choice.remove("logprobs");
            choice.remove("finishReason");
            if let Some(reason) = choice.get_mut("finish_reason") {
                *reason = Value::Null;
            }
            let Some(delta) = choice.get_mut("delta").and_then(Value::as_object_mut) else { continue };
            delta.retain(|name, _| match channel.lane {
                Lane::Text => name == "content",
                Lane::Reasoning => name.starts_with("reasoning") || name == "thinking",
                Lane::Refusal => name == "refusal",
                Lane::Arguments => name == "tool_calls" || name == "function_call",
                Lane::Other => name != "role" && name != "content" && name != "tool_calls",
            });
            let Some(calls) = delta.get_mut("tool_calls").and_then(Value::as_array_mut) else { continue };
            calls.retain(|call| index(call).is_none_or(|i| i == u64::from(channel.inner)));
            for call in calls.iter_mut().filter_map(Value::as_object_mut) {
                call.retain(|name, _| matches!(name.as_str(), "index" | "function" | "custom"));
                for part in call.values_mut().filter_map(Value::as_object_mut) {
                    part.remove("name");
                }
            }
        }
    }
    frame.to_string()
}
