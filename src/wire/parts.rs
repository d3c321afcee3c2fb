//! The texts of a body, independent of its form: JSON, plain text, or a complete stream. Fragments of a stream are joined
//! into whole texts, and edits of a text are mapped back to its fragments.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::sse::{Event, Parser};
use super::{Channel, Form, Kind, Lane, Role, Text, places, splice, stream_texts, texts, without_probabilities};

/// Why the texts of a body could not be read or changed. Contains nothing of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartsError {
    /// Neither JSON nor text, or a stream with an event that is not JSON.
    Unreadable,
    /// More texts than the limit.
    TooMany,
    /// An edit is outside of its text, overlaps another, or would break JSON within the text.
    BadEdit,
}

impl fmt::Display for PartsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "the body is neither JSON nor text",
            Self::TooMany => "the body has too many texts",
            Self::BadEdit => "an edit does not fit its text",
        })
    }
}

impl std::error::Error for PartsError {}

/// One whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its place: a JSON pointer; `stream:LANE/OUTER/INNER` for a text that came in fragments; `event:N` and a pointer for
    /// any other text of a stream; empty for a body that is a single text.
    pub path: String,
    /// What the text is for.
    pub kind: Kind,
    /// The role of its author.
    pub role: Role,
    /// Whether it is a member name in free-form JSON, not a value.
    pub key: bool,
    /// The channel of a streamed text.
    pub channel: Option<Channel>,
    /// The decoded text.
    pub text: String,
    pieces: Vec<Piece>,
}

/// Where a part of a text is in the body.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// Index of the stream's event; 0 for other bodies.
    event: usize,
    /// Its range inside the quotes.
    span: Range<usize>,
    /// The offset in the text at which it begins.
    start: usize,
}

/// An edit of a text: the range of bytes to replace, and the replacement.
pub type Edit = (Range<usize>, String);

#[derive(Debug)]
enum Source {
    Nothing,
    Text(Bytes),
    Json(Bytes),
    Events(Vec<Event>),
}

/// The texts of one body.
#[derive(Debug)]
pub struct Parts {
    /// The texts in the order of the body.
    pub parts: Vec<Part>,
    channels: HashMap<Channel, usize>,
    source: Source,
}

impl Parts {
    /// Reads the texts whose kind `takes` accepts; `events` says that the body is a complete stream.
    ///
    /// # Errors
    /// [`PartsError::Unreadable`], or [`PartsError::TooMany`] for more than `most`.
    pub fn of(body: &Bytes, form: Form, events: bool, most: usize, takes: impl Fn(Kind) -> bool) -> Result<Self, PartsError> {
        let mut this = Self { parts: Vec::new(), channels: HashMap::new(), source: Source::Nothing };
        if events {
            this.read_stream(body, most, &takes)?;
        } else if form == Form::Json && !body.is_empty() {
            let mut found = Vec::new();
            texts(body, &mut |text| found.push(text)).map_err(|_| PartsError::Unreadable)?;
            this.take(body, 0, found, most, &takes)?;
            this.source = Source::Json(body.clone());
        } else if form == Form::Text && !body.is_empty() {
            let text = std::str::from_utf8(body).map_err(|_| PartsError::Unreadable)?.to_owned();
            let pieces = vec![Piece { event: 0, span: 0..text.len(), start: 0 }];
            if takes(Kind::Content) {
                let part = Part { path: String::new(), kind: Kind::Content, role: Role::Unknown, key: false, channel: None, text, pieces };
                this.parts.push(part);
            }
            this.source = Source::Text(body.clone());
        }
        Ok(this)
    }

    fn read_stream(&mut self, body: &Bytes, most: usize, takes: &impl Fn(Kind) -> bool) -> Result<(), PartsError> {
        let mut parser = Parser::new(body.len().saturating_add(1));
        let mut events: Vec<Event> = parser.push(body).collect::<Result<_, _>>().map_err(|_| PartsError::Unreadable)?;
        events.extend(parser.finish());
        for (number, event) in events.iter().enumerate() {
            if event.data.is_empty() || event.data.trim() == "[DONE]" {
                continue;
            }
            let data = event.data.as_bytes();
            let mut found = Vec::new();
            stream_texts(data, &mut |text| found.push(text)).map_err(|_| PartsError::Unreadable)?;
            self.take(data, number, found, most, takes)?;
        }
        self.source = Source::Events(events);
        Ok(())
    }

