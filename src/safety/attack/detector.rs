//! Vocabulary and weights at work.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::super::normal::Normal;
use super::family::family;
use super::features::{Sink, read};
use super::lexicon::{Lexicon, LexiconError, Mark};
use super::model::{HEADS, Model, SCORES, WeightsError};

/// The weights that come with the gateway; the README beside says how they were made.
const SHIPPED: &[u8] = include_bytes!("weights.bin");

/// Fainter scores are nothing to speak of: one innocent text in ten is weighed above it.
pub const FAINTEST: f32 = SCORES[1];

/// Finds attacks. Shared by the modules that ask it, and by all threads.
#[derive(Debug)]
pub struct Detector {
    lexicon: Lexicon,
    model: Model,
}

/// The detector cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// The vocabulary is wrong.
    #[error(transparent)]
    Lexicon(#[from] LexiconError),
    /// The weights are wrong.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// What one head says about a text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hit {
    /// How much it looks like an attack: 0.5 is one false positive in a hundred, 0.85 about three in a thousand.
    pub score: f32,
    /// Where: the strongest window, in bytes of the text that was weighed.
    pub span: Range<usize>,
    /// What sort of attack its words speak of; empty below [`FAINTEST`].
    pub family: &'static str,
}

/// What the heads say about a text in its strongest form.
pub type Hits = [Hit; HEADS];

impl Detector {
    /// With weights of one's own.
    ///
    /// # Errors
    /// The weights are not of this version.
    pub fn new(weights: &[u8]) -> Result<Self, DetectorError> {
        Ok(Self { lexicon: Lexicon::shipped()?, model: Model::from_bytes(weights)? })
    }

    /// With the weights that come with the gateway. Built once.
    ///
    /// # Errors
    /// The file in the source tree is not what the trainer wrote.
    pub fn shipped() -> Result<Arc<Self>, DetectorError> {
        static BUILT: OnceLock<Arc<Detector>> = OnceLock::new();
        if let Some(built) = BUILT.get() {
            return Ok(Arc::clone(built));
        }
        let built = Arc::new(Self::new(SHIPPED)?);
        Ok(Arc::clone(BUILT.get_or_init(|| built)))
    }

    /// Weighs a text in all its forms; the strongest of them counts, and spans are bytes of the raw text. `system` says that
    /// the words are those of a system message, which whoever runs the application wrote: it has to look worse.
    pub fn weigh(&self, normal: &Normal<'_>, system: bool) -> Hits {
        let folded = normal.folded();
        let mut hits = self.judge(folded.text(), system);
        for hit in &mut hits {
            hit.span = folded.original(hit.span.clone());
        }
        for view in &normal.views().found {
            for (hit, seen) in hits.iter_mut().zip(self.judge(&view.text, system)) {
                if seen.score > hit.score {
                    *hit = Hit { span: view.source.clone(), ..seen };
                }
            }
        }
        hits
    }

    /// Weighs one folded text.
    pub fn judge(&self, folded: &str, system: bool) -> Hits {
        let mut marks: Vec<Mark> = Vec::new();
        self.lexicon.marks(folded, &mut marks);
        let mut sums = Sums {
            model: &self.model,
            sum: [0; HEADS],
            sums: Vec::with_capacity(folded.len() / 5 + 2),
            starts: Vec::with_capacity(folded.len() / 5 + 1),
        };
        sums.sums.push([0; HEADS]);
        read(folded, 0, folded.len(), &marks, &mut sums);
        let strongest = self.model.strongest(&sums.sums);
        std::array::from_fn(|head| {
            strongest[head].map_or_else(Hit::default, |(raw, window)| {
                let start = sums.starts.get(window.from).copied().unwrap_or_default();
                let end = sums.starts.get(window.to).copied().unwrap_or(folded.len());
                let score = self.model.score(head, raw, system);
                let family = if score < FAINTEST { "" } else { family(head, &marks, &(start..end)) };
                Hit { score, span: start..end, family }
            })
        })
    }
}

/// Adds up weights, token by token.
struct Sums<'a> {
    model: &'a Model,
    sum: [i32; HEADS],
    sums: Vec<[i32; HEADS]>,
    starts: Vec<usize>,
}

impl Sink for Sums<'_> {
    #[inline]
    fn feature(&mut self, bucket: u32) {
        let weights = self.model.weights(bucket);
        for (sum, weight) in self.sum.iter_mut().zip(weights) {
            *sum += i32::from(weight);
        }
    }

    #[inline]
    fn token(&mut self, start: usize) {
        self.sums.push(self.sum);
        self.starts.push(start);
    }
}
