//! Trails: where an answer follows a text that it should not repeat.
//!
//! Shared shingles add the weight of the words they newly cover; words outside of any shared shingle subtract. So what
//! counts is how much is repeated in one place, not how often an idiom occurs in a long answer, and a quotation with words
//! omitted or replaced still counts.

use std::ops::Range;

/// A word or letter of the answer.
#[derive(Debug, Clone, Copy)]
pub struct Unit {
    /// Its weight in hundredths of a full word.
    pub weight: i32,
    /// The offset at which it begins.
    pub start: usize,
}

/// Whether the shingle that ends with a unit is in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// Yes, for the first time on this trail.
    New,
    /// Yes, but it was on this trail before: tables and lists repeat their headings.
    Again,
    /// No.
    None,
}

/// Parameters of a kind of trail. Weights are in hundredths of a full word.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// The weight from which on it is a leak.
    pub enough: i32,
    /// The weight that a unit outside subtracts.
    pub loss: i32,
    /// Number of consecutive units outside that end the trail.
    pub misses: u16,
    /// A continuing leak is reported again after this much more weight.
    pub piece: i32,
}

/// A part of a leak that has become certain.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its range in bytes of the answer.
    pub span: Range<usize>,
    /// The weight repeated up to here, relative to `enough`: at least 1.
    pub ratio: f32,
}

/// The last units of a text, shared by all trails over shingles of `N` units.
#[derive(Debug, Clone)]
pub struct Units<const N: usize> {
    /// Start and weight of each.
    last: [(usize, i32); N],
    count: u64,
}

impl<const N: usize> Units<N> {
    /// No units yet.
    pub const fn new() -> Self {
        Self { last: [(0, 0); N], count: 0 }
    }

    /// Adds a unit.
    #[inline]
    pub fn push(&mut self, unit: Unit) {
        self.last[self.count as usize % N] = (unit.start, unit.weight);
        self.count += 1;
    }
}

/// A trail over shingles.
///
/// A trail begins where its first shingle ends: until then it looks like an idiom, and nothing is held back for it.
#[derive(Debug, Clone)]
pub struct Trail {
    /// Number of units that are covered by shared shingles or lie before one that is.
    covered: u64,
    /// The current weight; 0 without a trail.
    weight: i32,
    peak: i32,
    fresh: i32,
    misses: u16,
    number: u32,
    begun: usize,
    pending: Option<usize>,
    /// Where the shared text begins, as long as the verdict on it may still change.
    held: Option<usize>,
    end: usize,
    certain: bool,
}

/// The multiple of `enough` at which the score stops mattering (0.95): an answer that was not stopped by then passes.
const DECIDED: i32 = 10;

impl Trail {
    /// No trail yet.
    pub const fn new() -> Self {
        Self { covered: 0, weight: 0, peak: 0, fresh: 0, misses: 0, number: 1, begun: 0, pending: None, held: None, end: 0, certain: false }
    }

    /// Whether a trail is open.
    #[inline]
    pub const fn open(&self) -> bool {
        self.weight > 0
    }

    /// The number of the current trail in this text, never 0.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Takes the shingle that ends with the last unit, which was complete at offset `at`.
    #[inline]
    pub fn step<const N: usize>(&mut self, units: &Units<N>, at: usize, hit: Hit, rule: &Rule) -> Option<Piece> {
        match hit {
            Hit::New => self.follow(units, at, rule),
            _ if self.open() => self.miss(hit, rule),
            _ => None,
        }
    }

    fn follow<const N: usize>(&mut self, units: &Units<N>, at: usize, rule: &Rule) -> Option<Piece> {
        let first = self.covered.max(units.count.saturating_sub(N as u64));
        let mut gain = 0;
        for n in first..units.count {
            gain += units.last[n as usize % N].1;
        }
        let from = units.last[first as usize % N].0;
        (self.covered, self.misses) = (units.count, 0);
        if self.open() {
            let from = from.max(self.begun);
            self.pending.get_or_insert(from);
            if self.peak < rule.enough.saturating_mul(DECIDED) {
                self.held.get_or_insert(from);
            }
            self.fresh += gain;
        } else {
            (self.begun, self.pending, self.held, self.certain, self.peak, self.fresh) = (at, None, None, false, 0, 0);
        }
        self.weight += gain;
        self.peak = self.peak.max(self.weight);
        self.end = at;
        if self.weight < rule.enough || (self.certain && self.fresh < rule.piece) {
            return None;
        }
        self.certain = true;
        self.fresh = 0;
        if self.peak >= rule.enough.saturating_mul(DECIDED) {
            self.held = None;
        }
        let from = self.pending.take().unwrap_or(self.begun);
        Some(Piece { span: from..at, ratio: self.peak as f32 / rule.enough as f32 })
    }

    fn miss(&mut self, hit: Hit, rule: &Rule) -> Option<Piece> {
        self.misses += 1;
        if hit == Hit::None {
            self.weight -= rule.loss;
        }
        if self.weight <= 0 || self.misses > rule.misses { self.close(rule) } else { None }
    }

