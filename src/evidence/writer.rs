//! The way of records from requests to the disk: a bounded queue, and one thread that writes.
//!
//! A request serialises its record when it ends, while everything about it is at hand; the queue holds bytes. The thread
//! numbers and links them. It polls the queue, so that a push wakes it only when the queue is half full. When the queue is
//! full or the disk fails, records are dropped and counted, in the metric and in the next checkpoint: evidence never delays
//! traffic, and a gap never goes unnoticed.

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use super::entry::Reason;
use super::key::{KeyError, Signer};
use super::log::{Claim, Log, Refused, Totals};
use super::record::{DeliveryEntry, LaterEntry, RequestEntry};
use crate::config::EvidenceSettings;
use crate::gate::{Execution, Finished, RequestId};
use crate::telemetry::{EvidenceMetrics, Sheets};
use crate::wire::object::Page;

/// How long the thread lets records gather while there is traffic. Short, so that they are still in a CPU cache and are
/// written in small portions between requests.
const GATHER: Duration = Duration::from_millis(5);
/// How often the thread polls an empty queue.
const IDLE: Duration = Duration::from_millis(100);
/// Number of records after which the thread yields: with few cores, a request must not wait for a whole batch.
const HELPING: u64 = 32;
/// Size in bytes at which a batch is written at once.
const BATCH: usize = 256 * 1024;
/// How long after a failed write the files are opened again.
const RETRY: Duration = Duration::from_secs(1);

/// Why evidence cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// There is no usable signing key.
    #[error("evidence: {0}")]
    Key(#[from] KeyError),
    /// The evidence directory cannot be used.
    #[error("evidence directory {path}: {source}")]
    Directory {
        /// The directory, as configured.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

/// The chain and configuration in force when a request was decided, as JSON members of a request's record, rendered once
/// per route.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The member with the hash of the effective chain, with a leading comma.
    pub(super) chain: Arc<str>,
    /// The member with the hash of the configuration, with a leading comma.
    pub(super) config: Arc<str>,
}

impl Policy {
    /// Renders the members from the two hashes.
    pub fn new(chain: &str, config: &str) -> Self {
        let member = |name: &str, value: &str| -> Arc<str> { format!(",\"{name}\":{}", serde_json::json!(value)).into() };
        Self { chain: member("chain", chain), config: member("config", config) }
    }
}

/// A handle to the evidence log. Cheap to clone; the log is closed by [`Self::close`] or when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Evidence(Option<Arc<Queue>>);

#[derive(Debug)]
struct Queue {
    waiting: Arc<Mutex<Waiting>>,
    capacity: i64,
    metrics: EvidenceMetrics,
    closing: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
    waker: Thread,
}

/// Queued records. Each is preceded by its length and the offset at which its number has yet to be inserted.
#[derive(Debug, Default)]
struct Waiting(Sheets);

/// A position in the queue: a sheet, and an offset in it.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    sheet: usize,
    at: usize,
}

/// A record before and behind the place of its number.
type Parts<'a> = [&'a [u8]; 2];

