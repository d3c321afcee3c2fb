//! Limits in memory.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use async_trait::async_trait;

use super::MemoryState;
use super::shards::{Expires, Shards};
use crate::store::clock::micros;
use crate::store::key::ByHash;
use crate::store::limits::{Allowance, Correction, Limit, Limits, Take, Taken, part_of};
use crate::store::{End, LeaseId, Lent, Question, Ruling, Stand, StateError, StateKey};

/// All counters of limits.
pub(super) type Counters = Shards<Counter>;

/// The state of one limit. Times are microseconds since the Unix epoch.
#[derive(Debug)]
pub(super) enum Counter {
    /// The theoretical arrival time of GCRA: when everything taken so far is paid for.
    Rate {
        paid: i64,
    },
    Window(Window),
    Slots(Slots),
}

impl Counter {
    pub(super) fn new(limit: &Limit) -> Self {
        match *limit {
            Limit::Rate { .. } => Self::Rate { paid: 0 },
            Limit::Window { per, .. } => Self::Window(Window::new(per)),
            Limit::Slots { .. } => Self::Slots(Slots::default()),
        }
    }

    /// Whether the limit has room for what is asked.
    pub(super) fn admits(&mut self, now: i64, lease: LeaseId, take: &Take<'_>) -> bool {
        match (&mut *self, take.limit) {
            (Self::Rate { paid }, Limit::Rate { limit, per, burst }) => {
                let per = micros(per);
                (*paid - now).max(0) + price(per, take.cost, limit) <= price(per, burst, limit)
            }
            (Self::Window(window), Limit::Window { limit, per }) => {
                window.prepare(now, per);
                window.sum + take.cost <= limit
            }
            (Self::Slots(slots), Limit::Slots { max, .. }) => slots.admits(now, lease, max),
            // A new policy uses the same key for another kind of limit: start over.
            (stale, limit) => {
                *stale = Self::new(&limit);
                stale.admits(now, lease, take)
            }
        }
    }

    /// How the limit stands without taking anything.
    pub(super) fn ask(&mut self, now: i64, lease: LeaseId, take: &Take<'_>) -> Allowance {
        let allowed = self.admits(now, lease, take);
        match (&*self, take.limit) {
            (Self::Rate { paid }, Limit::Rate { limit, per, burst }) => {
                ask_rate(allowed, (*paid - now).max(0), limit, micros(per), burst, take.cost)
            }
            (Self::Window(window), Limit::Window { limit, .. }) => window.ask(allowed, now, limit, take.cost),
            (Self::Slots(slots), Limit::Slots { max, .. }) => slots.ask(allowed, max),
            (_, _) => NOTHING,
        }
    }

    /// Takes what was asked if there is room. Returns how the limit stands afterwards.
    pub(super) fn take(&mut self, now: i64, lease: LeaseId, take: &Take<'_>) -> Allowance {
        match (&mut *self, take.limit) {
            (Self::Rate { paid }, Limit::Rate { limit, per, burst }) => {
                let per = micros(per);
                let (owed, cost) = ((*paid - now).max(0), price(per, take.cost, limit));
                if owed + cost > price(per, burst, limit) {
                    return ask_rate(false, owed, limit, per, burst, take.cost);
                }
                if take.cost > 0 {
                    *paid = now + owed + cost;
                }
                ask_rate(true, owed + cost, limit, per, burst, 0)
            }
            (Self::Window(window), Limit::Window { limit, per }) => {
                window.prepare(now, per);
                if window.sum + take.cost > limit {
                    return window.ask(false, now, limit, take.cost);
                }
                window.add(now, take.cost);
                window.ask(true, now, limit, 0)
            }
            (Self::Slots(slots), Limit::Slots { max, ttl }) => {
                let allowed = slots.take(now, lease, max, ttl);
                slots.ask(allowed, max)
            }
            // A new policy uses the same key for another kind of limit: start over.
            (stale, limit) => {
                *stale = Self::new(&limit);
                stale.take(now, lease, take)
            }
        }
    }

    /// Whether this lease already holds a slot here. Such a slot must not be given back when a decision is undone.
    pub(super) fn is_held_by(&self, lease: LeaseId) -> bool {
        matches!(self, Self::Slots(slots) if slots.held.contains_key(&lease))
    }

