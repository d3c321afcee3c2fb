//! A budget or quota with its counters: the current window, what may be taken from it and what has been used.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;

use super::{BudgetEntry, Metric, OwnerKind, Period, QuotaEntry, Schedule, ScheduleEntry, ScheduleError, Window};
use crate::store::{MAX_COUNT, Reservations, StateError, StateKey};

/// How long a window's counter is kept after its end, for late settlements and the next window's rollover: two weeks, in ms.
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

/// Why an account is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// The schedule is invalid.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The limit is zero.
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

/// The usage of an account in a window according to the records, with which its counter is seeded when a state store is new
/// or has lost its memory.
#[async_trait]
pub trait Past: Send + Sync + 'static {
    /// The sum over the records, in the unit of the account's metric.
    ///
    /// # Errors
    /// The records cannot be read.
    async fn used(&self, account: &Account, window: Window) -> Result<i64, StateError>;

    /// A counter was told what had been used while requests may have been under way that nobody told it of.
    fn doubt(&self, _account: &Arc<Account>, _window: Window) {}
}

/// One budget or quota.
#[derive(Debug)]
pub struct Account {
    /// The name, for people.
    pub name: Arc<str>,
    /// Budget or quota.
    pub kind: AccountKind,
    /// What is counted.
    pub metric: Metric,
    /// The kind of its owner.
    pub owner: OwnerKind,
    /// The id of its owner.
    pub owner_id: Arc<str>,
    /// The most that a window may hold, without rollover.
    pub limit: i64,
    /// The percentages of the limit whose crossing is announced.
    pub thresholds: Box<[u32]>,
    schedule: Schedule,
    rollover: bool,
    tag: Arc<str>,
    /// The configuration before this one did not have it: its counter may have been counted on without it.
    returned: AtomicBool,
    open: ArcSwapOption<Open>,
    /// Held while a window is opened. Contains when opening last failed, and why.
    opening: tokio::sync::Mutex<Option<(Instant, StateError)>>,
}

/// The window of an account in which usage is currently counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Open {
    /// The window.
    pub window: Window,
    /// The key of its counter.
    pub key: StateKey,
    /// The most that the window may hold, including what rolled over from the one before.
    pub limit: i64,
    /// Until when the counter is kept (ms since the Unix epoch).
    pub keep_until: i64,
}

impl Account {
    /// The account of a budget; `None` if the budget is not active. `tag` is shared by all accounts of an organisation.
    ///
    /// # Errors
    /// The schedule, amount or threshold is invalid.
    pub fn of_budget(entry: &BudgetEntry, tag: &str, owner_id: &str) -> Result<Option<Self>, AccountError> {
        let what = (AccountKind::Budget, Metric::Cost, entry.amount.0);
        Self::new(&entry.name, what, (entry.owner.kind, owner_id, tag), entry.period, &entry.schedule, &entry.thresholds)
    }

    /// The account of a quota; `None` if the quota is not active.
    ///
    /// # Errors
    /// The schedule, limit or threshold is invalid.
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

    /// The id of the organisation that the account belongs to.
    pub fn organisation(&self) -> &str {
        &self.tag
    }

    /// The schedule of its windows.
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The key of a window's counter. It consists of owner, name and the window's start, so that counting continues when the limit
    /// changes and starts anew when the schedule does.
    pub fn key(&self, window: Window) -> StateKey {
        let (kind, owner, id, metric) = (self.kind.as_str(), self.owner.as_str(), &self.owner_id, self.metric.as_str());
        StateKey::new(&self.tag, &format!("{kind}:{owner}:{id}:{}:{metric}:{}", self.name, window.start))
    }

    /// The window at `now`, if it has been opened. `now` in microseconds since the Unix epoch.
    pub fn is_open(&self, now: i64) -> Option<Arc<Open>> {
        self.open.load().as_ref().filter(|open| open.window.contains(now)).map(Arc::clone)
    }

    /// The window at `now`, opened if this process has not used it yet; `None` outside the schedule. `now` in microseconds since
    /// the Unix epoch.
    ///
    /// # Errors
    /// When a window had to be opened and a store did not answer.
    pub async fn open(self: &Arc<Self>, store: &dyn Reservations, past: &dyn Past, now: i64) -> Result<Option<Arc<Open>>, StateError> {
        if let Some(open) = self.is_open(now) {
            return Ok(Some(open));
        }
        // At the start of a window many requests arrive here at once; the stores are asked once for all of them.
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

    /// The window at `at`, without rollover and without opening it. `at` in microseconds since the Unix epoch.
    pub fn window(&self, at: i64) -> Option<Open> {
        let window = self.schedule.window(at)?;
        Some(Open { window, key: self.key(window), limit: self.limit, keep_until: window.end / 1000 + KEPT })
    }

    /// Seeds a counter again that the store has lost.
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
