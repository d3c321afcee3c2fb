//! One pass over a text that arrives in pieces for all who want to know of it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::stream::Stream;
use super::{Detector, Find};

/// Every built-in kind in a text that arrives in pieces, found once. All who ask are shown every piece, one after the other;
/// who comes first with a piece has it read.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Pass>>);

#[derive(Debug)]
struct Pass {
    stream: Stream,
    /// So much was read, and so far is it settled.
    read: usize,
    settled: usize,
    over: bool,
    /// What came of the last piece.
    finds: Vec<Find>,
}

impl Shared {
    /// At the beginning of a text.
    pub fn new(detector: &Arc<Detector>) -> Self {
        let stream = Stream::new(Arc::clone(detector));
        Self(Arc::new(Mutex::new(Pass { stream, read: 0, settled: 0, over: false, finds: Vec::new() })))
    }

    /// The next piece of a text of which `before` bytes were shown to the one who asks; as [`Stream::feed`].
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

    /// The text has ended; as [`Stream::finish`].
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
