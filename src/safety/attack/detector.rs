//! Vocabulary and weights at work.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::super::normal::Normal;
use super::family::family;
use super::features::{Sink, read};
use super::gate::{SHORT, open, opens};
use super::lexicon::{Idea, Lexicon, LexiconError};
use super::model::{HEADS, Model, SCORES, WeightsError};
use super::window::{Extent, Window, mention};

/// The weights that come with the gateway; the README beside says how they were made.
const SHIPPED: &[u8] = include_bytes!("weights.bin");

/// Fainter scores are nothing to speak of: one innocent text in ten is weighed above it.
pub const FAINTEST: f32 = SCORES[1];

/// Finds attacks. Shared by the modules that ask it, and by all threads.
#[derive(Debug)]
pub struct Detector {
    id: u64,
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
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// How much it looks like an attack: 0.5 is one false positive in a hundred, 0.85 about three in a thousand.
    pub score: f32,
    /// Where: the strongest window, in bytes of the text that was weighed.
    pub span: Range<usize>,
    /// What sort of attack its words speak of; empty below [`FAINTEST`].
    pub family: &'static str,
    /// How far beyond the point of decision, in raw sums, which heads have in common.
    pub(super) margin: f32,
}

impl Default for Hit {
    fn default() -> Self {
        Self { score: 0.0, span: 0..0, family: "", margin: f32::NEG_INFINITY }
    }
}

/// What the heads say about a text in its strongest form, each by itself.
pub type Hits = [Hit; HEADS];

impl Detector {
    /// With weights of one's own.
    ///
    /// # Errors
    /// The weights are not of this version.
    pub fn new(weights: impl Into<Cow<'static, [u8]>>) -> Result<Self, DetectorError> {
        static BUILT: AtomicU64 = AtomicU64::new(0);
        let id = BUILT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, lexicon: Lexicon::shipped()?, model: Model::from_bytes(weights)? })
    }

    /// Another one for every detector of this process.
    pub fn id(&self) -> u64 {
        self.id
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
            // What is disguised is worth a close look by that alone.
            for (hit, seen) in hits.iter_mut().zip(self.judge_as(&view.text, system, true)) {
                if seen.margin > hit.margin {
                    *hit = Hit { span: view.source.clone(), ..seen };
                }
            }
        }
        hits
    }

    /// Weighs what the gate opens of one folded text: a short one whole or not at all.
    pub fn judge(&self, folded: &str, system: bool) -> Hits {
        self.judge_as(folded, system, false)
    }

    /// The same; `open` says that a short text is read in any case.
    fn judge_as(&self, folded: &str, system: bool, open_short: bool) -> Hits {
        let mut hits = Hits::default();
        let (table, bar) = self.model.gate();
        if folded.len() <= SHORT {
            if open_short || opens(folded, table, bar) {
                self.read(folded, 0..folded.len(), Extent::default(), system, &mut hits);
            }
            return hits;
        }
        let (stretches, extent) = open(folded, table, bar);
        for stretch in stretches {
            self.read(folded, stretch, extent, system, &mut hits);
        }
        hits
    }

    /// Reads a stretch of a text of this length closely.
    fn read(&self, folded: &str, stretch: Range<usize>, extent: Extent, system: bool, hits: &mut Hits) {
        let text = folded.get(stretch.clone()).unwrap_or_default();
        let mut sums = Sums::new(self.model.weights(), text.len());
        read(text, &self.lexicon, &mut sums);
        for (head, strongest) in self.model.strongest(&sums.sums, &sums.breaks).into_iter().enumerate() {
            let Some((raw, window)) = strongest else { continue };
            let talk = sums.ideas.iter().filter(|(_, idea)| *idea == Idea::Talk).map(|&(token, _)| token as usize);
            let margin = self.model.margin(head, raw - mention(&window, talk), system, extent);
            if margin > hits[head].margin {
                let score = self.model.score(head, margin);
                let start = sums.starts.get(window.from).map_or(0, |&start| start as usize);
                let end = sums.starts.get(window.to).map_or(text.len(), |&start| start as usize);
                let family = if score < FAINTEST { "" } else { family(head, sums.ideas(&window)) };
                hits[head] = Hit { score, span: stretch.start + start..stretch.start + end, family, margin };
            }
        }
    }
}

/// Adds up weights, token by token.
struct Sums<'a> {
    weights: &'a [[u8; HEADS]],
    sum: [i32; HEADS],
    /// Up to each token, and after the last.
    sums: Vec<[i32; HEADS]>,
    /// Where each token begins; texts are cut long before four gigabytes.
    starts: Vec<u32>,
    /// The tokens that sentences begin with.
    breaks: Vec<u32>,
    /// At which tokens which ideas begin.
    ideas: Vec<(u32, Idea)>,
}

impl<'a> Sums<'a> {
    fn new(weights: &'a [[u8; HEADS]], bytes: usize) -> Self {
        let mut sums = Vec::with_capacity(bytes / 4 + 2);
        sums.push([0; HEADS]);
        Self {
            weights,
            sum: [0; HEADS],
            sums,
            starts: Vec::with_capacity(bytes / 4 + 1),
            breaks: vec![0],
            ideas: Vec::with_capacity(bytes / 16),
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
        self.features(std::iter::once(bucket));
    }

    #[inline]
    fn features(&mut self, buckets: impl Iterator<Item = u32>) {
        // Added up apart first, so that no look at the weights waits for the one before.
        let add = |sums: [i32; HEADS], bucket| {
            let weights = self.weights.get(bucket as usize).copied().unwrap_or_default();
            std::array::from_fn(|head| sums[head] + i32::from(weights[head] as i8))
        };
        let sums = buckets.fold([0; HEADS], add);
        self.sum.iter_mut().zip(sums).for_each(|(sum, more)| *sum += more);
    }

    #[inline]
    fn idea(&mut self, idea: Idea) {
        self.ideas.push((self.starts.len() as u32, idea));
    }

    #[inline]
    fn token(&mut self, start: usize, ends: bool) {
        self.sums.push(self.sum);
        self.starts.push(start as u32);
        if ends {
            self.breaks.push(self.starts.len() as u32);
        }
    }
}
