//! Which rows are written together: all, and where a value of one is refused, those around it without it.

use std::ops::Range;

use crate::plugin::prelude::*;

/// Rows to be written, and what became of them.
pub(super) struct Parts {
    waiting: Vec<Range<usize>>,
    outcomes: Vec<Delivered>,
}

impl Parts {
    /// So many rows in one part.
    pub fn of(count: usize) -> Self {
        let all = 0..count;
        Self { waiting: Vec::from_iter([all].into_iter().filter(|all| !all.is_empty())), outcomes: vec![Delivered::done(); count] }
    }

    /// The next part to be written.
    pub fn next(&mut self) -> Option<Range<usize>> {
        self.waiting.pop()
    }

    /// A part was not written. For a value, its halves are tried, until a row is refused alone; for anything else all that
    /// waits has to wait.
    pub fn failed(&mut self, part: Range<usize>, error: &HostError) {
        let middle = part.start + part.len() / 2;
        let parts = match error {
            HostError::SqlValue(_) if part.len() > 1 => return self.waiting.extend([middle..part.end, part.start..middle]),
            HostError::SqlValue(_) => vec![part],
            _ => self.waiting.drain(..).chain([part]).collect(),
        };
        for row in parts.into_iter().flatten() {
            self.outcomes[row] = Delivered::of_error(error);
        }
    }

    /// What became of each row.
    pub fn outcomes(self) -> Vec<Delivered> {
        self.outcomes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A letter for each row: `d`one, `x` for given up, `r`etry; and how many writings that took.
    fn written(count: usize, write: impl Fn(Range<usize>, usize) -> Result<(), HostError>) -> (String, usize) {
        let (mut parts, mut times) = (Parts::of(count), 0);
        while let Some(part) = parts.next() {
            times += 1;
            if let Err(error) = write(part.clone(), times) {
                parts.failed(part, &error);
            }
        }
        let letter = |outcome: &Delivered| match outcome {
            Delivered::Done { .. } => 'd',
            Delivered::Dead { .. } => 'x',
            _ => 'r',
        };
        (parts.outcomes().iter().map(letter).collect(), times)
    }

    #[test]
    fn a_row_that_is_refused_takes_no_other_with_it() {
        let bad = |part: Range<usize>| [3, 7].iter().any(|row| part.contains(row));
        let refused = |part: Range<usize>, _| if bad(part) { Err(HostError::SqlValue("code 22P05".into())) } else { Ok(()) };
        assert_eq!(written(10, refused).0, "dddxdddxdd");
        assert_eq!(written(500, |part, _| refused(part.start + 10..part.end + 10, 0)), ("d".repeat(500), 1));
        let (outcomes, times) = written(500, refused);
        assert_eq!(outcomes.matches('x').count(), 2);
        assert!(times < 40, "{times}");
        assert_eq!(written(0, refused), (String::new(), 0));
        // The server goes away in between: what was written is written, the rest waits.
        let away = |part, times| if times > 2 { Err(HostError::Sql("unavailable".into())) } else { refused(part, times) };
        assert_eq!(written(20, away).0, "r".repeat(20));
        let late = |part: Range<usize>, times| match part.start >= 10 {
            true => Err(HostError::Sql("unavailable".into())),
            false => refused(part, times),
        };
        assert_eq!(written(20, late).0, "dddxdddxddrrrrrrrrrr");
    }
}
