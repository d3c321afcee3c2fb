//! JSON Web Tokens (RFC 7519), and other strings of this form: base64url of a JSON object, a dot, further parts.

use super::view::View;

/// Longer tokens are found up to this length.
pub const JWT_BYTES: usize = 8192;
/// Shortest second part of a signed token that is not a JSON object.
const OPAQUE_BYTES: usize = 43;

/// Whether base64 of an opening brace followed by a quote or a space begins at `start`.
fn opens(view: &View<'_>, start: usize) -> bool {
    view.at(start) == b'e' && matches!(view.at(start + 1), b'y' | b'w')
}

/// The end of a token at `start`, mostly beginning with `eyJ`: signed (three parts), unsigned (two) or encrypted (five, the
/// second empty if the key was agreed on; RFC 7516).
pub fn end(view: &View<'_>, start: usize) -> Option<usize> {
    if !opens(view, start) || matches!(view.before(start, 1), b'.' | b'+') {
        return None;
    }
    let header = view.run(start, JWT_BYTES, is_part);
    if header - start < 16 || view.at(header) != b'.' || !names_member(view.slice(start, header.min(start + 400))) {
        return None;
    }
    let part = |from: usize| view.run(from, JWT_BYTES.saturating_sub(from - start).max(1), is_part);
    let mut stop = part(header + 1);
    let agreed = stop == header + 1;
    if !agreed && stop - header - 1 < 16 {
        return None;
    }
    let second = stop;
    let mut parts = 2;
    while parts < 5 && view.at(stop) == b'.' {
        let next = part(stop + 1);
        if next == stop + 1 {
            break;
        }
        stop = next;
        parts += 1;
    }
    // What is signed is an object or at least longer than words; an encrypted token has a key first.
    let told = parts >= 4 || opens(view, header + 1) || second - header > OPAQUE_BYTES;
    let whole = if agreed { parts == 5 } else { told && !super::gate::is_stand_in(view.slice(second, stop)) };
    whole.then_some(stop)
}

/// The end of a token that was encoded in base64 once more, as in cluster secrets and some cookies.
pub fn encoded_end(view: &View<'_>, start: usize) -> Option<usize> {
    if view.at(start) != b'Z' || view.slice(start, start + 4) != b"ZXlK" {
        return None;
    }
    // The header decides; it is decoded first, since the rest is longer.
    let token = decoded(view.slice(start, start + 200));
    let header = token.split(|b| *b == b'.').next().unwrap_or_default();
    if !names_member(header) {
        return None;
    }
    let end = view.run(start, JWT_BYTES, |b| is_part(b) || matches!(b, b'+' | b'/' | b'='));
    (end - start >= 60).then_some(end)
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Whether the decoded header begins an object with one of the usual members.
fn names_member(header: &[u8]) -> bool {
    let json = decoded(header);
    [b"\"alg".as_slice(), b"\"typ", b"\"kid", b"\"enc", b"\"cty"].iter().any(|name| json.windows(name.len()).any(|w| w == *name))
}

/// Decodes base64 of either alphabet, as far as it is complete.
pub fn decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let (mut bits, mut held) = (0u32, 0);
    for byte in text {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    bytes
}
