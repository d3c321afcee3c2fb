//! A budget or quota with its counters: which window is open, what may be taken from it, what became of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;

use super::{BudgetEntry, Metric, OwnerKind, Period, QuotaEntry, Schedule, ScheduleEntry, ScheduleError, Window};
use crate::store::{MAX_COUNT, Reservations, StateError, StateKey};

/// A window's counter is kept for two weeks more: for those who settle late, and for the next window's rollover.
const KEPT: i64 = 14 * 86_400_000;

/// A request is on record a moment before its counters have heard of its end.
const SETTLED: Duration = Duration::from_millis(250);

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountKind {
    /// Money: 402 `budget_exceeded`.
    Budget,
    /// A metric: 429 `quota_exceeded`.
    Quota,
}

impl AccountKind {
    /// The word in keys, metrics and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Quota => "quota",
        }
    }
}

/// Why an account cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Its schedule cannot be.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// Nothing could ever be taken from it.
    #[error("a limit of zero would refuse every request; switch the key or the model off instead")]
    Zero,
    /// More than can be counted exactly.
    #[error("a limit is at most 9007199.254740991 USD, or 9007199254740991 of a metric")]
    TooLarge,
    /// The same where a window may hold twice as much.
    #[error("with rollover, which may double it, a limit is at most 4503599.627370495 USD, or 4503599627370495 of a metric")]
    TooLargeToDouble,
    /// A threshold outside 1 to 1000.
    #[error("a threshold is a percentage from 1 to 1000")]
    Threshold,
}

/// What had been used of an account in a window, according to the records: what a state store that lost its memory is
/// told when it begins anew.
#[async_trait]
pub trait Past: Send + Sync + 'static {
    /// The sum of the records, in the unit of the account's metric.
    ///
    /// # Errors
    /// When the records cannot be read.
    async fn used(&self, account: &Account, window: Window) -> Result<i64, StateError>;

    /// A counter was told what had been used while requests may have been under way that nobody told it of.
    fn doubt(&self, _account: &Arc<Account>, _window: Window) {}
}

/// One budget or quota.
#[derive(Debug)]
pub struct Account {
    /// For people.
    pub name: Arc<str>,
    /// What is bounded.
    pub kind: AccountKind,
    /// What is counted.
    pub metric: Metric,
    /// What sort of owner.
    pub owner: OwnerKind,
    /// Identifier of the owner.
    pub owner_id: Arc<str>,
    /// What a window may hold without rollover.
    pub limit: i64,
    /// Percents of the limit that are told.
    pub thresholds: Box<[u32]>,
    schedule: Schedule,
    rollover: bool,
    tag: Arc<str>,
    /// The configuration before this one did not have it: its counter may have been counted on without it.
    returned: AtomicBool,
    open: ArcSwapOption<Open>,
    /// Held by who opens a window; with it, when that failed last, and why.
    opening: tokio::sync::Mutex<Option<(Instant, StateError)>>,
}

/// An account's window that is counted now.
#[derive(Debug, PartialEq, Eq)]
pub struct Open {
    /// From when to when.
    pub window: Window,
    /// Its counter.
    pub key: StateKey,
    /// What it may hold, with what the window before left.
    pub limit: i64,
    /// Until when the counter is kept, milliseconds since the Unix epoch.
    pub keep_until: i64,
}

impl Account {
    /// The account of a budget; `None` if it is not active. `tag` is what all accounts of an organisation share.
    ///
    /// # Errors
    /// A schedule, amount or threshold that cannot be.
    pub fn of_budget(entry: &BudgetEntry, tag: &str, owner_id: &str) -> Result<Option<Self>, AccountError> {
        let what = (AccountKind::Budget, Metric::Cost, entry.amount.0);
        Self::new(&entry.name, what, (entry.owner.kind, owner_id, tag), entry.period, &entry.schedule, &entry.thresholds)
    }

    /// The account of a quota; `None` if it is not active.
    ///
    /// # Errors
    /// A schedule, limit or threshold that cannot be.
    pub fn of_quota(entry: &QuotaEntry, tag: &str, owner_id: &str) -> Result<Option<Self>, AccountError> {
        let what = (AccountKind::Quota, entry.metric, i64::try_from(entry.limit).unwrap_or(i64::MAX));
        Self::new(&entry.name, what, (entry.owner.kind, owner_id, tag), entry.period, &entry.schedule, &entry.thresholds)
    }

    fn new(
        name: &str,
        (kind, metric, limit): (AccountKind, Metric, i64),
        (owner, owner_id, tag): (OwnerKind, &str, &str),
        period: Period,
        entry: &ScheduleEntry,
        thresholds: &[u32],
    ) -> Result<Option<Self>, AccountError> {
        let schedule = Schedule::new(period, &entry.timezone, entry.start_at.map(|m| m.0), entry.end_at.map(|m| m.0))?;
        if limit <= 0 {
            return Err(AccountError::Zero);
        }
        if limit > MAX_COUNT {
            return Err(AccountError::TooLarge);
        }
        if entry.rollover && limit > MAX_COUNT / 2 {
            return Err(AccountError::TooLargeToDouble);
        }
        if thresholds.iter().any(|percent| !(1..=1000).contains(percent)) {
            return Err(AccountError::Threshold);
        }
        let mut thresholds = thresholds.to_vec();
        thresholds.sort_unstable();
        thresholds.dedup();
        Ok(entry.active.then(|| Self {
            name: name.into(),
            kind,
            metric,
            owner,
            owner_id: owner_id.into(),
            limit,
            thresholds: thresholds.into(),
            schedule,
            rollover: entry.rollover,
            tag: tag.into(),
            returned: AtomicBool::new(false),
            open: ArcSwapOption::empty(),
            opening: tokio::sync::Mutex::default(),
        }))
    }

