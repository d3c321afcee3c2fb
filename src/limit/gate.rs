//! The gates: asking the scopes of a request, and giving back at its end what was only held.

use std::net::IpAddr;
use std::time::Duration;

use super::plan::Counter;
use super::{Field, Scope, ScopePlan};
use crate::error::{Denial, codes};
use crate::store::{Allowance, Correction, LeaseId, Limit, Limits, StateError, StateKey, Take};

/// When limits are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Before the key is looked at: the gateway's own policy.
    PreAuth,
    /// With the key known and the body unread: organisation, team and key.
    Early,
    /// With model and tokens known.
    Final,
    /// When the request is over.
    PostFlight,
}

impl Stage {
    /// The value of the label `ratelimit_stage`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreAuth => "pre_auth",
            Self::Early => "early",
            Self::Final => "final",
            Self::PostFlight => "post_flight",
        }
    }
}

/// What a request tells of itself at one stage; what is not known yet is `None` and is not asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Who holds what is taken: the request.
    pub lease: LeaseId,
    /// Microseconds since the Unix epoch, for overlays.
    pub now: i64,
    /// From where, with `Some(None)` for an address that nobody knows.
    pub address: Option<Option<IpAddr>>,
    /// Bytes of the body.
    pub body: Option<u64>,
    /// Tokens the answer may have.
    pub max_tokens: Option<u64>,
    /// Tokens of prompt and answer at most.
    pub tokens: Option<u64>,
}

/// What became of one question, for metrics and evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// When.
    pub stage: Stage,
    /// Whose policy.
    pub scope: Scope,
    /// Which field.
    pub field: Field,
    /// What was decided.
    pub outcome: Outcome,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Let through.
    Allow,
    /// Refused.
    Reject,
    /// Would have been refused by a policy that only watches.
    Shadow,
}

impl Outcome {
    /// The value of the label `decision`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Reject => "reject",
            Self::Shadow => "shadow",
        }
    }
}

/// Why a request does not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// A policy refuses it.
    Denied(Box<Denial>),
    /// The store did not answer; what that means the operator has said.
    Store(StateError),
}

/// How a limit stands after it was asked, for the answer's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whose.
    pub scope: Scope,
    /// Which field.
    pub field: Field,
    /// What it allows in its span.
    pub limit: u64,
    /// Its span; zero for concurrency.
    pub per: Duration,
    /// What is left.
    pub remaining: u64,
    /// Until all is there again.
    pub reset_after: Duration,
}

/// What a request holds and has taken.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    lease: Option<LeaseId>,
    slots: Vec<(StateKey, Duration)>,
    tokens: Vec<Estimate>,
    /// How the limits stand.
    pub standing: Vec<Standing>,
}

#[derive(Debug, Clone)]
struct Estimate {
    key: StateKey,
    per: Duration,
    at: i64,
    tokens: u64,
}

/// One gate of one request.
#[derive(Debug)]
pub struct Gate<'a> {
    /// Which.
    pub stage: Stage,
    /// Whose request counters are asked: those who have not been asked yet.
    pub requests: &'a [&'a ScopePlan],
    /// Whose token counters are asked.
    pub tokens: &'a [&'a ScopePlan],
}

impl Gate<'_> {
    /// Asks everything that can be asked at this stage. What is taken is noted in the receipt; `decided` is told what every
    /// field said.
    ///
    /// # Errors
    /// A policy refuses, or the store does not answer; then nothing was taken at this stage.
    pub async fn ask(
        &self,
        store: &dyn Limits,
        ask: &Ask,
        receipt: &mut Receipt,
        mut decided: impl FnMut(Decision),
    ) -> Result<(), Refusal> {
        let stage = self.stage;
        let mut judge = |scope: &ScopePlan, field: Field, allowed: bool| {
            let outcome = match (allowed, scope.shadow) {
                (true, _) => Outcome::Allow,
                (false, true) => Outcome::Shadow,
                (false, false) => Outcome::Reject,
            };
            decided(Decision { stage, scope: scope.scope, field, outcome });
            outcome != Outcome::Reject
        };
        for scope in self.requests {
            if let Some(address) = ask.address
                && !judge(scope, Field::Network, scope.admits(address))
            {
                return Err(denied(scope.scope, Field::Network, None));
            }
        }
        for scope in self.requests.iter().chain(self.tokens) {
            for (asked, max, field) in
                [(ask.body, scope.max_request_bytes(), Field::RequestBytes), (ask.max_tokens, scope.max_tokens(), Field::MaxTokens)]
            {
                if let (Some(asked), Some(max)) = (asked, max)
                    && !judge(scope, field, asked <= max)
                {
                    return Err(denied(scope.scope, field, None));
                }
            }
        }
        self.take(store, ask, receipt, judge).await
    }

    async fn take(
        &self,
        store: &dyn Limits,
        ask: &Ask,
        receipt: &mut Receipt,
        mut judge: impl FnMut(&ScopePlan, Field, bool) -> bool,
    ) -> Result<(), Refusal> {
        let requests = self.requests.iter().flat_map(|scope| scope.requests().iter().map(move |counter| (*scope, counter, 1)));
        let tokens = ask.tokens.into_iter().flat_map(|cost| {
            let scopes = self.tokens.iter();
            scopes.filter_map(move |scope| scope.tokens().map(|counter| (*scope, counter, cost)))
        });
        // A chain of several lists does not know its length: what grows is copied again and again.
        let most = self.requests.iter().map(|scope| scope.requests().len()).sum::<usize>() + self.tokens.len();
        let mut asked: Vec<(&ScopePlan, &Counter, u64)> = Vec::with_capacity(most);
        asked.extend(requests.chain(tokens));
        if asked.is_empty() {
            return Ok(());
        }
        let takes: Vec<Take<'_>> = asked
            .iter()
            .map(|(scope, counter, cost)| Take {
                key: &counter.key,
                limit: scope.limit(counter, ask.now),
                cost: *cost,
                shadow: scope.shadow,
            })
            .collect();
        let taken = store.take(ask.lease, &takes).await.map_err(Refusal::Store)?;
        for ((scope, counter, _), allowance) in asked.iter().zip(&taken.each) {
            judge(scope, counter.field, allowance.allowed);
        }
        if let Some(at) = taken.refused {
            let (Some((scope, counter, _)), Some(take), Some(allowance)) = (asked.get(at), takes.get(at), taken.each.get(at)) else {
                return Err(Refusal::Store(StateError::Invalid("a limit refused that was not asked")));
            };
            receipt.standing.push(standing(scope, counter, &take.limit, allowance));
            return Err(denied(scope.scope, counter.field, retry_after(counter.field, allowance.retry_after)));
        }
        receipt.lease = Some(ask.lease);
        receipt.standing.reserve(asked.len());
        for (((scope, counter, cost), take), allowance) in asked.iter().zip(&takes).zip(&taken.each) {
            match take.limit {
                Limit::Slots { ttl, .. } => receipt.slots.push((counter.key.clone(), ttl)),
                Limit::Window { per, .. } if counter.field == Field::TokensPerMinute => {
                    receipt.tokens.push(Estimate { key: counter.key.clone(), per, at: taken.at, tokens: *cost });
                }
                Limit::Window { .. } | Limit::Rate { .. } => {}
            }
            if !scope.shadow {
                receipt.standing.push(standing(scope, counter, &take.limit, allowance));
            }
        }
        Ok(())
    }
}

