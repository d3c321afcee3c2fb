//! Changing strings of a JSON text where they stand, so that every byte the gateway did not mean to change stays as the
//! caller wrote it.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

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

/// The body with some of its bytes replaced by others. Places outside the body, and those that overlap one before them, stay
/// as they are.
pub fn overwrite(body: &Bytes, edits: &mut [(Range<usize>, &[u8])]) -> Bytes {
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = Vec::with_capacity(body.len() + edits.iter().map(|(_, bytes)| bytes.len()).sum::<usize>());
    let mut at = 0;
    for (range, bytes) in edits.iter() {
        if let Some(before) = body.get(at..range.start).filter(|_| range.start <= range.end && range.end <= body.len()) {
            out.extend_from_slice(before);
            out.extend_from_slice(bytes);
            at = range.end;
        }
    }
    out.extend_from_slice(body.get(at..).unwrap_or_default());
    Bytes::from(out)
}

/// The bytes of a JSON string with its quotes.
pub fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    out
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
    fn bytes_are_overwritten_in_any_order() {
        let body = Bytes::from_static(br#"{"a":"one","b":2}"#);
        let out = overwrite(&body, &mut [(15..16, b"30"), (1..1, b"\"c\":0,"), (5..10, &quoted("t\"")), (6..9, b"no"), (90..99, b"no")]);
        assert_eq!(&out[..], br#"{"c":0,"a":"t\"","b":30}"#);
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
