//! Metrics of the outbox.

use std::time::Duration;

use prometheus::{IntCounter, IntGauge, Registry};

use super::families::{Counters, Gauges, Histograms};
use super::{MetricsError, names};

/// `outcome` of a delivery; anything else, which would be a defect, is not counted.
const OUTCOMES: [&str; 9] = ["accepted", "refused", "dropped", "would_send", "sent", "retry", "dead", "disabled", "expired"];

/// Counts deliveries by plugin instance. The names of instances come from the configuration, present or past.
#[derive(Debug, Clone)]
pub struct OutboxMetrics(std::sync::Arc<Inner>);

#[derive(Debug)]
struct Inner {
    deliveries: Counters<2>,
    attempt: Histograms<1>,
    pending: Gauges<1>,
    dead: Gauges<1>,
    oldest: Gauges<1>,
    paused: Gauges<1>,
    spooled: IntGauge,
    unreadable: IntCounter,
}

impl OutboxMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self(std::sync::Arc::new(Inner {
            deliveries: Counters::new(registry, names::OUTBOX_DELIVERIES)?,
            attempt: Histograms::new(registry, names::OUTBOX_ATTEMPT_DURATION)?,
            pending: Gauges::new(registry, names::OUTBOX_PENDING)?,
            dead: Gauges::new(registry, names::OUTBOX_DEAD)?,
            oldest: Gauges::new(registry, names::OUTBOX_OLDEST)?,
            paused: Gauges::new(registry, names::OUTBOX_PAUSED)?,
            spooled: Gauges::<0>::new(registry, names::OUTBOX_SPOOLED)?.with([]),
            unreadable: Counters::<0>::new(registry, names::OUTBOX_UNREADABLE)?.with([]),
        })))
    }

    /// Counts one delivery with this outcome.
    pub fn outcome(&self, instance: &str, outcome: &str) {
        self.outcomes(instance, outcome, 1);
    }

    /// Counts several deliveries with this outcome.
    pub fn outcomes(&self, instance: &str, outcome: &str, count: u64) {
        if let Some(known) = OUTCOMES.iter().find(|known| **known == outcome) {
            self.0.deliveries.with([instance, known]).inc_by(count);
        }
    }

    /// Observes the duration of an attempt.
    pub fn took(&self, instance: &str, time: Duration) {
        self.0.attempt.with([instance]).observe(time.as_secs_f64());
    }

    /// Sets the backlog in the store; `oldest` is the age of the oldest waiting delivery in seconds.
    pub fn depth(&self, instance: &str, pending: u64, dead: u64, oldest: i64) {
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.0.pending.with([instance]).set(whole(pending));
        self.0.dead.with([instance]).set(whole(dead));
        self.0.oldest.with([instance]).set(oldest);
    }

    /// Sets the number of destinations that are paused or disabled.
    pub fn paused(&self, instance: &str, count: usize) {
        self.0.paused.with([instance]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Files could not be read on at so many places.
    pub fn unreadable(&self, count: u64) {
        self.0.unreadable.inc_by(count);
    }

    /// So much waits for the store.
    pub fn spooled(&self, count: u64) {
        self.0.spooled.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