    fn take(
        &mut self,
        json: &[u8],
        event: usize,
        mut found: Vec<Text<'_>>,
        most: usize,
        takes: &impl Fn(Kind) -> bool,
    ) -> Result<(), PartsError> {
        found.retain(|text| takes(text.kind));
        found.sort_by_key(|text| text.span.start);
        let streamed = found.iter().any(|text| text.channel.is_some());
        let mut paths = vec![String::new(); found.len()];
        let mut next = 0;
        places(json, &mut |span, pointer| {
            while found.get(next).is_some_and(|text| text.span.start < span.start) {
                next += 1;
            }
            if found.get(next).is_some_and(|text| text.span.start == span.start)
                && let Some(path) = paths.get_mut(next)
            {
                pointer.clone_into(path);
            }
        })
        .map_err(|_| PartsError::Unreadable)?;
        for (text, pointer) in found.into_iter().zip(paths) {
            let Text { span, text, kind, role, key, channel } = text;
            let channel = channel.filter(|_| !key);
            let known = channel.and_then(|channel| self.channels.get(&channel)).copied();
            if let Some(part) = known.and_then(|place| self.parts.get_mut(place)) {
                part.pieces.push(Piece { event, span, start: part.text.len() });
                part.text.push_str(&text);
                if part.role == Role::Unknown {
                    part.role = role;
                }
                continue;
            }
            if self.parts.len() >= most {
                return Err(PartsError::TooMany);
            }
            if let Some(channel) = channel {
                self.channels.insert(channel, self.parts.len());
            }
            let path = match channel {
                Some(Channel { lane, outer, inner }) => format!("stream:{}/{outer}/{inner}", lane_name(lane)),
                None if streamed || event > 0 => format!("event:{event}{pointer}"),
                None => pointer,
            };
            let pieces = vec![Piece { event, span, start: 0 }];
            self.parts.push(Part { path, kind, role, key, channel, text: text.into_owned(), pieces });
        }
        Ok(())
    }

    /// The texts of each user message, in order; for a request without roles, all of its texts as one message.
    pub fn said(&self) -> Vec<Vec<&Part>> {
        let message = |part: &Part| part.path.match_indices('/').nth(2).map_or(part.path.len(), |(at, _)| at);
        let mut messages: Vec<Vec<&Part>> = Vec::new();
        let mut last = None;
        for part in self.parts.iter().filter(|part| part.role == Role::User && !part.key) {
            let name = part.path.get(..message(part));
            match messages.last_mut().filter(|_| last == name) {
                Some(texts) => texts.push(part),
                None => messages.push(vec![part]),
            }
            last = name;
        }
        if messages.is_empty() {
            let texts: Vec<&Part> = self.parts.iter().filter(|part| part.role == Role::Unknown && !part.key).collect();
            messages.extend((!texts.is_empty()).then_some(texts));
        }
        messages
    }

    /// The body with edited texts. `edits` has the index of each part in [`Self::parts`], and the edits of its text. Every
    /// other byte stays the same, except for token probabilities, which would spell out what was removed.
    ///
    /// # Errors
    /// [`PartsError::BadEdit`]; then nothing was changed.
    pub fn rewrite(&self, edits: &[(usize, Vec<Edit>)]) -> Result<Bytes, PartsError> {
        let mut by_event: BTreeMap<usize, Vec<Edit>> = BTreeMap::new();
        for (place, edits) in edits {
            let part = self.parts.get(*place).ok_or(PartsError::BadEdit)?;
            for (event, edit) in part.rewritten(edits)? {
                by_event.entry(event).or_default().push(edit);
            }
        }
        let edits_of = |event: usize| by_event.get(&event).map(Vec::as_slice);
        match &self.source {
            Source::Nothing => Ok(Bytes::new()),
            Source::Text(body) => {
                let new = edits_of(0).and_then(|edits| edits.first());
                Ok(new.map_or_else(|| body.clone(), |(_, text)| Bytes::from(text.clone())))
            }
            Source::Json(body) => match edits_of(0) {
                Some(edits) => spliced(body, edits),
                None => Ok(body.clone()),
            },
            Source::Events(events) => {
                let mut out = BytesMut::new();
                for (number, event) in events.iter().enumerate() {
                    match edits_of(number) {
                        None => out.extend_from_slice(&event.raw),
                        Some(edits) => {
                            let data = spliced(event.data.as_bytes(), edits)?;
                            let data = std::str::from_utf8(&data).map_err(|_| PartsError::BadEdit)?;
                            out.extend_from_slice(&event.with_data(event.event.as_deref(), data));
                        }
                    }
                }
                Ok(out.freeze())
            }
        }
    }
}

