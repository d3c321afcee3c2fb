//! At-least-once delivery for plugins: from the plugin to a file, from there to the record store, and from there back to
//! the plugin, which sends it as often as it takes.
//!
//! Dispatching is one write to a file of this process: it costs a request next to nothing, and a kill loses nothing. A
//! worker carries the files to the store, leases what is due, has the plugin instance send it, and stores the outcome.
//! Failing receivers are paused one by one; meanwhile nothing is attempted there, and their deliveries wait.

mod attempt;
mod message;
mod receivers;
mod schedule;
mod spool;
mod worker;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::evidence::{DeliveryEntry, Evidence};
use crate::plugin::{Delivery, Dispatch, HostError, Instance};
use crate::telemetry::OutboxMetrics;
use spool::Spool;
pub use worker::Worker;

/// How the outbox behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxSettings {
    /// Directory in which deliveries wait for the record store.
    pub path: PathBuf,
    /// Deliveries that may wait, in the files and in the store together, before `on_full` applies to new ones.
    pub max_pending: u64,
    /// What happens to a delivery for which there is no room.
    pub on_full: OnFull,
    /// Most deliveries under way at once.
    pub in_flight: usize,
    /// How long deliveries are kept after they were given up.
    pub keep_dead: Duration,
    /// Send settings of instances that `instances` does not name.
    pub usual: SendSettings,
    /// Send settings by instance name.
    pub instances: HashMap<String, SendSettings>,
}

/// What happens to a delivery for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// It is dropped, and the drop is counted and recorded in evidence.
    DropNewest,
    /// The oldest waiting delivery is dropped to make room, counted and recorded in evidence; while the record store is
    /// away, the oldest in the files.
    DropOldest,
    /// The plugin gets an error, and its `on_error` decides about the request.
    Deny,
}

/// How an instance sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendSettings {
    /// Delay before each attempt, including the first. When the last one fails, the delivery is given up. Never empty.
    pub schedule: Vec<Duration>,
    /// Longest time for one attempt.
    pub timeout: Duration,
    /// Failed attempts in a row after which a destination is paused.
    pub failures: u32,
    /// Length of the first pause; each failed attempt after it doubles the pause.
    pub pause: Duration,
}

impl OutboxSettings {
    /// The settings of an instance: its own, or the usual ones.
    pub fn of(&self, instance: &str) -> &SendSettings {
        self.instances.get(instance).unwrap_or(&self.usual)
    }
}

/// What the outbox needs from the configuration in force.
pub trait Senders: Send + Sync + 'static {
    /// The current settings.
    fn settings(&self) -> Arc<OutboxSettings>;
    /// The instances that may send now: enabled, not observing, and with the need `deliver`.
    fn instances(&self) -> Vec<Arc<Instance>>;
    /// How many configurations were loaded so far; a reload of an unchanged file counts.
    fn loads(&self) -> u64;
}

/// The outbox of this process. Cheap to clone.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    /// Identifies this process: what it wrote to the spool and leased from the store.
    run: String,
    settings: Mutex<Arc<OutboxSettings>>,
    /// Opened by the first delivery, or by the worker when it starts.
    spool: OnceLock<Spool>,
    opening: Mutex<()>,
    /// Deliveries that wait in the store, as far as this process knows.
    stored: AtomicU64,
    /// More deliveries wait than `max_pending`; the worker drops the oldest.
    over: AtomicBool,
    arrived: Notify,
    /// The worker starts nothing new after this moment.
    end: OnceLock<Instant>,
    metrics: OutboxMetrics,
    evidence: OnceLock<Evidence>,
}

impl Outbox {
    /// An outbox whose directory is created on first use.
    pub fn new(settings: Arc<OutboxSettings>, metrics: OutboxMetrics) -> Self {
        Self(Arc::new(Inner {
            run: format!("{:x}-{}", micros(), std::process::id()),
            settings: Mutex::new(settings),
            spool: OnceLock::new(),
            opening: Mutex::new(()),
            stored: AtomicU64::new(0),
            over: AtomicBool::new(false),
            arrived: Notify::new(),
            end: OnceLock::new(),
            metrics,
            evidence: OnceLock::new(),
        }))
    }

