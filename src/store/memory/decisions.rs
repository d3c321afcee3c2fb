//! A decision about limits and budgets together, in memory.

use async_trait::async_trait;

use super::MemoryState;
use super::limits::Counter;
use super::reservations::Account;
use crate::store::clock::millis;
use crate::store::{
    Decided, Decisions, End, LeaseId, Lent, Meters, Question, Ruling, Settled, Stands, StateError, Whole, limits, reservations,
};

/// A defect of this module. Refused rather than let through uncounted.
const UNLOCKED: StateError = StateError::Invalid("a counter was asked that was not locked");

impl MemoryState {
    /// Takes limit after limit, and gives all of them back when a later one or a budget refuses, which is rare. All shards
    /// are locked meanwhile. Shards of limits are locked before shards of accounts, everywhere, so that no deadlock is
    /// possible.
    pub(super) fn decided(&self, lease: LeaseId, question: &Question<'_>) -> Result<Decided, StateError> {
        let Question { limits, holds, expires_in } = *question;
        limits::check(limits)?;
        reservations::check(holds.iter().map(|hold| (hold.key, hold.amount, hold.limit)))?;
        let micros = self.clock.micros();
        let now = micros / 1000;
        let mut counters = self.limits.lock(limits.iter().map(|take| take.key));
        let mut accounts = self.accounts.lock(holds.iter().map(|hold| hold.key));
        let mut ruling = Ruling::Granted;
        let mut told = Vec::with_capacity(limits.len());
        // Positions of slots that the lease already holds.
        let mut held: Vec<usize> = Vec::new();
        for (at, take) in limits.iter().enumerate() {
            let Some(counter) = counters.entry(take.key, micros, || Counter::new(&take.limit)) else { return Err(UNLOCKED) };
            // A slot that the lease already holds must survive a refusal, where everything taken is given back. So it is
            // only checked here, and taken again (renewed) after all limits and budgets granted.
            let again = counter.is_held_by(lease);
            let allowance = if again { counter.ask(micros, lease, take) } else { counter.take(micros, lease, take) };
            if !allowance.allowed && !take.shadow {
                ruling = Ruling::Limited(at);
                break;
            }
            if again {
                held.push(at);
            }
            told.push(allowance);
        }
        for (at, hold) in holds.iter().enumerate() {
            let Some(account) = accounts.entry(hold.key, micros, Account::default) else { return Err(UNLOCKED) };
            account.purge(now);
            account.keep_until = account.keep_until.max(hold.keep_until);
            match ruling {
                Ruling::Granted | Ruling::Exceeded(_) if !account.counted.seeded => ruling = Ruling::Unseeded,
                Ruling::Granted if !account.has_room(lease, hold) => ruling = Ruling::Exceeded(at),
                _ => {}
            }
        }
        let granted = ruling == Ruling::Granted;
        if granted {
            for at in held {
                let (take, told) = (&limits[at], &mut told[at]);
                // If its slots had run out, the counter may have been swept away while a later one was added.
                let Some(counter) = counters.entry(take.key, micros, || Counter::new(&take.limit)) else { return Err(UNLOCKED) };
                *told = counter.take(micros, lease, take);
            }
        } else {
            let taken = limits.iter().zip(&told).enumerate().filter(|(at, (_, told))| told.allowed && !held.contains(at));
            for (_, (take, _)) in taken {
                if let Some(counter) = counters.get(take.key) {
                    counter.give_back(lease, &take.limit, take.cost);
                }
            }
            told.clear();
            for take in limits {
                if let Some(counter) = counters.entry(take.key, micros, || Counter::new(&take.limit)) {
                    told.push(counter.ask(micros, lease, take));
                }
            }
        }
        let mut counted = Vec::with_capacity(holds.len());
        for hold in holds {
            let Some(account) = accounts.get(hold.key) else { continue };
            if granted {
                account.hold(lease, now.saturating_add(millis(expires_in)), hold);
            }
            counted.push(account.counted);
        }
        Ok(Decided { ruling, at: micros, limits: told, holds: counted })
    }

    /// Takes limit after limit, and gives all of them back when a later one has no room.
    fn granted(&self, lease: LeaseId, whole: &Whole<'_>, stands: &mut Stands) -> Option<i64> {
        let Whole { meters, tokens, holds, expires_in } = *whole;
        if tokens > Meters::MOST_TOKENS {
            return None;
        }
        reservations::check(holds.iter().map(|hold| (hold.key, hold.amount, hold.limit))).ok()?;
        let micros = self.clock.micros();
        let now = micros / 1000;
        let mut counters = self.limits.lock_shares(meters.shares());
        let mut accounts = self.accounts.lock(holds.iter().map(|hold| hold.key));
        for hold in holds {
            let account = accounts.get(hold.key)?;
            account.purge(now);
            if !account.counted.seeded || !account.has_room(lease, hold) {
                return None;
            }
        }
        for (at, (meter, stand)) in meters.each().iter().zip(stands.iter_mut()).enumerate() {
            let cost = if meter.by_tokens { tokens } else { 1 };
            let counter = counters.meter(meter, micros, || Counter::new(&meter.limit));
            if !counter.is_some_and(|counter| counter.grant(micros, lease, &meter.limit, cost, stand)) {
                for meter in &meters.each()[..at] {
                    if let Some(counter) = counters.meter(meter, micros, || Counter::new(&meter.limit)) {
                        counter.give_back(lease, &meter.limit, if meter.by_tokens { tokens } else { 1 });
                    }
                }
                return None;
            }
        }
        let until = now.saturating_add(millis(expires_in));
        for hold in holds {
            if let Some(account) = accounts.get(hold.key) {
                account.hold(lease, until, hold);
            }
        }
        Some(micros)
    }

    pub(super) fn concluded(&self, lease: LeaseId, end: &End<'_>) -> Result<Settled, StateError> {
        reservations::check(end.charges.iter().map(|charge| (charge.key, charge.actual, charge.limit)))?;
        let micros = self.clock.micros();
        if !end.slots.is_empty() || !end.corrections.is_empty() {
            self.limits.finish(micros, lease, end);
        }
        Ok(match end.charges {
            [] => self.accounts.release(micros / 1000, lease, end.released),
            charges => self.accounts.settle(micros / 1000, lease, charges),
        })
    }
}

#[async_trait]
impl Decisions for MemoryState {
    async fn decide(&self, lease: LeaseId, question: &Question<'_>) -> Result<Decided, StateError> {
        self.decided(lease, question)
    }

    async fn conclude(&self, lease: LeaseId, end: &End<'_>) -> Result<Settled, StateError> {
        self.concluded(lease, end)
    }

    fn grant(&self, lease: LeaseId, whole: &Whole<'_>, stands: &mut Stands) -> Option<i64> {
        self.granted(lease, whole, stands)
    }

    fn close(&self, lease: LeaseId, lent: &Lent<'_>, end: &End<'_>) -> Option<Settled> {
        reservations::check(end.charges.iter().map(|charge| (charge.key, charge.actual, charge.limit))).ok()?;
        let micros = self.clock.micros();
        self.limits.close(micros, lease, lent);
        Some(match end.charges {
            [] => self.accounts.release(micros / 1000, lease, end.released),
            charges => self.accounts.settle(micros / 1000, lease, charges),
        })
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn spans_tags(&self) -> bool {
        true
    }
}
