//! IPv4 and IPv6 addresses.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use super::view::{View, in_word, is_word, mentions_any};

/// Words that mark four following numbers as a version.
const VERSIONS: [&str; 8] = ["version", "release", "since", "upgrade", "patch", "bump", "firmware", "driver"];
/// The longest textual IPv6 address.
const IPV6_BYTES: usize = 45;

/// A dotted IPv4 address at `start` that can be somebody's: not 0.0.0.0, not loopback, no leading zeros, no version number.
/// Returns its end.
pub fn ipv4(view: &View<'_>, start: usize) -> Option<usize> {
    let mut octets = [0u8; 4];
    let mut at = start;
    for (place, octet) in octets.iter_mut().enumerate() {
        if place > 0 {
            if view.at(at) != b'.' {
                return None;
            }
            at += 1;
        }
        let end = view.run(at, 4, |b| b.is_ascii_digit());
        let part = view.slice(at, end);
        if part.is_empty() || part.len() > 3 || part.len() > 1 && part.first() == Some(&b'0') {
            return None;
        }
        *octet = std::str::from_utf8(part).ok()?.parse().ok()?;
        at = end;
    }
    let address = Ipv4Addr::from(octets);
    let (previous, next) = (view.before(start, 1), view.at(at));
    let opens = !(in_word(view, start) || matches!(previous, b'.' | b'-') && view.before(start, 2).is_ascii_alphanumeric());
    let product = previous == b'/' && view.before(start, 2).is_ascii_alphanumeric();
    let version = mentions_any(view.left(start, 16), &VERSIONS);
    // 1.3.14.3.2.26 is an object identifier, and chapters are numbered like this, too.
    let goes_on = next == b'.' && (view.at(at + 1).is_ascii_alphabetic() || octets[0] < 10 && view.at(at + 1).is_ascii_digit());
    let ends = !(is_word(next) || goes_on || next == b'-' && view.at(at + 1).is_ascii_alphabetic());
    // A broadcast address.
    let everybody = octets[0] != 255 && octets[1..] == [255; 3];
    (opens && ends && !product && !version && !everybody && !address.is_loopback() && !address.is_unspecified()).then_some(at)
}

/// The IPv6 address around the colon at `colon`; it never begins before `floor`.
pub fn ipv6(view: &View<'_>, colon: usize, floor: usize) -> Option<Range<usize>> {
    if view.at(colon + 1) == b':' && (view.at(colon + 2) == b':' || view.before(colon, 1) == b':') {
        return None;
    }
    let mut start = colon;
    while start > floor && colon - start < 5 && view.before(start, 1).is_ascii_hexdigit() {
        start -= 1;
    }
    let end = view.run(colon, IPV6_BYTES, |b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    let run = view.slice(start, end);
    let cut = run.len() - run.iter().rev().take_while(|b| **b == b'.').count();
    let run = std::str::from_utf8(run.get(..cut)?).ok()?;
    let run = if run.ends_with("::") { run } else { run.trim_end_matches(':') };
    let address: Ipv6Addr = run.parse().ok()?;
    let groups = run.split(':').filter(|g| !g.is_empty()).count();
    // `c::B75` is a path: the first group of a routed address has two digits, or a decimal one.
    let routed =
        run.split(':').next().is_some_and(|first| first.is_empty() || first.len() >= 2 || first.starts_with(|c: char| c.is_ascii_digit()));
    let meant = groups >= 4 || groups >= 2 && routed && run.bytes().any(|b| b.is_ascii_digit());
    let end = start + run.len();
    // `list[1::2]` is a slice.
    let slice = view.before(start, 1) == b'[' && (is_word(view.before(start, 2)) || matches!(view.before(start, 2), b')' | b']'));
    let apart = !slice && !in_word(view, start) && !behind_group(view, start) && !is_word(view.at(end));
    (meant && apart && !address.is_loopback() && !address.is_unspecified()).then_some(start..end)
}

/// Whether a colon and a group of an address come before `start`, so that the address does not begin there.
fn behind_group(view: &View<'_>, start: usize) -> bool {
    if view.before(start, 1) != b':' {
        return false;
    }
    let group = (2..=9).take_while(|back| view.before(start, *back).is_ascii_hexdigit()).count();
    let ahead = view.before(start, 2 + group);
    group == 0 && ahead == b':' || group >= 1 && !is_word(ahead)
}
