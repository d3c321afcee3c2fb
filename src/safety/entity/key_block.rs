//! Private keys in their armour: PEM (RFC 7468), OpenSSH, PGP.

use std::ops::Range;

use super::jwt::decoded;
use super::view::View;

/// A block is found up to here; a key of 16,384 bits is shorter.
pub const BLOCK_BYTES: usize = 16_384;
/// Less than this between the marks shows where a key goes; the smallest there is has 40 bytes.
const CONTENT_BYTES: usize = 24;
/// Base64 of a text with a key in it is at least this long, and read up to here: much longer stretches would be held back
/// that are pictures and archives.
const WRAPPED_BYTES: Range<usize> = 80..3073;
/// The longest label between the dashes.
const LABEL_BYTES: usize = 64;

/// The end of a block that was put into base64 once more, as configuration of clusters does, and begins at `start`.
pub fn encoded_end(view: &View<'_>, start: usize) -> Option<usize> {
    // "-----BEGIN " in base64.
    const OPENS: &[u8] = b"LS0tLS1CRUdJTi";
    if view.at(start) != b'L' || view.slice(start, start + OPENS.len()) != OPENS {
        return None;
    }
    // " PRIVATE KEY" behind labels of the lengths there are, in base64.
    let head = view.slice(start, start + 64);
    let private = [b"UFJJVkFURS".as_slice(), b"BSSVZBVEUg", b"QUklWQVRFI", b"FBSSVZBVEU", b"JJVkFURSBL", b"SVZBVEUgS0"];
    if !private.iter().any(|part| head.windows(part.len()).any(|w| w == *part)) {
        return None;
    }
    Some(view.run(start, BLOCK_BYTES, |b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')))
}

/// The end of base64 of a text that holds a private key, beginning at `start`: a configuration file with a PEM block in
/// it, a JSON Web Key with its private part (RFC 7517).
pub fn wrapped_end(view: &View<'_>, start: usize) -> Option<usize> {
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_');
    let readable = |b: u8| matches!(b, b' '..=b'~' | b'\n' | b'\r' | b'\t');
    let head = view.slice(start, start + 32);
    if head.len() < 32 || !head.iter().all(|b| is_base64(*b)) || !decoded(head).into_iter().all(readable) {
        return None;
    }
    let end = view.run(start, WRAPPED_BYTES.end - 1, is_base64);
    let text = decoded(view.slice(start, end));
    let end = view.run(end, 2, |b| b == b'=');
    let holds = |part: &[u8]| memchr::memmem::find(&text, part).is_some();
    let key = holds(b"PRIVATE KEY-----") || holds(b"\"kty\"") && (holds(b"\"d\"") || holds(b"\"k\""));
    (end - start >= WRAPPED_BYTES.start && key).then_some(end)
}

/// The end of a private key in base64 without its armour, beginning at `start`: DER as PKCS #1, PKCS #8 (RFC 5208) or
/// SEC 1, or the form of OpenSSH. Its lines may be broken and indented.
pub fn bare_end(view: &View<'_>, start: usize) -> Option<usize> {
    if !matches!(view.at(start), b'M' | b'b') {
        return None;
    }
    let head = view.slice(start, start + 24);
    let is = |at: usize, part: &[u8]| head.get(at..at + part.len()) == Some(part);
    // A sequence of more than 255 bytes, version 0, then an integer or the identifier of an algorithm.
    let long = is(0, b"MII") && is(6, b"IB") && (is(8, b"AAK") || is(8, b"AAJ") || is(8, b"ADAN"));
    let curve = is(0, b"MIG") && is(4, b"AgEAMB") || is(0, b"MHcCAQEEI") || is(0, b"MIGkAgEBBD") || is(0, b"MC4CAQAwBQYDK2V");
    let sealed = is(0, b"MII") && is(6, b"BXBgkqhkiG9w0BBQ");
    if !(long || curve || sealed || is(0, b"b3BlbnNzaC1rZXktdjE")) {
        return None;
    }
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let mut end = view.run(start, BLOCK_BYTES, is_base64);
    if end - start < 48 {
        return None;
    }
    // A further line is at least as long as nothing but a key has them, or it is the last.
    while end - start < BLOCK_BYTES && matches!(view.at(end), b'\r' | b'\n' | b'\\') {
        let next = view.run(end, 32, |b| b.is_ascii_whitespace());
        let next = next + 2 * usize::from(view.at(next) == b'\\' && view.at(next + 1) == b'n');
        let stop = view.run(next, BLOCK_BYTES, is_base64);
        let last = view.before(stop, 1) == b'=';
        if stop - next < 40 && !last || stop == next {
            break;
        }
        end = stop;
        if last {
            break;
        }
    }
    Some(end)
}

/// The end of a block whose `-----BEGIN` stands at `start`. The lines between its marks may be quoted, indented or one
/// line of source text; a block without an end mark reaches as far as what could be its content.
pub fn end(view: &View<'_>, start: usize) -> Option<usize> {
    let label = start + 10;
    let close = view.run(label, LABEL_BYTES, |b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ');
    let name = view.slice(label, close);
    if !name.windows(11).any(|w| w == b"PRIVATE KEY") || view.slice(close, close + 5) != b"-----" {
        return None;
    }
    let body = close + 5;
    let most = start + BLOCK_BYTES;
    let (mut at, mut content, mut held) = (body, body, 0);
    while at < most {
        let byte = view.at(at);
        if byte == b'-' && view.slice(at, at + 9) == b"-----END " {
            if held < CONTENT_BYTES {
                return None;
            }
            let stop = view.run(at + 9, LABEL_BYTES, |b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ');
            return Some(view.run(stop, 5, |b| b == b'-'));
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=') {
            at += 1;
            held += 1;
            content = at;
        } else if byte != 0
            && (byte.is_ascii_whitespace()
                || matches!(byte, b'-' | b'\\' | b'"' | b'\'' | b':' | b',' | b'.' | b'(' | b')' | b'*' | b'#' | b'>'))
        {
            at += 1;
            if at - content > 64 {
                break;
            }
        } else {
            break;
        }
    }
    (held >= CONTENT_BYTES).then_some(content)
}
