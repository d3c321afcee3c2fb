//! The weights: two heads over the same features, and the calibration that turns their sums into scores.

use std::borrow::Cow;

use super::features::{BITS, BUCKETS};
use super::gate::GATE;
use super::window::{Extent, LENGTHS, Window, allowance, windows};

/// Number of heads.
pub const HEADS: usize = 2;
/// Index of the head for prompt injection, extraction and hidden instructions.
pub const INJECTION: usize = 0;
/// Index of the head for jailbreaks.
pub const JAILBREAK: usize = 1;

/// A point of a head's calibration: raw sum and score.
pub type Knot = (f32, f32);
/// Number of points in a calibration.
pub const KNOTS: usize = 5;
/// The scores at the points of a calibration. One innocent text in a hundred reaches the third, about three in a thousand
/// the fourth.
pub const SCORES: [f32; KNOTS] = [0.0, 0.25, 0.5, 0.85, 0.99];

/// The parameters of a head besides its weights.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Head {
    /// The value of one step of a weight.
    pub scale: f32,
    /// Bias for each window length.
    pub bias: [f32; LENGTHS.len()],
    /// The raw sums at which the scores are [`SCORES`].
    pub knots: [f32; KNOTS],
    /// How much higher the sums of system messages must be.
    pub system: f32,
}

/// The trained model, used in the form of its file.
#[derive(Clone, PartialEq)]
pub struct Model {
    heads: [Head; HEADS],
    /// The weight that a run of words in a long text must reach in the gate's table.
    bar: i32,
    /// The file: [`HEADER`], then the gate's table, then for every bucket the weight of each head.
    bytes: Cow<'static, [u8]>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("heads", &self.heads).field("bar", &self.bar).finish()
    }
}

