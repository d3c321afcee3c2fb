//! The state and the records that the gateway keeps between requests, behind traits that name no engine.
//!
//! *State* lives seconds to months and is changed by every request: counters, leases, reservations, risk sessions, and the
//! bus on which replicas invalidate each other's caches. It is kept in this process ([`memory`]) or shared by a fleet
//! ([`redis`]), and each decision is one atomic call. *Records* are what must survive a restart: keys made at run time,
//! usage, the outbox.
//!
//! One conformance suite runs against every engine and tests what the traits promise.

pub mod memory;
pub mod records;
pub mod redis;
pub mod sql;

mod bus;
mod clock;
mod decisions;
mod error;
mod key;
mod limits;
mod meters;
mod reach;
mod reservations;
mod risk;
mod values;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
mod conformance;

pub use bus::{InvalidationBus, Notice, Subscription};
pub use clock::{Clock, ManualClock, SystemClock};
pub use decisions::{Decided, Decisions, End, Lent, Question, Ruling, Whole};
pub use error::StateError;
pub use key::{LeaseId, StateKey};
pub use limits::{Allowance, Correction, Limit, Limits, MAX_COUNT, Take, Taken};
pub use meters::{Meter, Meters, Stand, Stands};
pub use reach::Reach;
pub use reservations::{Charge, Counted, Hold, Reservations, Reserved, Settled, Settlement};
pub use risk::{RiskPolicy, RiskSessions, RiskState, RiskUpdate};
pub use values::Values;

/// All kinds of shared state as one store.
pub trait StateStore: Decisions + Limits + Reservations + RiskSessions + InvalidationBus + Reach {}

impl<T: Decisions + Limits + Reservations + RiskSessions + InvalidationBus + Reach> StateStore for T {}
