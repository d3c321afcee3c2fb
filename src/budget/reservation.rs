//! What one request holds of budgets and quotas, from before it leaves until it is paid.

use std::sync::Arc;
use std::time::Duration;

use super::account::Open;
use super::{Account, AccountKind, Metric, OwnerKind, Past, Period, Window};
use crate::error::{Denial, codes};
use crate::store::{Charge, Counted, Hold, LeaseId, Reservations, Settlement, StateError};

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

/// Why nothing was reserved.
#[derive(Debug, Clone)]
pub enum Exceeded {
    /// An account has no room.
    Denied {
        /// For the caller.
        denial: Box<Denial>,
        /// Position of the account among those that were asked.
        account: usize,
    },
    /// A store did not answer.
    Store {
        /// How.
        error: StateError,
        /// What may be held nevertheless, to be released.
        unsure: Option<Reservation>,
    },
}

impl From<StateError> for Exceeded {
    fn from(error: StateError) -> Self {
        Self::Store { error, unsure: None }
    }
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
            Metric::Cost => self.cost,
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
            Metric::Cost => self.cost,
            Metric::Errors => i64::from(self.error),
            Metric::LatencyMs => i64::try_from(self.latency.as_millis()).unwrap_or(i64::MAX),
        }
    }
}

fn whole(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

impl Reservation {
    /// Reserves the worst case in all accounts that count now, or in none. Budgets should come first: of several accounts
    /// without room the first is told. `now` in microseconds since the Unix epoch.
    ///
    /// # Errors
    /// An account without room, or a store that does not answer; then nothing is held that its lease does not end.
    pub async fn make(
        store: &dyn Reservations,
        past: &dyn Past,
        accounts: &[Arc<Account>],
        lease: LeaseId,
        now: i64,
        ttl: Duration,
        worst: &Worst,
    ) -> Result<Self, Exceeded> {
        let mut holds = Vec::with_capacity(accounts.len());
        for account in accounts {
            if let Some(open) = account.open(store, past, now).await? {
                holds.push(Held { account: Arc::clone(account), open, amount: worst.of(account.metric) });
            }
        }
        let this = Self { lease, holds };
        if this.holds.is_empty() {
            return Ok(this);
        }
        let mut reserved = match store.reserve(lease, ttl, &this.asked()).await {
            Ok(reserved) => reserved,
            Err(error) => return Err(Exceeded::Store { error, unsure: Some(this) }),
        };
        if reserved.each.iter().any(|counted| !counted.seeded) {
            // The store lost what it had counted since the window was opened here: it is told again, and asked again.
            this.release(store).await?;
            for held in &this.holds {
                held.account.tell(store, past, held.open.window).await?;
            }
            reserved = match store.reserve(lease, ttl, &this.asked()).await {
                Ok(reserved) => reserved,
                Err(error) => return Err(Exceeded::Store { error, unsure: Some(this) }),
            };
        }
        match reserved.refused {
            None => Ok(this),
            Some(at) => {
                let held = &this.holds[at];
                let account = accounts.iter().position(|account| Arc::ptr_eq(account, &held.account)).unwrap_or(at);
                Err(Exceeded::Denied { denial: Box::new(denial(&held.account, &held.open, now)), account })
            }
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

    /// Whether anything is held.
    pub fn is_empty(&self) -> bool {
        self.holds.is_empty()
    }

    /// Holds it for another while: a long answer keeps what it may cost.
    ///
    /// # Errors
    /// When the store does not answer; try again.
    pub async fn extend(&self, store: &dyn Reservations, ttl: Duration) -> Result<(), StateError> {
        if self.holds.is_empty() { Ok(()) } else { store.extend(self.lease, ttl, &self.asked()).await }
    }

    /// Replaces the reservation by what the request did take. Repeated, it changes nothing.
    ///
    /// # Errors
    /// When the store does not answer; repeat it then.
    pub async fn settle(&self, store: &dyn Reservations, actual: &Actual) -> Result<(Settlement, Vec<Crossing>), StateError> {
        if self.holds.is_empty() {
            return Ok((Settlement::Applied, Vec::new()));
        }
        let charges: Vec<Charge<'_>> = self
            .holds
            .iter()
            .map(|held| Charge {
                key: &held.open.key,
                actual: actual.of(held.account.metric),
                limit: held.open.limit,
                thresholds: &held.account.thresholds,
                keep_until: held.open.keep_until,
            })
            .collect();
        let settled = store.settle(self.lease, &charges).await?;
        let crossed = settled.crossed.iter().filter_map(|&(at, percent)| {
            let held = self.holds.get(at)?;
            let used = settled.each.get(at).map_or(0, |counted: &Counted| counted.used);
            Some(Crossing { account: Arc::clone(&held.account), percent, used, limit: held.open.limit, window: held.open.window })
        });
        Ok((settled.settlement, crossed.collect()))
    }

    /// Ends a reservation that cost nothing. Repeated, it changes nothing.
    ///
    /// # Errors
    /// When the store does not answer; repeat it then.
    pub async fn release(&self, store: &dyn Reservations) -> Result<(), StateError> {
        let keys: Vec<_> = self.holds.iter().map(|held| &held.open.key).collect();
        if keys.is_empty() { Ok(()) } else { store.release(self.lease, &keys).await.map(drop) }
    }

    fn asked(&self) -> Vec<Hold<'_>> {
        let hold = |held| {
            let Held { open, amount, .. }: &Held = held;
            Hold { key: &open.key, limit: open.limit, amount: *amount, keep_until: open.keep_until }
        };
        self.holds.iter().map(hold).collect()
    }
}

fn denial(account: &Account, open: &Open, now: i64) -> Denial {
    let mut denial = match account.kind {
        AccountKind::Budget => Denial::of(codes::BUDGET_EXCEEDED),
        AccountKind::Quota => Denial::of(codes::QUOTA_EXCEEDED),
    };
    denial.scope = Some(account.owner.scope());
    denial.limit = Some(account.metric.as_str());
    // Waiting does not help who has to raise a budget; a quota is there again when its window ends.
    if account.kind == AccountKind::Quota {
        denial.retry_after = u64::try_from(open.window.end.saturating_sub(now)).ok().map(Duration::from_micros);
    }
    denial
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "reservation_test.rs"]
mod tests;
