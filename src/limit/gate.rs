//! The stages at which limits are asked, what a request reveals at each, and the checks that need no counter.

use std::net::IpAddr;
use std::time::Duration;

use super::{Field, Scope, ScopePlan};
use crate::error::{Denial, codes};
use crate::store::LeaseId;

/// The stages at which limits are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Before the key is checked: the gateway-wide policy.
    PreAuth,
    /// After the key is checked and before the body is read: organisation, team and key.
    Early,
    /// After model and tokens are known.
    Final,
    /// After the request is over.
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

/// What a request reveals of itself at one stage. What is `None` is not known yet and not checked.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// The lease of the request, under which it holds what is granted.
    pub lease: LeaseId,
    /// The current time, for overlays (µs since the Unix epoch).
    pub now: i64,
    /// The caller's address; `Some(None)` if it cannot be determined.
    pub address: Option<Option<IpAddr>>,
    /// The length of the body (bytes).
    pub body: Option<u64>,
    /// The most tokens that one answer may have.
    pub max_tokens: Option<u64>,
    /// The most tokens that prompt and answers may have together.
    pub tokens: Option<u64>,
}

/// The result of checking one field of one policy, for metrics and evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decision {
    /// The stage at which it was checked.
    pub stage: Stage,
    /// The scope of the policy.
    pub scope: Scope,
    /// The field of the policy.
    pub field: Field,
    /// The result.
    pub outcome: Outcome,
}

/// The result of checking one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The request may go on.
    Allow,
    /// The request is refused.
    Reject,
    /// The request would have been refused, but the policy only observes.
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
    /// Checks what needs no counter: first whether `networks` admit the address, then whether `sizes` admit body and answer.
    /// `decided` is called with every result.
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

/// The denial for a field. When a slot will be free is not known; one second is as good a guess as any.
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
