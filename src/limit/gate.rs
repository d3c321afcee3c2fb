//! The gates: when limits are asked, what a request tells of itself, and what needs no counter to be decided.

use std::net::IpAddr;
use std::time::Duration;

use super::{Field, Scope, ScopePlan};
use crate::error::{Denial, codes};
use crate::store::LeaseId;

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

impl Ask {
    /// Asks what needs no counter: first `networks` whether they admit the address, then `sizes` whether they allow body and
    /// answer. `decided` is told what every field said.
    ///
    /// # Errors
    /// The first policy that refuses.
    pub fn admitted<'a>(
        &self,
        stage: Stage,
        networks: impl IntoIterator<Item = &'a ScopePlan>,
        sizes: impl IntoIterator<Item = &'a ScopePlan>,
        mut decided: impl FnMut(Decision),
    ) -> Result<(), Box<Denial>> {
        let mut judge = |plan: &ScopePlan, field: Field, allowed: bool| {
            let decision = Decision::of(stage, plan, field, allowed);
            decided(decision);
            match decision.outcome {
                Outcome::Reject => Err(denied(plan.scope, field, None)),
                Outcome::Allow | Outcome::Shadow => Ok(()),
            }
        };
        if let Some(address) = self.address {
            for plan in networks {
                judge(plan, Field::Network, plan.admits(address))?;
            }
        }
        for plan in sizes {
            let sizes =
                [(self.body, plan.max_request_bytes(), Field::RequestBytes), (self.max_tokens, plan.max_tokens(), Field::MaxTokens)];
            for (asked, max, field) in sizes {
                if let (Some(asked), Some(max)) = (asked, max) {
                    judge(plan, field, asked <= max)?;
                }
            }
        }
        Ok(())
    }
}

impl Decision {
    pub(super) fn of(stage: Stage, plan: &ScopePlan, field: Field, allowed: bool) -> Self {
        let outcome = match (allowed, plan.shadow) {
            (true, _) => Outcome::Allow,
            (false, true) => Outcome::Shadow,
            (false, false) => Outcome::Reject,
        };
        Self { stage, scope: plan.scope, field, outcome }
    }
}

/// What a caller is told of a refusal. A slot is free when somebody leaves; a second is as good a guess as any.
pub(super) fn denied(scope: Scope, field: Field, retry_after: Option<Duration>) -> Box<Denial> {
    let mut denial = match field {
        Field::Network => Denial::of(codes::IP_NOT_ALLOWED),
        _ => Denial::of(codes::RATE_LIMITED),
    };
    denial.scope = Some(scope.as_str());
    if field != Field::Network {
        denial.limit = Some(field.limit());
        denial.reason = Some(field.reason());
    }
    denial.retry_after = if field == Field::Concurrency { Some(Duration::from_secs(1)) } else { retry_after };
    Box::new(denial)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
#[path = "gate_test.rs"]
mod tests;