    /// Identifier of the organisation it belongs to.
    pub fn organisation(&self) -> &str {
        &self.tag
    }

    /// Its schedule.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The counter of one of its windows. It is named by owner, name and the window's start, so that a changed limit goes
    /// on counting and a changed schedule begins anew.
    pub fn key(&self, window: Window) -> StateKey {
        let (kind, owner, id, metric) = (self.kind.as_str(), self.owner.as_str(), &self.owner_id, self.metric.as_str());
        StateKey::new(&self.tag, &format!("{kind}:{owner}:{id}:{}:{metric}:{}", self.name, window.start))
    }

    /// The window of this moment, if it is open; microseconds since the Unix epoch.
    pub fn is_open(&self, now: i64) -> Option<Arc<Open>> {
        self.open.load().as_ref().filter(|open| open.window.contains(now)).map(Arc::clone)
    }

    /// The window of this moment, opened if it is new to this process; `None` outside the schedule. Microseconds since the
    /// Unix epoch.
    ///
    /// # Errors
    /// When a window had to be opened and a store did not answer.
    pub async fn open(self: &Arc<Self>, store: &dyn Reservations, past: &dyn Past, now: i64) -> Result<Option<Arc<Open>>, StateError> {
        if let Some(open) = self.is_open(now) {
            return Ok(Some(open));
        }
        // At the beginning of a window everybody comes at once, and the stores are asked once.
        let came = Instant::now();
        let mut failed = self.opening.lock().await;
        if let Some(open) = self.is_open(now) {
            return Ok(Some(open));
        }
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at >= came) {
            return Err(error.clone());
        }
        let opened = self.opened(store, past, now).await;
        *failed = opened.as_ref().err().map(|error| (Instant::now(), error.clone()));
        opened
    }

    async fn opened(self: &Arc<Self>, store: &dyn Reservations, past: &dyn Past, now: i64) -> Result<Option<Arc<Open>>, StateError> {
        let Some(window) = self.schedule.window(now) else { return Ok(None) };
        let mut limit = self.limit;
        if self.rollover
            && let Some(before) = self.schedule.before(window)
        {
            limit = limit.saturating_add((self.limit - self.used(store, past, before).await?).clamp(0, self.limit));
        }
        let returned = self.returned.load(Ordering::Acquire);
        let (counted, told) = self.counted(store, past, window).await?;
        if returned && told == 0 {
            // Nobody charged it what was used since the configuration lost it, and the records have it.
            let said = past.used(self, window).await?;
            if said > counted {
                tokio::time::sleep(SETTLED).await;
                self.raise(store, window, said).await?;
            }
        }
        // A counter that has never counted, of a window that has just begun, has missed nothing.
        if returned || told > 0 {
            past.doubt(self, window);
        }
        self.returned.store(false, Ordering::Release);
        let open = Arc::new(Open { window, key: self.key(window), limit, keep_until: window.end / 1000 + KEPT });
        self.open.store(Some(Arc::clone(&open)));
        Ok(Some(open))
    }

    /// The window of a moment without rollover, whether or not it is open; microseconds since the Unix epoch.
    pub fn window(&self, at: i64) -> Option<Open> {
        let window = self.schedule.window(at)?;
        Some(Open { window, key: self.key(window), limit: self.limit, keep_until: window.end / 1000 + KEPT })
    }

    /// Tells a counter that lost it what was used before.
    ///
    /// # Errors
    /// When a store did not answer.
    pub async fn tell(self: &Arc<Self>, store: &dyn Reservations, past: &dyn Past, window: Window) -> Result<(), StateError> {
        self.used(store, past, window).await?;
        past.doubt(self, window);
        Ok(())
    }

    /// The configuration before this one did not have this account. Its counter, if there is one, is compared with the records
    /// when its window is opened.
    pub fn returns(&self) {
        self.returned.store(true, Ordering::Release);
    }

    /// Raises a counter to what the records say was used, if it says less. Says by how much.
    ///
    /// # Errors
    /// When the store did not answer.
    pub async fn raise(&self, store: &dyn Reservations, window: Window, said: i64) -> Result<i64, StateError> {
        let key = self.key(window);
        let counted = store.counters(&[&key]).await?.first().copied().unwrap_or_default();
        let missing = said.min(MAX_COUNT) - counted.used;
        // One that was not told anything is told when it is asked next.
        if !counted.seeded || missing <= 0 {
            return Ok(0);
        }
        store.adjust(&key, missing, window.end / 1000 + KEPT).await?;
        Ok(missing)
    }

    async fn used(&self, store: &dyn Reservations, past: &dyn Past, window: Window) -> Result<i64, StateError> {
        self.counted(store, past, window).await.map(|(used, _)| used)
    }

    /// What a window's counter says was used; one that has never counted is told what the records say, which is told too.
    async fn counted(&self, store: &dyn Reservations, past: &dyn Past, window: Window) -> Result<(i64, i64), StateError> {
        let key = self.key(window);
        let counted = store.counters(&[&key]).await?.first().copied().unwrap_or_default();
        if counted.seeded {
            return Ok((counted.used, 0));
        }
        let before = past.used(self, window).await?.clamp(0, MAX_COUNT);
        store.seed(&key, before, window.end / 1000 + KEPT).await?;
        Ok((store.counters(&[&key]).await?.first().map_or(0, |counted| counted.used), before))
    }
}
