//! From raw sums to scores, by how often innocent texts reach them.

use super::super::model::{HEADS, Head, KNOTS};
use super::{Label, Row};

/// Parts of innocent texts that reach the points of the calibration by any of the heads together. The last point has no
/// such part: it stands for what hardly any innocent text reaches.
const REACHED: [f64; KNOTS - 1] = [0.5, 0.1, 0.009, 0.0025];
/// Part of system messages that may reach the point of decision.
const SYSTEM: f64 = 0.01;
/// The index of the point of decision.
const DECISION: usize = 2;

/// The calibration of each head; scale and bias are left to the caller.
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
            // Points in rising order even where few rows were given.
            head.knots[knot] = head.knots[knot].max(head.knots[knot - 1] + 1e-3);
        }
        head.knots[KNOTS - 1] = head.knots[KNOTS - 2] + (head.knots[KNOTS - 2] - head.knots[DECISION]).max(1.0);
        head.system = (system - head.knots[DECISION]).max(0.5);
    }
    heads
}

/// Part of the attacks that the heads find which the gate has to let through.
const OPENED: f64 = 0.98;

/// Which rows the heads find, or nearly do: which come within this distance of the point of decision.
pub fn found(rows: &[Row], raw: &[[f32; HEADS]], nearly: f32) -> Vec<bool> {
    let heads = calibrate(rows, raw);
    let found = |raw: &[f32; HEADS]| raw.iter().zip(&heads).any(|(raw, head)| *raw >= head.knots[DECISION] - nearly);
    raw.iter().map(found).collect()
}

/// The bar of the gate: what all but a few of the attacks weigh that the heads find.
pub fn bar(rows: &[Row], raw: &[[f32; HEADS]], peaks: &[i32]) -> i32 {
    let scored = rows.iter().zip(found(rows, raw, 0.0)).zip(peaks).filter(|((row, found), _)| {
        // What is found under a veil is weighed as a text of its own.
        row.label.attack() && !row.aid && row.views.is_empty() && *found
    });
    let mut peaks: Vec<i32> = scored.map(|(_, &peak)| peak).collect();
    peaks.sort_unstable_by(|a, b| b.cmp(a));
    peaks.get((peaks.len() as f64 * OPENED) as usize).copied().unwrap_or(i32::MIN / 2)
}

/// The sum that at most this part has beyond, by either head. The heads' sums are of one kind, what the odds of an attack
/// are by what was learnt, so one threshold for both finds more than thresholds that either passes equally often.
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
