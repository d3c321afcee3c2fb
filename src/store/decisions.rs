//! The two calls that a request makes of shared state: everything it is asked before it leaves as one step, and everything
//! that becomes of that at its end as another.

use std::time::Duration;

use async_trait::async_trait;

use super::{Allowance, Charge, Correction, Counted, Hold, LeaseId, Meters, Settled, Stands, StateError, StateKey, Take};

/// What a request is asked before it leaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Question<'a> {
    /// Limits, in the order in which they refuse.
    pub limits: &'a [Take<'a>],
    /// What is reserved of budgets and quotas; they are looked at when no limit refuses.
    pub holds: &'a [Hold<'a>],
    /// How long the reservation lives without being extended.
    pub expires_in: Duration,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// All was taken and reserved.
    Granted,
    /// The limit at this position refused, the first that did. Nothing was taken anywhere.
    Limited(usize),
    /// The counter at this position had no room, the first that had none. Nothing was taken anywhere.
    Exceeded(usize),
    /// A counter was never told what had been used before it began ([`super::Reservations::seed`]). Nothing was taken
    /// anywhere: tell it, and ask again.
    Unseeded,
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// What was decided.
    pub ruling: Ruling,
    /// When, microseconds since the Unix epoch by the store's clock; for corrections.
    pub at: i64,
    /// The limits in the order they were asked, as they stand afterwards.
    pub limits: Vec<Allowance>,
    /// The counters of the holds, as they stand afterwards.
    pub holds: Vec<Counted>,
}

/// What becomes at its end of what a request has.
#[derive(Debug, Clone, Copy, Default)]
pub struct End<'a> {
    /// Slots that are given back.
    pub slots: &'a [&'a StateKey],
    /// Windows whose estimates are corrected.
    pub corrections: &'a [Correction<'a>],
    /// What the request did cost, in place of its reservation.
    pub charges: &'a [Charge<'a>],
    /// Reservations that cost nothing; either these or charges.
    pub released: &'a [&'a StateKey],
}

/// Everything that a request takes, for a store that can say yes at once.
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    /// Limits.
    pub meters: &'a Meters,
    /// What is taken of those that are met by tokens, at most [`Meters::MOST_TOKENS`].
    pub tokens: u64,
    /// What is reserved of budgets and quotas.
    pub holds: &'a [Hold<'a>],
    /// How long the reservation lives without being extended.
    pub expires_in: Duration,
}

/// What a request has of limits that were granted at once.
#[derive(Debug, Clone, Copy)]
pub struct Lent<'a> {
    /// The limits.
    pub meters: &'a Meters,
    /// When they were granted.
    pub at: i64,
    /// Less (negative) or more tokens than were taken: see [`Correction`].
    pub delta: i64,
}

/// Decisions about requests.
#[async_trait]
pub trait Decisions: Send + Sync + 'static {
    /// Takes from all limits and reserves in all counters, or changes nothing, as one step.
    ///
    /// # Errors
    /// When the store does not answer, then it may have been decided; and [`StateError::Invalid`] for what cannot be
    /// counted.
    async fn decide(&self, lease: LeaseId, question: &Question<'_>) -> Result<Decided, StateError>;

    /// Gives back, corrects, and settles or releases, as one step. Repeated, it corrects again; the rest is done once.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn conclude(&self, lease: LeaseId, end: &End<'_>) -> Result<Settled, StateError>;

    /// Takes from all limits and reserves in all counters if there is room everywhere, even in those that only watch, and
    /// nobody has to be waited for: says when that was, by the store's clock, and how the limits stand. Otherwise nothing was
    /// changed, and [`Self::decide`] says why.
    fn grant(&self, _lease: LeaseId, _whole: &Whole<'_>, _stands: &mut Stands) -> Option<i64> {
        None
    }

    /// Ends what was granted at once, and settles or releases, as one step. `None`: nothing was changed.
    fn close(&self, _lease: LeaseId, _lent: &Lent<'_>, _end: &End<'_>) -> Option<Settled> {
        None
    }

    /// Whether an answer comes from another process: then one question for all is better than several.
    fn is_remote(&self) -> bool;

    /// Whether one question may name counters of different tags; a cluster keeps them on different nodes.
    fn spans_tags(&self) -> bool;
}