impl Part {
    /// The new text of each piece that changes, with its event and range.
    fn rewritten(&self, edits: &[Edit]) -> Result<Vec<(usize, Edit)>, PartsError> {
        let whole = applied(&self.text, 0..self.text.len(), true, edits).ok_or(PartsError::BadEdit)?;
        let is_json = |text: &str| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        if self.kind == Kind::ToolArguments && self.text.trim_start().starts_with(['{', '[']) && is_json(&self.text) && !is_json(&whole) {
            return Err(PartsError::BadEdit);
        }
        let ends = self.pieces.iter().skip(1).map(|piece| piece.start).chain([self.text.len()]);
        let mut out = Vec::new();
        let last = self.pieces.len().saturating_sub(1);
        for (place, (piece, end)) in self.pieces.iter().zip(ends).enumerate() {
            let new = applied(&self.text, piece.start..end, place == last, edits).ok_or(PartsError::BadEdit)?;
            if self.text.get(piece.start..end) != Some(new.as_str()) {
                out.push((piece.event, (piece.span.clone(), new)));
            }
        }
        Ok(out)
    }
}

/// A window of the text after the edits. An edit's replacement goes to the window in which the edit begins; one at the very
/// end of the text goes to the `last` window.
fn applied(text: &str, window: Range<usize>, last: bool, edits: &[Edit]) -> Option<String> {
    let mut out = String::new();
    let mut at = 0;
    for (range, new) in edits {
        if range.start < at || range.end < range.start {
            return None;
        }
        // An edit outside of the window must be valid for the text, too.
        text.get(range.clone())?;
        out.push_str(within(text, at..range.start, &window)?);
        if window.contains(&range.start) || last && range.start == text.len() {
            out.push_str(new);
        }
        at = range.end;
    }
    out.push_str(within(text, at..text.len(), &window)?);
    Some(out)
}

fn within<'t>(text: &'t str, range: Range<usize>, window: &Range<usize>) -> Option<&'t str> {
    let (start, end) = (range.start.max(window.start), range.end.min(window.end));
    if start < end { text.get(start..end) } else { Some("") }
}

fn spliced(json: &[u8], edits: &[Edit]) -> Result<Bytes, PartsError> {
    let spliced = splice(json, edits).map_err(|_| PartsError::BadEdit)?;
    Ok(without_probabilities(&spliced).map_or(spliced, Bytes::from))
}

