//! Names of counters, slots and reservations.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

/// The name of one counter, `odock:{tag}:name`. Made when a configuration is loaded or a window begins, and cheap to clone;
/// its hash is computed once.
///
/// Where a cluster keeps the counters, all keys of one decision must have the same tag, because the cluster places keys by
/// tag and one decision runs on one node.
#[derive(Clone)]
pub struct StateKey(Arc<Name>);

struct Name {
    text: Box<str>,
    hash: u64,
    /// The hash of the name without its last part, which the counters of one owner share.
    owner: u64,
    /// Where a store in this process last found the entry. Only a hint that the store verifies.
    place: AtomicU32,
}

/// A random seed of this process, so that callers cannot construct names that collide.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl StateKey {
    /// The key of this name under this tag. Braces in the tag are escaped. Stores in this process keep keys that differ
    /// only after their last colon in one shard.
    pub fn new(tag: &str, name: &str) -> Self {
        let tag = tag.replace('{', "%7b").replace('}', "%7d");
        let text = format!("odock:{{{tag}}}:{name}").into_boxed_str();
        let owner = text.rsplit_once(':').map_or(&*text, |(owner, _)| owner);
        let (hash, owner) = (SEED.hash_one(&text), SEED.hash_one(owner));
        Self(Arc::new(Name { text, hash, owner, place: AtomicU32::new(u32::MAX) }))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The tag, as escaped in the name.
    pub fn tag(&self) -> &str {
        let text = self.as_str();
        let from = text.find('{').map_or(0, |at| at + 1);
        let to = text.find('}').unwrap_or(from);
        &text[from..to]
    }

    pub(super) fn hash(&self) -> u64 {
        self.0.hash
    }

    #[cfg(test)]
    pub(super) fn owner(&self) -> u64 {
        self.0.owner
    }

    /// The share that its owner is in: 0 to 63. Each share has a shard of its own.
    pub(super) fn share(&self) -> u32 {
        (self.0.owner % 64) as u32
    }

    /// Whether both are clones of one key, not only equal.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn place(&self) -> usize {
        self.0.place.load(Ordering::Relaxed) as usize
    }

    pub(super) fn found_at(&self, place: u32) {
        self.0.place.store(place, Ordering::Relaxed);
    }
}

impl PartialEq for StateKey {
    fn eq(&self, other: &Self) -> bool {
        // Keys are made once and cloned, so both are mostly the same object.
        self.is(other) || (self.0.hash == other.0.hash && self.0.text == other.0.text)
    }
}

impl Eq for StateKey {}

impl Hash for StateKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.0.hash);
    }
}

impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A hasher that hashes nothing, because keys carry their hash.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// The hasher of maps by [`StateKey`] or [`LeaseId`].
pub(super) type ByHash = BuildHasherDefault<Hashed>;

/// Names the holder of concurrency slots and reservations until they are settled: the id of a request.
// Packed to 8 bytes: an alignment of 16 would take the allocator's slower path for over-aligned memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed(8))]
pub struct LeaseId(pub u128);

impl Hash for LeaseId {
    /// Lease ids are random and made by the gateway, so no caller can choose where they fall.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64((self.0 ^ (self.0 >> 64)) as u64);
    }
}

impl fmt::Display for LeaseId {
    /// 32 lowercase hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", { self.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_what_a_cluster_takes_for_it() {
        let key = StateKey::new("acme", "rpm:key:k1");
        assert_eq!((key.as_str(), key.tag()), ("odock:{acme}:rpm:key:k1", "acme"));
        assert_eq!(StateKey::new("a}{b", "x{y}").as_str(), "odock:{a%7d%7bb}:x{y}");
        assert_eq!(key, StateKey::new("acme", "rpm:key:k1"));
        assert_ne!(key, StateKey::new("acme", "rpm:key:k2"));
        let (rpm, tpm) = (StateKey::new("acme", "limit:key:k1:rpm"), StateKey::new("acme", "limit:key:k1:tpm"));
        assert_eq!(rpm.owner(), tpm.owner(), "counters of one owner lie side by side");
        assert_ne!(rpm.owner(), StateKey::new("acme", "limit:key:k2:rpm").owner());
    }
}
