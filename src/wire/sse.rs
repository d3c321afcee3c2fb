//! Server-sent events: an incremental parser that keeps the exact bytes of every event, and the encoder.
//!
//! The rules are those of the WHATWG: lines end in LF, CR or CRLF, a blank line ends an event, `:` starts a comment,
//! several `data` lines are joined with LF, and the stream may start with one byte order mark.

use std::fmt;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// Whether a `Content-Type` says that a body is a stream of events.
pub fn is_event_stream(media: &[u8]) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    media.trim_ascii_start().get(..TYPE.len()).is_some_and(|media| media.eq_ignore_ascii_case(TYPE))
}

/// One event, or a block of comments that ended in a blank line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// The field `event`, if present.
    pub event: Option<String>,
    /// The field `id`, if present.
    pub id: Option<String>,
    /// The joined `data` lines. Empty for a keep-alive or comment, which is forwarded unchanged.
    pub data: String,
    /// Its exact bytes, including comments before it and the blank line: concatenated, the raws of all events are the
    /// stream.
    pub raw: Bytes,
    /// Whether it is the first event of the stream, so that a byte order mark before it is not part of it. Elsewhere these
    /// bytes belong to the name of the field that they precede, which makes it unknown to every reader.
    first: bool,
}

impl Event {
    /// Its bytes without the byte order mark that may begin a stream.
    fn unmarked(&self) -> &[u8] {
        self.raw.strip_prefix(MARK).filter(|_| self.first).unwrap_or(&self.raw)
    }

    /// Whether every line is a field with a name of plain letters, or a short comment. Anything else labelled as an event
    /// stream would pass a scanner unread.
    pub fn is_well_formed(&self) -> bool {
        lines(self.unmarked()).all(|line| {
            let (name, _) = field(line);
            let letters = name.len() <= 64 && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            line.is_empty() || if name.is_empty() { line.len() <= 256 } else { letters }
        })
    }

    /// Whether there is nothing besides the data but a name and an id that are protocol words, as in nearly every event.
    pub fn is_plain(&self) -> bool {
        let word = |value: &[u8]| {
            let letter = |b: &u8| b.is_ascii_alphabetic() || matches!(b, b'_' | b'.' | b'/');
            value.len() <= 64 && (value.iter().all(letter) || value.len() <= 6 && value.iter().all(u8::is_ascii_digit))
        };
        lines(self.unmarked()).all(|line| match field(line) {
            (b"data", _) => true,
            (b"event" | b"id" | b"retry", value) => word(value),
            (name, _) => name.is_empty() && line.is_empty(),
        })
    }

    /// The event without unknown fields, and without the name, id and comments that `keeps` rejects. If there are none of
    /// these, only the raw bytes may differ.
    pub fn kept(self, mut keeps: impl FnMut(&str) -> bool) -> Self {
        let mut raw = BytesMut::with_capacity(self.raw.len());
        let (mut event, mut id) = (self.event.clone(), self.id.clone());
        for line in lines(self.unmarked()) {
            let (name, value) = field(line);
            let stays = match name {
                b"data" => true,
                b"event" | b"id" | b"retry" => keeps(&String::from_utf8_lossy(value)),
                b"" if !line.is_empty() => keeps(&String::from_utf8_lossy(line.get(1..).unwrap_or_default())),
                _ => false,
            };
            match (stays, name) {
                (false, b"event") => event = None,
                (false, b"id") => id = None,
                (false, _) => {}
                (true, _) => {
                    raw.extend_from_slice(line);
                    raw.extend_from_slice(b"\n");
                }
            }
        }
        if !raw.is_empty() {
            raw.extend_from_slice(b"\n");
        }
        Self { event, id, data: self.data, raw: raw.freeze(), first: false }
    }

    /// The bytes of an event with other data in place of this one's, and the same id.
    pub fn with_data(&self, event: Option<&str>, data: &str) -> Bytes {
        encode_with_id(event, self.id.as_deref(), data)
    }
}

/// An event exceeds the size that the parser may hold. The rest of the stream cannot be scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventTooLarge;

impl fmt::Display for EventTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stream event is larger than this gateway may hold")
    }
}

impl std::error::Error for EventTooLarge {}