fn lane_name(lane: Lane) -> &'static str {
    match lane {
        Lane::Text => "text",
        Lane::Arguments => "arguments",
        Lane::Reasoning => "reasoning",
        Lane::Refusal => "refusal",
        Lane::Other => "other",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, proptest};

    fn all(kind: Kind) -> bool {
        kind != Kind::Structural
    }

    fn chunk(text: &str) -> String {
        format!("data: {}\n\n", serde_json::json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]}))
    }

    #[test]
    fn texts_have_pointers_and_edits_leave_the_rest() {
        let body = Bytes::from_static(br#"{ "messages":[{"role":"user","content":"my name is \"Bo\" \u00e9"}],"n": 1.0}"#);
        let parts = Parts::of(&body, Form::Json, false, 10, all).unwrap();
        let part = &parts.parts[0];
        assert_eq!((part.path.as_str(), part.text.as_str(), part.role), ("/messages/0/content", "my name is \"Bo\" é", Role::User));
        let new = parts.rewrite(&[(0, vec![(12..14, "[x]".into())])]).unwrap();
        assert_eq!(new, r#"{ "messages":[{"role":"user","content":"my name is \"[x]\" é"}],"n": 1.0}"#);
        assert_eq!(parts.rewrite(&[]).unwrap(), body);
        for wrong in [vec![(12..99, "x".into())], vec![(3..5, "x".into()), (4..6, "y".into())], vec![(17..18, "x".into())]] {
            assert_eq!(parts.rewrite(&[(0, wrong)]), Err(PartsError::BadEdit));
        }
        assert_eq!(parts.rewrite(&[(7, vec![])]), Err(PartsError::BadEdit));
        assert!(matches!(Parts::of(&body, Form::Json, false, 0, all), Err(PartsError::TooMany)));
        assert!(matches!(Parts::of(&Bytes::from_static(b"{"), Form::Json, false, 9, all), Err(PartsError::Unreadable)));
    }

    #[test]
    fn arguments_stay_json() {
        let body = Bytes::from_static(
            br#"{"choices":[{"message":{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\":\"secret\"}"}}]}}]}"#,
        );
        let parts = Parts::of(&body, Form::Json, false, 10, |kind| kind == Kind::ToolArguments).unwrap();
        let place = parts.parts.iter().position(|p| p.text.starts_with('{')).unwrap();
        assert!(parts.rewrite(&[(place, vec![(6..12, "x".into())])]).is_ok());
        assert_eq!(parts.rewrite(&[(place, vec![(5..13, "x".into())])]), Err(PartsError::BadEdit));
    }

    #[test]
    fn fragments_are_one_text() {
        let stream = chunk("my na") + ": ping\n\n" + &chunk("me is B") + &chunk("o.") + "data: [DONE]\n\n";
        let parts = Parts::of(&Bytes::from(stream.clone()), Form::Text, true, 10, all).unwrap();
        assert_eq!(parts.parts.len(), 1);
        assert_eq!((parts.parts[0].path.as_str(), parts.parts[0].text.as_str()), ("stream:text/0/0", "my name is Bo."));
        assert_eq!(parts.rewrite(&[]).unwrap(), stream);
        let new = parts.rewrite(&[(0, vec![(11..13, "[x]".into())])]).unwrap();
        assert_eq!(new, chunk("my na") + ": ping\n\n" + &chunk("me is [x]") + &chunk(".") + "data: [DONE]\n\n");
    }

    #[test]
    fn what_is_put_at_the_end_stands_there_once() {
        let stream = chunk("ab") + &chunk("") + &chunk("");
        let parts = Parts::of(&Bytes::from(stream), Form::Text, true, 10, all).unwrap();
        let new = parts.rewrite(&[(0, vec![(2..2, "#".into())])]).unwrap();
        assert_eq!(new, chunk("ab") + &chunk("") + &chunk("#"));
    }

    #[test]
    fn messages_of_users() {
        let body = br#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"a"},{"role":"assistant","content":"x"},
            {"role":"user","content":[{"type":"text","text":"b"},{"type":"text","text":"c"}]}]}"#;
        let parts = Parts::of(&Bytes::from_static(body), Form::Json, false, 10, |kind| kind == Kind::Content).unwrap();
        let said: Vec<Vec<&str>> = parts.said().iter().map(|m| m.iter().map(|p| p.text.as_str()).collect()).collect();
        assert_eq!(said, [vec!["a"], vec!["b", "c"]]);
        let bare = Parts::of(&Bytes::from_static(br#"{"input":"hello"}"#), Form::Json, false, 10, all).unwrap();
        assert_eq!(bare.said().len(), 1);
    }

    #[test]
    fn plain_text_is_one_part() {
        let parts = Parts::of(&Bytes::from_static(b"call Bo"), Form::Text, false, 1, all).unwrap();
        assert_eq!(parts.rewrite(&[(0, vec![(5..7, "[x]".into())])]).unwrap(), "call [x]");
        assert!(Parts::of(&Bytes::from_static(b"\xff"), Form::Text, false, 1, all).is_err());
        assert!(Parts::of(&Bytes::from_static(b"\xff"), Form::Media, false, 1, all).unwrap().parts.is_empty());
    }

    proptest! {
        /// However a text is cut into fragments, editing it gives the same result as editing the whole text.
        #[test]
        fn cuts_make_no_difference(pieces in prop::collection::vec("[a-cé\"]{0,4}", 1..6), from in 0usize..12, len in 0usize..6) {
            let whole: String = pieces.concat();
            let stream: String = pieces.iter().map(|p| chunk(p)).collect();
            let parts = Parts::of(&Bytes::from(stream), Form::Text, true, 10, all).unwrap();
            let part = parts.parts.iter().position(|p| p.channel.is_some()).unwrap();
            assert_eq!(&parts.parts[part].text, &whole);
            let range = from..from + len;
            let mut expected = whole.clone();
            let fits = whole.get(range.clone()).is_some();
            let edited = parts.rewrite(&[(part, vec![(range.clone(), "#".into())])]);
            assert_eq!(edited.is_ok(), fits);
            if let Ok(edited) = edited {
                expected.replace_range(range, "#");
                let again = Parts::of(&edited, Form::Text, true, 10, all).unwrap();
                assert_eq!(&again.parts[part].text, &expected);
            }
        }
    }
}
