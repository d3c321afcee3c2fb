//! Limits in memory.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use async_trait::async_trait;

use super::MemoryState;
use super::shards::{Expires, Shards};
use crate::store::clock::micros;
use crate::store::limits::{Allowance, Correction, Limit, Limits, Take, Taken, check, part_of};
use crate::store::{LeaseId, StateError, StateKey};

/// All counters of limits.
pub(super) type Counters = Shards<Counter>;

/// One limit's memory. Times are microseconds since the Unix epoch.
#[derive(Debug)]
pub(super) enum Counter {
    /// When everything taken so far will be paid for.
    Rate {
        paid: i64,
    },
    Window(Window),
    Slots(Slots),
}

impl Counter {
    fn new(limit: &Limit) -> Self {
        match *limit {
            Limit::Rate { .. } => Self::Rate { paid: 0 },
            Limit::Window { per, .. } => Self::Window(Window::new(per)),
            Limit::Slots { .. } => Self::Slots(Slots::default()),
        }
    }

    /// How the limit stands without taking anything.
    fn ask(&mut self, now: i64, lease: LeaseId, take: &Take<'_>) -> Allowance {
        match (self, take.limit) {
            (Self::Rate { paid }, Limit::Rate { limit, per, burst }) => ask_rate(*paid, now, limit, micros(per), burst, take.cost),
            (Self::Window(window), Limit::Window { limit, per }) => window.ask(now, limit, per, take.cost),
            (Self::Slots(slots), Limit::Slots { max, .. }) => slots.ask(now, lease, max),
            // The policy changed its kind under the same key: begin anew.
            (stale, limit) => {
                *stale = Self::new(&limit);
                stale.ask(now, lease, take)
            }
        }
    }

    /// Takes what was asked, and says how the limit stands then.
    fn take(&mut self, now: i64, lease: LeaseId, take: &Take<'_>) -> Allowance {
        match (&mut *self, take.limit) {
            (Self::Rate { paid }, Limit::Rate { limit, per, .. }) => *paid = (*paid).max(now) + price(micros(per), take.cost, limit),
            (Self::Window(window), Limit::Window { .. }) => window.add(now, take.cost),
            (Self::Slots(slots), Limit::Slots { ttl, .. }) => slots.hold(now, lease, ttl),
            _ => {}
        }
        let left = self.ask(now, lease, &Take { cost: 0, ..*take });
        Allowance { allowed: true, retry_after: Some(Duration::ZERO), ..left }
    }
}

impl Expires for Counter {
    fn expired(&self, now: i64) -> bool {
        match self {
            Self::Rate { paid } => *paid <= now,
            Self::Window(window) => window.parts.back().is_none_or(|(part, _)| window.end_of(*part) <= now),
            Self::Slots(slots) => slots.held.values().all(|until| *until <= now),
        }
    }
}

/// What `cost` costs, in microseconds of a rate, rounded up: never more than the limit is let through.
fn price(per: i64, cost: u64, limit: u64) -> i64 {
    let cost = i64::try_from(cost).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX).max(1);
    let product = per.saturating_mul(cost);
    product / limit + i64::from(product % limit > 0)
}

