//! What one request holds of budgets and quotas, from before it leaves until it is paid.

use std::sync::Arc;
use std::time::Duration;

use super::account::Open;
use super::{Account, AccountKind, Metric, OwnerKind, Past, Period, Window};
use crate::error::{Denial, Room, codes};
use crate::store::{Charge, Counted, Hold, LeaseId, MAX_COUNT, Reservations, Settled, Settlement, StateError, StateKey};

/// The most that a request can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Worst {
    /// Tokens of the prompt.
    pub tokens_in: u64,
    /// Tokens of the answer.
    pub tokens_out: u64,
    /// Nano-USD.
    pub cost: i64,
}

/// What a request did take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Actual {
    /// Tokens of the prompt.
    pub tokens_in: u64,
    /// Tokens of the answer.
    pub tokens_out: u64,
    /// Nano-USD.
    pub cost: i64,
    /// Whether it counts as an error.
    pub error: bool,
    /// How long it took.
    pub latency: Duration,
}

/// An account passed a threshold.
#[derive(Debug, Clone)]
pub struct Crossing {
    /// Which.
    pub account: Arc<Account>,
    /// Percent of its limit.
    pub percent: u32,
    /// What is used now.
    pub used: i64,
    /// The limit of the window.
    pub limit: i64,
    /// The window.
    pub window: Window,
}

/// A threshold that was crossed, for whoever wants to hear of it. It speaks of the owner and holds nothing of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetNotice {
    /// Identifier of the organisation.
    pub organisation: Arc<str>,
    /// Name of the budget or quota.
    pub name: Arc<str>,
    /// Which of the two.
    pub kind: AccountKind,
    /// What is counted.
    pub metric: Metric,
    /// What sort of owner.
    pub owner: OwnerKind,
    /// Identifier of the owner.
    pub owner_id: Arc<str>,
    /// How long a window is.
    pub period: Period,
    /// From when to when the window is, microseconds since the Unix epoch.
    pub window: Window,
    /// Percent of the limit that was reached.
    pub percent: u32,
    /// What is used now, in the unit of the metric: nano-USD for money.
    pub spent: i64,
    /// The limit of the window.
    pub limit: i64,
}

impl Crossing {
    /// What there is to say of it.
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

/// What a request holds.
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
            // Nobody knows these beforehand: the counter is only asked whether anything is left.
            Metric::Errors | Metric::LatencyMs => 0,
        }
    }
}

impl Actual {
    /// How much of a metric this is.
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

/// As far as a store can count: whatever a caller or a provider says, the question is one that can be answered.
fn whole(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(MAX_COUNT).min(MAX_COUNT)
}

impl Reservation {
    /// What a request would hold at worst in all accounts that count now. Budgets should come first: of several accounts
    /// without room the first is told. `now` in microseconds since the Unix epoch.
    ///
    /// # Errors
    /// An account's window had to be opened, and a store did not answer.
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

    /// The same where every account's window of this moment is open; `None` where one has to be opened, or closed.
    pub fn of_open(accounts: &[Arc<Account>], lease: LeaseId, now: i64, worst: &Worst) -> Option<Self> {
        let mut holds = Vec::with_capacity(accounts.len());
        for account in accounts {
            holds.push(Held { account: Arc::clone(account), open: account.is_open(now)?, amount: worst.of(account.metric) });
        }
        Some(Self { lease, holds })
    }

    /// Tells every counter that the store lost since the window was opened here what the records say was used before.
    ///
    /// # Errors
    /// When a store did not answer.
    pub async fn tell(&self, store: &dyn Reservations, past: &dyn Past) -> Result<(), StateError> {
        for held in &self.holds {
            held.account.tell(store, past, held.open.window).await?;
        }
        Ok(())
    }

    /// The same for `then`; of few without a list.
    pub fn with_holds<R>(&self, then: impl FnOnce(&[Hold<'_>]) -> R) -> R {
        let hold = |held| {
            let Held { open, amount, .. }: &Held = held;
            Hold { key: &open.key, limit: open.limit, amount: *amount, keep_until: open.keep_until }
        };
        few(&self.holds, hold, then)
    }

    /// What the store is asked.
    pub fn holds(&self) -> Vec<Hold<'_>> {
        let hold = |held| {
            let Held { open, amount, .. }: &Held = held;
            Hold { key: &open.key, limit: open.limit, amount: *amount, keep_until: open.keep_until }
        };
        self.holds.iter().map(hold).collect()
    }

    /// What the caller is told when the account at this position has no room; `each` is how the accounts stand.
    pub fn exceeded(&self, at: usize, each: &[Counted], now: i64) -> Denial {
        match self.holds.get(at) {
            Some(held) => denial(held, each.get(at).copied().unwrap_or_default(), now),
            None => Denial::of(codes::BUDGET_EXCEEDED),
        }
    }

    /// The reservation that a process made at this moment that is gone since, so that it can be paid. Microseconds since
    /// the Unix epoch.
    pub fn of_orphan(accounts: &[Arc<Account>], lease: LeaseId, at: i64) -> Self {
        let held = |account: &Arc<Account>| {
            let open = account.window(at)?;
            Some(Held { account: Arc::clone(account), open: Arc::new(open), amount: 0 })
        };
        Self { lease, holds: accounts.iter().filter_map(held).collect() }
    }

    /// Who holds it.
    pub fn lease(&self) -> LeaseId {
        self.lease
    }

    /// Whether anything is held.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// Holds it for another while: a long answer keeps what it may cost.
    ///
    /// # Errors
    /// When the store does not answer; try again.
    pub async fn extend(&self, store: &dyn Reservations, ttl: Duration) -> Result<(), StateError> {
        if self.holds.is_empty() { Ok(()) } else { store.extend(self.lease, ttl, &self.holds()).await }
    }

    /// What the request did take of each account.
    pub fn charges(&self, actual: &Actual) -> Vec<Charge<'_>> {
        self.holds.iter().map(|held| held.charge(actual)).collect()
    }

    /// What it did take, or what is released where it did not leave, for `then`; of few without a list.
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

    /// The thresholds that settling crossed.
    pub fn crossings(&self, settled: &Settled) -> Vec<Crossing> {
        let crossing = |&(at, percent): &(usize, u32)| {
            let held = self.holds.get(at)?;
            let used = settled.each.get(at).map_or(0, |counted: &Counted| counted.used);
            Some(Crossing { account: Arc::clone(&held.account), percent, used, limit: held.open.limit, window: held.open.window })
        };
        settled.crossed.iter().filter_map(crossing).collect()
    }

    /// Replaces the reservation by what the request did take. Repeated, it changes nothing.
    ///
    /// # Errors
    /// When the store does not answer; repeat it then.
    pub async fn settle(&self, store: &dyn Reservations, actual: &Actual) -> Result<(Settlement, Vec<Crossing>), StateError> {
        if self.holds.is_empty() {
            return Ok((Settlement::Applied, Vec::new()));
        }
        let settled = store.settle(self.lease, &self.charges(actual)).await?;
        Ok((settled.settlement, self.crossings(&settled)))
    }

    /// Ends a reservation that cost nothing. Repeated, it changes nothing.
    ///
    /// # Errors
    /// When the store does not answer; repeat it then.
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

/// What is made of each, for `then`: mostly they are few, and need no memory of their own.
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
    // There is room again when the window ends at the latest.
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
