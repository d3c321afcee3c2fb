//! Maps by key, each shard under its own lock.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};

use crate::store::StateKey;
use crate::store::key::ByHash;

const SHARDS: u64 = 64;
/// From how many entries on a shard looks for ones that have run out.
const FIRST_SWEEP: usize = 256;

/// What a map holds for a while.
pub(super) trait Expires {
    /// Nothing would change if it were gone.
    fn expired(&self, now: i64) -> bool;
}

/// A map spread over shards.
pub(super) struct Shards<V> {
    shards: Box<[Mutex<Shard<V>>]>,
}

pub(super) struct Shard<V> {
    entries: HashMap<StateKey, V, ByHash>,
    sweep_at: usize,
}

fn index(key: &StateKey) -> u64 {
    // The map takes its buckets from the low bits and its marks from the high ones.
    (key.hash() >> 24) % SHARDS
}

impl<V: Expires> Shards<V> {
    pub fn new() -> Self {
        let shard = || Mutex::new(Shard { entries: HashMap::default(), sweep_at: FIRST_SWEEP });
        Self { shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// The shards of these keys, all held at once. They are always locked in the same order.
    pub fn lock<'a, 'k>(&'a self, keys: impl Iterator<Item = &'k StateKey>) -> Locked<'a, V> {
        let mut wanted = keys.fold(0u64, |wanted, key| wanted | 1 << index(key));
        let mut held = Vec::with_capacity(wanted.count_ones() as usize);
        while wanted != 0 {
            let at = wanted.trailing_zeros();
            held.push((u64::from(at), self.shards[at as usize].lock()));
            wanted &= wanted - 1;
        }
        Locked { held }
    }

    /// Visits every shard, one after the other.
    pub fn each(&self, mut visit: impl FnMut(&mut HashMap<StateKey, V, ByHash>)) {
        for shard in &self.shards {
            visit(&mut shard.lock().entries);
        }
    }
}

/// Shards of one decision.
pub(super) struct Locked<'a, V> {
    held: Vec<(u64, MutexGuard<'a, Shard<V>>)>,
}

impl<V: Expires> Locked<'_, V> {
    fn shard(&mut self, key: &StateKey) -> Option<&mut Shard<V>> {
        let index = index(key);
        self.held.iter_mut().find(|(at, _)| *at == index).map(|(_, shard)| &mut **shard)
    }

    /// What is kept under one of the keys that were locked.
    pub fn get(&mut self, key: &StateKey) -> Option<&mut V> {
        self.shard(key)?.entries.get_mut(key)
    }

    /// The same, made where there is none. `None` for a key that was not locked.
    pub fn entry(&mut self, key: &StateKey, now: i64, make: impl FnOnce() -> V) -> Option<&mut V> {
        let shard = self.shard(key)?;
        if !shard.entries.contains_key(key) {
            if shard.entries.len() >= shard.sweep_at {
                shard.entries.retain(|_, value| !value.expired(now));
                shard.sweep_at = (shard.entries.len() * 2).max(FIRST_SWEEP);
            }
            shard.entries.insert(key.clone(), make());
        }
        shard.entries.get_mut(key)
    }
}
