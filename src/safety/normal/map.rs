//! From offsets in a folded text back to the text as it was written.

use std::ops::Range;

/// The highest bit of [`Step::raw`]: what begins here was not copied byte for byte.
const REPLACED: u32 = 1 << 31;

/// The longest text that can be mapped, in bytes.
pub const LONGEST: usize = (REPLACED - 1) as usize;

/// From this place on, up to the next step, the distance between both texts stays the same.
#[derive(Debug, Clone, Copy)]
struct Step {
    folded: u32,
    raw: u32,
}

/// Where each byte of a folded text came from. Empty for a text that folding left as it was.
#[derive(Debug, Clone, Default)]
pub struct Map {
    steps: Vec<Step>,
    /// Lengths of both texts.
    folded: usize,
    raw: usize,
}

impl Map {
    /// Of a text that stayed as it was.
    pub fn same(length: usize) -> Self {
        Self { steps: Vec::new(), folded: length, raw: length }
    }

    /// What follows in the folded text at `folded` is copied from `raw`.
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

    /// What is written at `folded` stands for what began at `raw`.
    pub fn replaced(&mut self, folded: usize, raw: usize) {
        self.steps.push(Step { folded: folded as u32, raw: raw as u32 | REPLACED });
    }

    /// Forgets everything from this place of the folded text on, and says where in the raw text it began.
    pub fn cut(&mut self, folded: usize) -> usize {
        let raw = self.place(folded).0;
        let kept = self.steps.partition_point(|step| (step.folded as usize) < folded);
        self.steps.truncate(kept);
        raw
    }

    /// Both texts end here.
    pub fn end(&mut self, folded: usize, raw: usize) {
        (self.folded, self.raw) = (folded, raw);
    }

    /// The bytes of the raw text that a range of the folded one stands for. Characters that were dropped in front of it are
    /// not in it, those dropped inside and right after it are. In bounds and on character boundaries if `range` is.
    pub fn original(&self, range: Range<usize>) -> Range<usize> {
        let start = if range.start >= self.folded { self.raw } else { self.place(range.start).0 };
        let end = if range.end >= self.folded { self.raw } else { self.place(range.end).1 };
        start..end.max(start)
    }

    /// The raw place of a folded one, rounded down and up if it lies inside of what one character became.
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