/// Splits a stream into events, independent of how it is cut into chunks.
#[derive(Debug)]
pub struct Parser {
    buffer: BytesMut,
    /// Largest size of an event in bytes.
    cap: usize,
    /// Offset up to which `buffer` has been searched for line ends.
    searched: usize,
    /// Offset of the current line in `buffer`.
    line: usize,
    /// Nothing has been consumed yet, so a byte order mark may come first.
    fresh: bool,
    /// An event was too large; no further events are returned.
    broken: bool,
}

const MARK: &[u8] = b"\xef\xbb\xbf";

impl Parser {
    /// A parser that holds at most `cap` bytes of an incomplete event.
    pub fn new(cap: usize) -> Self {
        Self { buffer: BytesMut::new(), cap, searched: 0, line: 0, fresh: true, broken: false }
    }

    /// Takes the next bytes, and yields the events that they complete. Events left in a dropped iterator are yielded by the
    /// next push. After an error no further events are yielded.
    pub fn push(&mut self, chunk: &[u8]) -> Events<'_> {
        if !self.broken {
            self.buffer.extend_from_slice(chunk);
        }
        Events { parser: self }
    }

    /// Number of bytes held of an incomplete event.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the bytes held of an incomplete event, for a caller that continues without events.
    pub fn give_up(&mut self) -> Bytes {
        self.broken = true;
        std::mem::take(&mut self.buffer).freeze()
    }

    /// Ends the stream and returns the incomplete event, if any. A reader following the standard drops an event without its
    /// blank line; many readers do not, so it is parsed for scanning, and `raw` is what arrived. Take all events of the
    /// last push first.
    pub fn finish(&mut self) -> Option<Event> {
        if self.broken || self.buffer.is_empty() {
            return None;
        }
        let fresh = std::mem::take(&mut self.fresh);
        let raw = std::mem::take(&mut self.buffer).freeze();
        (self.searched, self.line) = (0, 0);
        Some(decode(raw, fresh))
    }

    fn next_event(&mut self) -> Option<Result<Event, EventTooLarge>> {
        if self.broken {
            return None;
        }
        if self.fresh && self.line == 0 {
            if self.buffer.starts_with(MARK) {
                (self.line, self.searched) = (MARK.len(), MARK.len());
            } else if MARK.starts_with(&self.buffer) {
                return None;
            }
        }
        let end = match self.event_end() {
            Some(end) if end <= self.cap => end,
            None if self.buffer.len() <= self.cap => return None,
            _ => {
                self.broken = true;
                return Some(Err(EventTooLarge));
            }
        };
        let raw = self.buffer.split_to(end).freeze();
        (self.searched, self.line) = (0, 0);
        let fresh = std::mem::take(&mut self.fresh);
        Some(Ok(decode(raw, fresh)))
    }

    /// The end of the event at the start of the buffer, behind its blank line.
    fn event_end(&mut self) -> Option<usize> {
        loop {
            let rest = self.buffer.get(self.searched..)?;
            let Some(at) = memchr2(b'\n', b'\r', rest) else {
                self.searched = self.buffer.len();
                return None;
            };
            let stop = self.searched + at;
            let after = match (self.buffer.get(stop), self.buffer.get(stop + 1)) {
                (Some(b'\r'), Some(b'\n')) => stop + 2,
                // A line feed may follow in the next chunk, and belongs to this line end.
                (Some(b'\r'), None) => {
                    self.searched = stop;
                    return None;
                }
                _ => stop + 1,
            };
            let blank = stop == self.line;
            (self.searched, self.line) = (after, after);
            if blank {
                return Some(after);
            }
        }
    }
}

/// The events completed by one push.
#[derive(Debug)]
pub struct Events<'p> {
    parser: &'p mut Parser,
}

impl Iterator for Events<'_> {
    type Item = Result<Event, EventTooLarge>;

    fn next(&mut self) -> Option<Self::Item> {
        self.parser.next_event()
    }
}

