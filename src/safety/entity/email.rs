//! E-mail addresses as people write them.

use std::ops::Range;

use super::view::View;

/// Most bytes before the `@` (RFC 5321 §4.5.3.1.1).
pub const LOCAL_BYTES: usize = 64;
/// Most bytes of a domain (RFC 5321 §4.5.3.1.2).
const DOMAIN_BYTES: usize = 253;
/// File extensions that follow an `@` in machine text (`icon@2x.png`).
const FILES: [&[u8]; 10] = [b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"js", b"css", b"py", b"html"];

/// Whether a byte may be in the local part.
fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'')
}

/// Number of bytes of the local part's character before `at`, 0 if there is none: ASCII, or a letter of the Latin, Greek or
/// Cyrillic script (RFC 6531). Other scripts end an address, since their particles are attached to it without a space.
pub fn local_before(view: &View<'_>, at: usize) -> usize {
    let last = view.before(at, 1);
    if is_local(last) {
        return 1;
    }
    2 * usize::from(matches!(last, 0x80..=0xbf) && is_lead(view.before(at, 2)))
}

/// Whether a byte belongs to a character of another script; spaces, quotes and signs of the blocks U+0080 and U+2000 do
/// not.
fn is_foreign(byte: u8) -> bool {
    byte >= 0x80 && !matches!(byte, 0xc2 | 0xe2)
}

/// Whether a two-byte character with this first byte is a letter of these scripts.
fn is_lead(byte: u8) -> bool {
    matches!(byte, 0xc3..=0xd3)
}

/// The address around the `@` at `sign`; it never begins before `floor`.
pub fn around(view: &View<'_>, sign: usize, floor: usize) -> Option<Range<usize>> {
    let mut start = sign;
    while sign - start < LOCAL_BYTES {
        let width = local_before(view, start);
        if width == 0 || start < floor + width {
            break;
        }
        start -= width;
    }
    if view.before(start, 1) == b'\\' && matches!(view.at(start), b'n' | b'r' | b't') && start + 1 < sign {
        start += 1;
    }
    while start < sign && matches!(view.at(start), b'.' | b'\'' | b'-' | b'%') {
        start += 1;
    }
    let local = view.slice(start, sign);
    // `https://key@host` names a user of the host, not an address.
    let user = view.left(start, 3) == b"://";
    if local.is_empty() || local.last() == Some(&b'.') || local == b"git" || user {
        return None;
    }
    let end = domain_end(view, sign + 1)?;
    Some(start..end)
}

/// The end of a domain with at least two labels, of which the last can be a top-level domain. Labels may be in their own
/// script (RFC 5890), the last one only after another such label.
fn domain_end(view: &View<'_>, start: usize) -> Option<usize> {
    let mut at = start;
    let mut best = None;
    let mut labels = 0;
    let mut numbers = 0;
    let mut foreign = false;
    while at - start <= DOMAIN_BYTES {
        let end = view.run(at, 64, |b| b.is_ascii_alphanumeric() || b == b'-' || is_foreign(b));
        let label = view.slice(at, end);
        if label.is_empty() || label.len() > 63 || label.first() == Some(&b'-') {
            break;
        }
        labels += 1;
        numbers += usize::from(label.iter().all(u8::is_ascii_digit));
        let plain = label.iter().take_while(|b| b.is_ascii()).count();
        let head = label.get(..plain).unwrap_or_default();
        let named = head.len() >= 2 && head.iter().all(u8::is_ascii_alphabetic) || head.starts_with(b"xn--");
        if plain == label.len() || labels >= 2 && named {
            if labels >= 2 && named && !FILES.contains(&head) {
                best = Some(at + plain);
            } else if labels >= 2 && named {
                best = None;
            }
        } else if labels >= 2 && foreign && plain == 0 && is_lead(label.first().copied().unwrap_or(0)) {
            best = Some(end);
        }
        // `com` with a particle attached is the end; `grün` may be followed by `.de`.
        let near = label.iter().all(|b| b.is_ascii() || matches!(b, 0x80..=0xbf) || is_lead(*b));
        if view.at(end) != b'.' || !near && labels > 1 {
            break;
        }
        foreign = plain < label.len();
        at = end + 1;
    }
    // `name@4.0.1.patch` is a version; `163.com` has a single number.
    best.filter(|_| numbers < 2 || numbers + 1 < labels)
}
