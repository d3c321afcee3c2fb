//! Private keys in their armour: PEM (RFC 7468), OpenSSH, PGP.

use super::view::View;

/// A block is found up to here; a key of 16,384 bits is shorter.
pub const BLOCK_BYTES: usize = 16_384;
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
    let end = view.run(start, BLOCK_BYTES, |b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='));
    private.iter().any(|part| head.windows(part.len()).any(|w| w == *part)).then_some(end)
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
    let (mut at, mut content) = (body, body);
    while at < most {
        let byte = view.at(at);
        if byte == b'-' && view.slice(at, at + 9) == b"-----END " {
            let stop = view.run(at + 9, LABEL_BYTES, |b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ');
            return Some(view.run(stop, 5, |b| b == b'-'));
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=') {
            at += 1;
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
    (content > body).then_some(content)
}
