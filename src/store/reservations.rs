//! Budgets and quotas: the worst-case cost of a request is reserved before it is sent upstream, and replaced by its actual
//! cost at its end.
//!
//! Amounts are whole numbers in the unit of their counter: nano-USD, tokens, requests, milliseconds. A counter is one
//! window of one owner; its key names both. A reservation never makes `used + reserved` exceed the limit. A reservation
//! that is never settled is released when its lease runs out, by the next call that touches its counter or by
//! [`Reservations::reap`].

use std::time::Duration;

use async_trait::async_trait;

use super::limits::{MAX_COUNT, Seen};
use super::{LeaseId, StateError, StateKey};

/// How many expired leases each counter remembers, and for how long (a day), so that a late settlement still finds its own.
pub(super) const LATE: usize = 10_000;
/// See [`LATE`]; milliseconds.
pub(super) const LATE_MILLIS: i64 = 86_400_000;

/// A reservation to be made in one counter.
#[derive(Debug, Clone, Copy)]
pub struct Hold<'a> {
    /// The counter. One decision names each counter at most once.
    pub key: &'a StateKey,
    /// Upper bound of `used + reserved`, at most [`super::MAX_COUNT`] (as nano-USD: 9,007,199 USD a window).
    pub limit: i64,
    /// The worst case. Zero reserves nothing and only asks whether `used + reserved` is still below the limit; this is how
    /// errors and latency are bounded, whose amount is not known beforehand.
    pub amount: i64,
    /// How long the counter is kept, milliseconds since the Unix epoch: at least to the end of its window.
    pub keep_until: i64,
}

/// The actual cost of a request in one counter.
#[derive(Debug, Clone, Copy)]
pub struct Charge<'a> {
    /// The counter.
    pub key: &'a StateKey,
    /// What is added to `used`; not negative. It may be more than was reserved.
    pub actual: i64,
    /// The limit that `thresholds` are percents of.
    pub limit: i64,
    /// Percentages of the limit whose crossing is reported, as `[50, 80, 100]`.
    pub thresholds: &'a [u32],
    /// As in [`Hold`].
    pub keep_until: i64,
}

/// The standing of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// Settled amount.
    pub used: i64,
    /// Amount held by requests under way.
    pub reserved: i64,
    /// Whether the counter knows what was used before it began to count ([`Reservations::seed`]). A counter that does not
    /// may be new, or the store may have lost it.
    pub seeded: bool,
}

/// The answer to a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserved {
    /// The position of the first counter without room; `None`: everything is reserved.
    pub refused: Option<usize>,
    /// The counters in the order they were asked, as they stand afterwards.
    pub each: Vec<Counted>,
}

impl Reserved {
    /// Whether everything is reserved.
    pub fn granted(&self) -> bool {
        self.refused.is_none()
    }
}

/// The outcome of a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// The reservation was replaced by the charge.
    Applied,
    /// The lease had run out before; the charge was applied nevertheless.
    Late,
    /// There is no such reservation: it was settled or released before, or the store lost it. Nothing was changed.
    Unknown,
}

/// The answer to a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The outcome.
    pub settlement: Settlement,
    /// The counters in the order of the charges, as they stand afterwards.
    pub each: Vec<Counted>,
    /// The positions of charges that crossed a threshold, with the threshold. Each crossing is reported to exactly one
    /// replica.
    pub crossed: Vec<(usize, u32)>,
}

/// A store that counts budgets and quotas.
#[async_trait]
pub trait Reservations: Send + Sync + 'static {
    /// Reserves in all counters or in none, as one step. Repeated with the same lease it is the same reservation. After an
    /// error the reservation may exist: release it, or let its lease run out.
    ///
    /// # Errors
    /// When the store does not answer, and [`StateError::Invalid`] for amounts that cannot be counted exactly.
    async fn reserve(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>]) -> Result<Reserved, StateError>;

    /// Holds a reservation for another `expires_in`; `holds` must be the same as before. If the lease had run out, it is
    /// held again, even beyond the limit: the request is still running and will cost.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn extend(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>]) -> Result<(), StateError>;

    /// Replaces the reservation by the actual cost in all its counters, as one step. Repeated, it changes nothing.
    ///
    /// # Errors
    /// When the store does not answer; then repeat it.
    async fn settle(&self, lease: LeaseId, charges: &[Charge<'_>]) -> Result<Settled, StateError>;

    /// Ends the reservation of a request that cost nothing. Returns whether there was one; repeated, it changes nothing.
    ///
    /// # Errors
    /// When the store does not answer; then repeat it.
    async fn release(&self, lease: LeaseId, keys: &[&StateKey]) -> Result<bool, StateError>;

    /// Releases expired reservations in at most `counters` counters under a tag. Returns how many leases were released.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn reap(&self, tag: &str, counters: usize) -> Result<u64, StateError>;

    /// The standing of counters.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn counters(&self, keys: &[&StateKey]) -> Result<Vec<Counted>, StateError>;

    /// Adds, once in the life of a counter, what was used before it began to count. Returns whether it was added.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn seed(&self, key: &StateKey, used: i64, keep_until: i64) -> Result<bool, StateError>;

    /// Adds to the used amount, or subtracts from it, without a reservation: for a reconciler whose records give another
    /// sum. The result is never below zero.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn adjust(&self, key: &StateKey, delta: i64, keep_until: i64) -> Result<Counted, StateError>;
}

/// Refuses amounts that cannot be counted exactly.
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
