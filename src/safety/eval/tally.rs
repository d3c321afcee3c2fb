//! Counting hits and misses.

use serde::Serialize;

/// How often a detector was right and wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// There, and found.
    pub hits: u64,
    /// There, and not found.
    pub misses: u64,
    /// Found, and not there.
    pub false_alarms: u64,
    /// Neither there nor found.
    pub quiet: u64,
}

impl Tally {
    /// One more text or value.
    pub fn count(&mut self, there: bool, found: bool) {
        *match (there, found) {
            (true, true) => &mut self.hits,
            (true, false) => &mut self.misses,
            (false, true) => &mut self.false_alarms,
            (false, false) => &mut self.quiet,
        } += 1;
    }

    /// Of what was found, how much was there.
    pub fn precision(&self) -> Option<f64> {
        share(self.hits, self.hits + self.false_alarms)
    }

    /// Of what was there, how much was found.
    pub fn recall(&self) -> Option<f64> {
        share(self.hits, self.hits + self.misses)
    }

    /// The harmonic mean of both.
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.hits, 2 * self.hits + self.misses + self.false_alarms).filter(|_| self.hits + self.misses > 0)
    }

    /// Of what has nothing, how much was found to have something.
    pub fn false_positive_rate(&self) -> Option<f64> {
        share(self.false_alarms, self.false_alarms + self.quiet)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A tally with its figures, as it is reported.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// `all`, `kind`, `source`, `lang`, `transform`, `type` or `entity`.
    pub by: String,
    /// Which of them.
    pub name: String,
    /// There, and found.
    pub tp: u64,
    /// Found, and not there.
    pub fp: u64,
    /// There, and not found.
    #[serde(rename = "fn")]
    pub missed: u64,
    /// Neither.
    pub tn: u64,
    /// 0 to 1; null where nothing was found.
    pub precision: Option<f64>,
    /// 0 to 1; null where nothing was there.
    pub recall: Option<f64>,
    /// 0 to 1.
    pub f1: Option<f64>,
    /// 0 to 1; null where everything had something.
    pub false_positive_rate: Option<f64>,
}

impl Line {
    /// The figures of a group.
    pub fn new(by: &str, name: &str, tally: &Tally) -> Self {
        Self {
            by: by.to_owned(),
            name: name.to_owned(),
            tp: tally.hits,
            fp: tally.false_alarms,
            missed: tally.misses,
            tn: tally.quiet,
            precision: tally.precision(),
            recall: tally.recall(),
            f1: tally.f1(),
            false_positive_rate: tally.false_positive_rate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shares_of_what_they_say() {
        let tally = Tally { hits: 8, misses: 2, false_alarms: 2, quiet: 98 };
        assert_eq!(
            (tally.precision(), tally.recall(), tally.f1(), tally.false_positive_rate()),
            (Some(0.8), Some(0.8), Some(0.8), Some(0.02))
        );
        let mut empty = Tally::default();
        assert_eq!((empty.precision(), empty.recall(), empty.f1(), empty.false_positive_rate()), (None, None, None, None));
        empty.count(false, true);
        assert_eq!((empty.false_positive_rate(), empty.f1()), (Some(1.0), None));
    }
}