/// Why the bytes are not weights of this version.
#[derive(Debug, thiserror::Error)]
#[error("weights, {0}")]
pub struct WeightsError(&'static str);

/// `OdAttack`, followed by the version of the features: weights of another version have another meaning.
const MAGIC: &[u8; 8] = b"OdAttack";
const VERSION: u32 = 3;
/// Bytes of the file before the gate's table.
const HEADER: usize = MAGIC.len() + 4 * (3 + HEADS * (2 + LENGTHS.len() + KNOTS));

impl Model {
    /// Assembles a model from the heads, their weights, and the gate's bar and table.
    pub fn new(heads: [Head; HEADS], weights: &[[i8; HEADS]], bar: i32, table: &[i8]) -> Self {
        debug_assert!(weights.len() == BUCKETS && table.len() == GATE);
        let mut bytes = Vec::with_capacity(HEADER + GATE + BUCKETS * HEADS);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&BITS.to_le_bytes());
        bytes.extend_from_slice(&bar.to_le_bytes());
        for head in &heads {
            let floats = std::iter::once(head.scale).chain(head.bias).chain(head.knots).chain([head.system]);
            bytes.extend(floats.flat_map(f32::to_le_bytes));
        }
        bytes.extend(table.iter().chain(weights.iter().flatten()).map(|&weight| weight as u8));
        Self { heads, bar, bytes: Cow::Owned(bytes) }
    }

    /// The weights of every bucket.
    #[inline]
    pub fn weights(&self) -> &[[u8; HEADS]] {
        self.bytes.get(HEADER + GATE..).unwrap_or_default().as_chunks::<HEADS>().0
    }

    /// The gate's table and bar.
    pub fn gate(&self) -> (&[u8], i32) {
        (self.bytes.get(HEADER..HEADER + GATE).unwrap_or_default(), self.bar)
    }

    /// The parameters of a head.
    pub fn head(&self, head: usize) -> &Head {
        &self.heads[head]
    }

    /// The strongest window of each head, given the running sums of the token weights (one more than there are tokens) and
    /// the tokens that begin a sentence.
    pub fn strongest(&self, sums: &[[i32; HEADS]], breaks: &[u32]) -> [Option<(f32, Window)>; HEADS] {
        let mut best: [Option<(f32, Window)>; HEADS] = [None; HEADS];
        for window in windows(sums.len().saturating_sub(1), breaks) {
            let norm = window.norm();
            for (head, best) in best.iter_mut().enumerate() {
                let parameters = &self.heads[head];
                let sum = (sums[window.to][head] - sums[window.from][head]) as f32;
                let raw = sum * parameters.scale * norm + parameters.bias[window.scale];
                if best.is_none_or(|(strongest, _)| raw > strongest) {
                    *best = Some((raw, window));
                }
            }
        }
        best
    }

    /// How far a raw sum exceeds the decision threshold in a text of this extent.
    pub fn margin(&self, head: usize, raw: f32, system: bool, extent: Extent) -> f32 {
        let Head { knots: [_, _, decision, ..], system: more, .. } = self.heads[head];
        let raw = if system { raw - more } else { raw };
        raw - decision - allowance(head, extent)
    }

    /// The score for a margin, interpolated linearly between the calibration points.
    pub fn score(&self, head: usize, margin: f32) -> f32 {
        let knots = self.heads[head].knots.map(|knot| knot - self.heads[head].knots[2]);
        if margin <= knots[0] {
            return SCORES[0];
        }
        for index in 1..KNOTS {
            if margin < knots[index] {
                let part = (margin - knots[index - 1]) / (knots[index] - knots[index - 1]).max(f32::EPSILON);
                return SCORES[index - 1] + part * (SCORES[index] - SCORES[index - 1]);
            }
        }
        SCORES[KNOTS - 1]
    }

    /// The file: header, heads, table, weights; little-endian.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Parses what [`Self::as_bytes`] returned, without copying.
    ///
    /// # Errors
    /// When the bytes are anything else, of another version, or truncated.
    pub fn from_bytes(bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, WeightsError> {
        let bytes = bytes.into();
        let rest = bytes.strip_prefix(MAGIC).ok_or(WeightsError("not a weights file"))?;
        let mut words = Words(rest);
        if words.next_u32() != Some(VERSION) {
            return Err(WeightsError("of another version: train them again"));
        }
        if words.next_u32() != Some(BITS) {
            return Err(WeightsError("of another size: train them again"));
        }
        let bar = words.next_u32().ok_or(WeightsError("cut off"))? as i32;
        let mut heads = [Head::default(); HEADS];
        for head in &mut heads {
            let fields =
                std::iter::once(&mut head.scale).chain(&mut head.bias).chain(&mut head.knots).chain(std::iter::once(&mut head.system));
            for field in fields {
                *field = words.next_u32().map(f32::from_bits).filter(|value| value.is_finite()).ok_or(WeightsError("cut off"))?;
            }
        }
        if words.0.len() != GATE + BUCKETS * HEADS {
            return Err(WeightsError("cut off"));
        }
        Ok(Self { heads, bar, bytes })
    }
}

struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn next_u32(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*word))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn model() -> Model {
        let head = Head { scale: 0.1, bias: [-1.0, -2.0], knots: [0.0, 1.0, 2.0, 3.0, 4.0], system: 1.5 };
        let weights: Vec<[i8; HEADS]> = (0..BUCKETS).map(|bucket| [(bucket % 127) as i8, -((bucket % 7) as i8)]).collect();
        let table: Vec<i8> = (0..GATE).map(|place| (place % 5) as i8 - 2).collect();
        Model::new([head; HEADS], &weights, -9, &table)
    }

    #[test]
    fn bytes_and_back() {
        let model = model();
        let bytes = model.as_bytes().to_vec();
        assert_eq!(Model::from_bytes(bytes.clone()).expect("what was written"), model);
        assert_eq!(model.weights()[128].map(|weight| weight as i8), [1, -2]);
        assert_eq!((model.gate().0[3] as i8, model.gate().1), (1, -9));
        assert!(Model::from_bytes(bytes[..bytes.len() - 1].to_vec()).is_err());
        assert!(Model::from_bytes(b"something else".as_slice()).is_err());
        let mut other = bytes;
        other[8] = 0xFF;
        assert!(Model::from_bytes(other).is_err());
    }

    #[test]
    fn scores_rise_with_sums_and_system_messages_need_more() {
        let model = model();
        let score = |head, raw, system, words| model.score(head, model.margin(head, raw, system, Extent { words, opened: words / 10 }));
        assert_eq!(score(INJECTION, 2.0, false, 50), 0.5);
        assert_eq!(score(INJECTION, 3.0, false, 50), 0.85);
        assert_eq!(score(INJECTION, 3.5, true, 50), 0.5);
        assert_eq!(score(INJECTION, -3.0, false, 50), 0.0);
        assert_eq!(score(INJECTION, 9.0, false, 50), 0.99);
        assert!(score(JAILBREAK, 2.0, false, 5_000) < 0.5);
    }
}
