//! Edits strings of a JSON text in place, so that every byte the gateway does not mean to change stays as the caller wrote
//! it.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

/// Why a splice was refused. The body must not be forwarded then: a missing edit could leak what it was to hide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpliceError;

impl fmt::Display for SpliceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an edit overlaps another or does not cover a whole JSON string")
    }
}

impl std::error::Error for SpliceError {}

/// The body with whole strings replaced. A range is a [`super::Text::span`] (inside the quotes, or all digits of a number,
/// which becomes a string); the new text is plain and is escaped here. The order of edits does not matter.
///
/// # Errors
/// [`SpliceError`] if two ranges overlap, or if a range is neither between two quotes of the body nor a whole number of
/// digits.
pub fn splice(body: &[u8], edits: &[(Range<usize>, String)]) -> Result<Bytes, SpliceError> {
    let mut order: Vec<&(Range<usize>, String)> = edits.iter().collect();
    order.sort_by_key(|(range, _)| range.start);
    let grown: usize = edits.iter().map(|(_, text)| text.len() + 2).sum();
    let mut out = Vec::with_capacity(body.len() + grown);
    let mut at = 0;
    for (range, text) in order {
        let open = range.start.checked_sub(1).ok_or(SpliceError)?;
        let quoted = body.get(open) == Some(&b'"') && body.get(range.end) == Some(&b'"');
        let whole = if quoted { open..range.end + 1 } else { range.clone() };
        if whole.start < at || range.end < range.start || !(quoted || is_number(body, range)) {
            return Err(SpliceError);
        }
        out.extend_from_slice(body.get(at..whole.start).ok_or(SpliceError)?);
        write_string(&mut out, text);
        at = whole.end;
    }
    out.extend_from_slice(body.get(at..).ok_or(SpliceError)?);
    Ok(Bytes::from(out))
}

/// Whether a range is a number of digits, complete from its first digit to its last.
fn is_number(body: &[u8], range: &Range<usize>) -> bool {
    let around = [range.start.checked_sub(1).and_then(|before| body.get(before)), body.get(range.end)];
    let ends = |byte: Option<&u8>| byte.is_none_or(|byte| byte.is_ascii_whitespace() || matches!(byte, b':' | b',' | b'[' | b']' | b'}'));
    let digits = body.get(range.clone()).is_some_and(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
    digits && around.into_iter().all(ends)
}

/// The body with the value at `span` (quotes included) replaced by a string. A span outside of the body changes nothing.
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

/// The text with parts replaced; ranges must be in order and must not overlap. `None` if one does not fit: the result would
/// still contain what was to be hidden.
pub fn patch(body: &[u8], edits: &[(Range<usize>, String)]) -> Option<Vec<u8>> {
    let grown: usize = edits.iter().map(|(_, text)| text.len()).sum();
    let mut out = Vec::with_capacity(body.len() + grown);
    let mut at = 0;
    for (range, text) in edits {
        out.extend_from_slice(body.get(at..range.start)?);
        out.extend_from_slice(text.as_bytes());
        at = range.end;
    }
    out.extend_from_slice(body.get(at..)?);
    Some(out)
}

/// Where the value of a top-level member is after [`patch`] has made these edits, if each of them verifiably changes only a
/// part of one string elsewhere, so that the JSON structure stays the same. `None`: the text must be parsed again.
pub fn moved(json: &[u8], span: Range<usize>, edits: &[(Range<usize>, String)]) -> Option<Range<usize>> {
    let (mut grown, mut shrunk) = (0, 0);
    for (range, text) in edits {
        if !stays_inside(json, range, text) || range.start < span.end && span.start < range.end {
            return None;
        }
        if range.end <= span.start {
            grown += text.len();
            shrunk += range.len();
        }
    }
    let place = |at: usize| (at + grown).checked_sub(shrunk);
    Some(place(span.start)?..place(span.end)?)
}

/// Whether an edit to valid JSON changes a part of one string and nothing else. Recognised by bytes that only strings can
/// contain; if all the replaced bytes could also be part of a number or a literal, the answer is `false`.
fn stays_inside(json: &[u8], range: &Range<usize>, text: &str) -> bool {
    let plain = |bytes: &[u8]| bytes.iter().fold(true, |plain, b| plain & (*b >= 0x20) & (*b != b'"') & (*b != b'\\'));
    let bare = |b: &u8| b.is_ascii_digit() || b" +-.,:[]{}eEtrufalsn".contains(b);
    let starts = |at: usize| json.get(at).is_none_or(|b| !matches!(b, 0x80..=0xbf));
    // An escape has at most six bytes; cutting one in two would change it.
    let apart = json.get(range.start.saturating_sub(5)..range.start).is_some_and(|before| !before.contains(&b'\\'));
    let Some(old) = json.get(range.clone()) else { return false };
    plain(old)
        && plain(text.as_bytes())
        && !old.iter().all(bare)
        && apart
        && starts(range.start)
        && starts(range.end)
        && text.bytes().any(|b| !b.is_ascii_alphabetic())
}

/// The body with byte ranges replaced. Ranges that are outside of the body or overlap an earlier one are skipped.
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

/// A text as a JSON string with its quotes.
pub fn quoted(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 2);
    write_string(&mut out, text);
    out
}

