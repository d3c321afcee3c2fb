//! The way of usage records: from requests into the spool, from the spool into the record store, and from there into the seeds
//! of budget counters.

use std::cell::RefCell;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use super::record::{self, AtMost, How, Ran, Who};
use super::spool::{Begun, Spool};
use crate::budget::{Account, Doubts, Metric, OwnerKind, Past, Window};
use crate::store::StateError;
use crate::store::records::{RecordError, RecordStore, Usage, UsageBatch, UsageBy, UsageFilter, UsageRecord};
use crate::telemetry::{GovernanceMetrics, Sparse};

/// The size at which a spool file is complete (bytes).
const SEGMENT: u64 = 16 << 20;
/// The most records in one batch that is read from a file.
const BATCH: usize = 4096;
/// The interval at which the spool is emptied; what gathers meanwhile is one write to the store.
const PAUSE: Duration = Duration::from_millis(500);
/// The first pause between attempts to store what earlier processes left behind.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The interval of looking for files of other processes: during an upgrade the old process drains for a while.
const LOOKING: Duration = Duration::from_secs(5);
/// The interval of deleting old records.
const FORGETTING: Duration = Duration::from_secs(3600);
/// The most records deleted in one call.
const FORGOTTEN: u32 = 10_000;

/// Throttles the log line about records that could not be written to disk.
static UNWRITTEN: Sparse = Sparse::new();

/// Settles, in counters that outlive a process, what a process that is gone had reserved.
#[async_trait]
pub trait Debts: Send + Sync {
    /// Settles a request's reservation. Repeating it changes nothing.
    ///
    /// # Errors
    /// The counters' store did not answer; the caller tries again.
    async fn pay(&self, record: &UsageRecord) -> Result<(), StateError>;
}

/// The usage records of this process. Cheap to clone.
#[derive(Clone)]
pub struct Books(Arc<Inner>);

struct Inner {
    spool: Option<Spool>,
    /// Set once the record store has been reached and contains what earlier processes left behind.
    records: OnceLock<Arc<dyn RecordStore>>,
    /// Held while records are moved to the store.
    carrying: tokio::sync::Mutex<()>,
    metrics: Arc<GovernanceMetrics>,
    doubts: Arc<Doubts>,
}

