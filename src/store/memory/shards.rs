//! A map by [`StateKey`], in shards with a lock each. The counters of one owner are in one shard.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};

use crate::store::key::ByHash;
use crate::store::{Meter, StateKey};

/// One shard for each share of the owners.
const SHARDS: usize = 64;
/// Shards that one decision can lock without allocating a list of guards.
const FEW: usize = 6;
/// From this many entries on, a shard sweeps out expired ones before adding another.
const FIRST_SWEEP: usize = 256;

/// A value of the map that expires.
pub(super) trait Expires {
    /// Whether removing the value now would change no decision.
    fn expired(&self, now: i64) -> bool;
}

/// A map spread over shards.
pub(super) struct Shards<V> {
    shards: Box<[Mutex<Shard<V>>]>,
}

pub(super) struct Shard<V> {
    places: HashMap<StateKey, u32, ByHash>,
    entries: Vec<Option<(StateKey, V)>>,
    free: Vec<u32>,
    sweep_at: usize,
}

impl<V: Expires> Shard<V> {
    /// The position of a key's entry. Mostly the key itself remembers it.
    #[inline]
    fn place(&mut self, key: &StateKey) -> Option<usize> {
        let here = key.place();
        if matches!(self.entries.get(here), Some(Some((kept, _))) if kept.is(key)) {
            return Some(here);
        }
        self.look_up(key)
    }

    #[cold]
    fn look_up(&mut self, key: &StateKey) -> Option<usize> {
        let place = *self.places.get(key)?;
        key.found_at(place);
        // An equal key made later, as by a new configuration. The entry keeps this one, since it is the one that will be
        // asked from now on.
        if let Some(Some((kept, _))) = self.entries.get_mut(place as usize) {
            *kept = key.clone();
        }
        Some(place as usize)
    }

    fn add(&mut self, key: &StateKey, now: i64, value: V) -> usize {
        if self.places.len() >= self.sweep_at {
            self.sweep(now);
        }
        let entry = Some((key.clone(), value));
        let place = match self.free.pop() {
            Some(place) => {
                self.entries[place as usize] = entry;
                place
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.places.insert(key.clone(), place);
        key.found_at(place);
        place as usize
    }

    fn sweep(&mut self, now: i64) {
        for (place, entry) in (0..).zip(&mut self.entries) {
            if let Some((key, _)) = entry.take_if(|(_, value)| value.expired(now)) {
                self.places.remove(&key);
                self.free.push(place);
            }
        }
        self.sweep_at = (self.places.len() * 2).max(FIRST_SWEEP);
    }
}

impl<V: Expires> Shards<V> {
    pub fn new() -> Self {
        let shard = || Shard { places: HashMap::default(), entries: Vec::new(), free: Vec::new(), sweep_at: FIRST_SWEEP };
        Self { shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect() }
    }

    /// Locks the shards of these keys.
    pub fn lock<'a, 'k>(&'a self, keys: impl Iterator<Item = &'k StateKey>) -> Locked<'a, V> {
        self.lock_shares(keys.fold(0, |wanted, key| wanted | 1 << key.share()))
    }

    /// Locks the shards of a set of shares, given as a bit mask. Always in ascending order, so that no deadlock is
    /// possible.
    #[inline]
    pub fn lock_shares(&self, wanted: u64) -> Locked<'_, V> {
        let (mut held, mut rest) = ([const { None }; FEW], Vec::new());
        let (mut places, mut left) = (held.iter_mut(), wanted);
        while left != 0 {
            let guard = self.shards[left.trailing_zeros() as usize].lock();
            match places.next() {
                Some(place) => *place = Some(guard),
                None => rest.push(guard),
            }
            left &= left - 1;
        }
        Locked { wanted, held, rest, last: (u32::MAX, 0) }
    }

    /// Visits every entry, locking one shard after the other.
    pub fn each(&self, mut visit: impl FnMut(&StateKey, &mut V)) {
        for shard in &self.shards {
            shard.lock().entries.iter_mut().flatten().for_each(|(key, value)| visit(key, value));
        }
    }
}

/// The locked shards of one decision.
pub(super) struct Locked<'a, V> {
    /// Bit mask of their shares.
    wanted: u64,
    /// Most decisions have few owners, so that their guards fit here without an allocation.
    held: [Option<MutexGuard<'a, Shard<V>>>; FEW],
    rest: Vec<MutexGuard<'a, Shard<V>>>,
    /// The share asked last and the position of its guard: the next key mostly has the same owner.
    last: (u32, usize),
}

