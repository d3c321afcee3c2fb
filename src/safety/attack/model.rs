//! The weights: two heads over the same features, and how their sums become scores.

use super::features::{BITS, BUCKETS};
use super::window::{LENGTHS, Window, windows};

/// What a head asks.
pub const HEADS: usize = 2;
/// Index of the head for prompt injection, extraction and hidden instructions.
pub const INJECTION: usize = 0;
/// Index of the head for jailbreaks.
pub const JAILBREAK: usize = 1;

/// A point of a head's calibration: raw sum, score.
pub type Knot = (f32, f32);
/// How many points a calibration has.
pub const KNOTS: usize = 5;
/// The scores of a calibration's points. What the third stands for is one false positive in a hundred, the fourth about
/// three in a thousand.
pub const SCORES: [f32; KNOTS] = [0.0, 0.25, 0.5, 0.85, 0.99];

/// What a head needs besides its weights.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Head {
    /// Value of one step of a weight.
    pub scale: f32,
    /// Added per length of window.
    pub bias: [f32; LENGTHS.len()],
    /// Raw sums at which the scores are [`SCORES`].
    pub knots: [f32; KNOTS],
    /// How much higher the sums of system messages have to be.
    pub system: f32,
}

/// The trained model.
#[derive(Clone, PartialEq)]
pub struct Model {
    heads: [Head; HEADS],
    /// Of every bucket, the weight of either head.
    weights: Vec<[i8; HEADS]>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("heads", &self.heads).field("buckets", &self.weights.len()).finish()
    }
}

/// The bytes are no weights of this version.
#[derive(Debug, thiserror::Error)]
#[error("weights, {0}")]
pub struct WeightsError(&'static str);

/// `OdAttack`, then the version of the features; weights of another version mean something else.
const MAGIC: &[u8; 8] = b"OdAttack";
const VERSION: u32 = 1;

impl Model {
    /// Weights and what belongs to them.
    pub fn new(heads: [Head; HEADS], weights: Vec<[i8; HEADS]>) -> Self {
        debug_assert_eq!(weights.len(), BUCKETS);
        Self { heads, weights }
    }

    /// The weights of a feature.
    #[inline]
    pub fn weights(&self, bucket: u32) -> [i8; HEADS] {
        self.weights[bucket as usize]
    }

    /// A head's parameters.
    pub fn head(&self, head: usize) -> &Head {
        &self.heads[head]
    }

    /// The strongest window of each head, from the running sums of its tokens' weights (one more than there are tokens)
    /// and the tokens that sentences begin with.
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

    /// The score of a raw sum: linear between the points of the calibration.
    pub fn score(&self, head: usize, raw: f32, system: bool) -> f32 {
        let parameters = &self.heads[head];
        let raw = if system { raw - parameters.system } else { raw };
        let knots = &parameters.knots;
        if raw <= knots[0] {
            return SCORES[0];
        }
        for index in 1..KNOTS {
            if raw < knots[index] {
                let part = (raw - knots[index - 1]) / (knots[index] - knots[index - 1]).max(f32::EPSILON);
                return SCORES[index - 1] + part * (SCORES[index] - SCORES[index - 1]);
            }
        }
        SCORES[KNOTS - 1]
    }

    /// The file: header, heads, weights; little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + BUCKETS * HEADS);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&BITS.to_le_bytes());
        for head in &self.heads {
            let floats = std::iter::once(head.scale).chain(head.bias).chain(head.knots).chain([head.system]);
            bytes.extend(floats.flat_map(f32::to_le_bytes));
        }
        bytes.extend(self.weights.iter().flatten().map(|&weight| weight as u8));
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// It is something else, of another version, or cut off.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WeightsError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(WeightsError("not a weights file"))?;
        let mut words = Words(rest);
        if words.next_u32() != Some(VERSION) {
            return Err(WeightsError("of another version: train them again"));
        }
        if words.next_u32() != Some(BITS) {
            return Err(WeightsError("of another size: train them again"));
        }
        let mut heads = [Head::default(); HEADS];
        for head in &mut heads {
            let fields =
                std::iter::once(&mut head.scale).chain(&mut head.bias).chain(&mut head.knots).chain(std::iter::once(&mut head.system));
            for field in fields {
                *field = words.next_u32().map(f32::from_bits).filter(|value| value.is_finite()).ok_or(WeightsError("cut off"))?;
            }
        }
        if words.0.len() != BUCKETS * HEADS {
            return Err(WeightsError("cut off"));
        }
        let weights = words.0.chunks_exact(HEADS).map(|pair| std::array::from_fn(|head| pair[head] as i8)).collect();
        Ok(Self { heads, weights })
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
        Model::new([head; HEADS], (0..BUCKETS).map(|bucket| [(bucket % 127) as i8, -((bucket % 7) as i8)]).collect())
    }

    #[test]
    fn bytes_and_back() {
        let model = model();
        let bytes = model.to_bytes();
        assert_eq!(Model::from_bytes(&bytes).expect("what was written"), model);
        assert!(Model::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        assert!(Model::from_bytes(b"something else").is_err());
        let mut other = bytes;
        other[8] = 0xFF;
        assert!(Model::from_bytes(&other).is_err());
    }

    #[test]
    fn scores_rise_with_sums_and_system_messages_need_more() {
        let model = model();
        assert_eq!(model.score(INJECTION, 2.0, false), 0.5);
        assert_eq!(model.score(INJECTION, 3.0, false), 0.85);
        assert_eq!(model.score(INJECTION, 3.5, true), 0.5);
        assert_eq!(model.score(INJECTION, -3.0, false), 0.0);
        assert_eq!(model.score(INJECTION, 9.0, false), 0.99);
    }
}
