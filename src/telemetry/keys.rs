//! Metrics of the table of keys made at run time.

use prometheus::{IntCounter, IntGauge, Registry};

use super::families::{Counters, Gauges};
use super::{MetricsError, names};

/// The result of a lookup in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The key is valid.
    Found,
    /// There is no such key.
    Unknown,
    /// The key is revoked.
    Revoked,
    /// The key has expired.
    Expired,
    /// The table could not tell, and the record store is away.
    Unavailable,
}

/// Values of `result`, in the order of [`Lookup`].
const RESULTS: [&str; 5] = ["found", "unknown", "revoked", "expired", "unavailable"];

/// Counts lookups; reports the number of keys in the table and the age of its data.
#[derive(Debug, Clone)]
pub struct KeyMetrics {
    lookups: [IntCounter; 5],
    /// Keys in the table.
    pub known: IntGauge,
    /// Seconds since the record store last answered.
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

    /// Counts one lookup.
    pub fn looked_up(&self, lookup: Lookup) {
        self.lookups[lookup as usize].inc();
    }
}
