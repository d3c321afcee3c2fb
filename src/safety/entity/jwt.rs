//! JSON Web Tokens (RFC 7519), and anything else of their form: base64url of a JSON object, a dot, more of it.

use super::view::View;

/// Longer ones are found up to here.
pub const JWT_BYTES: usize = 8192;

/// The end of a token that begins at `start` with `eyJ`.
pub fn end(view: &View<'_>, start: usize) -> Option<usize> {
    if view.slice(start, start + 3) != b"eyJ" || matches!(view.before(start, 1), b'.' | b'/' | b'+') {
        return None;
    }
    let takes = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    let header = view.run(start, JWT_BYTES, takes);
    if header - start < 16 || view.at(header) != b'.' || !names_member(view.slice(start, header.min(start + 400))) {
        return None;
    }
    let payload = view.run(header + 1, JWT_BYTES - (header - start).min(JWT_BYTES - 1), takes);
    if payload - header - 1 < 16 {
        return None;
    }
    if view.at(payload) != b'.' {
        return Some(payload);
    }
    let room = JWT_BYTES.saturating_sub(payload - start);
    let signature = view.run(payload + 1, room, takes);
    let signature = if signature == payload + 1 { payload } else { signature };
    let stand_in = super::gate::is_stand_in(view.slice(payload, signature));
    (!stand_in).then_some(signature)
}

/// Whether the decoded header is the beginning of an object with one of the members such headers have.
fn names_member(header: &[u8]) -> bool {
    let mut json = Vec::with_capacity(header.len());
    let (mut bits, mut held) = (0u32, 0);
    for byte in header {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            json.push((bits >> held & 0xff) as u8);
        }
    }
    [b"\"alg".as_slice(), b"\"typ", b"\"kid", b"\"enc", b"\"cty"].iter().any(|name| json.windows(name.len()).any(|w| w == *name))
}
