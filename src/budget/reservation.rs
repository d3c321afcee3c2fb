//! What one request reserves of budgets and quotas, from before it leaves until it is settled or released.

use std::sync::Arc;
use std::time::Duration;

use super::account::Open;
use super::{Account, AccountKind, Metric, OwnerKind, Past, Period, Window};
use crate::error::{Denial, Room, codes};
use crate::store::{Charge, Counted, Hold, LeaseId, MAX_COUNT, Reservations, Settled, Settlement, StateError, StateKey};

/// The most that a request can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Worst {
    /// Input tokens.
    pub tokens_in: u64,
    /// Output tokens.
    pub tokens_out: u64,
    /// Cost (nano-USD).
    pub cost: i64,
}

/// What a request really used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actual {
    /// Input tokens.
    pub tokens_in: u64,
    /// Output tokens.
    pub tokens_out: u64,
    /// Cost (nano-USD).
    pub cost: i64,
    /// Whether it counts as an error.
    pub error: bool,
    /// The duration of the request.
    pub latency: Duration,
}

/// An account crossed a threshold.
#[derive(Debug, Clone)]
pub struct Crossing {
    /// The account.
    pub account: Arc<Account>,
    /// The threshold, in percent of the limit.
    pub percent: u32,
    /// The used amount now.
    pub used: i64,
    /// The limit of the window.
    pub limit: i64,
    /// The window.
    pub window: Window,
}

/// The message about a crossed threshold. It concerns the owner and contains nothing of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetNotice {
    /// The id of the organisation.
    pub organisation: Arc<str>,
    /// The name of the budget or quota.
    pub name: Arc<str>,
    /// Budget or quota.
    pub kind: AccountKind,
    /// What is counted.
    pub metric: Metric,
    /// The kind of its owner.
    pub owner: OwnerKind,
    /// The id of its owner.
    pub owner_id: Arc<str>,
    /// The length of a window.
    pub period: Period,
    /// The window, in microseconds since the Unix epoch.
    pub window: Window,
    /// The threshold that was crossed, in percent of the limit.
    pub percent: u32,
    /// The used amount now, in the unit of the metric (nano-USD for money).
    pub spent: i64,
    /// The limit of the window.
    pub limit: i64,
}

impl Crossing {
    /// The message about this crossing.
    pub fn notice(&self) -> BudgetNotice {
        let account = &self.account;
        BudgetNotice {
            organisation: account.organisation().into(),
            name: Arc::clone(&account.name),
            kind: account.kind,
            metric: account.metric,
            owner: account.owner,
            owner_id: Arc::clone(&account.owner_id),
            period: account.schedule().period(),
            window: self.window,
            percent: self.percent,
            spent: self.used,
            limit: self.limit,
        }
    }
}

/// What one request reserves.
#[derive(Debug, Clone)]
pub struct Reservation {
    lease: LeaseId,
    holds: Vec<Held>,
}

#[derive(Debug, Clone)]
struct Held {
    account: Arc<Account>,
    open: Arc<Open>,
    amount: i64,
}

impl Worst {
    fn of(&self, metric: Metric) -> i64 {
        match metric {
            Metric::Requests => 1,
            Metric::Tokens => whole(self.tokens_in.saturating_add(self.tokens_out)),
            Metric::TokensIn => whole(self.tokens_in),
            Metric::TokensOut => whole(self.tokens_out),
            Metric::Cost => self.cost.clamp(0, MAX_COUNT),
            // Not known beforehand: an amount of 0 only asks whether anything is left.
            Metric::Errors | Metric::LatencyMs => 0,
        }
    }
}

impl Actual {
    /// The used amount of a metric.
    pub fn of(&self, metric: Metric) -> i64 {
        match metric {
            Metric::Requests => 1,
            Metric::Tokens => whole(self.tokens_in.saturating_add(self.tokens_out)),
            Metric::TokensIn => whole(self.tokens_in),
            Metric::TokensOut => whole(self.tokens_out),
            Metric::Cost => self.cost.clamp(0, MAX_COUNT),
            Metric::Errors => i64::from(self.error),
            Metric::LatencyMs => whole(self.latency.as_millis().try_into().unwrap_or(u64::MAX)),
        }
    }
}

