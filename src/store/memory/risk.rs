//! Risk sessions in memory, bounded.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use lru::LruCache;
use parking_lot::Mutex;

use super::MemoryState;
use crate::store::clock::millis;
use crate::store::risk::{RiskPolicy, RiskSessions, RiskState, RiskUpdate, Session};
use crate::store::{Clock, StateError};

const SHARDS: usize = 32;

struct Entry {
    session: Session,
    /// Milliseconds since the Unix epoch.
    expires: i64,
}

type Shard = LruCache<Box<str>, Entry, RandomState>;

/// Sessions by key; the one whose last request is longest ago is evicted first.
pub(super) struct Sessions {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    evicted: AtomicU64,
}

impl Sessions {
    pub fn new(capacity: NonZeroUsize) -> Self {
        // A small capacity is kept in one shard, where "the oldest" is exact.
        let count = if capacity.get() < SHARDS * 64 { 1 } else { SHARDS };
        let each = NonZeroUsize::new(capacity.get().div_ceil(count)).unwrap_or(NonZeroUsize::MIN);
        let shard = || {
            let mut shard = LruCache::unbounded_with_hasher(RandomState::new());
            shard.resize(each);
            Mutex::new(shard)
        };
        Self { hasher: RandomState::new(), shards: (0..count).map(|_| shard()).collect(), evicted: AtomicU64::new(0) }
    }

    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn shard(&self, key: &str) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(key) as usize % self.shards.len()]
    }

    fn record(&self, now: i64, key: &str, update: RiskUpdate, policy: &RiskPolicy) -> Result<RiskState, StateError> {
        let expires = now.saturating_add(millis(policy.ttl));
        let mut shard = self.shard(key).lock();
        if let Some(entry) = shard.get_mut(key).filter(|e| e.expires > now) {
            let crossed = entry.session.record(now, update, policy)?;
            entry.expires = expires;
            return Ok(entry.session.state(now, policy, crossed));
        }
        let mut session = Session::default();
        let crossed = session.record(now, update, policy)?;
        // Expired sessions are removed before any other is evicted.
        while shard.peek_lru().is_some_and(|(_, oldest)| oldest.expires <= now) {
            shard.pop_lru();
        }
        if let Some((displaced, _)) = shard.push(key.into(), Entry { session, expires })
            && *displaced != *key
        {
            self.evicted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(session.state(now, policy, crossed))
    }

    fn read(&self, now: i64, key: &str, policy: &RiskPolicy) -> Option<RiskState> {
        let shard = self.shard(key).lock();
        shard.peek(key).filter(|e| e.expires > now).map(|e| e.session.state(now, policy, false))
    }

    fn reset(&self, now: i64, key: &str) -> bool {
        self.shard(key).lock().pop(key).is_some_and(|e| e.expires > now)
    }
}

#[async_trait]
impl RiskSessions for MemoryState {
    async fn record(&self, key: &str, update: RiskUpdate, policy: &RiskPolicy) -> Result<RiskState, StateError> {
        self.risk.record(now(&*self.clock), key, update, policy)
    }

    async fn read(&self, key: &str, policy: &RiskPolicy) -> Result<Option<RiskState>, StateError> {
        Ok(self.risk.read(now(&*self.clock), key, policy))
    }

    async fn reset(&self, key: &str) -> Result<bool, StateError> {
        Ok(self.risk.reset(now(&*self.clock), key))
    }
}

fn now(clock: &dyn Clock) -> i64 {
    clock.micros() / 1000
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_oldest_session_makes_room_and_is_counted() {
        let policy = RiskPolicy { half_life: Duration::ZERO, ttl: Duration::from_secs(60), threshold: 1.0 };
        let sessions = Sessions::new(NonZeroUsize::new(3).unwrap());
        let record = |now, key: &str| sessions.record(now, key, RiskUpdate { add: 0.1, ..RiskUpdate::default() }, &policy).unwrap();
        for (now, key) in ["a", "b", "c", "a", "d"].into_iter().enumerate() {
            record(now as i64, key);
        }
        assert_eq!(sessions.evicted(), 1);
        let known = |now| ["a", "b", "c", "d"].map(|key| sessions.read(now, key, &policy).is_some());
        assert_eq!(known(5), [true, false, true, true], "b was the one not heard of for longest");
        // Expired sessions are removed first, and do not count as evictions.
        record(60_003, "e");
        assert_eq!((sessions.evicted(), known(60_003)), (1, [false, false, false, true]));
    }

    #[test]
    fn a_flood_of_callers_is_bounded() {
        let policy = RiskPolicy { half_life: Duration::ZERO, ttl: Duration::from_secs(60), threshold: 1.0 };
        let sessions = Sessions::new(NonZeroUsize::new(4096).unwrap());
        for n in 0..20_000 {
            sessions.record(n, &format!("{n:x}"), RiskUpdate::default(), &policy).unwrap();
        }
        let kept: usize = sessions.shards.iter().map(|s| s.lock().len()).sum();
        assert!(kept <= 4096 && kept as u64 + sessions.evicted() == 20_000, "{kept} kept");
    }
}