impl<V: Expires> Locked<'_, V> {
    #[inline]
    fn shard(&mut self, share: u32) -> Option<&mut Shard<V>> {
        if self.last.0 != share {
            if self.wanted & 1 << share == 0 {
                return None;
            }
            // Guards are in the order of their shares, so the position is the number of lower bits set.
            self.last = (share, (self.wanted & ((1 << share) - 1)).count_ones() as usize);
        }
        match self.last.1 {
            at @ 0..FEW => self.held[at].as_deref_mut(),
            at => self.rest.get_mut(at - FEW).map(|guard| &mut **guard),
        }
    }

    /// The counter of a limit, made if there is none. The shards of its [`Meters`](crate::store::Meters) must be the ones
    /// that are locked.
    #[inline]
    pub fn meter(&mut self, meter: &Meter, now: i64, make: impl FnOnce() -> V) -> Option<&mut V> {
        let shard = match meter.share() {
            at @ 0..FEW => self.held[at].as_deref_mut()?,
            at => self.rest.get_mut(at - FEW)?,
        };
        let mut place = meter.place();
        if !matches!(shard.entries.get(place), Some(Some((kept, _))) if kept.is(&meter.key)) {
            place = match shard.place(&meter.key) {
                Some(place) => place,
                None => shard.add(&meter.key, now, make()),
            };
            meter.found_at(place);
        }
        shard.entries.get_mut(place)?.as_mut().map(|(_, value)| value)
    }

    /// The value under a key whose shard is locked.
    pub fn get(&mut self, key: &StateKey) -> Option<&mut V> {
        let shard = self.shard(key.share())?;
        let place = shard.place(key)?;
        shard.entries.get_mut(place)?.as_mut().map(|(_, value)| value)
    }

    /// The value under a key, made if there is none. `None` if the key's shard is not locked.
    pub fn entry(&mut self, key: &StateKey, now: i64, make: impl FnOnce() -> V) -> Option<&mut V> {
        let shard = self.shard(key.share())?;
        let place = match shard.place(key) {
            Some(place) => place,
            None => shard.add(key, now, make()),
        };
        shard.entries.get_mut(place)?.as_mut().map(|(_, value)| value)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Until(i64);

    impl Expires for Until {
        fn expired(&self, now: i64) -> bool {
            self.0 <= now
        }
    }

    #[test]
    fn an_equal_key_finds_what_another_put_there_and_a_place_is_used_again() {
        let shards = Shards::new();
        let key = |n: usize| StateKey::new("acme", &format!("limit:key:k:{n}"));
        let old: Vec<StateKey> = (0..FIRST_SWEEP).map(key).collect();
        for (n, key) in (0..).zip(&old) {
            *shards.lock([key].into_iter()).entry(key, 0, || Until(0)).unwrap() = Until(n);
        }
        let again = key(7);
        assert_eq!(shards.lock([&again].into_iter()).get(&again), Some(&mut Until(7)));
        assert_eq!(shards.lock([&old[7]].into_iter()).get(&old[7]), Some(&mut Until(7)), "the first is not forgotten");
        // One entry more than a shard keeps without sweeping: expired ones are removed.
        let more = key(FIRST_SWEEP);
        shards.lock([&more].into_iter()).entry(&more, 100, || Until(1000)).unwrap();
        let mut left = 0;
        shards.each(|_, _| left += 1);
        assert_eq!(left, FIRST_SWEEP - 101 + 1);
        assert_eq!(shards.lock([&old[7]].into_iter()).get(&old[7]), None, "its place is another's");
        assert_eq!(shards.lock([&old[200]].into_iter()).get(&old[200]), Some(&mut Until(200)));
    }

    #[test]
    fn many_owners_are_held_at_once() {
        let shards = Shards::new();
        let keys: Vec<StateKey> = (0..200).map(|n| StateKey::new("acme", &format!("limit:key:k{n}:rpm"))).collect();
        let mut locked = shards.lock(keys.iter());
        for (n, key) in (0..).zip(&keys) {
            assert_eq!(locked.entry(key, 0, || Until(n)), Some(&mut Until(n)));
        }
        for (n, key) in (0..).zip(&keys) {
            assert_eq!(locked.get(key), Some(&mut Until(n)));
        }
    }
}
