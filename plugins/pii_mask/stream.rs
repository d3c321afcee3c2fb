//! Streamed answers: each text that arrives in fragments (a choice, a tool call, a content block) is a channel. What is
//! held back on a channel is released in a frame of its own, before the frame that ends the channel.

use std::ops::Range;

use super::body::{self, Reach};
use super::json::{self, Edits, Inside};
use super::mask::{self, Masking};
use super::restore::{self, Restoring};
use crate::plugin::prelude::*;
use wire::{Channel, Ends, Kind, Lane, Text};

/// What is done to the texts of a stream.
pub enum Work {
    /// Replace tokens by values.
    Restore(Restoring),
    /// Replace finds by tokens.
    Mask(Masking),
}

/// Most texts in one stream, as in SafetySec; no real provider opens more.
const MOST_LINES: usize = 4096;

enum Waiting {
    Restore(restore::Pieces),
    Mask(mask::Pieces),
    MaskNested(mask::NestedPieces),
}

struct Line {
    channel: Channel,
    nested: bool,
    waiting: Waiting,
    /// The last frame with a fragment of this channel, while something is held back: event, data, range of the fragment.
    template: Option<(Option<String>, String, Range<usize>)>,
}

impl Line {
    fn holds(&self) -> bool {
        match &self.waiting {
            Waiting::Restore(pieces) => pieces.holds(),
            Waiting::Mask(pieces) => pieces.holds(),
            Waiting::MaskNested(pieces) => pieces.holds(),
        }
    }

    fn push(&mut self, piece: &str, last: bool, work: &mut Work, out: &mut String) {
        match (&mut self.waiting, work) {
            (Waiting::Restore(pieces), Work::Restore(restoring)) => pieces.push(piece, last, self.nested, restoring, out),
            (Waiting::Mask(pieces), Work::Mask(masking)) => pieces.push(piece, last, masking, out),
            (Waiting::MaskNested(pieces), Work::Mask(masking)) => pieces.push(piece, last, masking, out),
            _ => out.push_str(piece),
        }
    }
}

/// The filter of one stream.
pub struct Filter {
    work: Work,
    reach: Reach,
    lines: Vec<Line>,
}

impl Filter {
    /// A filter at the beginning of a stream.
    pub fn new(work: Work, reach: Reach) -> Self {
        Self { work, reach, lines: Vec::new() }
    }

    /// Frames that release everything held back on the channels that `ends` names.
    fn flush(&mut self, ends: &Ends, out: &mut Vec<OwnedFrame>) {
        for line in &mut self.lines {
            if !line.holds() || !ends_channel(ends, line.channel) {
                continue;
            }
            let mut text = String::new();
            line.push("", true, &mut self.work, &mut text);
            if let Some((event, data, span)) = line.template.take() {
                out.push((event, tail(&data, &span, line.channel, &text)));
            }
        }
    }

    /// Whether a frame contains nothing to replace, given that nothing is held back.
    fn is_plain(&self, data: &str) -> bool {
        let bytes = data.as_bytes();
        // A token, or a fragment that ends with the first of its two brackets.
        let begins = |at: usize| matches!(bytes.get(at + 1), Some(b'[' | b'"'));
        matches!(self.work, Work::Restore(_))
            && self.lines.iter().all(|line| !line.holds())
            && !memchr::memchr_iter(b'[', bytes).any(begins)
    }

    fn edit(&mut self, frame: &Frame<'_>, ends: &Ends) -> Result<Edits, body::Unreadable> {
        let data = frame.data.as_bytes();
        let mut texts: Vec<Text<'_>> = Vec::new();
        wire::stream_texts(data, &mut |text| texts.push(text)).map_err(|_| body::Unreadable)?;
        let mut edits = Edits::new();
        let reach = self.reach;
        // A block that starts with text contains the whole text; its frame is no template for further ones.
        let over = frame.data.contains("\"content_block_start\"");
        for text in texts.iter().filter(|t| reach.takes(t.kind)) {
            let inside = body::raw(frame.data, text)?;
            match text.channel.filter(|_| !text.key) {
                Some(channel) => self.fragment(frame, text, channel, inside, over || ends_channel(ends, channel), &mut edits)?,
                None => {
                    let nested = text.kind == Kind::ToolArguments;
                    match &mut self.work {
                        Work::Restore(restoring) => restoring.string(inside, text.span.start, nested, &mut edits),
                        Work::Mask(masking) => masking.string(inside, text.span.start, nested, &mut edits),
                    }
                }
            }
        }
        if matches!(self.work, Work::Mask(_)) {
            edits.extend(log_probabilities(frame.data));
        }
        edits.sort_by_key(|(range, _)| range.start);
        Ok(edits)
    }

    fn fragment(
        &mut self,
        frame: &Frame<'_>,
        text: &Text<'_>,
        channel: Channel,
        inside: &str,
        last: bool,
        edits: &mut Edits,
    ) -> Result<(), body::Unreadable> {
        let piece = Inside::of(inside).text;
        if piece.is_empty() && !last {
            return Ok(());
        }
        let place = self.lines.iter().position(|line| line.channel == channel);
        if place.is_none() && self.lines.len() >= MOST_LINES {
            return Err(body::Unreadable);
        }
        let place = place.unwrap_or_else(|| {
            let nested = channel.lane == Lane::Arguments && !is_free_input(frame.data);
            let waiting = match (&self.work, nested) {
                (Work::Restore(_), _) => Waiting::Restore(restore::Pieces::default()),
                (Work::Mask(_), false) => Waiting::Mask(mask::Pieces::default()),
                (Work::Mask(_), true) => Waiting::MaskNested(mask::NestedPieces::default()),
            };
            self.lines.push(Line { channel, nested, waiting, template: None });
            self.lines.len() - 1
        });
        let Some(line) = self.lines.get_mut(place) else { return Ok(()) };
        let mut leaves = String::new();
        line.push(&piece, last, &mut self.work, &mut leaves);
        line.template = line.holds().then(|| (frame.event.map(str::to_owned), frame.data.to_owned(), text.span.clone()));
        if leaves != *piece {
            edits.push((text.span.clone(), json::escape(&leaves).into_owned()));
        }
        Ok(())
    }
}

