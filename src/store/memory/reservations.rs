//! Budgets and quotas in memory.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use async_trait::async_trait;

use super::MemoryState;
use super::shards::{Expires, Shards};
use crate::store::clock::millis;
use crate::store::key::ByHash;
use crate::store::reservations::{Charge, Counted, Hold, LATE, LATE_MILLIS, Reservations, Reserved, Settled, Settlement, check, crosses};
use crate::store::{End, LeaseId, StateError, StateKey};

/// All counters of budgets and quotas.
pub(super) type Accounts = Shards<Account>;

/// One window of one owner. Times are milliseconds since the Unix epoch.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) counted: Counted,
    held: HashMap<LeaseId, Held, ByHash>,
    /// No lease runs out before this time.
    next: i64,
    /// Leases that ran out, with the time at which that was noticed, oldest first.
    late: VecDeque<(LeaseId, i64)>,
    pub(super) keep_until: i64,
}

#[derive(Debug)]
struct Held {
    amount: i64,
    until: i64,
}

impl Account {
    /// Releases reservations that ran out. Returns how many.
    pub(super) fn purge(&mut self, now: i64) -> u64 {
        if self.next > now {
            return 0;
        }
        let (mut next, before) = (i64::MAX, self.held.len());
        let (counted, late) = (&mut self.counted, &mut self.late);
        self.held.retain(|lease, held| {
            if held.until <= now {
                counted.reserved -= held.amount;
                late.push_back((*lease, now));
                return false;
            }
            next = next.min(held.until);
            true
        });
        self.next = next;
        while self.late.len() > LATE || self.late.front().is_some_and(|(_, met)| met + LATE_MILLIS <= now) {
            self.late.pop_front();
        }
        (before - self.held.len()) as u64
    }

    pub(super) fn has_room(&self, lease: LeaseId, hold: &Hold<'_>) -> bool {
        let taken = self.counted.used.saturating_add(self.counted.reserved);
        let fits = if hold.amount == 0 { taken < hold.limit } else { taken.saturating_add(hold.amount) <= hold.limit };
        fits || self.held.contains_key(&lease)
    }

    pub(super) fn hold(&mut self, lease: LeaseId, until: i64, hold: &Hold<'_>) {
        let held = self.held.entry(lease).or_insert_with(|| {
            self.counted.reserved += hold.amount;
            // A lease that is held again is no longer late, so that it is settled only once.
            self.late.retain(|(late, _)| *late != lease);
            Held { amount: hold.amount, until }
        });
        held.until = until;
        self.next = if self.held.len() == 1 { until } else { self.next.min(until) };
        self.keep_until = self.keep_until.max(hold.keep_until).max(until);
    }

    /// Ends the reservation of a lease in this account.
    fn end(&mut self, lease: LeaseId) -> Settlement {
        if let Some(held) = self.held.remove(&lease) {
            self.counted.reserved -= held.amount;
            return Settlement::Applied;
        }
        match self.late.iter().position(|(late, _)| *late == lease) {
            Some(at) => {
                self.late.remove(at);
                Settlement::Late
            }
            None => Settlement::Unknown,
        }
    }
}

impl Expires for Account {
    fn expired(&self, now: i64) -> bool {
        // `keep_until` is in milliseconds, the shards count in microseconds.
        self.keep_until.saturating_mul(1000) <= now
    }
}

impl Accounts {
    /// Replaces a reservation by the actual cost.
    pub(super) fn settle(&self, now: i64, lease: LeaseId, charges: &[Charge<'_>]) -> Settled {
        let mut accounts = self.lock(charges.iter().map(|charge| charge.key));
        let mut settled = Settled { settlement: Settlement::Unknown, each: Vec::with_capacity(charges.len()), crossed: Vec::new() };
        for (at, charge) in charges.iter().enumerate() {
            let Some(account) = accounts.get(charge.key) else {
                settled.each.push(Counted::default());
                continue;
            };
            account.purge(now);
            let here = account.end(lease);
            if here != Settlement::Unknown {
                let before = account.counted.used;
                let after = before.saturating_add(charge.actual);
                account.counted.used = after;
                account.keep_until = account.keep_until.max(charge.keep_until);
                let crossed = charge.thresholds.iter().filter(|percent| crosses(before, after, charge.limit, **percent));
                settled.crossed.extend(crossed.map(|percent| (at, *percent)));
                if settled.settlement != Settlement::Applied {
                    settled.settlement = here;
                }
            }
            settled.each.push(account.counted);
        }
        settled
    }

    /// Ends a reservation of a request that cost nothing.
    pub(super) fn release(&self, now: i64, lease: LeaseId, keys: &[&StateKey]) -> Settled {
        let mut accounts = self.lock(keys.iter().copied());
        let mut settled = Settled { settlement: Settlement::Unknown, each: Vec::with_capacity(keys.len()), crossed: Vec::new() };
        for key in keys {
            let counted = accounts.get(key).map_or_else(Counted::default, |account| {
                account.purge(now);
                if account.end(lease) == Settlement::Applied {
                    settled.settlement = Settlement::Applied;
                }
                account.counted
            });
            settled.each.push(counted);
        }
        settled
    }
}

impl MemoryState {
    fn millis(&self) -> i64 {
        self.clock.micros() / 1000
    }