fn ask_rate(paid: i64, now: i64, limit: u64, per: i64, burst: u64, cost: u64) -> Allowance {
    let credit = price(per, burst, limit);
    let owed = (paid - now).max(0);
    let then = owed + price(per, cost, limit);
    let free = (credit - owed).max(0);
    let remaining = (i128::from(free) * i128::from(limit) / i128::from(per)).clamp(0, i128::from(burst));
    Allowance {
        allowed: then <= credit,
        remaining: remaining as u64,
        reset_after: span(owed),
        retry_after: if cost > burst { None } else { Some(span(then - credit)) },
    }
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// What was taken, by the part of the window it was taken in.
#[derive(Debug)]
pub(super) struct Window {
    /// Length of the window and of its parts.
    per: i64,
    part: i64,
    /// Oldest first; parts in which nothing was taken are not there.
    parts: VecDeque<(i64, u64)>,
    sum: u64,
}

impl Window {
    fn new(per: Duration) -> Self {
        Self { per: micros(per), part: part_of(per), parts: VecDeque::new(), sum: 0 }
    }

    /// When what was taken in a part counts no longer.
    fn end_of(&self, part: i64) -> i64 {
        (part + 1) * self.part + self.per
    }

    fn prepare(&mut self, now: i64, per: Duration) {
        if self.per != micros(per) {
            // The policy was changed: what was taken stays taken, at the end of the part it was in.
            let old = std::mem::replace(self, Self::new(per));
            for (part, count) in old.parts {
                self.put(((part + 1) * old.part - 1) / self.part, count);
            }
        }
        while let Some((_, count)) = self.parts.front().copied().filter(|(part, _)| self.end_of(*part) <= now) {
            self.sum -= count;
            self.parts.pop_front();
        }
    }

    fn put(&mut self, part: i64, count: u64) {
        self.sum += count;
        match self.parts.back_mut() {
            // A clock that went back takes nothing out of order.
            Some((newest, taken)) if *newest >= part => *taken += count,
            _ => self.parts.push_back((part, count)),
        }
    }

    fn ask(&mut self, now: i64, limit: u64, per: Duration, cost: u64) -> Allowance {
        self.prepare(now, per);
        let reset = self.parts.back().map_or(0, |(part, _)| self.end_of(*part) - now);
        let excess = (self.sum + cost).saturating_sub(limit);
        let mut freed = 0;
        let retry = match excess {
            0 => Some(0),
            _ if cost > limit => None,
            _ => self.parts.iter().find_map(|(part, count)| {
                freed += count;
                (freed >= excess).then(|| self.end_of(*part) - now)
            }),
        };
        Allowance {
            allowed: excess == 0,
            remaining: limit.saturating_sub(self.sum),
            reset_after: span(reset),
            retry_after: retry.map(span),
        }
    }

    fn add(&mut self, now: i64, count: u64) {
        if count > 0 {
            self.put(now / self.part, count);
        }
    }

    fn correct(&mut self, now: i64, correction: &Correction<'_>) {
        self.prepare(now, correction.per);
        if correction.delta >= 0 {
            return self.add(now, correction.delta.unsigned_abs());
        }
        let taken_in = correction.at / self.part;
        if let Some((_, count)) = self.parts.iter_mut().find(|(part, _)| *part == taken_in) {
            let back = correction.delta.unsigned_abs().min(*count);
            *count -= back;
            self.sum -= back;
        }
    }
}

/// Who holds a slot until when.
#[derive(Debug, Default)]
pub(super) struct Slots {
    held: HashMap<LeaseId, i64>,
    /// Nothing runs out before.
    next: i64,
}

impl Slots {
    fn ask(&mut self, now: i64, lease: LeaseId, max: u64) -> Allowance {
        if self.next <= now {
            self.held.retain(|_, until| *until > now);
            self.next = self.held.values().copied().min().unwrap_or(i64::MAX);
        }
        let free = max.saturating_sub(self.held.len() as u64);
        let allowed = free > 0 || self.held.contains_key(&lease);
        Allowance { allowed, remaining: free, reset_after: Duration::ZERO, retry_after: if max == 0 { None } else { Some(Duration::ZERO) } }
    }

    fn hold(&mut self, now: i64, lease: LeaseId, ttl: Duration) {
        let until = now.saturating_add(micros(ttl));
        self.held.insert(lease, until);
        self.next = self.next.min(until);
    }
}

#[async_trait]
impl Limits for MemoryState {
    async fn take(&self, lease: LeaseId, limits: &[Take<'_>]) -> Result<Taken, StateError> {
        check(limits)?;
        let now = self.clock.micros();
        let mut shards = self.limits.lock(limits.iter().map(|take| take.key));
        let mut each = Vec::with_capacity(limits.len());
        let mut refused = None;
        for (at, take) in limits.iter().enumerate() {
            let Some(counter) = shards.entry(take.key, now, || Counter::new(&take.limit)) else { continue };
            let allowance = counter.ask(now, lease, take);
            if !allowance.allowed && !take.shadow && refused.is_none() {
                refused = Some(at);
            }
            each.push(allowance);
        }
        if refused.is_none() {
            for (take, allowance) in limits.iter().zip(&mut each).filter(|(_, allowance)| allowance.allowed) {
                if let Some(counter) = shards.get(take.key) {
                    *allowance = counter.take(now, lease, take);
                }
            }
        }
        Ok(Taken { refused, at: now, each })
    }

    async fn renew(&self, lease: LeaseId, slots: &[(&StateKey, Duration)]) -> Result<(), StateError> {
        let now = self.clock.micros();
        let mut shards = self.limits.lock(slots.iter().map(|(key, _)| *key));
        for (key, ttl) in slots {
            if let Some(Counter::Slots(held)) = shards.entry(key, now, || Counter::Slots(Slots::default())) {
                held.hold(now, lease, *ttl);
            }
        }
        Ok(())
    }

    async fn finish(&self, lease: LeaseId, slots: &[&StateKey], corrections: &[Correction<'_>]) -> Result<(), StateError> {
        let now = self.clock.micros();
        let mut shards = self.limits.lock(slots.iter().copied().chain(corrections.iter().map(|c| c.key)));
        for key in slots {
            if let Some(Counter::Slots(held)) = shards.get(key) {
                held.held.remove(&lease);
            }
        }
        for correction in corrections {
            if let Some(Counter::Window(window)) = shards.entry(correction.key, now, || Counter::Window(Window::new(correction.per))) {
                window.correct(now, correction);
            }
        }
        Ok(())
    }
}
