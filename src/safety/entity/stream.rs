//! Detection in a text that arrives in pieces.

use std::sync::Arc;

use super::light::Light;
use super::sweep::{Progress, sweep};
use super::view::View;
use super::{Detector, Find, Kind};

/// How far before the current position detectors may read: the longest context, and the longest left part of a candidate.
const CONTEXT: usize = 256;
/// Number of settled bytes that are kept before they are dropped in one go.
const SLACK: usize = 4096;

/// Detection in an arriving text, with the same finds as [`Detector::scan`] on the whole text.
#[derive(Debug)]
pub struct Stream {
    detector: Arc<Detector>,
    light: Light,
    progress: Progress,
    /// Where the search for each custom pattern continues.
    own: Vec<usize>,
    settled: usize,
}

impl Stream {
    /// A stream at the beginning of a text.
    pub fn new(detector: Arc<Detector>) -> Self {
        let own = vec![0; detector.own.len()];
        Self { detector, light: Light::default(), progress: Progress::default(), own, settled: 0 }
    }

    /// Takes the next piece. Returns how far the raw text is settled: no later find begins before.
    pub fn feed(&mut self, piece: &str, found: impl FnMut(Find)) -> usize {
        self.light.push(piece);
        self.advance(false, found);
        self.settled
    }

    /// Ends the text.
    pub fn finish(&mut self, found: impl FnMut(Find)) {
        self.advance(true, found);
    }

    fn advance(&mut self, complete: bool, mut found: impl FnMut(Find)) {
        let Self { detector, light, progress, own, settled } = self;
        let view = View::new(light.text().as_bytes(), complete);
        sweep(&view, detector.chosen, progress, |span, entity| {
            found(Find { span: light.start(span.start)..light.end(span.end), kind: Kind::BuiltIn(entity) });
        });
        let mut open = progress.settled(&view);
        for (place, (pattern, at)) in detector.own.iter().zip(own.iter_mut()).enumerate() {
            *at = pattern.sweep(light.text(), *at, complete, |span| {
                found(Find { span: light.start(span.start)..light.end(span.end), kind: Kind::Own(place) });
            });
            open = open.min(*at);
        }
        let at = if open >= light.text().len() { light.raw_len() } else { light.start(open) };
        *settled = (*settled).max(if complete { light.raw_len() } else { at });
        self.forget();
    }

    fn forget(&mut self) {
        let open = self.own.iter().copied().fold(self.progress.at, usize::min);
        let Some(dispensable) = open.checked_sub(CONTEXT).filter(|n| *n >= SLACK) else { return };
        let dropped = self.light.forget(dispensable);
        self.progress = self.progress.shifted(dropped);
        for at in &mut self.own {
            *at = at.saturating_sub(dropped);
        }
    }
}
