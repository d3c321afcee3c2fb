//! The attack detector: vocabulary and weights applied to texts.

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

/// The weights that are shipped with the gateway; the README beside them describes how they were trained.
const SHIPPED: &[u8] = include_bytes!("weights.bin");

/// Scores below this are ignored: one innocent text in ten scores above it.
pub const FAINTEST: f32 = SCORES[1];

/// Finds attacks. Shared by the modules that use it, and by all threads.
#[derive(Debug)]
pub struct Detector {
    id: u64,
    lexicon: Lexicon,
    model: Model,
}

/// Why the detector cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum DetectorError {
    /// The vocabulary is malformed.
    #[error(transparent)]
    Lexicon(#[from] LexiconError),
    /// The weights are malformed.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// The result of one head for a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// How much the text looks like an attack: innocent texts reach 0.5 once in a hundred, 0.85 about three times in a
    /// thousand.
    pub score: f32,
    /// The strongest window, as a range of bytes in the text.
    pub span: Range<usize>,
    /// The kind of attack, by the vocabulary found in the window; empty below [`FAINTEST`].
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
    /// A detector with other weights than the shipped ones.
    ///
    /// # Errors
    /// When the weights are not of this version.
    pub fn new(weights: impl Into<Cow<'static, [u8]>>) -> Result<Self, DetectorError> {
        static BUILT: AtomicU64 = AtomicU64::new(0);
        let id = BUILT.fetch_add(1, Ordering::Relaxed);
        Ok(Self { id, lexicon: Lexicon::shipped()?, model: Model::from_bytes(weights)? })
    }

    /// Unique among the detectors of this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The detector with the shipped weights. Built once.
    ///
    /// # Errors
    /// When the file in the source tree was not written by the trainer.
    pub fn shipped() -> Result<Arc<Self>, DetectorError> {
        static BUILT: OnceLock<Arc<Detector>> = OnceLock::new();
        if let Some(built) = BUILT.get() {
            return Ok(Arc::clone(built));
        }
        let built = Arc::new(Self::new(SHIPPED)?);
        Ok(Arc::clone(BUILT.get_or_init(|| built)))
    }

    /// Scores a text in all its forms (as folded, and each view under a disguise). The strongest one counts; spans are
    /// bytes of the raw text. `system` says that the text is a system message: its author runs the application, so it must
    /// look worse to be found.
    pub fn weigh(&self, normal: &Normal<'_>, system: bool) -> Hits {
        let folded = normal.folded();
        let mut hits = self.judge(folded.text(), system);
        for hit in &mut hits {
            hit.span = folded.original(hit.span.clone());
        }
        for view in &normal.views().found {
            // A disguise alone makes the text worth a close look, so short ones skip the gate.
            for (hit, seen) in hits.iter_mut().zip(self.judge_as(&view.text, system, true)) {
                if seen.margin > hit.margin {
                    *hit = Hit { span: view.source.clone(), ..seen };
                }
            }
        }
        hits
    }

    /// Scores those stretches of a folded text that pass the gate; a short text passes as a whole or not at all.
    pub fn judge(&self, folded: &str, system: bool) -> Hits {
        self.judge_as(folded, system, false)
    }

    /// [`Self::judge`]; with `open_short` short texts are read without asking the gate.
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

    /// Scores a stretch of a text with the given extent.
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
    /// The sums before each token, and after the last one.
    sums: Vec<[i32; HEADS]>,
    /// Offset of each token; texts are cut off long before four gigabytes.
    starts: Vec<u32>,
    /// Tokens that begin a sentence.
    breaks: Vec<u32>,
    /// Ideas, with the tokens at which they begin.
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

    /// The ideas in a window, as a bit set.
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
        // Summed in a local first, so that the lookups do not wait for one another.
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
