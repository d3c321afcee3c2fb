//! A cache of verdicts. History and system prompts are sent again with every turn of a conversation, so most bytes cost a
//! hash instead of a scan.

use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use super::digest::Digests;
use super::{Finding, Passage, Side};
use crate::wire::{Kind, Role};

const SHARDS: usize = 16;
/// Texts with more findings are scanned again each time, so that the memory for an entry is bounded.
const MOST_FINDINGS: usize = 32;

/// The findings in one text, or in an answer to one request.
pub type Remembered = Arc<[Finding]>;

/// A bounded LRU cache of verdicts. Shared by all engines of the process; the ruleset is part of the key.
#[derive(Debug)]
pub struct Verdicts {
    digests: Digests,
    shards: Box<[Mutex<LruCache<u128, Remembered>>]>,
    nothing: Remembered,
}

impl Verdicts {
    /// A cache of about this many texts.
    pub fn new(capacity: NonZeroUsize) -> Self {
        let each = NonZeroUsize::new(capacity.get().div_ceil(SHARDS)).unwrap_or(NonZeroUsize::MIN);
        // Allocated on demand: an idle gateway holds nothing.
        let shard = || {
            let mut shard = LruCache::unbounded();
            shard.resize(each);
            Mutex::new(shard)
        };
        Self { digests: Digests::random(), shards: (0..SHARDS).map(|_| shard()).collect(), nothing: Arc::new([]) }
    }

    /// The key of a passage under a ruleset.
    pub fn key(&self, passage: &Passage<'_>, ruleset: u64) -> u128 {
        self.digests.of(passage.text.as_bytes(), ruleset ^ context(passage.side, passage.kind, passage.role))
    }

    /// The cached findings.
    pub fn get(&self, key: u128) -> Option<Remembered> {
        self.shard(key).lock().get(&key).cloned()
    }

    /// Caches findings.
    pub fn put(&self, key: u128, found: &[Finding]) {
        if found.len() <= MOST_FINDINGS {
            let found = if found.is_empty() { Arc::clone(&self.nothing) } else { Arc::from(found) };
            self.shard(key).lock().put(key, found);
        }
    }

    /// Number of cached texts.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: u128) -> &Mutex<LruCache<u128, Remembered>> {
        &self.shards[key as usize % SHARDS]
    }
}

/// Side, kind and role as bits, to be combined with the ruleset.
fn context(side: Side, kind: Kind, role: Role) -> u64 {
    let side = u64::from(side == Side::Response);
    (side << 16 | (kind as u64) << 8 | role as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_depends_on_more_than_the_text() {
        let verdicts = Verdicts::new(NonZeroUsize::new(64).unwrap());
        let key = |side, kind, role, ruleset| verdicts.key(&Passage::new("same text", side, kind, role), ruleset);
        let mut seen = std::collections::HashSet::new();
        for side in [Side::Request, Side::Response] {
            for &kind in Kind::ALL {
                for role in [Role::Unknown, Role::System, Role::User, Role::Assistant, Role::Tool] {
                    for ruleset in 0..4 {
                        assert!(seen.insert(key(side, kind, role, ruleset)));
                    }
                }
            }
        }
    }

    #[test]
    fn memory_is_bounded() {
        let verdicts = Verdicts::new(NonZeroUsize::new(160).unwrap());
        for n in 0..10_000u32 {
            let text = n.to_string();
            let key = verdicts.key(&Passage::new(&text, Side::Request, Kind::Content, Role::User), 1);
            verdicts.put(key, &[]);
            assert!(verdicts.get(key).is_some());
        }
        assert!(verdicts.len() <= 160, "{}", verdicts.len());
        let many = vec![Finding { module: "m", category: "c".into(), span: 0..1, score: 0.0, redact: true }; MOST_FINDINGS + 1];
        verdicts.put(7, &many);
        assert!(verdicts.get(7).is_none());
    }
}
