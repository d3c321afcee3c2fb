//! Budgets and quotas: what a request may cost at worst is reserved before it leaves and replaced by what it did cost.
//!
//! Amounts are whole numbers in the unit of their counter: nano-USD, tokens, requests, milliseconds. A counter is one
//! owner's window; its key names both. `used + reserved` never exceeds the limit by a reservation, and what nobody
//! settles is released when its lease runs out, by the next call that meets it or by [`Reservations::reap`].

use std::time::Duration;

use async_trait::async_trait;

use super::limits::{MAX_COUNT, Seen};
use super::{LeaseId, StateError, StateKey};

/// How many leases that ran out are remembered a counter, and for how long (a day), for those who settle late.
pub(super) const LATE: usize = 10_000;
/// See [`LATE`]; milliseconds.
pub(super) const LATE_MILLIS: i64 = 86_400_000;

/// What is to be reserved in one counter.
#[derive(Debug, Clone, Copy)]
pub struct Hold<'a> {
    /// Which counter. One decision names each counter once.
    pub key: &'a StateKey,
    /// What `used + reserved` may be, at most [`super::MAX_COUNT`] (as nano-USD: 9,007,199 USD a window).
    pub limit: i64,
    /// The worst case. Zero reserves nothing and asks whether `used + reserved` is still below the limit, which is how
    /// errors and latency are bounded: nobody knows them beforehand.
    pub amount: i64,
    /// Until when the counter is kept, milliseconds since the Unix epoch: at least to the end of its window.
    pub keep_until: i64,
}

/// What a request did cost, in one counter.
#[derive(Debug, Clone, Copy)]
pub struct Charge<'a> {
    /// The counter.
    pub key: &'a StateKey,
    /// What is added to `used`; not negative. It may be more than was reserved.
    pub actual: i64,
    /// The limit that `thresholds` are percents of.
    pub limit: i64,
    /// Percents of the limit whose crossing is to be told, as `[50, 80, 100]`.
    pub thresholds: &'a [u32],
    /// As in [`Hold`].
    pub keep_until: i64,
}

/// A counter as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Settled.
    pub used: i64,
    /// Held by requests on their way.
    pub reserved: i64,
    /// It was told what had been used before it began to count ([`Reservations::seed`]). A counter that was not may be
    /// new, or the store may have lost it.
    pub seeded: bool,
}

/// The answer to a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// The first counter, by its position, that had no room; `None`: all is reserved.
    pub refused: Option<usize>,
    /// The counters in the order they were asked, as they stand afterwards.
    pub each: Vec<Counted>,
}

impl Reserved {
    /// All is reserved.
    pub fn granted(&self) -> bool {
        self.refused.is_none()
    }
}

/// What became of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The reservation was replaced by the charge.
    Applied,
    /// The lease had run out; the charge was made nevertheless.
    Late,
    /// There is no such reservation: it was settled or released before, or the store lost it. Nothing was changed.
    Unknown,
}

/// The answer to a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// What became of it.
    pub settlement: Settlement,
    /// The counters in the order of the charges, as they stand afterwards.
    pub each: Vec<Counted>,
    /// Which charge, by its position, crossed which of its thresholds. Of all replicas only one is told.
    pub crossed: Vec<(usize, u32)>,
}

/// Where budgets and quotas are counted.
#[async_trait]
pub trait Reservations: Send + Sync + 'static {
    /// Reserves in all counters or in none, as one step. Repeated with the same lease it is the same reservation. After
    /// an error the reservation may exist: release it, or leave it to its lease.
    ///
    /// # Errors
    /// When the store does not answer, and [`StateError::Invalid`] for amounts that cannot be counted.
    async fn reserve(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>]) -> Result<Reserved, StateError>;

    /// Holds a reservation for another `expires_in`; the same holds as before. Where the lease had run out it is held
    /// again, even beyond the limit: the request is there and will cost.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn extend(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>]) -> Result<(), StateError>;

    /// Replaces the reservation by what it did cost, in all its counters, as one step. Repeated, it changes nothing.
    ///
    /// # Errors
    /// When the store does not answer; repeat it then.
    async fn settle(&self, lease: LeaseId, charges: &[Charge<'_>]) -> Result<Settled, StateError>;

    /// Ends a reservation that cost nothing. Says whether there was one; repeated, it changes nothing.
    ///
    /// # Errors
    /// When the store does not answer; repeat it then.
    async fn release(&self, lease: LeaseId, keys: &[&StateKey]) -> Result<bool, StateError>;

    /// Releases what ran out in at most `counters` counters under a tag. Says how many leases were released.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn reap(&self, tag: &str, counters: usize) -> Result<u64, StateError>;

    /// The counters as they stand.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn counters(&self, keys: &[&StateKey]) -> Result<Vec<Counted>, StateError>;

    /// Adds to a counter, once in its life, what had been used before it began to count. Says whether it was added.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn seed(&self, key: &StateKey, used: i64, keep_until: i64) -> Result<bool, StateError>;

    /// Adds to what is used, or takes from it, without a reservation: for a reconciler that found another sum in the
    /// records. Never below zero.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn adjust(&self, key: &StateKey, delta: i64, keep_until: i64) -> Result<Counted, StateError>;
}

/// Refuses what could not be counted exactly.
pub(super) fn check<'a>(amounts: impl Iterator<Item = (&'a StateKey, i64, i64)> + Clone) -> Result<(), StateError> {
    let mut seen = Seen::default();
    for (at, (key, amount, limit)) in amounts.clone().enumerate() {
        if !(0..=MAX_COUNT).contains(&amount) || !(0..=MAX_COUNT).contains(&limit) {
            return Err(StateError::Invalid("amounts and limits are not negative and stay below 2^53"));
        }
        if seen.maybe(key) && amounts.clone().take(at).any(|(earlier, _, _)| earlier == key) {
            return Err(StateError::Invalid("one decision names a counter twice"));
        }
    }
    Ok(())
}

/// Whether a percentage of a limit lies between what was used before (exclusive) and after (inclusive), rounding the
/// percentage up.
pub(super) fn crosses(before: i64, after: i64, limit: i64, percent: u32) -> bool {
    let percent = i64::from(percent);
    let bar = limit / 100 * percent + (limit % 100 * percent + 99) / 100;
    before < bar && after >= bar
}
