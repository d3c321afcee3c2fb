//! Maps offsets in a folded text back to the original text.

use std::ops::Range;

/// The highest bit of [`Step::raw`]: from this step on, text was replaced instead of copied byte for byte.
const REPLACED: u32 = 1 << 31;

/// Longest text that can be mapped, in bytes.
pub const LONGEST: usize = (REPLACED - 1) as usize;

/// From this offset on, up to the next step, the distance between both texts is constant.
#[derive(Debug, Clone, Copy)]
struct Step {
    folded: u32,
    raw: u32,
}

/// The origin of each byte of a folded text. Empty if folding changed nothing.
#[derive(Debug, Clone, Default)]
pub struct Map {
    steps: Vec<Step>,
    /// The lengths of both texts.
    folded: usize,
    raw: usize,
}

impl Map {
    /// The map of a text that folding did not change.
    pub fn same(length: usize) -> Self {
        Self { steps: Vec::new(), folded: length, raw: length }
    }

    /// The folded text from `folded` on is copied from `raw`.
    pub fn copied(&mut self, folded: usize, raw: usize) {
        let (folded, raw) = (folded as u32, raw as u32);
        if let Some(last) = self.steps.last()
            && last.raw & REPLACED == 0
            && last.raw.wrapping_sub(last.folded) == raw.wrapping_sub(folded)
        {
            return;
        }
        self.steps.push(Step { folded, raw });
    }

    /// The folded text at `folded` replaces the raw text at `raw`.
    pub fn replaced(&mut self, folded: usize, raw: usize) {
        self.steps.push(Step { folded: folded as u32, raw: raw as u32 | REPLACED });
    }

    /// Removes everything from an offset of the folded text on. Returns where in the raw text that began.
    pub fn cut(&mut self, folded: usize) -> usize {
        let raw = self.place(folded).0;
        let kept = self.steps.partition_point(|step| (step.folded as usize) < folded);
        self.steps.truncate(kept);
        raw
    }

    /// Ends both texts.
    pub fn end(&mut self, folded: usize, raw: usize) {
        (self.folded, self.raw) = (folded, raw);
    }

    /// The bytes of the raw text for a range of the folded one. Characters that were dropped before the range are not
    /// included, those dropped within and directly after it are. In bounds, and on character boundaries if `range` is.
    pub fn original(&self, range: Range<usize>) -> Range<usize> {
        let start = if range.start >= self.folded { self.raw } else { self.place(range.start).0 };
        let end = if range.end >= self.folded { self.raw } else { self.place(range.end).1 };
        start..end.max(start)
    }

    /// The raw offset of a folded one, rounded down and up if it is within the replacement of one character.
    fn place(&self, folded: usize) -> (usize, usize) {
        let next = self.steps.partition_point(|step| step.folded as usize <= folded);
        let Some(step) = next.checked_sub(1).and_then(|at| self.steps.get(at)) else { return (folded, folded) };
        let into = folded - step.folded as usize;
        let raw = (step.raw & !REPLACED) as usize;
        if step.raw & REPLACED == 0 {
            return (raw + into, raw + into);
        }
        if into == 0 {
            return (raw, raw);
        }
        let after = self.steps.get(next).map_or(self.raw, |step| (step.raw & !REPLACED) as usize);
        (raw, after)
    }
}
