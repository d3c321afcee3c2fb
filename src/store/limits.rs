//! Rate limits and concurrency: several limits decided at once, taken together or not at all.

use std::time::Duration;

use async_trait::async_trait;

use super::clock::micros;
use super::{LeaseId, StateError, StateKey};

/// Number of parts that a window is divided into. What was taken is given back part by part, at most one part late.
pub(super) const PARTS: i64 = 60;

/// The largest integer that Lua, and so a Redis script, represents exactly. Amounts, limits and products of a limit's time
/// and cost must stay below it, on every engine.
pub const MAX_COUNT: i64 = (1 << 53) - 1;

/// One limit. Zero does not mean "unlimited" here: an owner without a limit has no counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `limit` per `per` sustained, and up to `burst` at once after a pause (GCRA; the cell rate algorithm of ITU-T
    /// I.371). In any span of length `per` at most `limit + burst` are accepted.
    Rate {
        /// How many per `per`; at most one a microsecond.
        limit: u64,
        /// The span, to the microsecond.
        per: Duration,
        /// How many at once; at least 1.
        burst: u64,
    },
    /// At most `limit` within any span of length `per`, wherever it begins. Costs may be corrected afterwards.
    Window {
        /// How many.
        limit: u64,
        /// The span, to the microsecond.
        per: Duration,
    },
    /// At most `max` at the same time. A slot that is neither renewed nor given back for `ttl` is free again.
    Slots {
        /// How many.
        max: u64,
        /// How long a slot is held without renewal.
        ttl: Duration,
    },
}

/// One limit of a decision.
#[derive(Debug, Clone, Copy)]
pub struct Take<'a> {
    /// The counter. One decision names each counter at most once.
    pub key: &'a StateKey,
    /// The limit in force.
    pub limit: Limit,
    /// The amount to take; 0 only reads the counter. A slot always counts as one.
    pub cost: u64,
    /// Shadow mode: counts and reports, but never refuses.
    pub shadow: bool,
}

/// The answer to one decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The first limit, by its position, that refused; `None`: all was taken.
    pub refused: Option<usize>,
    /// When the store decided, microseconds since the Unix epoch; for corrections.
    pub at: i64,
    /// The limits, in the order they were asked.
    pub each: Vec<Allowance>,
}

impl Taken {
    /// Whether no limit refused.
    pub fn allowed(&self) -> bool {
        self.refused.is_none()
    }
}

/// How one limit stands after a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Whether this limit by itself allows.
    pub allowed: bool,
    /// The amount that could still be taken now.
    pub remaining: u64,
    /// Time until the whole limit is available again; zero when nothing is taken, and for slots, whose end cannot be
    /// foreseen.
    pub reset_after: Duration,
    /// Time until this cost would be allowed if nobody else took anything; zero when allowed and for slots, `None` for a
    /// cost that will never be allowed.
    pub retry_after: Option<Duration>,
}

/// The actual cost of a request for which a window took an estimate.
#[derive(Debug, Clone, Copy)]
pub struct Correction<'a> {
    /// The counter.
    pub key: &'a StateKey,
    /// The span of its window.
    pub per: Duration,
    /// [`Taken::at`] of the decision.
    pub at: i64,
    /// The actual cost minus the estimate. A negative delta is given back to the moment it was taken at; a positive one
    /// counts from now, even beyond the limit.
    pub delta: i64,
}

/// A store that counts limits.
#[async_trait]
pub trait Limits: Send + Sync + 'static {
    /// Checks all limits, and takes from all of them unless one refuses that is not in shadow mode, as one step. Slots are
    /// held by `lease`; a lease that takes the same slot again holds it once.
    ///
    /// # Errors
    /// When the store does not answer, and [`StateError::Invalid`] for limits that cannot be counted exactly.
    async fn take(&self, lease: LeaseId, limits: &[Take<'_>]) -> Result<Taken, StateError>;

    /// Holds slots for another `ttl`. A slot that had run out is held again, even beyond `max`: the request is still
    /// running.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn renew(&self, lease: LeaseId, slots: &[(&StateKey, Duration)]) -> Result<(), StateError>;

    /// Gives slots back and corrects estimates, as one step at the end of a request. Giving a slot back twice has no
    /// further effect.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn finish(&self, lease: LeaseId, slots: &[&StateKey], corrections: &[Correction<'_>]) -> Result<(), StateError>;
}

/// A one-word Bloom filter of keys: most decisions then need not compare every key with every other.
#[derive(Default)]
pub(super) struct Seen(u64);

impl Seen {
    /// Whether this key may equal an earlier one. Remembers the key.
    pub fn maybe(&mut self, key: &StateKey) -> bool {
        let mark = 1 << (key.hash() & 63);
        let there = self.0 & mark != 0;
        self.0 |= mark;
        there
    }
}

/// Refuses limits that cannot be counted exactly.
pub(super) fn check(limits: &[Take<'_>]) -> Result<(), StateError> {
    let mut seen = Seen::default();
    for (at, take) in limits.iter().enumerate() {
        if seen.maybe(take.key) && limits[..at].iter().any(|earlier| earlier.key == take.key) {
            return Err(StateError::Invalid("one decision names a counter twice"));
        }
        let (size, span) = match take.limit {
            Limit::Rate { limit, per, burst } => {
                if limit > micros(per).unsigned_abs() || burst == 0 {
                    return Err(StateError::Invalid("a rate is at most one a microsecond and lets at least one through"));
                }
                let product = (micros(per) as u64).saturating_mul(take.cost.max(burst));
                (product.max(limit), per)
            }
            Limit::Window { limit, per } => (limit.saturating_add(take.cost), per),
            Limit::Slots { max, ttl } => (max, ttl),
        };
        if span.is_zero() || size > MAX_COUNT.unsigned_abs() {
            return Err(StateError::Invalid("a limit has a span and stays below 2^53"));
        }
    }
    Ok(())
}

/// The length of a part of a window, microseconds.
pub(super) fn part_of(per: Duration) -> i64 {
    micros(per).saturating_add(PARTS - 1) / PARTS
}
