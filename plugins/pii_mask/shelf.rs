//! The values of one organisation with their tokens: found by token and by value, in the order of their last use. Using a
//! known value, as nearly every request does, moves no memory and hashes only the value.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::time::Instant;

use crate::plugin::prelude::*;

/// No place: the end of the list.
const NONE: u32 = u32::MAX;

/// A value with its token.
struct Entry {
    token: Arc<str>,
    value: Arc<str>,
    expires: Instant,
    /// Its key in `by_value`.
    hash: u64,
    /// The entries used before and after it, as a doubly linked list.
    older: u32,
    newer: u32,
}

/// An LRU list of values with their tokens.
pub struct Shelf {
    places: Vec<Entry>,
    /// Indexes of `places` by token.
    by_token: HashMap<Arc<str>, u32>,
    /// Index by the value's hash: the same people and numbers occur turn after turn, and two keyed hashes each time would
    /// be the most expensive part of masking them.
    by_value: HashMap<u64, u32, BuildHasherDefault<AsGiven>>,
    oldest: u32,
    newest: u32,
}

impl Default for Shelf {
    fn default() -> Self {
        Self { places: Vec::new(), by_token: HashMap::new(), by_value: HashMap::default(), oldest: NONE, newest: NONE }
    }
}

impl Shelf {
    /// Number of entries.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Number of entries that can be found by their value.
    #[cfg(test)]
    fn values(&self) -> usize {
        self.by_value.len()
    }

    /// The key for [`Self::of_hash`].
    pub fn hash(&self, label: &str, value: &str) -> u64 {
        // Uses the map's random keys, so that callers cannot construct collisions.
        self.by_token.hasher().hash_one((label, value))
    }

    /// The value of a token.
    pub fn of_token(&self, token: &str, now: Instant) -> Option<&Arc<str>> {
        self.at(*self.by_token.get(token)?).filter(|entry| entry.expires > now).map(|entry| &entry.value)
    }

    /// The index (for [`Self::touch`]), token and value with this hash.
    pub fn of_hash(&self, hash: u64, now: Instant) -> Option<(u32, &Arc<str>, &Arc<str>)> {
        let place = *self.by_value.get(&hash)?;
        self.at(place).filter(|entry| entry.expires > now).map(|entry| (place, &entry.token, &entry.value))
    }

    /// Marks an entry as used now.
    pub fn touch(&mut self, place: u32, expires: Instant) {
        self.unlink(place);
        self.link(place);
        if let Some(entry) = self.at_mut(place) {
            entry.expires = expires;
        }
    }

    /// Adds a pair, used now. An earlier value of the token is forgotten.
    pub fn put(&mut self, token: &Arc<str>, value: &Arc<str>, hash: u64, expires: Instant) {
        if let Some(place) = self.by_token.get(token).copied() {
            self.take_out(place);
        }
        let Ok(place) = u32::try_from(self.places.len()) else { return };
        let (token, value) = (token.clone(), value.clone());
        self.by_token.insert(token.clone(), place);
        self.by_value.insert(hash, place);
        self.places.push(Entry { token, value, expires, hash, older: NONE, newer: NONE });
        self.link(place);
    }

    /// Removes expired entries, and the oldest beyond the capacity.
    pub fn forget(&mut self, now: Instant, capacity: usize) {
        while let Some(entry) = self.at(self.oldest) {
            if entry.expires > now && self.places.len() <= capacity {
                break;
            }
            self.take_out(self.oldest);
        }
    }

    fn at(&self, place: u32) -> Option<&Entry> {
        self.places.get(place as usize)
    }

    fn at_mut(&mut self, place: u32) -> Option<&mut Entry> {
        self.places.get_mut(place as usize)
    }

    /// Removes an entry from the list.
    fn unlink(&mut self, place: u32) {
        let Some((older, newer)) = self.at(place).map(|entry| (entry.older, entry.newer)) else { return };
        match self.at_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.at_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }

    /// Appends an entry to the list as the newest.
    fn link(&mut self, place: u32) {
        let before = std::mem::replace(&mut self.newest, place);
        if let Some(entry) = self.at_mut(place) {
            (entry.older, entry.newer) = (before, NONE);
        }
        match self.at_mut(before) {
            Some(entry) => entry.newer = place,
            None => self.oldest = place,
        }
    }

    /// Removes an entry; the last one moves to its index.
    fn take_out(&mut self, place: u32) {
        self.unlink(place);
        if self.at(place).is_none() {
            return;
        }
        let gone = self.places.swap_remove(place as usize);
        self.by_token.remove(&gone.token);
        if self.by_value.get(&gone.hash) == Some(&place) {
            self.by_value.remove(&gone.hash);
        }
        let from = u32::try_from(self.places.len()).unwrap_or(NONE);
        let Some((older, newer, hash)) = self.at(place).map(|moved| (moved.older, moved.newer, moved.hash)) else { return };
        if let Some(at) = self.places.get(place as usize).and_then(|moved| self.by_token.get_mut(&moved.token)) {
            *at = place;
        }
        if let Some(at) = self.by_value.get_mut(&hash).filter(|at| **at == from) {
            *at = place;
        }
        match self.at_mut(older) {
            Some(entry) => entry.newer = place,
            None => self.oldest = place,
        }
        match self.at_mut(newer) {
            Some(entry) => entry.older = place,
            None => self.newest = place,
        }
    }
}

/// A hasher for keys that are random already.
#[derive(Default)]
pub struct AsGiven(u64);

impl Hasher for AsGiven {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_ne_bytes(*first);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    proptest! {
        /// Compared with a plain list in the order of use.
        #[test]
        fn remembers_as_a_list_would(uses in prop::collection::vec((0u8..24, any::<bool>(), 0u64..40), 0..200), capacity in 1usize..12) {
            let start = Instant::now();
            let (mut shelf, mut list, mut clock) = (Shelf::default(), Vec::<(u8, Instant)>::new(), start);
            let ttl = Duration::from_secs(100);
            for (name, again, pause) in uses {
                clock += Duration::from_secs(pause);
                let (token, value): (Arc<str>, Arc<str>) = (format!("t{name}").into(), format!("v{name}").into());
                let hash = shelf.hash("L", &value);
                let known = shelf.of_hash(hash, clock).map(|(place, token, _)| (place, token.clone()));
                let listed = list.iter().any(|(known, expires)| *known == name && *expires > clock);
                prop_assert_eq!(known.as_ref().map(|(_, token)| &**token), listed.then_some(&*token));
                prop_assert_eq!(shelf.of_token(&token, clock).map(|v| &**v), listed.then_some(&*value));
                match known.filter(|_| again) {
                    Some((place, _)) => shelf.touch(place, clock + ttl),
                    None => shelf.put(&token, &value, hash, clock + ttl),
                }
                shelf.forget(clock, capacity);
                list.retain(|(known, expires)| *known != name && *expires > clock);
                list.push((name, clock + ttl));
                let much = list.len().saturating_sub(capacity);
                list.drain(..much);
                prop_assert_eq!((shelf.len(), shelf.values()), (list.len(), list.len()));
            }
        }
    }
}
