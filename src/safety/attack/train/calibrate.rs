//! Calibration: maps raw sums to scores by how often innocent texts reach them.

use super::super::model::{HEADS, Head, KNOTS};
use super::{Label, Row};

/// The fractions of innocent texts that reach the calibration points with either head. The last point has no fraction:
/// hardly any innocent text reaches it.
const REACHED: [f64; KNOTS - 1] = [0.5, 0.1, 0.009, 0.0025];
/// The fraction of system messages that may reach the decision threshold.
const SYSTEM: f64 = 0.01;
/// The index of the decision threshold.
const DECISION: usize = 2;

/// The calibration of each head; scale and bias are filled in by the caller.
pub fn calibrate(rows: &[Row], raw: &[[f32; HEADS]]) -> [Head; HEADS] {
    let of = |label: Label| -> Vec<[f32; HEADS]> {
        rows.iter().zip(raw).filter(|(row, _)| row.label == label && !row.aid).map(|(_, raw)| *raw).collect()
    };
    let mut heads = [Head::default(); HEADS];
    let benign = of(Label::Benign);
    for (knot, part) in REACHED.into_iter().enumerate() {
        let threshold = threshold(&benign, part);
        for head in &mut heads {
            head.knots[knot] = threshold;
        }
    }
    let system = threshold(&of(Label::System), SYSTEM);
    for head in &mut heads {
        for knot in 1..KNOTS {
            // Keeps the points ascending even if there are few rows.
            head.knots[knot] = head.knots[knot].max(head.knots[knot - 1] + 1e-3);
        }
        head.knots[KNOTS - 1] = head.knots[KNOTS - 2] + (head.knots[KNOTS - 2] - head.knots[DECISION]).max(1.0);
        head.system = (system - head.knots[DECISION]).max(0.5);
    }
    heads
}

/// The fraction of the attacks found by the heads that the gate must let through.
const OPENED: f64 = 0.98;

/// Which rows the heads find, or miss by at most `nearly`.
pub fn found(rows: &[Row], raw: &[[f32; HEADS]], nearly: f32) -> Vec<bool> {
    let heads = calibrate(rows, raw);
    let found = |raw: &[f32; HEADS]| raw.iter().zip(&heads).any(|(raw, head)| *raw >= head.knots[DECISION] - nearly);
    raw.iter().map(found).collect()
}

/// The bar of the gate: the weight that all but a few of the attacks that the heads find reach.
pub fn bar(rows: &[Row], raw: &[[f32; HEADS]], peaks: &[i32]) -> i32 {
    let scored = rows.iter().zip(found(rows, raw, 0.0)).zip(peaks).filter(|((row, found), _)| {
        // Attacks under a disguise are scored as texts of their own, which the gate does not see.
        row.label.attack() && !row.aid && row.views.is_empty() && *found
    });
    let mut peaks: Vec<i32> = scored.map(|(_, &peak)| peak).collect();
    peaks.sort_unstable_by(|a, b| b.cmp(a));
    peaks.get((peaks.len() as f64 * OPENED) as usize).copied().unwrap_or(i32::MIN / 2)
}

/// The sum that at most this fraction of rows exceeds with either head. The sums of both heads are log-odds of an attack
/// under the training data, so a common threshold finds more than two thresholds that are exceeded equally often.
fn threshold(raw: &[[f32; HEADS]], part: f64) -> f32 {
    let mut highest: Vec<f32> = raw.iter().map(|raw| raw.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
    highest.sort_by(|a, b| b.total_cmp(a));
    highest.get((raw.len() as f64 * part) as usize).copied().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn as_many_pass_as_are_allowed() {
        let raw: Vec<[f32; HEADS]> = (0..1000).map(|i| [i as f32, (i * 7 % 1000) as f32]).collect();
        for part in [0.5, 0.06, 0.01] {
            let threshold = threshold(&raw, part);
            let passed = raw.iter().filter(|raw| raw[0] > threshold || raw[1] > threshold).count();
            assert!(passed as f64 <= part * 1000.0 && passed as f64 >= part * 800.0, "{passed} of {part}");
        }
    }
}
