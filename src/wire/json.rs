//! Places in a JSON text, and changing strings where they stand.
//!
//! The parser is serde_json; this module only recovers where its strings stood, so that a body is rewritten by
//! splicing and every byte the gateway did not mean to change stays as the caller wrote it.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use memchr::{memchr, memchr2};
use serde::de::{DeserializeSeed, Deserializer, Visitor};

/// Recovers the places of strings while a serde visitor walks over a body.
///
/// Every string of the body, member names included, must be reported in order: an unescaped string is a slice of
/// the body, so its address tells; an escaped one starts at the first quote after the previous string.
#[derive(Debug)]
pub(super) struct Offsets<'a> {
    body: &'a [u8],
    /// Just behind the closing quote of the last reported string.
    cursor: usize,
}

impl<'a> Offsets<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body, cursor: 0 }
    }

    /// The place of an unescaped string, without its quotes.
    #[inline]
    pub(super) fn borrowed(&mut self, text: &str) -> Range<usize> {
        let start = (text.as_ptr() as usize).wrapping_sub(self.body.as_ptr() as usize);
        let end = start.wrapping_add(text.len());
        if end >= self.body.len() || start <= self.cursor && self.cursor != 0 {
            return self.escaped();
        }
        self.cursor = end + 1;
        start..end
    }

    /// The place of an escaped string, without its quotes.
    pub(super) fn escaped(&mut self) -> Range<usize> {
        let rest = self.body.get(self.cursor..).unwrap_or_default();
        let start = self.cursor + memchr(b'"', rest).map_or(rest.len(), |at| at + 1);
        let mut end = start;
        while let Some(rest) = self.body.get(end..) {
            match memchr2(b'"', b'\\', rest) {
                Some(at) if rest.get(at) == Some(&b'\\') => end += at + 2,
                Some(at) => {
                    end += at;
                    break;
                }
                None => break,
            }
        }
        let end = end.min(self.body.len());
        let start = start.min(end);
        self.cursor = end + 1;
        start..end
    }

    /// Moves to the start of a raw value that is about to be walked over in a parser of its own.
    pub(super) fn enter(&mut self, raw: &str) {
        self.cursor = (raw.as_ptr() as usize).wrapping_sub(self.body.as_ptr() as usize).min(self.body.len());
    }

    /// Moves behind a raw value.
    pub(super) fn leave(&mut self, raw: &str) {
        self.enter(raw);
        self.cursor = self.cursor.saturating_add(raw.len()).min(self.body.len());
    }
}

/// A member name, with its place.
pub(super) struct Key<'w, 'de>(pub(super) &'w mut Offsets<'de>);

impl<'de> DeserializeSeed<'de> for Key<'_, 'de> {
    type Value = (Cow<'de, str>, Range<usize>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, 'de> {
    type Value = (Cow<'de, str>, Range<usize>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        let span = self.0.borrowed(text);
        Ok((Cow::Borrowed(text), span))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let span = self.0.escaped();
        Ok((Cow::Owned(text.to_owned()), span))
    }
}

/// Why a splice was refused: forwarding a body with a missing edit could leak what the edit was to hide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpliceError;

impl fmt::Display for SpliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an edit overlaps another or does not cover a whole JSON string")
    }
}

impl std::error::Error for SpliceError {}

/// The body with whole strings replaced. A range is what [`super::Text::span`] says (inside the quotes), the new text
/// is plain and gets escaped here. Order does not matter.
///
/// # Errors
/// [`SpliceError`] if two ranges overlap or a range is not between two quotes of the body.
pub fn splice(body: &[u8], edits: &[(Range<usize>, String)]) -> Result<Bytes, SpliceError> {
    let mut order: Vec<&(Range<usize>, String)> = edits.iter().collect();
    order.sort_by_key(|(range, _)| range.start);
    let grown: usize = edits.iter().map(|(_, text)| text.len() + 2).sum();
    let mut out = Vec::with_capacity(body.len() + grown);
    let mut at = 0;
    for (range, text) in order {
        let open = range.start.checked_sub(1).ok_or(SpliceError)?;
        if open < at || range.end < range.start || body.get(open) != Some(&b'"') || body.get(range.end) != Some(&b'"') {
            return Err(SpliceError);
        }
        out.extend_from_slice(body.get(at..open).ok_or(SpliceError)?);
        write_string(&mut out, text);
        at = range.end + 1;
    }
    out.extend_from_slice(body.get(at..).ok_or(SpliceError)?);
    Ok(Bytes::from(out))
}

/// The body with one value, quotes included in `span`, replaced by a string. A span outside the body changes nothing.
pub fn set_string(body: &Bytes, span: Range<usize>, text: &str) -> Bytes {
    let (Some(before), Some(after)) = (body.get(..span.start), body.get(span.end..)) else {
        return body.clone();
    };
    let mut out = Vec::with_capacity(before.len() + text.len() + 2 + after.len());
    out.extend_from_slice(before);
    write_string(&mut out, text);
    out.extend_from_slice(after);
    Bytes::from(out)
}

/// Writes a JSON string with its quotes.
fn write_string(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, text).is_err() {
        // Writing a str to memory cannot fail; an empty string keeps the JSON whole if it ever does.
        out.truncate(start);
        out.extend_from_slice(b"\"\"");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn edits_in_any_order() {
        let body = br#"{"a":"one","b":"two"}"#;
        let out = splice(body, &[(16..19, "2\"".into()), (6..9, String::new())]).unwrap();
        assert_eq!(&out[..], br#"{"a":"","b":"2\""}"#);
    }

    #[test]
    fn a_wrong_edit_is_refused_not_skipped() {
        let body = br#"{"a":"one"}"#;
        for range in [7..9, 6..8, 0..1, 6..100, 50..60, usize::MAX..usize::MAX] {
            assert_eq!(splice(body, &[(range.clone(), "x".into())]), Err(SpliceError), "{range:?}");
        }
        assert_eq!(splice(body, &[(6..9, "x".into()), (6..9, "y".into())]), Err(SpliceError));
    }
}
