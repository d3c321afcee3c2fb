//! System texts that were seen before. The same one comes with every request of an application: what is worked out of it
//! for the first answer serves the others.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use super::Own;
use crate::safety::digest::Digests;

/// So many system texts are remembered, and none that is longer: about 10 MiB at the most.
const TEXTS: NonZeroUsize = match NonZeroUsize::new(256) {
    Some(texts) => texts,
    None => NonZeroUsize::MIN,
};
const LONGEST: usize = 16 << 10;

/// A bounded memory of what system texts came to, the least recently used first out.
#[derive(Debug)]
pub struct Memory {
    digests: Digests,
    known: Mutex<LruCache<u128, Arc<Own>>>,
}

impl Default for Memory {
    fn default() -> Self {
        let mut known = LruCache::unbounded();
        known.resize(TEXTS);
        Self { digests: Digests::random(), known: Mutex::new(known) }
    }
}

impl Memory {
    /// What a system text came to, now or before.
    pub(super) fn of(&self, system: &str, work: impl FnOnce() -> Own) -> Arc<Own> {
        if system.len() > LONGEST {
            return Arc::new(work());
        }
        let key = self.digests.of(system.as_bytes(), 0);
        if let Some(known) = self.known.lock().get(&key) {
            return Arc::clone(known);
        }
        let own = Arc::new(work());
        self.known.lock().put(key, Arc::clone(&own));
        own
    }

    /// How many texts are remembered.
    pub fn len(&self) -> usize {
        self.known.lock().len()
    }

    /// Nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
