//! Counts of correct and wrong results.

use serde::Serialize;

/// Counts of correct and wrong results of a detector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// True positives.
    pub hits: u64,
    /// False negatives.
    pub misses: u64,
    /// False positives.
    pub false_alarms: u64,
    /// True negatives.
    pub quiet: u64,
}

impl Tally {
    /// Counts a text or value.
    pub fn count(&mut self, there: bool, found: bool) {
        *match (there, found) {
            (true, true) => &mut self.hits,
            (true, false) => &mut self.misses,
            (false, true) => &mut self.false_alarms,
            (false, false) => &mut self.quiet,
        } += 1;
    }

    /// The share of findings that are right; `None` without findings.
    pub fn precision(&self) -> Option<f64> {
        share(self.hits, self.hits + self.false_alarms)
    }

    /// The share of positives that were found; `None` without positives.
    pub fn recall(&self) -> Option<f64> {
        share(self.hits, self.hits + self.misses)
    }

    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> Option<f64> {
        share(2 * self.hits, 2 * self.hits + self.misses + self.false_alarms).filter(|_| self.hits + self.misses > 0)
    }

    /// The share of negatives with a false alarm; `None` without negatives.
    pub fn false_positive_rate(&self) -> Option<f64> {
        share(self.false_alarms, self.false_alarms + self.quiet)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// The figures of a group, as reported.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// `all`, `kind`, `source`, `lang`, `transform`, `type` or `entity`.
    pub by: String,
    /// The name of the group.
    pub name: String,
    /// True positives.
    pub tp: u64,
    /// False positives.
    pub fp: u64,
    /// False negatives.
    #[serde(rename = "fn")]
    pub missed: u64,
    /// True negatives.
    pub tn: u64,
    /// 0 to 1; null without findings.
    pub precision: Option<f64>,
    /// 0 to 1; null without positives.
    pub recall: Option<f64>,
    /// 0 to 1.
    pub f1: Option<f64>,
    /// 0 to 1; null without negatives.
    pub false_positive_rate: Option<f64>,
}

impl Line {
    /// Computes the figures of a group.
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
