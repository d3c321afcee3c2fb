//! A cache for answers of external systems, bounded in number and in time.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::Mutex;

/// Answers by the digest of their questions. The least recently used is evicted first.
#[derive(Debug)]
pub struct Remembered<V>(Mutex<LruCache<[u8; 32], (Instant, V)>>);

impl<V: Clone> Remembered<V> {
    /// A cache for at most `capacity` answers.
    pub fn new(capacity: NonZeroUsize) -> Self {
        let mut cache = LruCache::unbounded();
        cache.resize(capacity);
        Self(Mutex::new(cache))
    }

    /// The answer, if it has not expired.
    pub fn get(&self, key: &[u8; 32], now: Instant) -> Option<V> {
        let mut cache = self.0.lock();
        match cache.get(key) {
            Some((until, value)) if *until > now => Some(value.clone()),
            Some(_) => {
                cache.pop(key);
                None
            }
            None => None,
        }
    }

    /// Removes and returns the answer, if it has not expired.
    pub fn take(&self, key: &[u8; 32], now: Instant) -> Option<V> {
        self.0.lock().pop(key).filter(|(until, _)| *until > now).map(|(_, value)| value)
    }

    /// Caches an answer, unless its time to live is zero.
    pub fn keep(&self, key: [u8; 32], value: V, now: Instant, ttl: Duration) {
        if let Some(until) = now.checked_add(ttl).filter(|_| !ttl.is_zero()) {
            self.0.lock().put(key, (until, value));
        }
    }

    /// The number of cached answers, including expired ones.
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn it_forgets_what_is_old_and_what_is_too_much() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let kept = Remembered::new(NonZeroUsize::new(2).unwrap());
        kept.keep([1; 32], "one", now, second);
        assert_eq!(kept.get(&[1; 32], now), Some("one"));
        assert_eq!(kept.get(&[1; 32], now + second), None);
        assert!(kept.is_empty());
        kept.keep([1; 32], "once", now, second);
        assert_eq!((kept.take(&[1; 32], now), kept.take(&[1; 32], now)), (Some("once"), None));
        kept.keep([1; 32], "never", now, Duration::ZERO);
        assert!(kept.is_empty());
        for n in 1..=3 {
            kept.keep([n; 32], "n", now, second);
        }
        assert_eq!((kept.len(), kept.get(&[1; 32], now)), (2, None));
    }
}