    /// Takes the cost if there is room, and writes how the limit stands afterwards to `stand`. Otherwise, and for a slot
    /// that the lease already holds, changes nothing and returns `false`.
    #[inline]
    pub(super) fn grant(&mut self, now: i64, lease: LeaseId, limit: &Limit, cost: u64, stand: &mut Stand) -> bool {
        match (&mut *self, limit) {
            (Self::Window(window), Limit::Window { limit, per }) => {
                window.prepare(now, *per);
                let left = limit.checked_sub(window.sum).and_then(|left| left.checked_sub(cost));
                let Some(left) = left else { return false };
                window.add(now, cost);
                *stand = Stand { remaining: left, reset_after: window.reset_after(now) };
                true
            }
            (Self::Slots(slots), Limit::Slots { max, ttl }) => slots.grant(now, lease, *max, *ttl),
            _ => self.grant_else(now, lease, limit, cost, stand),
        }
    }

    fn grant_else(&mut self, now: i64, lease: LeaseId, limit: &Limit, cost: u64, stand: &mut Stand) -> bool {
        match (&mut *self, limit) {
            (Self::Rate { paid }, Limit::Rate { limit, per, burst }) => {
                let per = micros(*per);
                let owed = (*paid - now).max(0) + price(per, cost, *limit);
                if owed > price(per, *burst, *limit) {
                    return false;
                }
                *paid = now + owed;
                let allowance = ask_rate(true, owed, *limit, per, *burst, 0);
                *stand = Stand { remaining: allowance.remaining, reset_after: owed.unsigned_abs() };
                true
            }
            // A new policy uses the same key for another kind of limit: start over.
            (stale, limit) => {
                *stale = Self::new(limit);
                stale.grant(now, lease, limit, cost, stand)
            }
        }
    }

    /// Undoes a `take` or `grant` of a moment ago.
    pub(super) fn give_back(&mut self, lease: LeaseId, limit: &Limit, cost: u64) {
        match (self, *limit) {
            (Self::Rate { paid }, Limit::Rate { limit, per, .. }) => *paid -= price(micros(per), cost, limit),
            (Self::Window(window), Limit::Window { .. }) => window.remove(cost),
            (Self::Slots(slots), Limit::Slots { .. }) => drop(slots.held.remove(&lease)),
            (_, _) => {}
        }
    }
}

/// The answer of a counter whose kind does not match its limit; unreachable, since it was just replaced.
const NOTHING: Allowance = Allowance { allowed: false, remaining: 0, reset_after: Duration::ZERO, retry_after: None };

impl Expires for Counter {
    fn expired(&self, now: i64) -> bool {
        match self {
            Self::Rate { paid } => *paid <= now,
            Self::Window(window) => window.parts.back().is_none_or(|(part, _)| window.end_of(*part) <= now),
            Self::Slots(slots) => slots.held.values().all(|until| *until <= now),
        }
    }
}

/// What `cost` costs, in microseconds of a rate, rounded up so that a rate never lets through more than its limit.
fn price(per: i64, cost: u64, limit: u64) -> i64 {
    let cost = i64::try_from(cost).unwrap_or(i64::MAX);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX).max(1);
    let product = per.saturating_mul(cost);
    product / limit + i64::from(product % limit > 0)
}

