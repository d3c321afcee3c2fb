//! The counters that one question asks, and what the answer means for the request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gate::denied;
use super::plan::Counter;
use super::{Decision, Field, Receipt, ScopePlan, Stage, Standing, Standings};
use crate::error::Denial;
use crate::store::{Decided, LeaseId, Limit, Ruling, StateKey, Take};

/// The counters of several scopes; the first one without room refuses.
#[derive(Debug, Default)]
pub struct Panel<'a> {
    takes: Vec<Take<'a>>,
    whose: Vec<Whose<'a>>,
}

#[derive(Debug, Clone, Copy)]
struct Whose<'a> {
    stage: Stage,
    plan: &'a Arc<ScopePlan>,
    field: Field,
}

impl<'a> Panel<'a> {
    /// An empty panel with capacity for so many counters.
    pub fn of(counters: usize) -> Self {
        Self { takes: Vec::with_capacity(counters), whose: Vec::with_capacity(counters) }
    }

    /// Adds a scope's counters of requests. `now` is for overlays (µs since the Unix epoch).
    pub fn requests(&mut self, stage: Stage, plan: &'a Arc<ScopePlan>, now: i64) {
        for counter in plan.requests() {
            self.ask(stage, plan, counter, 1, now);
        }
    }

    /// Adds a scope's counter of tokens, if it has one.
    pub fn tokens(&mut self, plan: &'a Arc<ScopePlan>, tokens: u64, now: i64) {
        if let Some(counter) = plan.tokens() {
            self.ask(Stage::Final, plan, counter, tokens, now);
        }
    }

    fn ask(&mut self, stage: Stage, plan: &'a Arc<ScopePlan>, counter: &'a Counter, cost: u64, now: i64) {
        self.takes.push(Take { key: &counter.key, limit: plan.limit(counter, now), cost, shadow: plan.shadow });
        self.whose.push(Whose { stage, plan, field: counter.field });
    }

    /// Whether the panel has no counters.
    pub fn is_empty(&self) -> bool {
        self.takes.is_empty()
    }

    /// The question, in the form of the store.
    pub fn takes(&self) -> &[Take<'a>] {
        &self.takes
    }

    /// The keys of the concurrency counters.
    pub fn slots(&self) -> Vec<StateKey> {
        self.takes.iter().filter(|take| matches!(take.limit, Limit::Slots { .. })).map(|take| take.key.clone()).collect()
    }

    /// Whether the limit at this position is a concurrency limit, of which a slot may be free in a moment.
    pub fn is_place(&self, at: usize) -> bool {
        self.whose.get(at).is_some_and(|whose| whose.field == Field::Concurrency)
    }

    /// Applies the store's answer: notes in the receipt what was granted, updates the standings, and calls `decided` with every
    /// result. Returns the denial of a limit that refused.
    pub fn read(
        &self,
        lease: LeaseId,
        answer: &Decided,
        (receipt, standings): (&mut Receipt, &mut Standings),
        mut decided: impl FnMut(Decision),
    ) -> Option<Box<Denial>> {
        let granted = answer.ruling == Ruling::Granted;
        if granted {
            receipt.begin(lease, self.whose.len());
        }
        for ((whose, take), allowance) in self.whose.iter().zip(&self.takes).zip(&answer.limits) {
            let Whose { stage, plan, field } = *whose;
            decided(Decision::of(stage, plan, field, allowance.allowed));
            if granted && allowance.allowed {
                match take.limit {
                    Limit::Slots { ttl, .. } => receipt.holds(plan.scope, take.key, ttl),
                    Limit::Window { per, .. } if field == Field::TokensPerMinute => {
                        receipt.took(plan.scope, take.key, per, (answer.at, take.cost));
                    }
                    Limit::Window { .. } | Limit::Rate { .. } => {}
                }
            }
            if !plan.shadow && field != Field::Concurrency {
                let standing = Standing::of(plan.scope, field, &take.limit, allowance.remaining);
                standings.stands(Standing { reset_after: allowance.reset_after, ..standing });
            }
        }
        let Ruling::Limited(at) = answer.ruling else { return None };
        let retry_after = answer.limits.get(at).and_then(|allowance| allowance.retry_after);
        self.whose.get(at).map(|whose| denied(whose.plan.scope, whose.field, retry_after))
    }

    /// Remembers that a rate refused, so that requests need not ask it again until there is room. `asked` is when it was asked.
    pub fn remember(&self, answer: &Decided, asked: Instant) {
        if let Ruling::Limited(at) = answer.ruling
            && let (Some(whose), Some(allowance)) = (self.whose.get(at), answer.limits.get(at))
        {
            whose.plan.is_full(whose.field, asked, allowance.retry_after);
        }
    }
}

impl ScopePlan {
    /// The denial of a rate that is remembered as full, if there is one.
    pub fn still_full(&self, now: impl Fn() -> Instant) -> Option<(Field, Box<Denial>, Standing)> {
        if !self.noted.was_noted() {
            return None;
        }
        let (counter, left) = self.requests().iter().find_map(|counter| Some((counter, counter.full.left(&now)?)))?;
        let standing = Standing { reset_after: left, ..Standing::of(self.scope, counter.field, &counter.limit, 0) };
        Some((counter.field, denied(self.scope, counter.field, Some(left)), standing))
    }

    /// Remembers that a counter is full. Only for rates without overlays: a slot may be free at any moment, tokens are given back,
    /// and overlays change the limit.
    fn is_full(&self, field: Field, asked: Instant, room_after: Option<Duration>) {
        if self.shadow || !self.policy().overlays.is_empty() {
            return;
        }
        let counter = self.requests().iter().find(|counter| counter.field == field);
        if let Some(counter) = counter.filter(|counter| !matches!(counter.limit, Limit::Slots { .. })) {
            counter.full.note(asked, room_after.unwrap_or(Duration::MAX));
            self.noted.note(asked, Duration::ZERO);
        }
    }
}