/// Caps a number at what a store can count, so that no number from a caller or provider makes a question invalid.
fn whole(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(MAX_COUNT).min(MAX_COUNT)
}

impl Reservation {
    /// The worst case of a request in all accounts that are active now. Budgets should come first: of several accounts without
    /// room, the first one is reported. `now` in microseconds since the Unix epoch.
    ///
    /// # Errors
    /// The window of an account had to be opened and a store did not answer.
    pub async fn open(
        store: &dyn Reservations,
        past: &dyn Past,
        accounts: &[Arc<Account>],
        lease: LeaseId,
        now: i64,
        worst: &Worst,
    ) -> Result<Self, StateError> {
        let mut holds = Vec::with_capacity(accounts.len());
        for account in accounts {
            if let Some(open) = account.open(store, past, now).await? {
                holds.push(Held { account: Arc::clone(account), open, amount: worst.of(account.metric) });
            }
        }
        Ok(Self { lease, holds })
    }

    /// Like [`Self::open`] without waiting; `None` if the current window of an account has not been opened yet.
    pub fn of_open(accounts: &[Arc<Account>], lease: LeaseId, now: i64, worst: &Worst) -> Option<Self> {
        let mut holds = Vec::with_capacity(accounts.len());
        for account in accounts {
            holds.push(Held { account: Arc::clone(account), open: account.is_open(now)?, amount: worst.of(account.metric) });
        }
        Some(Self { lease, holds })
    }

    /// Seeds the counters again that the store has lost since their windows were opened here.
    ///
    /// # Errors
    /// A store did not answer.
    pub async fn tell(&self, store: &dyn Reservations, past: &dyn Past) -> Result<(), StateError> {
        for held in &self.holds {
            held.account.tell(store, past, held.open.window).await?;
        }
        Ok(())
    }

    /// Passes [`Self::holds`] to `then`, without an allocation for a few accounts.
    pub fn with_holds<R>(&self, then: impl FnOnce(&[Hold<'_>]) -> R) -> R {
        let hold = |held| {
            let Held { open, amount, .. }: &Held = held;
            Hold { key: &open.key, limit: open.limit, amount: *amount, keep_until: open.keep_until }
        };
        few(&self.holds, hold, then)
    }

    /// The amounts to reserve, in the form of the store.
    pub fn holds(&self) -> Vec<Hold<'_>> {
        let hold = |held| {
            let Held { open, amount, .. }: &Held = held;
            Hold { key: &open.key, limit: open.limit, amount: *amount, keep_until: open.keep_until }
        };
        self.holds.iter().map(hold).collect()
    }

    /// The denial when the account at this position has no room; `each` is the state of all accounts.
    pub fn exceeded(&self, at: usize, each: &[Counted], now: i64) -> Denial {
        match self.holds.get(at) {
            Some(held) => denial(held, each.get(at).copied().unwrap_or_default(), now),
            None => Denial::of(codes::BUDGET_EXCEEDED),
        }
    }

    /// The reservation that a process which is gone made at `at`, so that it can be settled. `at` in microseconds since the Unix
    /// epoch.
    pub fn of_orphan(accounts: &[Arc<Account>], lease: LeaseId, at: i64) -> Self {
        let held = |account: &Arc<Account>| {
            let open = account.window(at)?;
            Some(Held { account: Arc::clone(account), open: Arc::new(open), amount: 0 })
        };
        Self { lease, holds: accounts.iter().filter_map(held).collect() }
    }

    /// The lease under which the reservation is held.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Whether no account is active.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// Extends the reservation's lifetime, so that a long answer does not lose it.
    ///
    /// # Errors
    /// The store did not answer; try again.
    pub async fn extend(&self, store: &dyn Reservations, ttl: Duration) -> Result<(), StateError> {
        if self.holds.is_empty() { Ok(()) } else { store.extend(self.lease, ttl, &self.holds()).await }
    }

    /// What the request used of each account, in the form of the store.
    pub fn charges(&self, actual: &Actual) -> Vec<Charge<'_>> {
        self.holds.iter().map(|held| held.charge(actual)).collect()
    }

