//! Texts that are JSON themselves: arguments of tool calls, answers in JSON, results of tools. Modules read them with
//! `\uXXXX` and `\/` decoded, as whoever parses them will, and what they find is mapped back to the text as written.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;

use super::Category;

/// Length of `\uXXXX`.
const ESCAPE: usize = 6;

/// Whether a text is JSON, judged by its first characters, so that a whole text and a streamed one are judged alike: an
/// object that is empty or has a member, or a list that is empty or begins with an object, a list or a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Opening {
    /// Only blanks so far.
    #[default]
    Unknown,
    /// `{`, and perhaps blanks.
    Object,
    /// `[`, and perhaps blanks.
    List,
    /// It is JSON.
    Json,
    /// It is not.
    Text,
}

impl Opening {
    /// The opening of a whole text.
    pub fn of(text: &str) -> Self {
        let mut opening = Self::default();
        opening.read(text);
        opening
    }

    /// Reads on, until it is decided.
    pub fn read(&mut self, text: &str) {
        for byte in text.bytes() {
            *self = match (*self, byte) {
                (Self::Json | Self::Text, _) => return,
                (opening, b' ' | b'\t' | b'\n' | b'\r') => opening,
                (Self::Unknown, b'{') => Self::Object,
                (Self::Unknown, b'[') => Self::List,
                (Self::Object, b'"' | b'}') | (Self::List, b'{' | b'[' | b'"' | b']') => Self::Json,
                _ => Self::Text,
            };
        }
    }
}

/// Decodes the escapes of a JSON text that comes in pieces, and knows where each decoded byte was written. Quotes,
/// backslashes and control characters stay escaped: they would change where strings end.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of an escape whose end has not come yet, as written.
    pending: String,
    /// Bytes decoded so far, and bytes as written that they stand for.
    decoded: usize,
    written: usize,
    /// The characters that were decoded, in order: where they stand now, and where they were written.
    escapes: VecDeque<(Range<usize>, Range<usize>)>,
}

impl Decoder {
    /// Decodes the next piece. The beginning of an escape at its end waits for the rest.
    pub fn feed<'t>(&mut self, piece: &'t str) -> Cow<'t, str> {
        if self.pending.is_empty() && memchr::memchr(b'\\', piece.as_bytes()).is_none() {
            self.decoded += piece.len();
            self.written += piece.len();
            return Cow::Borrowed(piece);
        }
        let mut text = std::mem::take(&mut self.pending);
        text.push_str(piece);
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
            let (plain, escape) = rest.split_at(at);
            self.plain(plain, &mut out);
            rest = match Escape::read(escape) {
                Escape::Character(character, length) => {
                    let from = (self.decoded, self.written);
                    out.push(character);
                    self.decoded += character.len_utf8();
                    self.written += length;
                    self.escapes.push_back((from.0..self.decoded, from.1..self.written));
                    escape.get(length..).unwrap_or_default()
                }
                Escape::Stays(length) => {
                    let (stays, rest) = escape.split_at(length);
                    self.plain(stays, &mut out);
                    rest
                }
                Escape::Unfinished => {
                    self.pending.push_str(escape);
                    ""
                }
            };
        }
        self.plain(rest, &mut out);
        Cow::Owned(out)
    }

    /// The text has ended: what waited, as written.
    pub fn finish(&mut self) -> String {
        self.decoded += self.pending.len();
        self.written += self.pending.len();
        std::mem::take(&mut self.pending)
    }

    fn plain(&mut self, text: &str, out: &mut String) {
        out.push_str(text);
        self.decoded += text.len();
        self.written += text.len();
    }

    /// Where a span of the decoded text was written; an escape is in it whole or not at all.
    pub fn span(&self, decoded: &Range<usize>) -> Range<usize> {
        self.place(decoded.start, false)..self.place(decoded.end, true)
    }

    /// Up to where the text as written is settled if the decoded one is settled up to here.
    pub fn settled(&self, decoded: usize) -> usize {
        self.place(decoded, false)
    }

    fn place(&self, at: usize, after: bool) -> usize {
        let next = self.escapes.partition_point(|(decoded, _)| decoded.end <= at);
        if let Some((decoded, written)) = self.escapes.get(next)
            && decoded.start < at
        {
            return if after { written.end } else { written.start };
        }
        // Counted from the next escape, so that those before it may be forgotten.
        match self.escapes.get(next) {
            Some((decoded, written)) => written.start.saturating_sub(decoded.start.saturating_sub(at)),
            None => (self.written + at).saturating_sub(self.decoded),
        }
    }

    /// Forgets the escapes before this place of the text as written.
    pub fn forget(&mut self, written: usize) {
        while self.escapes.front().is_some_and(|(_, escape)| escape.end <= written) {
            self.escapes.pop_front();
        }
    }
}

/// What stands at a backslash.
enum Escape {
    /// A character, and the length of its escape.
    Character(char, usize),
    /// So many bytes that stay as they are.
    Stays(usize),
    /// More has to come.
    Unfinished,
}

impl Escape {
    fn read(text: &str) -> Self {
        match text.as_bytes() {
            [_] => Self::Unfinished,
            [_, b'/', ..] => Self::Character('/', 2),
            [_, b'u', ..] => Self::unicode(text),
            // An ASCII character, or no JSON.
            [_, next, ..] => Self::Stays(if next.is_ascii() { 2 } else { 1 }),
            [] => Self::Stays(0),
        }
    }

