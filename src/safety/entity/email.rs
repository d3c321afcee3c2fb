//! E-mail addresses as people write them.

use std::ops::Range;

use super::view::View;

/// Bytes of an address before the `@` (RFC 5321 §4.5.3.1.1).
pub const LOCAL_BYTES: usize = 64;
/// Bytes of a domain (RFC 5321 §4.5.3.1.2).
const DOMAIN_BYTES: usize = 253;
/// Endings of file names that stand behind an `@` in machine text (`icon@2x.png`).
const FILES: [&[u8]; 10] = [b"png", b"jpg", b"jpeg", b"gif", b"svg", b"webp", b"js", b"css", b"py", b"html"];

/// A byte of the local part.
pub fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-' | b'\'')
}

/// The address around the `@` at `sign`, never before `floor`.
pub fn around(view: &View<'_>, sign: usize, floor: usize) -> Option<Range<usize>> {
    let mut start = sign;
    while start > floor && sign - start < LOCAL_BYTES && is_local(view.before(start, 1)) {
        start -= 1;
    }
    if view.before(start, 1) == b'\\' && matches!(view.at(start), b'n' | b'r' | b't') && start + 1 < sign {
        start += 1;
    }
    while start < sign && matches!(view.at(start), b'.' | b'\'' | b'-' | b'%') {
        start += 1;
    }
    let local = view.slice(start, sign);
    if local.is_empty() || local.last() == Some(&b'.') || local == b"git" {
        return None;
    }
    let end = domain_end(view, sign + 1)?;
    Some(start..end)
}

/// The end of a domain of at least two labels whose last is one that the root can delegate.
fn domain_end(view: &View<'_>, start: usize) -> Option<usize> {
    let mut at = start;
    let mut best = None;
    let mut labels = 0;
    while at - start <= DOMAIN_BYTES {
        let end = view.run(at, 64, |b| b.is_ascii_alphanumeric() || b == b'-');
        let label = view.slice(at, end);
        if label.is_empty() || label.len() > 63 || label.first() == Some(&b'-') {
            break;
        }
        labels += 1;
        let named = label.len() >= 2 && label.iter().all(u8::is_ascii_alphabetic) || label.starts_with(b"xn--");
        if labels >= 2 && named && !FILES.contains(&label) {
            best = Some(end);
        } else if labels >= 2 && named {
            best = None;
        }
        if view.at(end) != b'.' {
            break;
        }
        at = end + 1;
    }
    best
}
