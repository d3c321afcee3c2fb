//! What the table of keys made at run time counts.

use prometheus::{IntCounter, IntGauge, Registry};

use super::families::{Counters, Gauges};
use super::{MetricsError, names};

/// How a lookup in the table ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// A principal was found.
    Found,
    /// Nobody has this key.
    Unknown,
    /// The key is switched off.
    Revoked,
    /// The key has run out.
    Expired,
    /// Only the store could tell, and it is away.
    Unavailable,
}

/// `result`, in the order of [`Lookup`].
const RESULTS: [&str; 5] = ["found", "unknown", "revoked", "expired", "unavailable"];

/// Counts lookups, and tells how many keys there are and how old what is known of them is.
#[derive(Debug, Clone)]
pub struct KeyMetrics {
    lookups: [IntCounter; 5],
    /// Keys in the table.
    pub known: IntGauge,
    /// Seconds since the record store answered last.
    pub age: IntGauge,
}

impl KeyMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let lookups = Counters::<1>::new(registry, names::KEY_LOOKUPS)?;
        let gauge = |family| Gauges::<0>::new(registry, family).map(|gauge| gauge.with([]));
        Ok(Self {
            lookups: RESULTS.map(|result| lookups.with([result])),
            known: gauge(names::KEYS_KNOWN)?,
            age: gauge(names::KEY_TABLE_AGE)?,
        })
    }

    /// A key was looked up.
    pub fn looked_up(&self, lookup: Lookup) {
        self.lookups[lookup as usize].inc();
    }
}