/// Parses the fields of an event.
fn decode(raw: Bytes, fresh: bool) -> Event {
    let mut event = Event { first: fresh, ..Event::default() };
    let mut lines = 0;
    let mut rest: &[u8] = raw.strip_prefix(MARK).filter(|_| fresh).unwrap_or(&raw);
    while !rest.is_empty() {
        let stop = memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let (line, tail) = rest.split_at(stop);
        rest = match tail {
            [b'\r', b'\n', tail @ ..] | [_, tail @ ..] => tail,
            [] => tail,
        };
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => {
                let (name, value) = line.split_at(colon);
                let value = value.get(1..).unwrap_or_default();
                (name, value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &[][..]),
        };
        match name {
            b"data" => {
                if lines > 0 {
                    event.data.push('\n');
                }
                lines += 1;
                event.data.push_str(&String::from_utf8_lossy(value));
            }
            b"event" => event.event = Some(String::from_utf8_lossy(value).into_owned()),
            b"id" if !value.contains(&0) => event.id = Some(String::from_utf8_lossy(value).into_owned()),
            _ => {}
        }
    }
    event.raw = raw;
    event
}

/// The lines of an event, without their ends.
fn lines(raw: &[u8]) -> impl Iterator<Item = &[u8]> {
    raw.split(|b| matches!(b, b'\n' | b'\r'))
}

/// The name and the value of a line.
fn field(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr::memchr(b':', line).unwrap_or(line.len());
    let value = line.get(colon + 1..).unwrap_or_default();
    (line.get(..colon).unwrap_or_default(), value.strip_prefix(b" ").unwrap_or(value))
}

/// The bytes of an event. Line ends in `data` become further `data` lines; in `event` they are dropped.
pub fn encode(event: Option<&str>, data: &str) -> Bytes {
    encode_with_id(event, None, data)
}

