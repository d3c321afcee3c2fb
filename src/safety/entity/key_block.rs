//! Armoured private keys: PEM (RFC 7468), OpenSSH, PGP.

use std::ops::Range;

use super::jwt::decoded;
use super::view::View;

/// Longer blocks are found up to this length; a key of 16,384 bits is shorter.
pub const BLOCK_BYTES: usize = 16_384;
/// A block with less content is a placeholder; the smallest key has 40 bytes.
const CONTENT_BYTES: usize = 24;
/// Lengths of base64 that may wrap a private key: from the shortest useful one to a bound, since longer runs are mostly
/// pictures and archives, which would have to be held back.
const WRAPPED_BYTES: Range<usize> = 80..3073;
/// Longest label between the dashes.
const LABEL_BYTES: usize = 64;

/// The end of a block at `start` that was encoded in base64 once more, as in cluster configuration.
pub fn encoded_end(view: &View<'_>, start: usize) -> Option<usize> {
    // "-----BEGIN " in base64.
    const OPENS: &[u8] = b"LS0tLS1CRUdJTi";
    if view.at(start) != b'L' || view.slice(start, start + OPENS.len()) != OPENS {
        return None;
    }
    // " PRIVATE KEY" in base64, after labels of the usual lengths.
    let head = view.slice(start, start + 64);
    let private = [b"UFJJVkFURS".as_slice(), b"BSSVZBVEUg", b"QUklWQVRFI", b"FBSSVZBVEU", b"JJVkFURSBL", b"SVZBVEUgS0"];
    if !private.iter().any(|part| head.windows(part.len()).any(|w| w == *part)) {
        return None;
    }
    Some(view.run(start, BLOCK_BYTES, |b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=')))
}

/// The end of base64 at `start` whose text contains a private key: a configuration file with a PEM block, or a JSON Web Key
/// with its private part (RFC 7517).
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

/// The end of a private key at `start` in base64 without armour: DER as PKCS #1, PKCS #8 (RFC 5208) or SEC 1, or the
/// OpenSSH format. Its lines may be wrapped and indented.
pub fn bare_end(view: &View<'_>, start: usize) -> Option<usize> {
    if !matches!(view.at(start), b'M' | b'b') {
        return None;
    }
    let head = view.slice(start, start + 24);
    let is = |at: usize, part: &[u8]| head.get(at..at + part.len()) == Some(part);
    // A sequence of more than 255 bytes, version 0, then an integer or an algorithm identifier.
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
    // Take further lines while they are so long that only a key has them, and a shorter last one.
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

/// The end of a block whose `-----BEGIN` is at `start`. Its lines may be quoted, indented, or joined to one line of source
/// text. A block without an end mark extends as far as bytes that can be its content.
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
