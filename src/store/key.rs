//! Names of what is kept.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::sync::{Arc, LazyLock};

/// The name of one counter, `odock:{tag}:name`. Made when a configuration is loaded or a window begins, cloned for free
/// afterwards; its hash is computed once.
///
/// All keys of one decision must have the same tag: a cluster keeps them on one node by it. What the keys of different
/// decisions have in common does not matter.
#[derive(Clone)]
pub struct StateKey {
    text: Arc<str>,
    hash: u64,
}

/// The process' own seed, so that nobody can make up names that collide.
static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl StateKey {
    /// The key of this name under this tag. Braces in the tag are escaped.
    pub fn new(tag: &str, name: &str) -> Self {
        let tag = tag.replace('{', "%7b").replace('}', "%7d");
        let text: Arc<str> = format!("odock:{{{tag}}}:{name}").into();
        Self { hash: SEED.hash_one(&text), text }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The tag, as it is in the name.
    pub fn tag(&self) -> &str {
        let from = self.text.find('{').map_or(0, |at| at + 1);
        let to = self.text.find('}').unwrap_or(from);
        &self.text[from..to]
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }
}

impl PartialEq for StateKey {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.text == other.text
    }
}

impl Eq for StateKey {}

impl Hash for StateKey {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Hashes nothing: keys bring their hash.
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

/// For maps by [`StateKey`].
pub(super) type ByHash = BuildHasherDefault<Hashed>;

/// What holds concurrency slots and reservations until it settles: the id of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(pub u128);

impl fmt::Display for LeaseId {
    /// 32 lowercase hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
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
    }
}