/// Passes what `pack` writes to `keep`. The buffer is reused, because every request writes two records.
fn packed<T>(pack: impl FnOnce(&mut Vec<u8>), keep: impl FnOnce(&[u8]) -> T) -> T {
    thread_local! {
        static PAYLOAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    PAYLOAD.with_borrow_mut(|payload| {
        payload.clear();
        pack(payload);
        keep(payload)
    })
}

impl Books {
    /// Opens books that spool into a directory; with `None` nothing is recorded.
    ///
    /// # Errors
    /// The directory cannot be created or written.
    pub fn open(spool: Option<&Path>, metrics: Arc<GovernanceMetrics>) -> std::io::Result<Self> {
        let run = format!("{:x}-{}", SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros()), std::process::id());
        let spool = spool.map(|dir| Spool::open(dir, &run, SEGMENT)).transpose()?;
        Ok(Self(Arc::new(Inner {
            spool,
            records: OnceLock::new(),
            carrying: tokio::sync::Mutex::default(),
            metrics,
            doubts: Arc::default(),
        })))
    }

    /// Whether usage is recorded.
    pub fn keeps_any(&self) -> bool {
        self.0.spool.is_some()
    }

    /// Records that a request was accepted, `at` milliseconds since the Unix epoch. When this returns, the record is in the file.
    /// The returned value has to be passed to [`Self::end`].
    ///
    /// # Errors
    /// The record could not be written; the request must not go on unrecorded.
    pub async fn begin(&self, id: u128, who: &Who<'_>, at: i64, most: AtMost) -> std::io::Result<Option<Begun>> {
        let Some(spool) = &self.0.spool else { return Ok(None) };
        let failed = |_: &std::io::Error| self.0.metrics.enqueue_errors.inc();
        let begun = packed(|payload| record::begin(who, at, most, payload), |payload| spool.begin(id, payload)).inspect_err(failed)?;
        spool.confirm(begun).await.inspect_err(failed).map(Some)
    }

    /// Records a request that is over.
    pub fn end<'a>(&self, id: u128, begun: Option<Begun>, who: &Who<'_>, how: &How<'_>, plugins: impl Iterator<Item = Ran<'a>>) {
        let Some(spool) = &self.0.spool else { return };
        self.0.metrics.published.inc();
        let ended = packed(|payload| record::end(who, how, plugins, payload), |payload| spool.end(id, begun, payload));
        if let Err(error) = ended {
            self.0.metrics.enqueue_errors.inc();
            if let Some(more) = UNWRITTEN.due() {
                log::error!(target: "usage", more; "{error}");
            }
        }
    }

    /// Moves records to the store for as long as the process runs, and deletes records older than `retention`.
    pub async fn keep(&self, records: Arc<dyn RecordStore>, retention: Duration, debts: &dyn Debts) {
        self.recover(&records, debts).await;
        // A second call keeps the first store: there is one for the life of a process.
        let _ = self.0.records.set(Arc::clone(&records));
        let mut pause = PAUSE;
        let mut forgotten = tokio::time::Instant::now() - FORGETTING;
        let mut looked = tokio::time::Instant::now();
        loop {
            match self.carry(records.as_ref()).await {
                Ok(true) => continue,
                Ok(false) => pause = PAUSE,
                Err(()) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            if looked.elapsed() >= LOOKING {
                looked = tokio::time::Instant::now();
                if let Some(spool) = &self.0.spool
                    && let Err(error) = self.take_over(spool, records.as_ref(), debts).await
                {
                    log::warn!(target: "usage", "what another process left is not in the record store yet: {error}");
                }
            }
            if forgotten.elapsed() >= FORGETTING {
                forgotten = tokio::time::Instant::now();
                forget(records.as_ref(), retention).await;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Writes what is waiting to disk, and to the store if it was reached. For an orderly shutdown.
    pub async fn close(&self) {
        let Some(spool) = &self.0.spool else { return };
        if let Some(records) = self.0.records.get() {
            while matches!(self.carry(records.as_ref()).await, Ok(true)) {}
        }
        if let Err(error) = spool.sync() {
            log::error!(target: "usage", "usage records could not be written: {error}");
        }
    }

    /// Moves one batch to the store. Returns whether there is more.
    async fn carry(&self, records: &dyn RecordStore) -> Result<bool, ()> {
        let Some(spool) = &self.0.spool else { return Ok(false) };
        let _alone = self.0.carrying.lock().await;
        let failed = |error: &dyn std::fmt::Display| {
            self.0.metrics.flush_errors.inc();
            log::warn!(target: "usage", "usage records wait: {error}");
        };
        let broken = spool.broken();
        let (batch, place) = spool.next(BATCH).map_err(|error| failed(&error))?;
        self.0.metrics.flush_errors.inc_by(spool.broken() - broken);
        self.0.metrics.waiting.set(i64::try_from(spool.waiting()).unwrap_or(i64::MAX));
        let count = batch.len();
        if count > 0 {
            let new = records.append_packed(batch).await.map_err(|error| failed(&error))?;
            self.0.metrics.flushed.inc_by(new);
        }
        spool.taken(place, count).map_err(|error| failed(&error))?;
        Ok(count >= BATCH)
    }

    /// Stores what processes that are gone left behind, including orphans, before any counter is seeded from the records.
    async fn recover(&self, records: &Arc<dyn RecordStore>, debts: &dyn Debts) {
        let Some(spool) = &self.0.spool else { return };
        let mut pause = FIRST_PAUSE;
        loop {
            match self.first_over(spool, records.as_ref(), debts).await {
                Ok(()) => return,
                Err(error) => log::warn!(target: "usage", "what an earlier process left is not in the record store yet: {error}"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn first_over(&self, spool: &Spool, records: &dyn RecordStore, debts: &dyn Debts) -> Result<(), String> {
        records.migrate().await.map_err(|error: RecordError| error.to_string())?;
        self.take_over(spool, records, debts).await
    }

    async fn take_over(&self, spool: &Spool, records: &dyn RecordStore, debts: &dyn Debts) -> Result<(), String> {
        let text = |error: std::io::Error| error.to_string();
        for mut leftover in spool.leftovers().map_err(text)? {
            while leftover.survey().map_err(text)? {
                tokio::task::yield_now().await;
            }
            let mut orphans = 0_u64;
            loop {
                let some = leftover.next(BATCH).map_err(text)?;
                if some.is_empty() {
                    break;
                }
                let mut batch = UsageBatch::default();
                some.iter().for_each(|record| batch.push(record.id, &record.payload));
                let new = records.append_packed(batch).await.map_err(|error| error.to_string())?;
                self.0.metrics.flushed.inc_by(new);
                for pending in some.iter().filter(|record| record.orphan) {
                    orphans += 1;
                    if let Some(usage) = Usage::unpack(&pending.payload) {
                        debts.pay(&usage.row(pending.id)).await.map_err(|error| error.to_string())?;
                    }
                }
            }
            self.0.metrics.flush_errors.inc_by(leftover.broken());
            if orphans > 0 {
                self.0.metrics.recovered.inc_by(orphans);
                log::warn!(target: "usage", orphans; "a process was killed with requests under way; they are charged what they had reserved");
            }
            leftover.done().map_err(text)?;
        }
        Ok(())
    }

    /// Whether counters can be seeded: the record store was reached, or nothing is recorded.
    pub fn is_ready(&self) -> bool {
        self.0.spool.is_none() || self.0.records.get().is_some()
    }

    /// Counters that may have missed what is on record.
    pub fn doubts(&self) -> &Arc<Doubts> {
        &self.0.doubts
    }

    /// The record store, once it was reached.
    pub fn records(&self) -> Option<&Arc<dyn RecordStore>> {
        self.0.records.get()
    }
}

async fn forget(records: &dyn RecordStore, retention: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let before = i64::try_from(now.saturating_sub(retention).as_millis()).unwrap_or(0);
    loop {
        match records.forget_usage(before, FORGOTTEN).await {
            Ok(n) if n >= u64::from(FORGOTTEN) => {}
            Ok(_) => return,
            Err(error) => return log::warn!(target: "usage", "old usage records are still there: {error}"),
        }
    }
}

#[async_trait]
impl Past for Books {
    fn doubt(&self, account: &Arc<Account>, window: Window) {
        if self.keeps_any() {
            self.0.doubts.put(account, window);
        }
    }

    async fn used(&self, account: &Account, window: Window) -> Result<i64, StateError> {
        let Some(records) = self.0.records.get() else {
            return if self.0.spool.is_none() {
                Ok(0)
            } else {
                Err(StateError::Unavailable("the record store was not reached yet".into()))
            };
        };
        // Records that are still in the spool count too. If the store does not take them, the query below fails as well.
        let _ = self.carry(records.as_ref()).await;
        let id = Some(account.owner_id.to_string());
        let mut filter = UsageFilter { organisation: Some(account.organisation().to_owned()), ..UsageFilter::default() };
        match account.owner {
            OwnerKind::Org => {}
            OwnerKind::Team => filter.team = id,
            OwnerKind::User => filter.user = id,
            OwnerKind::ApiKey => filter.key = id,
        }
        (filter.from, filter.until) = (Some(window.start / 1000), Some(window.end / 1000));
        // Only what the counter itself would have counted.
        (filter.accepted, filter.failed) = (true, account.metric == Metric::Errors);
        let unavailable = |error: RecordError| StateError::Unavailable(error.to_string().into());
        let sums = records.sum_usage(&filter, UsageBy::Nothing).await.map_err(unavailable)?;
        let Some(sum) = sums.first() else { return Ok(0) };
        let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        Ok(match account.metric {
            Metric::Requests | Metric::Errors => whole(sum.requests),
            Metric::Tokens => whole(sum.input_tokens.saturating_add(sum.output_tokens)),
            Metric::TokensIn => whole(sum.input_tokens),
            Metric::TokensOut => whole(sum.output_tokens),
            Metric::LatencyMs => whole(sum.latency_ms),
            Metric::Cost => sum.cost_nanos,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::sql::{Options, SqlRecords};
    use crate::telemetry::Metrics;

    struct Free;

    #[async_trait]
    impl Debts for Free {
        async fn pay(&self, _record: &UsageRecord) -> Result<(), StateError> {
            Ok(())
        }
    }

    /// As in an upgrade: the old process drains while this one runs already.
    #[tokio::test]
    async fn what_another_process_leaves_later_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let spools = dir.path().join("usage");
        let metrics = Metrics::new().unwrap().governance();
        let other = Spool::open(&spools, "other", SEGMENT).unwrap();
        let who = Who {
            organisation: "acme",
            key: "k1",
            team: None,
            user: None,
            provider: None,
            model: None,
            route: "llm",
            endpoint: "chat_completions",
            stream: false,
            trace_id: None,
        };
        let mut payload = Vec::new();
        record::begin(&who, 1_700_000_000_000, AtMost { tokens_in: 1, tokens_out: 2, cost: 3 }, &mut payload);
        let _begun = other.confirm(other.begin(7, &payload).unwrap()).await.unwrap();
        let books = Books::open(Some(&spools), metrics.clone()).unwrap();
        let records: Arc<dyn RecordStore> = Arc::new(SqlRecords::embedded(&dir.path().join("records.db"), Options::default()).unwrap());
        let keeping = tokio::spawn({
            let books = books.clone();
            async move { books.keep(records, Duration::from_secs(3600 * 24 * 36500), &Free).await }
        });
        while !books.is_ready() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(metrics.recovered.get(), 0, "it lives");
        drop(other);
        let left = tokio::time::Instant::now();
        while metrics.recovered.get() == 0 && left.elapsed() < LOOKING * 6 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(metrics.recovered.get(), 1);
        keeping.abort();
    }
}