    /// Passes the charges of a request that left, or else the keys to release, to `then`, without an allocation for a few accounts.
    pub fn with_end<R>(&self, actual: Option<&Actual>, then: impl FnOnce(&[Charge<'_>], &[&StateKey]) -> R) -> R {
        match actual {
            Some(actual) => few(&self.holds, |held| held.charge(actual), |charges| then(charges, &[])),
            None => few(&self.holds, |held| &held.open.key, |keys| then(&[], keys)),
        }
    }

    /// Its accounts, each with the window that it draws on.
    pub fn windows(&self) -> impl Iterator<Item = (&Arc<Account>, Window)> {
        self.holds.iter().map(|held| (&held.account, held.open.window))
    }

    /// Its counters.
    pub fn keys(&self) -> Vec<&StateKey> {
        self.holds.iter().map(|held| &held.open.key).collect()
    }

    /// The thresholds that this settlement crossed.
    pub fn crossings(&self, settled: &Settled) -> Vec<Crossing> {
        let crossing = |&(at, percent): &(usize, u32)| {
            let held = self.holds.get(at)?;
            let used = settled.each.get(at).map_or(0, |counted: &Counted| counted.used);
            Some(Crossing { account: Arc::clone(&held.account), percent, used, limit: held.open.limit, window: held.open.window })
        };
        settled.crossed.iter().filter_map(crossing).collect()
    }

    /// Replaces the reservation by what the request really used. Repeating it changes nothing.
    ///
    /// # Errors
    /// The store did not answer; repeat the call.
    pub async fn settle(&self, store: &dyn Reservations, actual: &Actual) -> Result<(Settlement, Vec<Crossing>), StateError> {
        if self.holds.is_empty() {
            return Ok((Settlement::Applied, Vec::new()));
        }
        let settled = store.settle(self.lease, &self.charges(actual)).await?;
        Ok((settled.settlement, self.crossings(&settled)))
    }

    /// Releases the reservation of a request that used nothing. Repeating it changes nothing.
    ///
    /// # Errors
    /// The store did not answer; repeat the call.
    pub async fn release(&self, store: &dyn Reservations) -> Result<(), StateError> {
        if self.holds.is_empty() { Ok(()) } else { store.release(self.lease, &self.keys()).await.map(drop) }
    }
}

impl Held {
    fn charge(&self, actual: &Actual) -> Charge<'_> {
        let Self { account, open, .. } = self;
        Charge {
            key: &open.key,
            actual: actual.of(account.metric),
            limit: open.limit,
            thresholds: &account.thresholds,
            keep_until: open.keep_until,
        }
    }
}

/// Maps each account and passes the results to `then`; a few of them, which is usual, need no allocation.
fn few<'a, T: Copy, R>(held: &'a [Held], make: impl Fn(&'a Held) -> T, then: impl FnOnce(&[T]) -> R) -> R {
    const FEW: usize = 4;
    match held {
        [first, rest @ ..] if rest.len() < FEW => {
            let mut all = [make(first); FEW];
            all.iter_mut().skip(1).zip(rest).for_each(|(place, held)| *place = make(held));
            then(&all[..held.len()])
        }
        _ => then(&held.iter().map(make).collect::<Vec<_>>()),
    }
}

fn denial(held: &Held, counted: Counted, now: i64) -> Denial {
    let Held { account, open, amount } = held;
    let mut denial = match account.kind {
        AccountKind::Budget => Denial::of(codes::BUDGET_EXCEEDED),
        AccountKind::Quota => Denial::of(codes::QUOTA_EXCEEDED),
    };
    denial.scope = Some(account.owner.scope());
    denial.limit = Some(account.metric.as_str());
    // At the end of the window, at the latest, there is room again.
    denial.retry_after = u64::try_from(open.window.end.saturating_sub(now)).ok().map(Duration::from_micros);
    let resets_at = jiff::Timestamp::from_microsecond(open.window.end).map_or_else(|_| String::new(), |end| end.to_string());
    let Counted { used: settled, reserved, .. } = counted;
    denial.room = Some(Box::new(Room { name: account.name.to_string(), cap: open.limit, settled, reserved, estimate: *amount, resets_at }));
    denial
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "reservation_test.rs"]
mod tests;
