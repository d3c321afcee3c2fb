//! Digits as people group them: `4111 1111 1111 1111`, `+49 (0)30 1234-56`.

use super::view::View;

/// The most groups and digits that are looked at.
const GROUPS: usize = 8;
const DIGITS: usize = 24;

/// Digit groups with what stands between them.
#[derive(Debug, Clone)]
pub struct Groups {
    digits: [u8; DIGITS],
    /// Digits up to and including each group.
    upto: [usize; GROUPS],
    /// The index behind each group.
    ends: [usize; GROUPS],
    /// The separator behind each group: its first byte that is no space, else a space; 0 at the end.
    separators: [u8; GROUPS],
    count: usize,
    start: usize,
}

impl Groups {
    /// The groups from the digit at `start`.
    pub fn read(view: &View<'_>, start: usize) -> Option<Self> {
        let mut groups = Self { digits: [0; DIGITS], upto: [0; GROUPS], ends: [0; GROUPS], separators: [0; GROUPS], count: 0, start };
        let mut at = start;
        let mut total = 0;
        while groups.count < GROUPS {
            let end = view.run(at, DIGITS + 1 - total, |b| b.is_ascii_digit());
            let size = end - at;
            if size == 0 || total + size > DIGITS {
                break;
            }
            for (slot, byte) in groups.digits.iter_mut().skip(total).zip(view.slice(at, end)) {
                *slot = byte - b'0';
            }
            total += size;
            *groups.upto.get_mut(groups.count)? = total;
            *groups.ends.get_mut(groups.count)? = end;
            groups.count += 1;
            let Some((separator, next)) = separator(view, end) else { break };
            if let Some(slot) = groups.separators.get_mut(groups.count - 1) {
                *slot = separator;
            }
            at = next;
        }
        // More digits than any number of a person has: none of its groups stands for itself.
        (groups.count > 0).then_some(groups)
    }

    /// Where the first digit stands.
    pub fn start(&self) -> usize {
        self.start
    }

    /// How many groups there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The index behind the first `k` groups.
    pub fn end(&self, k: usize) -> usize {
        k.checked_sub(1).and_then(|i| self.ends.get(i)).copied().unwrap_or(self.start)
    }

    /// The digits of the first `k` groups.
    pub fn digits(&self, k: usize) -> &[u8] {
        let n = k.checked_sub(1).and_then(|i| self.upto.get(i)).copied().unwrap_or(0);
        self.digits.get(..n).unwrap_or_default()
    }

    /// How many digits group `i` has.
    pub fn size(&self, i: usize) -> usize {
        let before = i.checked_sub(1).and_then(|b| self.upto.get(b)).copied().unwrap_or(0);
        self.upto.get(i).map_or(0, |n| n.saturating_sub(before))
    }

    /// What stands between group `i` and the next.
    pub fn separator(&self, i: usize) -> u8 {
        self.separators.get(i).copied().unwrap_or(0)
    }

    /// Whether the first `k` groups have these sizes.
    pub fn sized(&self, k: usize, sizes: &[usize]) -> bool {
        k == sizes.len() && sizes.iter().enumerate().all(|(i, size)| self.size(i) == *size)
    }

    /// Whether only this separator stands between the first `k` groups.
    pub fn all_separated(&self, k: usize, by: &[u8]) -> bool {
        let first = self.separator(0);
        by.contains(&first) && (0..k.saturating_sub(1)).all(|i| self.separator(i) == first)
    }
}

/// A separator at `end` and where the next group begins: a space, dash, dot, slash or underscore, a bracket with or without one.
fn separator(view: &View<'_>, end: usize) -> Option<(u8, usize)> {
    let first = view.at(end);
    let next = |at: usize| view.at(at).is_ascii_digit().then_some(at);
    match first {
        b' ' => match view.at(end + 1) {
            b'(' => next(end + 2).map(|at| (b'(', at)),
            b'-' | b'/' => (view.at(end + 2) == b' ').then(|| next(end + 3)).flatten().map(|at| (b'~', at)),
            _ => next(end + 1).map(|at| (b' ', at)),
        },
        b'-' | b'.' | b'/' | b'_' | b'(' => match view.at(end + 1) {
            b'(' if first == b'-' || first == b'.' => next(end + 2).map(|at| (b'(', at)),
            _ => next(end + 1).map(|at| (first, at)),
        },
        b')' => match view.at(end + 1) {
            b' ' | b'-' | b'.' | b'/' => next(end + 2).map(|at| (b')', at)),
            _ => next(end + 1).map(|at| (b')', at)),
        },
        // A space that does not break, as typographers set it.
        0xc2 if view.at(end + 1) == 0xa0 => next(end + 2).map(|at| (b' ', at)),
        _ => None,
    }
}

/// Whether a number may end here: no word, address or further decimals follow.
pub fn closes(view: &View<'_>, end: usize) -> bool {
    let next = view.at(end);
    !(super::view::is_word(next) || next == b'@' || next == b'%' || matches!(next, b'.' | b',' | b':') && view.at(end + 1).is_ascii_digit())
}
