//! Vocabulary and weights at work.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::super::normal::Normal;
use super::family::family;
use super::features::{Sink, read};
use super::lexicon::{Idea, Lexicon, LexiconError};
use super::model::{HEADS, Model, SCORES, WeightsError};
use super::window::{Window, allowance};

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
        let mut sums = Sums::new(&self.model, folded.len());
        read(folded, &self.lexicon, &mut sums);
        let strongest = self.model.strongest(&sums.sums, &sums.breaks);
        std::array::from_fn(|head| {
            strongest[head].map_or_else(Hit::default, |(raw, window)| {
                let raw = raw - allowance(sums.read);
                let start = sums.starts.get(window.from).map_or(0, |&start| start as usize);
                let end = sums.starts.get(window.to).map_or(folded.len(), |&start| start as usize);
                let score = self.model.score(head, raw, system);
                let family = if score < FAINTEST { "" } else { family(head, sums.ideas(&window)) };
                Hit { score, span: start..end, family }
            })
        })
    }
}

/// Adds up weights, token by token.
struct Sums<'a> {
    model: &'a Model,
    sum: [i32; HEADS],
    /// Up to each token, and after the last.
    sums: Vec<[i32; HEADS]>,
    /// Where each token begins; texts are cut long before four gigabytes.
    starts: Vec<u32>,
    /// The tokens that sentences begin with.
    breaks: Vec<u32>,
    /// At which tokens which ideas begin.
    ideas: Vec<(u32, Idea)>,
    /// How many tokens had features.
    read: usize,
    /// Whether the present token has any.
    featured: bool,
}

impl<'a> Sums<'a> {
    fn new(model: &'a Model, bytes: usize) -> Self {
        let mut sums = Vec::with_capacity(bytes / 4 + 2);
        sums.push([0; HEADS]);
        Self {
            model,
            sum: [0; HEADS],
            sums,
            starts: Vec::with_capacity(bytes / 4 + 1),
            breaks: vec![0],
            ideas: Vec::with_capacity(bytes / 16),
            read: 0,
            featured: false,
        }
    }

    /// The ideas of a window, as a set of bits.
    fn ideas(&self, window: &Window) -> u64 {
        let inside = self.ideas.iter().filter(|(token, _)| (window.from..window.to).contains(&(*token as usize)));
        inside.fold(0, |set, (_, idea)| set | 1 << *idea as u64)
    }
}

impl Sink for Sums<'_> {
    #[inline]
    fn feature(&mut self, bucket: u32) {
        self.featured = true;
        let weights = self.model.weights(bucket);
        for (sum, weight) in self.sum.iter_mut().zip(weights) {
            *sum += i32::from(weight);
        }
    }

    #[inline]
    fn idea(&mut self, idea: Idea) {
        self.ideas.push((self.starts.len() as u32, idea));
    }

    #[inline]
    fn token(&mut self, start: usize, ends: bool) {
        self.read += usize::from(self.featured);
        self.featured = false;
        self.sums.push(self.sum);
        self.starts.push(start as u32);
        if ends {
            self.breaks.push(self.starts.len() as u32);
        }
    }
}
