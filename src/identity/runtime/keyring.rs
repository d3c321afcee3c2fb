//! Authentication with all keys: first those of the configuration, then those made at run time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::follow;
use super::hasher::{KeyHasher, is_minted};
use super::home::Homes;
use super::table::{Found, KeyTable};
use crate::error::{Denial, codes};
use crate::identity::{Caller, Keys, authenticate};
use crate::store::InvalidationBus;
use crate::store::records::RecordStore;
use crate::telemetry::{KeyMetrics, Lookup};

/// The `Retry-After` while the store is unavailable.
const RETRY: Duration = Duration::from_secs(5);

/// The store is polled every second. If its last answer is older than this, it may be unavailable, and this process cannot
/// be sure that a key does not exist.
const HEARD: Duration = Duration::from_millis(2500);

/// The keys made at run time, and how current they are.
pub struct Keyring {
    hasher: KeyHasher,
    table: KeyTable,
    grace: Duration,
    /// When the store last answered (ms since the Unix epoch); 0: nothing was ever loaded.
    as_of: AtomicI64,
    /// The same by the clock that nobody can set, in milliseconds since `born`: before it, if it was in a file.
    heard: AtomicI64,
    born: Instant,
    /// Whether the store answered when it was asked last.
    reachable: AtomicBool,
    /// Whether the first attempt to load has ended, successfully or not.
    tried: AtomicBool,
    records: OnceLock<Arc<dyn RecordStore>>,
    metrics: Option<KeyMetrics>,
}

impl Keyring {
    /// An empty ring. Keys are accepted for `grace` after the store's last answer.
    pub fn new(hasher: KeyHasher, homes: Arc<Homes>, grace: Duration) -> Self {
        Self {
            hasher,
            table: KeyTable::new(homes),
            grace,
            as_of: AtomicI64::new(0),
            heard: AtomicI64::new(0),
            born: Instant::now(),
            reachable: AtomicBool::new(false),
            tried: AtomicBool::new(false),
            records: OnceLock::new(),
            metrics: None,
        }
    }

