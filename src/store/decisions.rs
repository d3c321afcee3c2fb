//! The two calls that a request makes to shared state: one before it is sent upstream, which decides about all its limits
//! and budgets in one step, and one at its end, which settles them in one step.

use std::time::Duration;

use async_trait::async_trait;

use super::{Allowance, Charge, Correction, Counted, Hold, LeaseId, Meters, Settled, Stands, StateError, StateKey, Take};

/// The limits and budgets that a request must pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question<'a> {
    /// Limits, in the order in which they refuse.
    pub limits: &'a [Take<'a>],
    /// Reservations in budgets and quotas; checked only when no limit refuses.
    pub holds: &'a [Hold<'a>],
    /// How long the reservation lives without being extended.
    pub expires_in: Duration,
}

/// The verdict on a [`Question`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Everything was taken and reserved.
    Granted,
    /// The limit at this position refused; it is the first that did. Nothing was taken anywhere.
    Limited(usize),
    /// The counter at this position had no room; it is the first that had none. Nothing was taken anywhere.
    Exceeded(usize),
    /// A counter does not know what was used before it began to count. Nothing was taken anywhere: call
    /// [`super::Reservations::seed`] and decide again.
    Unseeded,
}

/// The answer to a [`Question`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// The verdict.
    pub ruling: Ruling,
    /// When it was made, microseconds since the Unix epoch by the store's clock; needed for corrections.
    pub at: i64,
    /// The limits in the order of the question, as they stand afterwards.
    pub limits: Vec<Allowance>,
    /// The counters of the holds in the order of the question, as they stand afterwards.
    pub holds: Vec<Counted>,
}

/// How the limits and reservations of a request are settled at its end.
#[derive(Debug, Clone, Copy, Default)]
pub struct End<'a> {
    /// Concurrency slots to give back.
    pub slots: &'a [&'a StateKey],
    /// Windows whose estimates are corrected.
    pub corrections: &'a [Correction<'a>],
    /// What the request did cost; replaces its reservations.
    pub charges: &'a [Charge<'a>],
    /// Reservations to release because the request cost nothing; either these or charges.
    pub released: &'a [&'a StateKey],
}

/// Everything that a request takes, for [`Decisions::grant`].
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    /// The limits.
    pub meters: &'a Meters,
    /// Tokens to take from limits by tokens, at most [`Meters::MOST_TOKENS`].
    pub tokens: u64,
    /// Reservations in budgets and quotas.
    pub holds: &'a [Hold<'a>],
    /// How long the reservation lives without being extended.
    pub expires_in: Duration,
}

/// What a request holds of limits that [`Decisions::grant`] granted.
#[derive(Debug, Clone, Copy)]
pub struct Lent<'a> {
    /// The limits.
    pub meters: &'a Meters,
    /// When they were granted: the result of [`Decisions::grant`].
    pub at: i64,
    /// Tokens to add to what was taken (negative: to give back); see [`Correction`].
    pub delta: i64,
}

/// Decisions about requests.
#[async_trait]
pub trait Decisions: Send + Sync + 'static {
    /// Takes from all limits and reserves in all counters, or changes nothing, as one step.
    ///
    /// # Errors
    /// When the store does not answer (the decision may have been made), and [`StateError::Invalid`] for amounts that
    /// cannot be counted exactly.
    async fn decide(&self, lease: LeaseId, question: &Question<'_>) -> Result<Decided, StateError>;

    /// Gives slots back, corrects windows, and settles or releases reservations, as one step. Repeated, it corrects again;
    /// the rest is done once.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn conclude(&self, lease: LeaseId, end: &End<'_>) -> Result<Settled, StateError>;

    /// The fast path of [`Self::decide`] for a store that can answer without waiting: takes from all limits and reserves in
    /// all counters if every one has room, shadow limits included. Returns the time of the grant by the store's clock, and
    /// the limits as they stand afterwards in `stands`. `None`: nothing was changed; [`Self::decide`] gives the reason.
    fn grant(&self, _lease: LeaseId, _whole: &Whole<'_>, _stands: &mut Stands) -> Option<i64> {
        None
    }

    /// Ends what [`Self::grant`] granted and settles or releases reservations, as one step. `None`: nothing was changed.
    fn close(&self, _lease: LeaseId, _lent: &Lent<'_>, _end: &End<'_>) -> Option<Settled> {
        None
    }

    /// Whether answers come from another process, so that one question for everything is cheaper than several.
    fn is_remote(&self) -> bool;

    /// Whether one question may name counters with different tags. A cluster keeps these on different nodes.
    fn spans_tags(&self) -> bool;
}
