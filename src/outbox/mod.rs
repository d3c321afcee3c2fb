//! What must leave the gateway at least once: from a plugin's hands to a file, from there to the record store, and from
//! there to the plugin again, as often as it takes.
//!
//! Handing over is one write to a file of this process, so that it costs a request nothing and a kill loses nothing. A worker
//! carries the files to the store, leases what is due, has the instance send it, and says what became of it. Receivers that
//! do not answer are paused one by one; meanwhile nothing is attempted there and nothing is lost.

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
    /// Deliveries that may wait, here and in the store, before the next meet `on_full`.
    pub max_pending: u64,
    /// What happens to a delivery for which there is no room.
    pub on_full: OnFull,
    /// Deliveries under way at once.
    pub in_flight: usize,
    /// How long deliveries are kept after they were given up.
    pub keep_dead: Duration,
    /// How instances send that are not named.
    pub usual: SendSettings,
    /// How named instances send.
    pub instances: HashMap<String, SendSettings>,
}

/// What happens to a delivery for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// It is dropped, which metrics and evidence say.
    DropNewest,
    /// The oldest that waits is dropped for it, which metrics and evidence say; while the record store is away, the oldest in the
    /// files.
    DropOldest,
    /// The plugin is told, and its `on_error` decides about the request.
    Deny,
}

/// How an instance sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendSettings {
    /// Time before each attempt, the first included; after the last a delivery is given up. Never empty.
    pub schedule: Vec<Duration>,
    /// Longest time for one attempt.
    pub timeout: Duration,
    /// Attempts in a row that fail before a destination is paused.
    pub failures: u32,
    /// The first pause; each attempt after it that fails doubles it.
    pub pause: Duration,
}

impl OutboxSettings {
    /// How an instance sends.
    pub fn of(&self, instance: &str) -> &SendSettings {
        self.instances.get(instance).unwrap_or(&self.usual)
    }
}

/// The configuration in force, as far as sending is concerned.
pub trait Senders: Send + Sync + 'static {
    /// How the outbox behaves.
    fn settings(&self) -> Arc<OutboxSettings>;
    /// The instances that may send now, by name: switched on, not observing, with the need `deliver`.
    fn instances(&self) -> Vec<Arc<Instance>>;
    /// Changes with every configuration that is loaded.
    fn configuration(&self) -> String;
}

/// The outbox of this process. Cheap to clone.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    /// Tells what this process wrote and leased from what others did.
    run: String,
    settings: Mutex<Arc<OutboxSettings>>,
    /// Made when something is handed over for the first time, or when the worker begins.
    spool: OnceLock<Spool>,
    opening: Mutex<()>,
    /// Deliveries in the store that wait, as far as this process knows.
    stored: AtomicU64,
    /// More waits than may; the worker makes room.
    over: AtomicBool,
    arrived: Notify,
    /// Nothing new is begun after this moment.
    end: OnceLock<Instant>,
    metrics: OutboxMetrics,
    evidence: OnceLock<Evidence>,
}

impl Outbox {
    /// An outbox whose directory is made when it is needed.
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

    /// From now on evidence is kept of what becomes of deliveries.
    pub fn record_in(&self, evidence: Evidence) {
        // There is one log for the life of a process.
        let _ = self.0.evidence.set(evidence);
    }

    /// Whether there is anything to do for a worker: something was handed over, or an earlier process left something.
    pub fn is_in_use(&self) -> bool {
        self.0.spool.get().is_some() || spool::any(&self.settings().path)
    }

    /// Ends the work when nothing is due any more, at the latest at this moment.
    pub fn close(&self, until: Instant) {
        // Who was first has said it.
        let _ = self.0.end.set(until);
        self.0.arrived.notify_one();
    }

    /// Waits for so long, or until something is handed over or the work shall end.
    pub async fn idle(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.0.arrived.notified()).await;
    }

    /// Whether the work shall end.
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

    /// Deliveries that wait, here and in the store.
    fn waiting(&self) -> u64 {
        self.0.stored.load(Ordering::Relaxed) + self.0.spool.get().map_or(0, Spool::waiting)
    }

    /// Counts what became of a delivery and puts it on record.
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
            // The worker drops the oldest, in the store or, while that is away, in the files. It may be waiting for an answer of
            // the store just now: the files are bounded for that time, too.
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
            // Said when it is there: the worker would find nothing too much before.
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