thread_local! {
    /// The buffer in which a record is written; reused, so that writing one allocates nothing.
    static PAPER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Evidence {
    /// Evidence that is switched off: records are discarded.
    pub fn disabled() -> Self {
        Self(None)
    }

    /// Opens the log, publishes the public key in its directory and starts the thread.
    ///
    /// # Errors
    /// A directory that cannot be used.
    pub fn start(settings: &EvidenceSettings, signer: Arc<Signer>, metrics: EvidenceMetrics) -> Result<Self, EvidenceError> {
        if !settings.enabled {
            return Ok(Self::disabled());
        }
        let failed = |source| EvidenceError::Directory { path: settings.path.clone(), source };
        let claim = Claim::take(&settings.path).map_err(failed)?;
        signer.publish(&settings.path).map_err(failed)?;
        let log = Log::open(&claim.directory, signer.clone(), Totals::default()).map_err(failed)?;
        metrics.checkpoints.inc();
        let waiting = Arc::<Mutex<Waiting>>::default();
        let closing = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            waiting: waiting.clone(),
            taken: Waiting::default(),
            next: Place::default(),
            closing: closing.clone(),
            log: Some(log),
            claim,
            signer,
            metrics: metrics.clone(),
            every: settings.checkpoint_every.max(1),
            interval: settings.checkpoint_interval,
            rotate: settings.rotate,
            unsigned: 0,
            signed_at: Instant::now(),
            refused_at: Instant::now(),
        };
        let thread = thread::Builder::new().name("evidence".to_owned()).spawn(move || writer.run()).map_err(failed)?;
        let waker = thread.thread().clone();
        let capacity = i64::try_from(settings.queue.max(2)).unwrap_or(i64::MAX);
        Ok(Self(Some(Arc::new(Queue { waiting, capacity, metrics, closing, thread: Mutex::new(Some(thread)), waker }))))
    }

    /// Keeps the record of a request that took so long; for records that are closed some time after the answer.
    pub fn record(&self, finished: &Finished, policy: &Policy, duration: Duration) {
        if let Some(queue) = &self.0 {
            let entry = RequestEntry { finished, policy, duration };
            queue.push(|out| entry.write(out));
        }
    }

    /// Records a plugin execution that ended after its request was recorded.
    pub fn execution(&self, request: RequestId, execution: &Execution) {
        if let Some(queue) = &self.0 {
            let entry = LaterEntry { request, execution, at: SystemTime::now() };
            queue.push(|out| entry.write(out));
        }
    }

    /// Records a state change of a delivery.
    pub fn delivery(&self, entry: &DeliveryEntry<'_>) {
        if let Some(queue) = &self.0 {
            queue.push(|out| entry.write(out));
        }
    }

    /// Writes what is queued, signs it with a closing checkpoint and ends the thread. Later records are dropped and
    /// counted. Blocks for at most `patience`; returns `false` if that was not enough.
    pub fn close(&self, patience: Duration) -> bool {
        let Some(queue) = &self.0 else { return true };
        queue.closing.store(true, Ordering::Release);
        queue.waker.unpark();
        let deadline = Instant::now() + patience;
        while !queue.thread.lock().as_ref().is_none_or(JoinHandle::is_finished) {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

impl Queue {
    /// Queues a record. `write` appends it to a buffer and returns the offset of its number.
    fn push(&self, write: impl FnOnce(&mut Vec<u8>) -> usize) {
        let depth = self.metrics.queue_depth.get();
        if self.closing.load(Ordering::Acquire) || depth >= self.capacity {
            return self.metrics.dropped.inc();
        }
        // Counted before it is queued, so that the writer never subtracts it first.
        self.metrics.queue_depth.inc();
        let mut write = Some(write);
        let mut put = |paper: &mut Vec<u8>| {
            paper.clear();
            if let Some(write) = write.take() {
                let number_at = write(paper);
                self.waiting.lock().add(paper, number_at);
            }
        };
        // A thread that is ending has lost its buffer and uses a new one.
        let done = PAPER.try_with(|paper| paper.try_borrow_mut().map(|mut paper| put(&mut paper)));
        if !matches!(done, Ok(Ok(()))) {
            put(&mut Vec::new());
        }
        if depth + 1 == self.capacity / 2 {
            self.waker.unpark();
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        self.waker.unpark();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the writer was reported by the panic hook already.
            let _ = thread.join();
        }
    }
}

impl Waiting {
    fn add(&mut self, record: &[u8], number_at: usize) {
        let [length, number_at] = [record.len(), number_at].map(|n| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
        self.0.append(&[&length, &number_at, record]);
    }

    /// The record at a place, and the place behind it.
    fn read(&self, mut place: Place) -> Option<(Parts<'_>, Place)> {
        let sheets = self.0.filled();
        if sheets.get(place.sheet)?.len() == place.at {
            place = Place { sheet: place.sheet + 1, at: 0 };
        }
        let (length, rest) = sheets.get(place.sheet)?.get(place.at..)?.split_first_chunk::<4>()?;
        let (number_at, rest) = rest.split_first_chunk::<4>()?;
        let record = rest.get(..u32::from_le_bytes(*length) as usize)?;
        let (before, behind) = record.split_at_checked(u32::from_le_bytes(*number_at) as usize)?;
        Some(([before, behind], Place { at: place.at + 8 + record.len(), ..place }))
    }
}

/// The state of the thread.
struct Writer {
    waiting: Arc<Mutex<Waiting>>,
    /// The records that were taken out of the queue in one swap.
    taken: Waiting,
    /// The place of the next one to be written.
    next: Place,
    closing: Arc<AtomicBool>,
    /// `None` after a failed write, until the files can be opened again.
    log: Option<Log>,
    claim: Claim,
    signer: Arc<Signer>,
    metrics: EvidenceMetrics,
    every: u64,
    interval: Duration,
    rotate: u64,
    /// Number of records since the last checkpoint.
    unsigned: u64,
    signed_at: Instant,
    refused_at: Instant,
}

impl Writer {
    fn run(mut self) {
        loop {
            // Read before the queue, so that records pushed before the flag was set are still written.
            let closing = self.closing.load(Ordering::Acquire);
            let (taken, full) = self.batch();
            if closing && !full {
                return self.finish();
            }
            if !full {
                thread::park_timeout(if taken > 0 { GATHER } else { IDLE });
            }
        }
    }

    /// Writes queued records, up to a batch. Returns how many were taken, and whether there may be more.
    fn batch(&mut self) -> (u64, bool) {
        if self.log.is_none() && self.refused_at.elapsed() >= RETRY {
            match Log::open(&self.claim.directory, self.signer.clone(), self.totals()) {
                Ok(log) => self.log = Some(log),
                Err(error) => self.refused(&error),
            }
        }
        let (mut taken, mut full) = (0, true);
        while self.log.as_ref().is_none_or(|log| log.buffered() < BATCH) && taken < self.every {
            full = self.look();
            let Some(([before, behind], next)) = self.taken.read(self.next) else { break };
            self.next = next;
            taken += 1;
            self.metrics.queue_depth.dec();
            if let Some(log) = &mut self.log {
                log.push_with(|seq, out| {
                    out.extend_from_slice(before);
                    Page::new(out).decimal(seq);
                    out.extend_from_slice(behind);
                });
            }
            if taken.is_multiple_of(HELPING) {
                thread::yield_now();
            }
        }
        let lost = self.log.is_none();
        match self.log.as_mut().map_or(Ok(()), Log::flush_counted) {
            Ok(()) if lost => self.metrics.dropped.inc_by(taken),
            Ok(()) => {
                self.metrics.written.inc_by(taken);
                self.unsigned += taken;
                self.sign();
            }
            Err(Refused { error, whole }) => {
                self.metrics.written.inc_by(whole.min(taken));
                self.metrics.dropped.inc_by(taken.saturating_sub(whole));
                self.refused(&error);
            }
        }
        (taken, full)
    }

    /// Swaps the queue in if nothing is left from the last swap. Returns whether there is anything to write.
    fn look(&mut self) -> bool {
        if self.taken.read(self.next).is_none() {
            self.taken.0.clear();
            self.next = Place::default();
            // Swapped rather than moved, so that the sheets are reused.
            std::mem::swap(&mut *self.waiting.lock(), &mut self.taken);
        }
        !self.taken.0.is_empty()
    }

    fn sign(&mut self) {
        let totals = self.totals();
        let Some(log) = &mut self.log else { return };
        let rotate = log.size() >= self.rotate;
        let due = self.unsigned >= self.every || (self.unsigned > 0 && self.signed_at.elapsed() >= self.interval);
        let result = if rotate {
            log.rotate(totals)
        } else if due {
            log.checkpoint(if self.unsigned >= self.every { Reason::Count } else { Reason::Time }, totals)
        } else {
            return;
        };
        self.signed(result);
        // The first line of a new file must be signed soon, too: until then a removal of the file would not be noticed.
        self.unsigned += u64::from(rotate);
    }

    fn signed(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => {
                self.metrics.checkpoints.inc();
                self.unsigned = 0;
                self.signed_at = Instant::now();
            }
            Err(error) => self.refused(&error),
        }
    }

    fn finish(mut self) {
        let totals = self.totals();
        if let Some(log) = &mut self.log {
            let result = log.checkpoint(Reason::Close, totals);
            self.signed(result);
        }
    }

    fn refused(&mut self, error: &io::Error) {
        self.metrics.write_errors.inc();
        self.log = None;
        self.refused_at = Instant::now();
        log::error!(target: "evidence", "evidence cannot be written and is being dropped: {error}");
    }

    fn totals(&self) -> Totals {
        Totals { records: self.metrics.written.get(), dropped: self.metrics.dropped.get() }
    }
}
