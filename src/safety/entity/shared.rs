//! One detector pass over an arriving text, shared by several modules.

use std::sync::Arc;

use parking_lot::Mutex;

use super::stream::Stream;
use super::{Detector, Find};

/// The built-in kinds in a text that arrives in pieces, found once. All modules are given every piece in turn; the first
/// one to pass a piece has it scanned, the others get the same finds.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Pass>>);

#[derive(Debug)]
struct Pass {
    stream: Stream,
    /// Number of bytes scanned, and number of bytes settled.
    read: usize,
    settled: usize,
    over: bool,
    /// The finds in the last piece.
    finds: Vec<Find>,
}

impl Shared {
    /// A pass at the beginning of a text.
    pub fn new(detector: &Arc<Detector>) -> Self {
        let stream = Stream::new(Arc::clone(detector));
        Self(Arc::new(Mutex::new(Pass { stream, read: 0, settled: 0, over: false, finds: Vec::new() })))
    }

    /// Takes the next piece; `before` is the number of bytes that this caller has passed already. Otherwise as
    /// [`Stream::feed`].
    pub fn feed(&self, before: usize, piece: &str, found: impl FnMut(Find)) -> usize {
        let mut pass = self.0.lock();
        let Pass { stream, read, settled, finds, .. } = &mut *pass;
        if *read == before {
            finds.clear();
            *settled = stream.feed(piece, |find| finds.push(find));
            *read += piece.len();
        }
        finds.iter().cloned().for_each(found);
        *settled
    }

    /// Ends the text; as [`Stream::finish`].
    pub fn finish(&self, found: impl FnMut(Find)) {
        let mut pass = self.0.lock();
        let Pass { stream, over, finds, .. } = &mut *pass;
        if !std::mem::replace(over, true) {
            finds.clear();
            stream.finish(|find| finds.push(find));
        }
        finds.iter().cloned().for_each(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::safety::entity::Entity;

    #[test]
    fn all_who_ask_are_told_the_same() {
        let detector = Arc::new(Detector::new(Entity::ALL, Vec::new()));
        let text = "write to ada@harbour.org or to bea@harbour.org, never call +49 30 12345678";
        let shared = Shared::new(&detector);
        let (mut told, mut at) = ([Vec::new(), Vec::new()], 0);
        for piece in ["", "write to ada@har", "bour.org or", "", " to bea@harbour.org, never", " call +49 30 12345678"] {
            let settled = told.each_mut().map(|told| shared.feed(at, piece, |find| told.push(find)));
            assert_eq!(settled[0], settled[1]);
            at += piece.len();
        }
        told.iter_mut().for_each(|told| shared.finish(|find| told.push(find)));
        assert_eq!(told, [detector.scan(text), detector.scan(text)]);
        assert_eq!(told[0].len(), 3);
    }
}