/// Appends a text as a JSON string with its quotes.
fn write_string(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, text).is_err() {
        // Writing a str to memory cannot fail; if it ever did, an empty string would keep the JSON valid.
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

    /// The edit that replaces the first occurrence of `old` by `new`.
    fn edit(body: &str, old: &str, new: &str) -> (Range<usize>, String) {
        let start = body.find(old).unwrap();
        (start..start + old.len(), new.to_owned())
    }

    #[test]
    fn what_stands_beside_an_edit_moves_with_it() {
        let body = r#"{"a":"to x@y.z, u@v.w","model":"m","b":"é r@s.t","v":[4111,12]}"#;
        let span = || crate::wire::head(crate::wire::Endpoint::ChatCompletions, body.as_bytes()).unwrap().model_span.unwrap();
        for edits in [
            vec![edit(body, "x@y.z", "[[1]]"), edit(body, "u@v.w", ""), edit(body, "r@s.t", "[[12345]]")],
            vec![edit(body, "x@y.z", "-"), edit(body, "u@v.w", "[[2345678]]")],
            vec![edit(body, "r@s.t", "[[12345]]")],
            vec![],
        ] {
            let patched = patch(body.as_bytes(), &edits).unwrap();
            let told = moved(body.as_bytes(), span(), &edits);
            let plain = edits.iter().all(|(_, text)| !text.is_empty());
            assert_eq!(
                told,
                plain.then(|| crate::wire::head(crate::wire::Endpoint::ChatCompletions, &patched).unwrap().model_span.unwrap()),
                "{edits:?}"
            );
        }
    }

    #[test]
    fn an_edit_that_may_change_more_than_a_part_of_a_string_is_not_told() {
        let body = r#"{"model":"m","b":"\n@1 \u0040@2 @3\"@4","k@ey":1,"v":[4111,12,true]}"#;
        let span = || crate::wire::head(crate::wire::Endpoint::ChatCompletions, body.as_bytes()).unwrap().model_span.unwrap();
        for (old, new) in [
            ("4111", "\"[[1]]\""),
            ("12", "[[1]]"),
            ("true", "[[1]]"),
            ("@1", "[[1]]"),
            ("0@2", "[[1]]"),
            ("@4\",", "[[1]]"),
            ("@3", "a\"b"),
            ("@3", "a\\b"),
            ("@3", "a\nb"),
            ("k@ey", "stream"),
            ("m\"", "x1"),
            ("\"m\"", "1"),
        ] {
            assert_eq!(moved(body.as_bytes(), span(), &[edit(body, old, new)]), None, "{old} {new}");
        }
        assert_eq!(moved(body.as_bytes(), span(), &[edit(body, "@3", "[[1]]")]), Some(span()));
        let cut = body.replace("@3", "é@3");
        let inside = cut.find('é').unwrap() + 1;
        assert_eq!(moved(cut.as_bytes(), span(), &[(inside..inside + 3, "[[1]]".to_owned())]), None);
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

    #[test]
    fn a_whole_number_becomes_a_string_and_a_part_of_one_is_refused() {
        let body = br#"{"a":[4111, 5],"b":-77,"c":1.25}"#;
        let out = splice(body, &[(6..10, "x\"".into()), (12..13, "y".into())]).unwrap();
        assert_eq!(&out[..], br#"{"a":["x\"", "y"],"b":-77,"c":1.25}"#);
        for range in [6..9, 7..10, 20..22, 27..28, 29..31, 5..11] {
            assert_eq!(splice(body, &[(range.clone(), "x".into())]), Err(SpliceError), "{range:?}");
        }
    }
}