impl Receipt {
    /// Whether there is anything to give back.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.tokens.is_empty()
    }

    /// How often a long request must renew what it holds; `None` if it holds nothing.
    pub fn renew_every(&self) -> Option<Duration> {
        self.slots.iter().map(|(_, ttl)| *ttl / 3).min()
    }

    /// Holds the slots for another while.
    ///
    /// # Errors
    /// When the store does not answer; try again.
    pub async fn renew(&self, store: &dyn Limits) -> Result<(), StateError> {
        let Some(lease) = self.lease else { return Ok(()) };
        let slots: Vec<_> = self.slots.iter().map(|(key, ttl)| (key, *ttl)).collect();
        if slots.is_empty() { Ok(()) } else { store.renew(lease, &slots).await }
    }

    /// The request is over: slots are given back, and estimates corrected to the tokens it really took. `None`: nobody
    /// knows, the estimate stands.
    ///
    /// # Errors
    /// When the store does not answer. Slots then end with their lease.
    pub async fn finish(&self, store: &dyn Limits, tokens: Option<u64>) -> Result<(), StateError> {
        let Some(lease) = self.lease.filter(|_| !self.is_empty()) else { return Ok(()) };
        let slots: Vec<_> = self.slots.iter().map(|(key, _)| key).collect();
        let correct = |estimate: &Estimate, tokens: u64| {
            let delta = i64::try_from(tokens).unwrap_or(i64::MAX).saturating_sub(i64::try_from(estimate.tokens).unwrap_or(i64::MAX));
            (delta != 0).then_some(delta)
        };
        let corrections: Vec<_> = tokens
            .into_iter()
            .flat_map(|tokens| self.tokens.iter().map(move |estimate| (estimate, tokens)))
            .filter_map(|(estimate, tokens)| {
                correct(estimate, tokens).map(|delta| Correction { key: &estimate.key, per: estimate.per, at: estimate.at, delta })
            })
            .collect();
        if slots.is_empty() && corrections.is_empty() {
            return Ok(());
        }
        store.finish(lease, &slots, &corrections).await
    }
}

fn standing(scope: &ScopePlan, counter: &Counter, limit: &Limit, allowance: &Allowance) -> Standing {
    let (limit, per) = match *limit {
        Limit::Slots { max, .. } => (max, Duration::ZERO),
        Limit::Window { limit, per } => (limit, per),
        Limit::Rate { per, burst, .. } => (burst, per),
    };
    let (remaining, reset_after) = (allowance.remaining, allowance.reset_after);
    Standing { scope: scope.scope, field: counter.field, limit, per, remaining, reset_after }
}

/// A slot is free when somebody leaves; a second is as good a guess as any.
fn retry_after(field: Field, told: Option<Duration>) -> Option<Duration> {
    if field == Field::Concurrency { Some(Duration::from_secs(1)) } else { told }
}

fn denied(scope: Scope, field: Field, retry_after: Option<Duration>) -> Refusal {
    let mut denial = match field {
        Field::Network => Denial::of(codes::IP_NOT_ALLOWED),
        _ => Denial::of(codes::RATE_LIMITED),
    };
    denial.scope = Some(scope.as_str());
    if field != Field::Network {
        denial.limit = Some(field.limit());
        denial.reason = Some(field.reason());
    }
    denial.retry_after = retry_after;
    Refusal::Denied(Box::new(denial))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "gate_test.rs"]
mod tests;