    /// Ends the trail. Returns the rest of a leak, if it was one.
    pub fn close(&mut self, rule: &Rule) -> Option<Piece> {
        let rest = self.pending.take().filter(|_| self.certain);
        self.held = None;
        self.weight = 0;
        self.number = self.number.wrapping_add(1).max(1);
        rest.map(|from| Piece { span: from..self.end, ratio: self.peak as f32 / rule.enough as f32 })
    }

    /// The offset from which on the text may become part of a leak with a higher score, given the start of the unfinished
    /// unit; `now` if there is none. A single piece rarely stops an answer; only the whole of the shared text decides, so
    /// all of it is held back until the trail is decided or ends.
    pub fn settled<const N: usize>(&self, units: &Units<N>, unfinished: Option<usize>, now: usize) -> usize {
        if !self.open() {
            return now;
        }
        let first = self.covered.max(units.count.saturating_sub(N as u64 - 1));
        let next = if first < units.count { units.last[first as usize % N].0 } else { unfinished.unwrap_or(now) };
        self.held.or(self.pending).unwrap_or(now).min(next).max(self.begun)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RULE: Rule = Rule { enough: 500, loss: 40, misses: 10, piece: 800 };

    /// Pieces in a text of words with weight 1 and ten bytes each: `x` is shared, `.` is not.
    fn pieces(words: &str) -> Vec<Piece> {
        let (mut units, mut trail) = (Units::<4>::new(), Trail::new());
        let mut out = Vec::new();
        for (n, c) in words.chars().enumerate() {
            let hit = if c == 'x' { Hit::New } else { Hit::None };
            let before = trail.settled(&units, None, n * 10);
            units.push(Unit { weight: 100, start: n * 10 });
            let piece = trail.step(&units, n * 10 + 9, hit, &RULE);
            assert!(piece.iter().all(|p| p.span.start >= before), "{before} {piece:?}");
            out.extend(piece);
        }
        out.extend(trail.close(&RULE));
        out
    }

    #[test]
    fn one_shingle_is_an_idiom_and_several_in_one_place_are_a_leak() {
        assert_eq!(pieces("...x......"), []);
        assert_eq!(pieces("...x...........x...........x......"), []);
        // Six words in a row, then four more after an omission of two.
        let found = pieces("...xxx......x..");
        assert_eq!(found.iter().map(|p| p.span.clone()).collect::<Vec<_>>(), [40..49, 50..129]);
        assert!(found.iter().all(|p| p.ratio >= 1.0));
    }

    #[test]
    fn a_long_leak_is_reported_in_adjoining_pieces_of_rising_certainty() {
        let found = pieces(&format!("...{}......", "x".repeat(40)));
        assert!(found.len() > 3);
        assert!(found.windows(2).all(|p| p[0].span.end < p[1].span.start && p[0].ratio < p[1].ratio));
        assert_eq!(found.last().unwrap().span.end, 429);
    }

    #[test]
    fn a_leak_waits_until_it_is_decided_or_has_ended() {
        let (mut units, mut trail) = (Units::<4>::new(), Trail::new());
        let mut settled = Vec::new();
        for n in 0..80 {
            units.push(Unit { weight: 100, start: n * 10 });
            let hit = if (3..60).contains(&n) { Hit::New } else { Hit::None };
            trail.step(&units, n * 10 + 9, hit, &RULE);
            settled.push(trail.settled(&units, Some(n * 10 + 10), n * 10 + 15));
        }
        // The finding's span begins after the fourth word; it is held back for fifty words, or until the trail ends.
        assert!(settled[4..50].iter().all(|at| *at == 40), "{settled:?}");
        assert!(settled[56..60].iter().all(|at| *at > 400), "{settled:?}");
        assert_eq!(settled[79], 79 * 10 + 15);
        let (mut units, mut trail) = (Units::<4>::new(), Trail::new());
        for n in 0..40 {
            units.push(Unit { weight: 100, start: n * 10 });
            let hit = if (3..20).contains(&n) { Hit::New } else { Hit::None };
            trail.step(&units, n * 10 + 9, hit, &RULE);
            let at = trail.settled(&units, Some(n * 10 + 10), n * 10 + 15);
            match n {
                4..=29 => assert_eq!(at, 40, "{n}"),
                31.. => assert_eq!(at, n * 10 + 15, "{n}"),
                _ => {}
            }
        }
    }

    #[test]
    fn nothing_is_held_without_a_trail_and_little_with_one() {
        let (mut units, mut trail) = (Units::<4>::new(), Trail::new());
        assert_eq!(trail.settled(&units, Some(3), 7), 7);
        units.push(Unit { weight: 100, start: 0 });
        trail.step(&units, 9, Hit::New, &RULE);
        assert_eq!(trail.settled(&units, Some(10), 15), 10);
        for n in 1..=20 {
            units.push(Unit { weight: 100, start: n * 10 });
            trail.step(&units, n * 10 + 9, Hit::None, &RULE);
        }
        assert_eq!(trail.settled(&units, Some(300), 305), 305);
    }
}