fn ask_rate(allowed: bool, owed: i64, limit: u64, per: i64, burst: u64, cost: u64) -> Allowance {
    let credit = price(per, burst, limit);
    let free = (credit - owed).max(0);
    // Does not overflow: limits keep this product below 2^53.
    let remaining = free.saturating_mul(i64::try_from(limit).unwrap_or(i64::MAX)) / per.max(1);
    Allowance {
        allowed,
        remaining: u64::try_from(remaining).unwrap_or(0).min(burst),
        reset_after: span(owed),
        retry_after: match allowed {
            true => Some(Duration::ZERO),
            false if cost > burst => None,
            false => Some(span(owed + price(per, cost, limit) - credit)),
        },
    }
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// What was taken, by part of the window.
#[derive(Debug)]
pub(super) struct Window {
    /// Length of the window and of its parts, in microseconds.
    per: i64,
    part: i64,
    /// Parts by number with what was taken in them, oldest first. Parts in which nothing was taken are left out.
    parts: VecDeque<(i64, u64)>,
    sum: u64,
    /// When the oldest part leaves the window, and when the newest part ends. Without parts: never, and in the past.
    oldest: i64,
    newest: i64,
}

impl Window {
    fn new(per: Duration) -> Self {
        Self { per: micros(per), part: part_of(per), parts: VecDeque::new(), sum: 0, oldest: i64::MAX, newest: i64::MIN }
    }

    /// Updates `oldest` and `newest` after parts were added or removed.
    fn bound(&mut self) {
        self.oldest = self.parts.front().map_or(i64::MAX, |(part, _)| self.end_of(*part));
        self.newest = self.parts.back().map_or(i64::MIN, |(part, _)| (part + 1) * self.part);
    }

    /// Whether a time is within the newest part.
    #[inline]
    fn is_newest(&self, at: i64) -> bool {
        at < self.newest && at >= self.newest - self.part
    }

    /// The number of the part that a time is in. Mostly it is the newest part, which saves the division.
    fn part_at(&self, at: i64) -> i64 {
        match self.parts.back() {
            Some((newest, _)) if self.is_newest(at) => *newest,
            _ => at / self.part,
        }
    }

    /// When a part leaves the window.
    fn end_of(&self, part: i64) -> i64 {
        (part + 1) * self.part + self.per
    }

    fn prepare(&mut self, now: i64, per: Duration) {
        if self.per != micros(per) {
            self.change(per);
        }
        if self.oldest <= now {
            self.forget(now);
        }
    }

    #[cold]
    fn forget(&mut self, now: i64) {
        while let Some((part, count)) = self.parts.front().copied()
            && self.end_of(part) <= now
        {
            self.sum -= count;
            self.parts.pop_front();
        }
        self.bound();
    }

    #[cold]
    fn change(&mut self, per: Duration) {
        // The policy's span was changed: what was taken is kept, as taken at the end of its old part.
        let old = std::mem::replace(self, Self::new(per));
        for (part, count) in old.parts {
            self.put(((part + 1) * old.part - 1) / self.part, count);
        }
    }

    fn put(&mut self, part: i64, count: u64) {
        self.sum += count;
        match self.parts.back_mut() {
            // A clock that went back must not break the order of parts.
            Some((newest, taken)) if *newest >= part => *taken += count,
            _ => {
                self.parts.push_back((part, count));
                self.bound();
            }
        }
    }

    /// Microseconds until the window is empty.
    #[inline]
    fn reset_after(&self, now: i64) -> u64 {
        if self.newest == i64::MIN { 0 } else { u64::try_from(self.newest + self.per - now).unwrap_or(0) }
    }

    /// How the window stands; expired parts must have been removed.
    fn ask(&self, allowed: bool, now: i64, limit: u64, cost: u64) -> Allowance {
        Allowance {
            allowed,
            remaining: limit.saturating_sub(self.sum),
            reset_after: Duration::from_micros(self.reset_after(now)),
            retry_after: if allowed { Some(Duration::ZERO) } else { self.room_after(now, limit, cost) },
        }
    }

    /// Time until there is room for this cost.
    #[cold]
    fn room_after(&self, now: i64, limit: u64, cost: u64) -> Option<Duration> {
        let excess = (self.sum + cost).saturating_sub(limit);
        let mut freed = 0;
        let room = self.parts.iter().find_map(|(part, count)| {
            freed += count;
            (freed >= excess).then(|| self.end_of(*part) - now)
        });
        room.filter(|_| cost <= limit).map(span)
    }

    #[inline]
    fn add(&mut self, now: i64, count: u64) {
        match self.parts.back_mut() {
            // Mostly the current part is the newest.
            Some((_, taken)) if now < self.newest => {
                *taken += count;
                self.sum += count;
            }
            _ if count > 0 => self.put(self.part_at(now), count),
            _ => {}
        }
    }

    /// Undoes the latest `add`. Keeps the rule that empty parts are left out.
    fn remove(&mut self, count: u64) {
        if let Some((_, taken)) = self.parts.back_mut().filter(|_| count > 0) {
            *taken -= count.min(*taken);
            self.sum -= count;
            if *taken == 0 {
                self.parts.pop_back();
                self.bound();
            }
        }
    }

    fn correct(&mut self, now: i64, correction: &Correction<'_>) {
        self.prepare(now, correction.per);
        if correction.delta >= 0 {
            return self.add(now, correction.delta.unsigned_abs());
        }
        let less = correction.delta.unsigned_abs();
        // Mostly it was taken a moment ago, in the newest part.
        if self.is_newest(correction.at)
            && let Some((_, count)) = self.parts.back_mut()
            && less < *count
        {
            *count -= less;
            self.sum -= less;
            return;
        }
        let taken_in = self.part_at(correction.at);
        if let Some(at) = self.parts.iter().rposition(|(part, _)| *part == taken_in)
            && let Some((_, count)) = self.parts.get_mut(at)
        {
            let back = less.min(*count);
            *count -= back;
            self.sum -= back;
            if *count == 0 {
                self.parts.remove(at);
                self.bound();
            }
        }
    }
}

/// Which leases hold a slot, and until when.
#[derive(Debug, Default)]
pub(super) struct Slots {
    held: HashMap<LeaseId, i64, ByHash>,
    /// No slot runs out before this time.
    next: i64,
}

impl Slots {
    fn admits(&mut self, now: i64, lease: LeaseId, max: u64) -> bool {
        if self.next <= now {
            self.held.retain(|_, until| *until > now);
            self.next = self.held.values().copied().min().unwrap_or(i64::MAX);
        }
        (self.held.len() as u64) < max || self.held.contains_key(&lease)
    }

    /// Takes a slot if one is free; a lease that already holds one holds it for longer.
    fn take(&mut self, now: i64, lease: LeaseId, max: u64, ttl: Duration) -> bool {
        let allowed = self.admits(now, lease, max);
        if allowed {
            self.hold(now, lease, ttl);
        }
        allowed
    }

    /// Takes a slot for a lease that holds none.
    #[inline]
    fn grant(&mut self, now: i64, lease: LeaseId, max: u64, ttl: Duration) -> bool {
        if self.next <= now {
            self.admits(now, lease, max);
        }
        if self.held.len() as u64 >= max {
            return false;
        }
        let until = now.saturating_add(micros(ttl));
        if let Some(before) = self.held.insert(lease, until) {
            self.held.insert(lease, before);
            return false;
        }
        self.next = self.next.min(until);
        true
    }

    fn ask(&self, allowed: bool, max: u64) -> Allowance {
        let remaining = max.saturating_sub(self.held.len() as u64);
        let retry_after = if max == 0 && !allowed { None } else { Some(Duration::ZERO) };
        Allowance { allowed, remaining, reset_after: Duration::ZERO, retry_after }
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
        let decided = self.decided(lease, &Question { limits, ..Question::default() })?;
        let refused = if let Ruling::Limited(at) = decided.ruling { Some(at) } else { None };
        Ok(Taken { refused, at: decided.at, each: decided.limits })
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
        self.concluded(lease, &End { slots, corrections, ..End::default() }).map(|_| ())
    }
}

impl Counters {
    /// Gives slots back and corrects estimates.
    pub(super) fn finish(&self, now: i64, lease: LeaseId, end: &End<'_>) {
        let mut shards = self.lock(end.slots.iter().copied().chain(end.corrections.iter().map(|c| c.key)));
        for key in end.slots {
            if let Some(Counter::Slots(held)) = shards.get(key) {
                held.held.remove(&lease);
            }
        }
        for correction in end.corrections {
            if let Some(Counter::Window(window)) = shards.entry(correction.key, now, || Counter::Window(Window::new(correction.per))) {
                window.correct(now, correction);
            }
        }
    }

    /// Gives back and corrects what [`Decisions::grant`](crate::store::Decisions::grant) granted.
    pub(super) fn close(&self, now: i64, lease: LeaseId, lent: &Lent<'_>) {
        let mut shards = self.lock_shares(lent.meters.shares());
        for meter in lent.meters.lent() {
            if meter.by_tokens && lent.delta == 0 {
                continue;
            }
            match (shards.meter(meter, now, || Counter::new(&meter.limit)), meter.limit) {
                (Some(Counter::Slots(held)), _) => drop(held.held.remove(&lease)),
                (Some(Counter::Window(window)), Limit::Window { per, .. }) if meter.by_tokens => {
                    window.correct(now, &Correction { key: &meter.key, per, at: lent.at, delta: lent.delta });
                }
                (_, _) => {}
            }
        }
    }
}