    /// Adds metrics.
    pub fn counted(mut self, metrics: KeyMetrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Follows the store for as long as the process runs; `path` is the file for a start without the store.
    pub async fn follow(self: Arc<Self>, records: Arc<dyn RecordStore>, bus: Arc<dyn InvalidationBus>, path: PathBuf) {
        // A second call keeps the first store: there is one for the life of a process.
        let _ = self.records.set(Arc::clone(&records));
        follow::follow(self, records, bus, path).await;
    }

    /// The store cannot even be opened: uses the keys of the file.
    pub async fn without_store(self: &Arc<Self>, path: PathBuf) {
        if !self.is_loaded() {
            follow::from_file(self, path).await;
        }
        self.missed();
    }

    /// The table of keys.
    pub fn table(&self) -> &KeyTable {
        &self.table
    }

    /// The hash by which secrets are stored.
    pub fn hasher(&self) -> &KeyHasher {
        &self.hasher
    }

    /// The store of keys, once [`Self::follow`] runs.
    pub fn records(&self) -> Option<&Arc<dyn RecordStore>> {
        self.records.get()
    }

    /// Whether the first attempt to load has ended. Before that, requests are better sent to another replica.
    pub fn is_ready(&self) -> bool {
        self.tried.load(Ordering::Acquire)
    }

    pub(super) fn is_loaded(&self) -> bool {
        self.as_of.load(Ordering::Acquire) != 0
    }

    pub(super) fn reached(&self) {
        self.loaded_as_of(SystemTime::now());
        self.reachable.store(true, Ordering::Release);
        self.tried.store(true, Ordering::Release);
        self.tell();
    }

    pub(super) fn missed(&self) {
        self.reachable.store(false, Ordering::Release);
        self.tried.store(true, Ordering::Release);
        self.tell();
    }

    fn tell(&self) {
        let Some(metrics) = &self.metrics else { return };
        metrics.known.set(i64::try_from(self.table.len()).unwrap_or(i64::MAX));
        if self.is_loaded() {
            metrics.age.set(self.age(millis(SystemTime::now())) / 1000);
        }
    }

    fn looked_up(&self, lookup: Lookup) {
        if let Some(metrics) = &self.metrics {
            metrics.looked_up(lookup);
        }
    }

    pub(super) fn loaded_as_of(&self, time: SystemTime) {
        let age = (millis(SystemTime::now()) - millis(time)).max(0);
        self.heard.store(self.running() - age, Ordering::Release);
        self.as_of.store(millis(time).max(1), Ordering::Release);
    }

    /// Milliseconds since it was made.
    fn running(&self) -> i64 {
        i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// How long ago the store answered last, in milliseconds, by whichever clock says more: a wall clock that is set back must
    /// not make keys look fresh.
    fn age(&self, now: i64) -> i64 {
        let by_the_wall = now.saturating_sub(self.as_of.load(Ordering::Acquire));
        by_the_wall.max(self.running().saturating_sub(self.heard.load(Ordering::Acquire)))
    }

    /// Finds the principal of a presented secret.
    ///
    /// # Errors
    /// `unauthorized`, `api_key_revoked`, `api_key_expired`; `store_unavailable` if only the store could tell.
    pub fn authenticate(&self, configured: &Keys, secret: &[u8], now: SystemTime) -> Result<Arc<Caller>, Denial> {
        // Most fleets make all keys at run time: without configured keys the second hash is not needed.
        let unknown = match configured.is_empty() && is_minted(secret) {
            true => Denial::of(codes::UNAUTHORIZED),
            false => match authenticate(configured, secret, now) {
                Err(denial) if denial.code == codes::UNAUTHORIZED.code && is_minted(secret) => denial,
                known => return known,
            },
        };
        let now = millis(now);
        let reachable = self.reachable.load(Ordering::Acquire);
        let within = |time: Duration| self.age(now) <= i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        if !self.is_loaded() || (!reachable && !within(self.grace)) {
            self.looked_up(Lookup::Unavailable);
            return Err(unavailable());
        }
        let (lookup, answer) = match self.table.find(self.hasher.fingerprint(secret), now) {
            Found::Caller(caller) => (Lookup::Found, Ok(caller)),
            Found::Revoked => (Lookup::Revoked, Err(Denial::of(codes::KEY_REVOKED))),
            Found::Expired => (Lookup::Expired, Err(Denial::of(codes::KEY_EXPIRED))),
            // The key may have been made since the store last answered.
            Found::Unknown if !reachable || !within(HEARD) => (Lookup::Unavailable, Err(unavailable())),
            Found::Unknown => (Lookup::Unknown, Err(unknown)),
        };
        self.looked_up(lookup);
        answer
    }
}

fn unavailable() -> Denial {
    Denial::of(codes::STORE_UNAVAILABLE).with_retry_after(RETRY)
}

fn millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hanging store counts as unavailable only once a poll has failed.
    #[test]
    fn an_unknown_key_is_refused_on_fresh_word_alone() {
        let ring = Keyring::new(KeyHasher::new(&[7; 32]), Arc::default(), Duration::from_secs(900));
        let secret = format!("sk_{}", "ab".repeat(24));
        let code =
            |at: SystemTime| ring.authenticate(&Keys::default(), secret.as_bytes(), at).map_or_else(|denial| denial.code, |_| "".into());
        let now = SystemTime::now();
        assert_eq!(code(now), codes::STORE_UNAVAILABLE.code);
        ring.reached();
        assert_eq!(code(now + Duration::from_secs(2)), codes::UNAUTHORIZED.code);
        assert_eq!(code(now + Duration::from_secs(3)), codes::STORE_UNAVAILABLE.code);
        ring.missed();
        assert_eq!(code(now), codes::STORE_UNAVAILABLE.code);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_fresh() {
        let ring = Keyring::new(KeyHasher::new(&[7; 32]), Arc::default(), Duration::from_secs(900));
        let secret = format!("sk_{}", "ab".repeat(24));
        let yesterday = SystemTime::now() - Duration::from_secs(86_400);
        let code = || ring.authenticate(&Keys::default(), secret.as_bytes(), yesterday).map_or_else(|denial| denial.code, |_| "".into());
        ring.reached();
        assert_eq!(code(), codes::UNAUTHORIZED.code);
        ring.heard.fetch_sub(3000, Ordering::AcqRel);
        assert_eq!(code(), codes::STORE_UNAVAILABLE.code);
        // What a file says is as old as it was when it was read, and ages from there.
        ring.loaded_as_of(SystemTime::now() - Duration::from_secs(600));
        assert!(ring.age(millis(yesterday)) >= 600_000);
    }
}