fn encode_with_id(event: Option<&str>, id: Option<&str>, data: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(data.len() + event.map_or(0, str::len) + id.map_or(0, str::len) + 24);
    for (name, value) in [("id: ", id), ("event: ", event)] {
        if let Some(value) = value {
            out.extend_from_slice(name.as_bytes());
            out.extend(value.bytes().filter(|b| !matches!(b, b'\n' | b'\r')));
            out.extend_from_slice(b"\n");
        }
    }
    let mut rest = data.as_bytes();
    loop {
        let stop = memchr2(b'\n', b'\r', rest);
        let (line, tail) = rest.split_at(stop.unwrap_or(rest.len()));
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.extend_from_slice(b"\n");
        rest = match tail {
            [b'\r', b'\n', tail @ ..] | [_, tail @ ..] => tail,
            [] => break,
        };
    }
    out.extend_from_slice(b"\n");
    out.freeze()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_content_type_has_no_case() {
        for media in ["text/event-stream", "Text/Event-Stream; charset=utf-8", " text/EVENT-stream"] {
            assert!(is_event_stream(media.as_bytes()), "{media}");
        }
        for media in ["application/json", "text/event", "", "application/json; x=text/event-stream"] {
            assert!(!is_event_stream(media.as_bytes()), "{media}");
        }
    }

    #[test]
    fn what_stands_beside_the_data_is_kept_only_where_it_may_be() {
        let one = |raw: &[u8]| parse(&[raw], 1000).0.remove(0);
        for plain in
            [&b"data: {}\n\n"[..], b"event: response.output_text.delta\r\ndata: 4111\r\n\r\n", b"id: 17\nretry: 300\ndata: x\n\n", b"\n"]
        {
            assert!(one(plain).is_plain(), "{plain:?}");
        }
        let event = one(b": ping\nevent: a4111\nid: mine\nfoo: secret\ndata: one\ndata: two\n\n");
        assert!(!event.is_plain());
        let kept = event.clone().kept(|said| said != "a4111");
        assert_eq!(&kept.raw[..], b": ping\nid: mine\ndata: one\ndata: two\n\n");
        assert_eq!((kept.event, kept.id.as_deref(), &*kept.data), (None, Some("mine"), "one\ntwo"));
        assert_eq!(&event.kept(|_| false).raw[..], b"data: one\ndata: two\n\n");
        assert_eq!(&one(b"foo: bar\n\n").kept(|_| true).raw[..], b"");
        assert!(one(b": ok\nfoo: bar\n\n").is_well_formed() && !one(b"{\"a\":1}\n\n").is_well_formed());
    }

    #[test]
    fn a_mark_within_a_stream_is_part_of_a_name_that_nobody_knows() {
        let (events, failed) = parse(&[b"\xef\xbb\xbfdata: one\n\n", b"\xef\xbb\xbfdata: two\n\ndata: three\n\n"], 1000);
        assert!(!failed && events.len() == 3);
        assert_eq!(events.iter().map(|event| &*event.data).collect::<Vec<_>>(), ["one", "", "three"]);
        assert!(events[0].is_well_formed() && events[0].is_plain());
        // A lax reader may take such a line for data; since it was not scanned, it must not pass as part of an event.
        assert!(!events[1].is_well_formed() && !events[1].is_plain());
        assert_eq!(&events[1].clone().kept(|_| true).raw[..], b"");
        assert!(events[2].is_well_formed() && events[2].is_plain());
    }

    fn parse(chunks: &[&[u8]], cap: usize) -> (Vec<Event>, bool) {
        let mut parser = Parser::new(cap);
        let (mut events, mut failed) = (Vec::new(), false);
        for chunk in chunks {
            for event in parser.push(chunk) {
                match event {
                    Ok(event) => events.push(event),
                    Err(EventTooLarge) => failed = true,
                }
            }
        }
        events.extend(parser.finish());
        (events, failed)
    }

    fn told(stream: &[u8]) -> Vec<(Option<String>, String)> {
        parse(&[stream], 1 << 20).0.into_iter().map(|e| (e.event, e.data)).collect()
    }

    fn event(name: &str, data: &str) -> (Option<String>, String) {
        ((!name.is_empty()).then(|| name.to_owned()), data.to_owned())
    }

    #[test]
    fn the_rules_of_the_standard() {
        assert_eq!(told(b"data: a\n\ndata:b\r\n\r\ndata:  c\r\r"), [event("", "a"), event("", "b"), event("", " c")]);
        assert_eq!(told(b"\xef\xbb\xbfdata: a\n\n"), [event("", "a")]);
        assert_eq!(told(b"event: x\ndata: 1\ndata\ndata: 2\nretry: 5\n: note\n\n"), [event("x", "1\n\n2")]);
        assert_eq!(told(b": ping\n\ndata: [DONE]\n\n"), [event("", ""), event("", "[DONE]")]);
        assert_eq!(told(b"datax: no\n\n"), [event("", "")]);
        assert_eq!(told(b"data: cut off"), [event("", "cut off")]);
        assert_eq!(parse(&[b"id: 7\ndata: a\n\n"], 99).0[0].with_data(Some("m"), "b\rc"), &b"id: 7\nevent: m\ndata: b\ndata: c\n\n"[..]);
    }

    #[test]
    fn an_event_comes_out_with_its_last_byte() {
        let mut parser = Parser::new(100);
        assert_eq!(parser.push(b"data: a\n").count(), 0);
        assert_eq!(parser.push(b"\n").count(), 1);
        assert_eq!(parser.push(b"data: a\r\n\r").count(), 0);
        assert_eq!(parser.push(b"\n").count(), 1);
        assert_eq!(parser.held(), 0);
    }

    #[test]
    fn the_cap_holds_and_spares_what_came_before() {
        let (events, failed) = parse(&[b"data: a\n\ndata: 0123456789", b"x\n\ndata: b\n\n"], 12);
        assert_eq!((events.len(), failed), (1, true));
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = proptest::sample::select(vec![
            "data",
            "data: x",
            "event: e",
            "id: 1",
            ":",
            "\n",
            "\r",
            "\r\n",
            "\n\n",
            "\r\n\r\n",
            " ",
            "\u{feff}",
            "é",
            "{\"a\":1}",
        ]);
        proptest::collection::vec(
            prop_oneof![piece.prop_map(|p| p.as_bytes().to_vec()), proptest::collection::vec(any::<u8>(), 0..3)],
            0..40,
        )
        .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_events_and_all_bytes(stream in stream(), mut cuts in proptest::collection::vec(0..200usize, 0..20), cap in 5..400usize) {
            let (whole, failed) = parse(&[&stream], cap);
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(stream.len()));
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut at = 0;
            for cut in cuts.into_iter().chain([stream.len()]) {
                chunks.push(&stream[at..cut]);
                at = cut;
            }
            prop_assert_eq!(&parse(&chunks, cap), &(whole.clone(), failed));
            let raw: Vec<u8> = whole.iter().flat_map(|e| e.raw.to_vec()).collect();
            let kept = if failed { stream.starts_with(&raw) } else { stream == raw };
            prop_assert!(kept);
        }

        #[test]
        fn what_is_encoded_is_decoded(name in "[a-z_.]{1,12}", data in any::<String>()) {
            let expected = data.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(told(&encode(Some(&name), &data)), [event(&name, &expected)]);
        }
    }
}