    fn hold(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>], anyway: bool) -> Result<Reserved, StateError> {
        check(holds.iter().map(|hold| (hold.key, hold.amount, hold.limit)))?;
        let now = self.millis();
        let until = now.saturating_add(millis(expires_in));
        let mut accounts = self.accounts.lock(holds.iter().map(|hold| hold.key));
        let mut refused = None;
        let mut each = Vec::with_capacity(holds.len());
        for (at, hold) in holds.iter().enumerate() {
            let Some(account) = accounts.entry(hold.key, now * 1000, Account::default) else { continue };
            account.purge(now);
            account.keep_until = account.keep_until.max(hold.keep_until);
            if !anyway && refused.is_none() && !account.has_room(lease, hold) {
                refused = Some(at);
            }
            each.push(account.counted);
        }
        if refused.is_none() {
            for (hold, counted) in holds.iter().zip(&mut each) {
                if let Some(account) = accounts.get(hold.key) {
                    account.hold(lease, until, hold);
                    *counted = account.counted;
                }
            }
        }
        Ok(Reserved { refused, each })
    }
}

#[async_trait]
impl Reservations for MemoryState {
    async fn reserve(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>]) -> Result<Reserved, StateError> {
        self.hold(lease, expires_in, holds, false)
    }

    async fn extend(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>]) -> Result<(), StateError> {
        self.hold(lease, expires_in, holds, true).map(|_| ())
    }

    async fn settle(&self, lease: LeaseId, charges: &[Charge<'_>]) -> Result<Settled, StateError> {
        self.concluded(lease, &End { charges, ..End::default() })
    }

    async fn release(&self, lease: LeaseId, keys: &[&StateKey]) -> Result<bool, StateError> {
        Ok(self.concluded(lease, &End { released: keys, ..End::default() })?.settlement == Settlement::Applied)
    }

    async fn reap(&self, tag: &str, counters: usize) -> Result<u64, StateError> {
        let (now, mut left, mut released) = (self.millis(), counters, 0);
        let wanted = StateKey::new(tag, "");
        self.accounts.each(|key, account| {
            if left > 0 && account.next <= now && key.tag() == wanted.tag() {
                let here = account.purge(now);
                left -= usize::from(here > 0);
                released += here;
            }
        });
        Ok(released)
    }

    async fn counters(&self, keys: &[&StateKey]) -> Result<Vec<Counted>, StateError> {
        let now = self.millis();
        let mut accounts = self.accounts.lock(keys.iter().copied());
        let mut read = |key: &StateKey| {
            accounts.get(key).map_or_else(Counted::default, |account| {
                account.purge(now);
                account.counted
            })
        };
        Ok(keys.iter().map(|key| read(key)).collect())
    }

    async fn seed(&self, key: &StateKey, used: i64, keep_until: i64) -> Result<bool, StateError> {
        check(std::iter::once((key, used, 0)))?;
        let mut accounts = self.accounts.lock(std::iter::once(key));
        let Some(account) = accounts.entry(key, self.clock.micros(), Account::default) else { return Ok(false) };
        account.keep_until = account.keep_until.max(keep_until);
        if std::mem::replace(&mut account.counted.seeded, true) {
            return Ok(false);
        }
        account.counted.used = account.counted.used.saturating_add(used);
        Ok(true)
    }

    async fn adjust(&self, key: &StateKey, delta: i64, keep_until: i64) -> Result<Counted, StateError> {
        let mut accounts = self.accounts.lock(std::iter::once(key));
        let Some(account) = accounts.entry(key, self.clock.micros(), Account::default) else { return Ok(Counted::default()) };
        account.purge(self.millis());
        account.keep_until = account.keep_until.max(keep_until);
        account.counted.used = account.counted.used.saturating_add(delta).max(0);
        Ok(account.counted)
    }
}