impl StreamFilter for Filter {
    fn frame(&mut self, frame: Frame<'_>) -> Result<StreamVerdict, PluginError> {
        if self.is_plain(frame.data) {
            return Ok(StreamVerdict::Pass);
        }
        let ends = wire::ends(frame.data);
        let edits = match self.edit(&frame, &ends) {
            Ok(edits) => edits,
            Err(body::Unreadable) if frame.data.trim() == "[DONE]" => Edits::new(),
            Err(body::Unreadable) if matches!(self.work, Work::Restore(_)) => Edits::new(),
            Err(body::Unreadable) => return Err(PluginError::failed("a frame of the stream is not JSON")),
        };
        let mut before = Vec::new();
        self.flush(&ends, &mut before);
        let data = if edits.is_empty() {
            None
        } else {
            let patched = wire::patch(frame.data.as_bytes(), &edits).and_then(|bytes| String::from_utf8(bytes).ok());
            Some(patched.ok_or_else(|| PluginError::failed("an edit does not fit its frame"))?)
        };
        Ok(match (before.is_empty(), data) {
            (true, None) => StreamVerdict::Pass,
            (true, Some(data)) => StreamVerdict::Replace(data),
            (false, data) => {
                before.push((frame.event.map(str::to_owned), data.unwrap_or_else(|| frame.data.to_owned())));
                StreamVerdict::Emit(before)
            }
        })
    }

    fn finish(&mut self) -> Result<Vec<OwnedFrame>, PluginError> {
        let mut out = Vec::new();
        self.flush(&Ends { everything: true, outer: Vec::new() }, &mut out);
        Ok(out)
    }
}

fn ends_channel(ends: &Ends, channel: Channel) -> bool {
    ends.everything || ends.outer.contains(&channel.outer)
}

/// Whether the arguments in a frame are free text and not JSON: input of custom tools, code.
fn is_free_input(data: &str) -> bool {
    ["\"custom\":", "custom_tool_call_input", "call_code"].iter().any(|mark| data.contains(mark))
}

/// A frame with only `text` on the channel: the template without anything that a client would add up twice (roles, names
/// and ids of calls, other texts, usage).
fn tail(template: &str, span: &Range<usize>, channel: Channel, text: &str) -> String {
    let spliced = wire::patch(template.as_bytes(), &[(span.clone(), json::escape(text).into_owned())])
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_else(|| template.to_owned());
    let Ok(mut frame) = serde_json::from_str::<Value>(&spliced) else { return spliced };
    let Some(fields) = frame.as_object_mut().filter(|f| f.contains_key("choices")) else { return spliced };
    fields.remove("usage");
    let Some(choices) = fields.get_mut("choices").and_then(Value::as_array_mut) else { return spliced };
    choices.retain(|c| index_of(c).is_none_or(|i| i == u64::from(channel.outer)));
    for choice in choices.iter_mut().filter_map(Value::as_object_mut) {
        choice.remove("logprobs");
        if let Some(reason) = choice.get_mut("finish_reason") {
            *reason = Value::Null;
        }
        if let Some(delta) = choice.get_mut("delta").and_then(Value::as_object_mut) {
            delta.retain(|name, _| match channel.lane {
                Lane::Text => name == "content",
                Lane::Reasoning => name.starts_with("reasoning") || name == "thinking",
                Lane::Refusal => name == "refusal",
                Lane::Arguments => name == "tool_calls" || name == "function_call",
                Lane::Other => name != "role" && name != "content" && name != "tool_calls",
            });
            if let Some(calls) = delta.get_mut("tool_calls").and_then(Value::as_array_mut) {
                calls.retain(|c| index_of(c).is_none_or(|i| i == u64::from(channel.inner)));
                for call in calls.iter_mut().filter_map(Value::as_object_mut) {
                    call.retain(|name, _| matches!(name.as_str(), "index" | "function" | "custom"));
                    for part in call.values_mut().filter_map(Value::as_object_mut) {
                        part.remove("name");
                    }
                }
            }
        }
    }
    frame.to_string()
}

fn index_of(value: &Value) -> Option<u64> {
    value.get("index").and_then(Value::as_u64)
}

#[derive(Deserialize)]
struct Probable<'a> {
    #[serde(borrow, default)]
    logprobs: Option<&'a serde_json::value::RawValue>,
    #[serde(borrow, default)]
    choices: Vec<ProbableChoice<'a>>,
}

#[derive(Deserialize)]
struct ProbableChoice<'a> {
    #[serde(borrow, default)]
    logprobs: Option<&'a serde_json::value::RawValue>,
}

/// Edits that empty token probabilities: they repeat the answer in pieces that no detector can read.
pub fn log_probabilities(data: &str) -> Edits {
    if !data.contains("\"logprobs\"") {
        return Edits::new();
    }
    let Ok(found) = serde_json::from_str::<Probable<'_>>(data) else { return Edits::new() };
    let place = |raw: &serde_json::value::RawValue| {
        let start = (raw.get().as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
        start..start + raw.get().len()
    };
    let top = found.logprobs.map(|raw| (place(raw), "[]".to_owned()));
    let inner = found.choices.iter().filter_map(|c| c.logprobs).map(|raw| (place(raw), "null".to_owned()));
    top.into_iter().chain(inner).collect()
}
