//! A cache for system texts. An application sends the same one with every request: what is computed for the first answer is
//! reused for the others.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use super::Own;
use crate::safety::digest::Digests;

/// Number of cached system texts, and the length of the longest: about 10 MiB at most.
const TEXTS: NonZeroUsize = match NonZeroUsize::new(256) {
    Some(texts) => texts,
    None => NonZeroUsize::MIN,
};
const LONGEST: usize = 16 << 10;

/// A bounded LRU cache of what was computed from system texts.
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
    /// The cached result for a system text, or that of `work`.
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

    /// Number of cached texts.
    pub fn len(&self) -> usize {
        self.known.lock().len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