    /// Records the state changes of deliveries in evidence from now on.
    pub fn record_in(&self, evidence: Evidence) {
        // A process has one evidence log for its whole life, so a second call changes nothing.
        let _ = self.0.evidence.set(evidence);
    }

    /// Whether a worker is needed: a delivery was dispatched, or an earlier process left files.
    pub fn is_in_use(&self) -> bool {
        self.0.spool.get().is_some() || spool::any(&self.settings().path)
    }

    /// Lets the worker end as soon as nothing is due, at the latest at `until`.
    pub fn close(&self, until: Instant) {
        // The first call decides.
        let _ = self.0.end.set(until);
        self.0.arrived.notify_one();
    }

    /// Waits for `time`, or until a delivery arrives or the outbox is closed.
    pub async fn idle(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.0.arrived.notified()).await;
    }

    /// Whether [`Self::close`] was called.
    pub fn is_closing(&self) -> bool {
        self.0.end.get().is_some()
    }

    fn settings(&self) -> Arc<OutboxSettings> {
        Arc::clone(&self.0.settings.lock())
    }

    fn spool(&self) -> io::Result<&Spool> {
        if let Some(spool) = self.0.spool.get() {
            return Ok(spool);
        }
        let _opening = self.0.opening.lock();
        if self.0.spool.get().is_none() {
            let spool = Spool::open(&self.settings().path, &self.0.run)?;
            let _ = self.0.spool.set(spool);
        }
        self.0.spool.get().ok_or_else(|| io::ErrorKind::Other.into())
    }

    /// Deliveries that wait, in the files and in the store.
    fn waiting(&self) -> u64 {
        self.0.stored.load(Ordering::Relaxed) + self.0.spool.get().map_or(0, Spool::waiting)
    }

    /// Counts a state change of a delivery and records it in evidence.
    fn told(&self, entry: &DeliveryEntry<'_>) {
        self.0.metrics.outcome(entry.plugin, entry.state);
        if let Some(evidence) = self.0.evidence.get() {
            evidence.delivery(entry);
        }
    }
}

impl Dispatch for Outbox {
    fn dispatch(&self, instance: &str, delivery: &Delivery, observe: bool) -> Result<(), HostError> {
        let tell = |state, error| self.told(&DeliveryEntry { error, ..message::entry(instance, delivery, state) });
        if observe {
            tell("would_send", None);
            return Ok(());
        }
        let settings = self.settings();
        let full = self.waiting() >= settings.max_pending;
        if full {
            // The worker drops the oldest, in the store or, while that is away, in the files. It may be blocked on a call
            // to the store at this moment, so the files have a bound of their own.
            let most = settings.max_pending.saturating_mul(2).saturating_add(worker::CARRIED as u64);
            let stuck = self.0.spool.get().is_some_and(|spool| spool.waiting() >= most);
            match settings.on_full {
                OnFull::DropOldest if !stuck => {}
                OnFull::DropNewest | OnFull::DropOldest => {
                    tell("dropped", Some("the outbox is full"));
                    return Ok(());
                }
                OnFull::Deny => {
                    self.0.metrics.outcome(instance, "refused");
                    return Err(HostError::OutboxFull);
                }
            }
        }
        let refused = |error: io::Error| {
            self.0.metrics.outcome(instance, "refused");
            log::error!(target: "outbox", plugin = instance; "a delivery could not be written: {error}");
            HostError::Outbox("it could not be written")
        };
        self.spool().and_then(|spool| spool.append(&message::written(instance, delivery))).map_err(refused)?;
        self.0.metrics.outcome(instance, "accepted");
        if full {
            // Set only after the delivery was written: before, the worker could find nothing to drop.
            self.0.over.store(true, Ordering::Release);
        }
        self.0.arrived.notify_one();
        Ok(())
    }
}

/// Milliseconds since the Unix epoch, as the record store counts.
fn millis(moment: SystemTime) -> i64 {
    moment.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn micros() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros())
}

#[cfg(test)]
#[path = "outbox_test.rs"]
mod tests;
