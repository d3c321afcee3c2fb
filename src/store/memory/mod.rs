//! State in the memory of this process: the default engine, and the reference for the others.
//!
//! Each kind of state is spread over shards, each with a lock of its own. A decision locks only the shards of its keys, and
//! holds no lock across an await.

mod bus;
mod decisions;
mod limits;
mod reservations;
mod risk;
mod shards;

use std::num::NonZeroUsize;
use std::sync::Arc;

use tokio::sync::broadcast;

use super::bus::WAITING;
use super::{Clock, Notice, SystemClock};

/// Upper bounds on what is kept.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Risk sessions. Callers can create any number of them, so there must be a bound: the oldest are evicted first, and
    /// counted.
    pub risk_sessions: NonZeroUsize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { risk_sessions: NonZeroUsize::MIN.saturating_add(99_999) }
    }
}

/// The state of one process.
pub struct MemoryState {
    clock: Arc<dyn Clock>,
    bus: broadcast::Sender<Notice>,
    limits: limits::Counters,
    accounts: reservations::Accounts,
    risk: risk::Sessions,
}

impl MemoryState {
    /// An empty state on this machine's clock.
    pub fn new(capacity: Capacity) -> Self {
        Self::with_clock(capacity, Arc::new(SystemClock::start()))
    }

    /// An empty state on another clock.
    pub fn with_clock(capacity: Capacity, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            bus: broadcast::channel(WAITING).0,
            limits: limits::Counters::new(),
            accounts: reservations::Accounts::new(),
            risk: risk::Sessions::new(capacity.risk_sessions),
        }
    }

    /// Number of risk sessions evicted before their time because there were too many.
    pub fn risk_sessions_evicted(&self) -> u64 {
        self.risk.evicted()
    }
}

impl Default for MemoryState {
    fn default() -> Self {
        Self::new(Capacity::default())
    }
}
