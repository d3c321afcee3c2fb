//! What tokens stand for: per organisation, bounded in number and time, in memory only.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::time::Instant;

use super::token::{self, Mint};
use crate::plugin::prelude::*;

struct Entry {
    value: Arc<str>,
    expires: Instant,
    /// Which place in the queue is this entry's; older places are leftovers.
    stamp: u64,
    /// Its place in `by_value`.
    hash: u64,
}

#[derive(Default)]
struct Shelf {
    entries: HashMap<Arc<str>, Entry>,
    /// The token of a value that has one, by the value's hash: people and their numbers come back turn after turn, and
    /// two keyed hashes each time would be the dearest part of masking them.
    by_value: HashMap<u64, Arc<str>>,
    /// Oldest use first.
    uses: VecDeque<(Arc<str>, u64)>,
    stamps: u64,
}

/// The tokens of one organisation. A caller of another organisation holds another vault with another key.
pub struct Vault {
    mint: Mint,
    capacity: usize,
    ttl: Duration,
    shelf: parking_lot::Mutex<Shelf>,
}

/// Token and value pairs made for one request; they resolve for its answer whatever the vault forgets meanwhile.
pub type Minted = HashMap<Arc<str>, Arc<str>>;

impl Vault {
    /// An empty vault for at most `capacity` values, each kept for `ttl` after its last use.
    pub fn new(mint: Mint, capacity: usize, ttl: Duration) -> Self {
        Self { mint, capacity: capacity.max(1), ttl, shelf: parking_lot::Mutex::new(Shelf::default()) }
    }

    /// The token of a value. With `keep` the vault will resolve it; a token that already stands for another value is
    /// extended until it is free.
    pub fn token(&self, name: &str, label: &str, value: &str, keep: bool, minted: &mut Minted, now: Instant) -> Arc<str> {
        if keep && let Some(known) = self.known(label, value, minted, now) {
            return known;
        }
        let normalised = token::normalised(name, value);
        let mut last = None;
        for candidate in self.mint.candidates(label, &normalised, value) {
            let candidate: Arc<str> = candidate.into();
            last = Some(candidate.clone());
            if minted.get(&candidate).is_some_and(|known| **known != *value) {
                continue;
            }
            if !keep {
                minted.entry(candidate.clone()).or_insert_with(|| value.into());
                return candidate;
            }
            if self.put(label, &candidate, value, minted, now) {
                return candidate;
            }
        }
        last.unwrap_or_else(|| Arc::from("[[PII]]"))
    }

    /// The token this value has already, used once more.
    fn known(&self, label: &str, value: &str, minted: &mut Minted, now: Instant) -> Option<Arc<str>> {
        let mut shelf = self.shelf.lock();
        let hash = shelf.hash(label, value);
        let token = shelf.by_value.get(&hash)?.clone();
        let of_kind = token.strip_prefix("[[").and_then(|rest| rest.strip_prefix(label)).is_some_and(|rest| rest.starts_with('_'));
        let value = shelf.entries.get(&token).filter(|e| of_kind && *e.value == *value && e.expires > now)?.value.clone();
        if minted.get(&token).is_some_and(|other| *other != value) {
            return None;
        }
        shelf.keep(&token, &value, hash, now + self.ttl);
        shelf.forget(now, self.capacity);
        minted.insert(token.clone(), value);
        Some(token)
    }

    fn put(&self, label: &str, token: &Arc<str>, value: &str, minted: &mut Minted, now: Instant) -> bool {
        let mut shelf = self.shelf.lock();
        let known = shelf.entries.get(token).filter(|e| e.expires > now).map(|e| e.value.clone());
        let value: Arc<str> = match known {
            Some(known) if *known != *value => return false,
            Some(known) => known,
            None => value.into(),
        };
        let hash = shelf.hash(label, &value);
        shelf.keep(token, &value, hash, now + self.ttl);
        shelf.forget(now, self.capacity);
        minted.insert(token.clone(), value);
        true
    }

    /// What a token stands for in this organisation, if it is still known.
    pub fn value(&self, token: &str, now: Instant) -> Option<Arc<str>> {
        let shelf = self.shelf.lock();
        shelf.entries.get(token).filter(|e| e.expires > now).map(|e| e.value.clone())
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        let shelf = self.shelf.lock();
        assert!(shelf.by_value.len() <= shelf.entries.len(), "a value that is forgotten has no token any more");
        shelf.entries.len()
    }
}

impl Shelf {
    fn hash(&self, label: &str, value: &str) -> u64 {
        // The map's own keys: nobody outside can make values meet.
        self.by_value.hasher().hash_one((label, value))
    }

    fn keep(&mut self, token: &Arc<str>, value: &Arc<str>, hash: u64, expires: Instant) {
        self.stamps += 1;
        let entry = Entry { value: value.clone(), expires, stamp: self.stamps, hash };
        self.entries.insert(token.clone(), entry);
        self.by_value.insert(hash, token.clone());
        self.uses.push_back((token.clone(), self.stamps));
    }

    /// Drops what expired or is too much, and leftovers of the queue.
    fn forget(&mut self, now: Instant, capacity: usize) {
        while let Some((token, stamp)) = self.uses.front() {
            match self.entries.get(token) {
                Some(entry) if entry.stamp == *stamp => {
                    if entry.expires > now && self.entries.len() <= capacity {
                        break;
                    }
                    if self.by_value.get(&entry.hash) == Some(token) {
                        self.by_value.remove(&entry.hash);
                    }
                    self.entries.remove(token);
                }
                _ => {}
            }
            self.uses.pop_front();
        }
        if self.uses.len() > 2 * self.entries.len() + 64 {
            let entries = &self.entries;
            self.uses.retain(|(token, stamp)| entries.get(token).is_some_and(|e| e.stamp == *stamp));
        }
    }
}
