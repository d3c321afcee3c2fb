//! Edits parts of JSON strings in place. Masking replaces a few bytes of a string, and its other bytes, escapes included,
//! must stay as the caller wrote them; so edits use raw offsets.

use std::borrow::Cow;
use std::ops::Range;

/// Raw replacements in a body, in order and without overlaps.
pub type Edits = Vec<(Range<usize>, String)>;

/// `text` as the content of a JSON string.
pub fn escape(text: &str) -> Cow<'_, str> {
    // Checks every byte without stopping early, which the compiler vectorises.
    if text.bytes().fold(true, |plain, b| plain & (b >= 0x20) & (b != b'"') & (b != b'\\')) {
        return Cow::Borrowed(text);
    }
    let quoted = serde_json::Value::from(text).to_string();
    Cow::Owned(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned())
}

/// The decoded content of a JSON string, with the raw offset of every decoded byte.
pub struct Inside<'a> {
    /// The decoded text.
    pub text: Cow<'a, str>,
    /// Raw offset of each byte of `text` and of its end; empty if they are the same.
    places: Vec<usize>,
}

impl<'a> Inside<'a> {
    /// Decodes the content of a JSON string. A malformed escape is kept as it is.
    pub fn of(raw: &'a str) -> Self {
        if memchr::memchr(b'\\', raw.as_bytes()).is_none() {
            return Self { text: Cow::Borrowed(raw), places: Vec::new() };
        }
        let mut text = String::with_capacity(raw.len());
        let mut places = Vec::with_capacity(raw.len() + 1);
        let mut at = 0;
        while let Some(rest) = raw.get(at..).filter(|r| !r.is_empty()) {
            let (character, length) = first(rest);
            text.push(character);
            places.resize(text.len(), at);
            at += length;
        }
        places.push(raw.len());
        Self { text: Cow::Owned(text), places }
    }

    /// The raw range of a range in the text.
    pub fn raw(&self, range: &Range<usize>) -> Range<usize> {
        let place = |index: usize| self.places.get(index).copied().unwrap_or(index);
        if self.places.is_empty() { range.clone() } else { place(range.start)..place(range.end) }
    }
}

/// The first character of a raw string, and its number of raw bytes.
fn first(raw: &str) -> (char, usize) {
    let plain = raw.chars().next().unwrap_or('\\');
    if plain != '\\' {
        return (plain, plain.len_utf8());
    }
    let simple = match raw.as_bytes().get(1) {
        Some(b'n') => '\n',
        Some(b't') => '\t',
        Some(b'r') => '\r',
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'u') => return unicode(raw).unwrap_or(('\\', 1)),
        Some(b) if matches!(b, b'"' | b'\\' | b'/') => char::from(*b),
        _ => return ('\\', 1),
    };
    (simple, 2)
}

/// Decodes `\uXXXX`, or a surrogate pair of two.
fn unicode(raw: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = raw.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let high = unit(0)?;
    if let Some(character) = char::from_u32(u32::from(high)) {
        return Some((character, 6));
    }
    let low = unit(6)?;
    let character = char::decode_utf16([high, low]).next()?.ok()?;
    Some((character, 12))
}

/// Whether a text looks like JSON within a string, as the arguments of tool calls are.
pub fn looks_nested(text: &str) -> bool {
    matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'['))
}

/// The parts of a JSON text: contents of strings (`true`) and everything between them. Accepts an incomplete end.
pub fn stretches(source: &str) -> impl Iterator<Item = (Range<usize>, bool)> {
    let bytes = source.as_bytes();
    let mut at = 0;
    let mut inside = false;
    std::iter::from_fn(move || {
        if at > bytes.len() {
            return None;
        }
        let start = at;
        let mut end = start;
        while let Some(byte) = bytes.get(end) {
            match byte {
                b'"' => break,
                b'\\' if inside => end += 2,
                _ => end += 1,
            }
        }
        let end = end.min(bytes.len());
        let was_inside = inside;
        inside = !inside;
        at = end + 1;
        Some((start..end, was_inside))
    })
}