    fn unicode(text: &str) -> Self {
        let Some(unit) = unit(text) else { return if is_begun(text) { Self::Unfinished } else { Self::Stays(2) } };
        if (0xd800..0xdc00).contains(&unit) {
            let next = text.get(ESCAPE..).unwrap_or_default();
            return match self::unit(next) {
                Some(low @ 0xdc00..0xe000) => {
                    let code = 0x1_0000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                    char::from_u32(code).map_or(Self::Stays(ESCAPE), |character| Self::Character(character, 2 * ESCAPE))
                }
                None if is_begun(next) => Self::Unfinished,
                _ => Self::Stays(ESCAPE),
            };
        }
        match char::from_u32(unit) {
            Some(character) if character >= ' ' && !matches!(character, '"' | '\\') => Self::Character(character, ESCAPE),
            _ => Self::Stays(ESCAPE),
        }
    }
}

/// The UTF-16 code unit of a `\uXXXX` at the beginning of a text.
fn unit(text: &str) -> Option<u32> {
    let digits = text.get(..ESCAPE)?.strip_prefix("\\u")?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

/// Whether a text is the beginning of a `\uXXXX`, or empty.
fn is_begun(text: &str) -> bool {
    let place = |(at, byte): (usize, u8)| match at {
        0 => byte == b'\\',
        1 => byte == b'u',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() < ESCAPE && text.bytes().enumerate().all(place)
}

/// A whole text that is JSON and was decoded: how it was written.
#[derive(Debug)]
pub struct Embedded {
    /// As written.
    pub written: String,
    decoder: Decoder,
}

impl Embedded {
    /// The decoded text of a JSON text that has escapes to decode; `None` for all others.
    pub fn read(text: &str) -> Option<(String, Self)> {
        if memchr::memchr(b'\\', text.as_bytes()).is_none() || Opening::of(text) != Opening::Json {
            return None;
        }
        let mut decoder = Decoder::default();
        let mut decoded = decoder.feed(text).into_owned();
        decoded.push_str(&decoder.finish());
        let escaped = !decoder.escapes.is_empty();
        escaped.then(|| (decoded, Self { written: text.to_owned(), decoder }))
    }

    /// Where spans of the decoded text were written.
    pub fn spans(&self, decoded: &[(Range<usize>, Category)]) -> Vec<(Range<usize>, Category)> {
        decoded.iter().map(|(span, category)| (self.decoder.span(span), category.clone())).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_is_known_by_its_first_characters() {
        for json in ["{}", " {\n \"a", "[]", "[ {", "[\"", "[["] {
            assert_eq!(Opening::of(json), Opening::Json, "{json}");
        }
        for text in ["hello", "{a}", "[1] see", "```json\n{}", "\"x\"", "{{", "[see]"] {
            assert_eq!(Opening::of(text), Opening::Text, "{text}");
        }
        assert_eq!([Opening::of("  "), Opening::of("{ "), Opening::of("[")], [Opening::Unknown, Opening::Object, Opening::List]);
    }

    #[test]
    fn what_ends_no_string_is_decoded() {
        let read = |text: &str| Embedded::read(text).map(|(decoded, _)| decoded);
        assert_eq!(read(r#"{"e":"bob\u0040x.com\/y"}"#).as_deref(), Some(r#"{"e":"bob@x.com/y"}"#));
        assert_eq!(read(r#"["\ud83d\ude00\u00e9"]"#).as_deref(), Some("[\"😀é\"]"));
        for stays in [r#"["\u0022\u005c\u000a\n\"\\"]"#, r#"["\\u0041"]"#, r#"["\ud83d x \uzz11 \u12"]"#, r#"["plain"]"#, r"no json \u0040"]
        {
            assert_eq!(read(stays), None, "{stays}");
        }
    }

    #[test]
    fn spans_are_found_where_they_were_written() {
        let text = r#"{"e":"a\u0040b","f":"\u00e9"}"#;
        let (decoded, embedded) = Embedded::read(text).unwrap();
        let written = |part: &str| {
            let at = decoded.find(part).unwrap();
            let spans = embedded.spans(&[(at..at + part.len(), Category::Borrowed("x"))]);
            text.get(spans[0].0.clone()).unwrap()
        };
        assert_eq!(written("a@b"), r"a\u0040b");
        assert_eq!(written("@"), r"\u0040");
        assert_eq!(written("é"), r"\u00e9");
        assert_eq!(written("\"f\""), "\"f\"");
    }

    fn any_json() -> impl Strategy<Value = String> {
        let part = prop_oneof!["[a-z@é😀 ]{1,4}", r"\\u00[4-9a-f][0-9a-f]", r#"\\[nt/"\\]"#, r"\\ud83d\\ude0[0-9]", r"\\u[0-9a-f]{1,3}"];
        proptest::collection::vec(part, 0..8).prop_map(|parts| format!(r#"{{"a":"{}"}}"#, parts.concat()))
    }

    proptest! {
        /// However a text is cut, it reads the same, and every decoded character is known by where it was written.
        #[test]
        fn pieces_read_as_the_whole(text in any_json(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..4)) {
            let whole = Embedded::read(&text).map_or_else(|| text.clone(), |(decoded, _)| decoded);
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).filter(|at| text.is_char_boundary(*at)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let mut decoder = Decoder::default();
            let mut read = String::new();
            for cut in at.windows(2) {
                read.push_str(&decoder.feed(&text[cut[0]..cut[1]]));
                prop_assert!(decoder.settled(decoder.decoded) <= cut[1]);
            }
            read.push_str(&decoder.finish());
            prop_assert_eq!(&read, &whole);
            let mut next = 0;
            for (start, character) in read.char_indices() {
                let span = decoder.span(&(start..start + character.len_utf8()));
                prop_assert_eq!(span.start, next);
                let written = &text[span.clone()];
                prop_assert!(written.starts_with('\\') || written.chars().eq([character]), "{} for {}", written, character);
                next = span.end;
            }
            prop_assert_eq!(next, text.len());
        }
    }
}
