//! Groups of digits as people write them: `4111 1111 1111 1111`, `+49 (0)30 1234-56`.

use super::view::View;

/// Most groups and digits that are read.
const GROUPS: usize = 8;
const DIGITS: usize = 24;

/// Groups of digits, with the separators between them.
#[derive(Debug, Clone)]
pub struct Groups {
    digits: [u8; DIGITS],
    /// Number of digits up to and including each group.
    upto: [usize; GROUPS],
    /// The index after each group.
    ends: [usize; GROUPS],
    /// The separator after each group: its first byte other than a space, or a space; 0 after the last group.
    separators: [u8; GROUPS],
    count: usize,
    start: usize,
}

impl Groups {
    /// Reads the groups that begin with the digit at `start`.
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
        // More digits than any personal number has: then no group counts by itself.
        (groups.count > 0).then_some(groups)
    }

    /// Index of the first digit.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.count
    }

    /// The index after the first `k` groups.
    pub fn end(&self, k: usize) -> usize {
        k.checked_sub(1).and_then(|i| self.ends.get(i)).copied().unwrap_or(self.start)
    }

    /// The digits of the first `k` groups.
    pub fn digits(&self, k: usize) -> &[u8] {
        let n = k.checked_sub(1).and_then(|i| self.upto.get(i)).copied().unwrap_or(0);
        self.digits.get(..n).unwrap_or_default()
    }

    /// Number of digits in group `i`.
    pub fn size(&self, i: usize) -> usize {
        let before = i.checked_sub(1).and_then(|b| self.upto.get(b)).copied().unwrap_or(0);
        self.upto.get(i).map_or(0, |n| n.saturating_sub(before))
    }

    /// The separator between group `i` and the next one.
    pub fn separator(&self, i: usize) -> u8 {
        self.separators.get(i).copied().unwrap_or(0)
    }

    /// Whether the first `k` groups have these sizes.
    pub fn sized(&self, k: usize, sizes: &[usize]) -> bool {
        k == sizes.len() && sizes.iter().enumerate().all(|(i, size)| self.size(i) == *size)
    }

    /// Whether the first `k` groups are separated by one of these separators only, the same each time.
    pub fn all_separated(&self, k: usize, by: &[u8]) -> bool {
        let first = self.separator(0);
        by.contains(&first) && (0..k.saturating_sub(1)).all(|i| self.separator(i) == first)
    }
}

/// The separator at `end` and the start of the next group. Separators are a space, dash, dot, slash or underscore, or a
/// bracket with or without one of these.
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
        // A no-break space.
        0xc2 if view.at(end + 1) == 0xa0 => next(end + 2).map(|at| (b' ', at)),
        _ => None,
    }
}

/// Whether a number may end here: not within a word, an address or decimals.
pub fn closes(view: &View<'_>, end: usize) -> bool {
    let next = view.at(end);
    !(super::view::is_word(next) || next == b'@' || next == b'%' || matches!(next, b'.' | b',' | b':') && view.at(end + 1).is_ascii_digit())
}
