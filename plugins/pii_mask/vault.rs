//! The values of tokens: per organisation, bounded in number and time, in memory only.

use std::time::Instant;

use super::minted::Minted;
use super::shelf::Shelf;
use super::token::{self, Mint};
use crate::plugin::prelude::*;

/// The tokens of one organisation. Another organisation has another vault with another key.
pub struct Vault {
    mint: Mint,
    capacity: usize,
    ttl: Duration,
    shelf: parking_lot::Mutex<Shelf>,
}

impl Vault {
    /// An empty vault for at most `capacity` values, each kept for `ttl` after its last use.
    pub fn new(mint: Mint, capacity: usize, ttl: Duration) -> Self {
        Self { mint, capacity: capacity.max(1), ttl, shelf: parking_lot::Mutex::new(Shelf::default()) }
    }

    /// The token of a value. With `keep` the vault stores the pair. A token that already has another value is extended
    /// until it is unique.
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
                minted.insert(candidate.clone(), value.into());
                return candidate;
            }
            if self.put(label, &candidate, value, minted, now) {
                return candidate;
            }
        }
        last.unwrap_or_else(|| Arc::from("[[PII]]"))
    }

    /// The existing token of a value, marked as used.
    fn known(&self, label: &str, value: &str, minted: &mut Minted, now: Instant) -> Option<Arc<str>> {
        let mut shelf = self.shelf.lock();
        let hash = shelf.hash(label, value);
        let (place, token, known) = shelf.of_hash(hash, now)?;
        let of_kind = token.strip_prefix("[[").and_then(|rest| rest.strip_prefix(label)).is_some_and(|rest| rest.starts_with('_'));
        let taken = minted.get(token).map(|other| other == known);
        if !of_kind || **known != *value || taken == Some(false) {
            return None;
        }
        let token = token.clone();
        if taken.is_none() {
            minted.insert(token.clone(), known.clone());
        }
        shelf.touch(place, now + self.ttl);
        shelf.forget(now, self.capacity);
        Some(token)
    }

    fn put(&self, label: &str, token: &Arc<str>, value: &str, minted: &mut Minted, now: Instant) -> bool {
        let mut shelf = self.shelf.lock();
        let value: Arc<str> = match shelf.of_token(token, now).cloned() {
            Some(known) if *known != *value => return false,
            Some(known) => known,
            None => value.into(),
        };
        let hash = shelf.hash(label, &value);
        shelf.put(token, &value, hash, now + self.ttl);
        shelf.forget(now, self.capacity);
        minted.insert(token.clone(), value);
        true
    }

    /// The value of a token in this organisation, if it is still known.
    pub fn value(&self, token: &str, now: Instant) -> Option<Arc<str>> {
        self.shelf.lock().of_token(token, now).cloned()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.shelf.lock().len()
    }
}
