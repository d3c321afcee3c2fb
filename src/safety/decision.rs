//! Combines findings into one decision: block over redact over observe over allow.

use std::ops::Range;

use super::engine::{Engine, Judgement, Run};
use super::policy::{Action, OnError, Policy, Risk};
use super::{Category, Finding, Mode, SafetyAction, redact};

/// The decision about a judgement.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The action that is carried out.
    pub action: SafetyAction,
    /// The action that would be carried out if every module were in mode `security`.
    pub would: SafetyAction,
    /// A module that is required failed: the request must not proceed.
    pub unavailable: bool,
    /// The ruling for each run, in the order of [`Judgement::runs`].
    pub of: Vec<Ruling>,
}

/// The ruling for one module's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// The action that its findings ask for.
    pub action: SafetyAction,
    /// Whether the action is carried out, and not only recorded.
    pub enforced: bool,
    /// The reason, for the record. Never shown to a caller.
    pub reason: &'static str,
}

impl Engine {
    /// The risk that a judgement adds to the caller's session.
    pub fn risk(&self, judgement: &Judgement) -> Risk {
        self.risk_of(&judgement.runs)
    }

    /// [`Self::risk`] for runs alone, for texts that are judged piece by piece.
    pub fn risk_of(&self, runs: &[Run]) -> Risk {
        let mut risk = Risk::default();
        for run in runs {
            let Some(member) = self.members().get(run.member) else { continue };
            if !run.found() {
                continue;
            }
            risk.flags |= 1u32.checked_shl(run.member as u32).unwrap_or(0);
            let weighed = |score: f32| member.policy.weight * f64::from(score);
            if run.fresh >= member.policy.threshold {
                risk.add = risk.add.max(weighed(run.fresh));
            } else {
                risk.faint = risk.faint.max(weighed(run.fresh) * super::policy::SessionRule::FAINT_SHARE);
            }
            if run.peak >= member.policy.threshold && run.peak > run.fresh {
                risk.before = risk.before.max(weighed(run.peak));
            }
        }
        risk
    }

    /// Decides. `session` is the caller's score including this judgement's risk; without one, only the judgement itself
    /// counts.
    pub fn decide(&self, judgement: &Judgement, session: Option<f64>) -> Decision {
        let score = session.unwrap_or_else(|| self.risk(judgement).onto(0.0, self.rule()));
        self.decide_runs(&judgement.runs, score)
    }

    /// [`Self::decide`] for runs alone, with the session's score.
    pub fn decide_runs(&self, runs: &[Run], score: f64) -> Decision {
        let mut decision = Decision { action: SafetyAction::Allow, would: SafetyAction::Allow, unavailable: false, of: Vec::new() };
        for run in runs {
            let Some(member) = self.members().get(run.member) else { continue };
            let (action, reason) = ruling(&member.policy, run, score >= self.rule().block_threshold);
            let enforced = self.mode_of(member) == Mode::Security || action <= SafetyAction::Observe;
            if run.failure.is_some() && self.mode_of(member) == Mode::Security && member.policy.on_error == OnError::Deny {
                decision.unavailable = true;
            }
            decision.would = decision.would.max(action);
            decision.action = decision.action.max(if enforced { action } else { SafetyAction::Observe });
            decision.of.push(Ruling { action, enforced, reason });
        }
        decision
    }

    /// The spans of a passage that are to be replaced, merged; empty if there are none.
    pub fn spans(&self, findings: &[Finding]) -> Vec<(Range<usize>, Category)> {
        let wanted = findings.iter().filter(|finding| self.redacts(finding));
        redact::merged(wanted.map(|finding| (finding.span.clone(), finding.category.clone())).collect())
    }

    /// The text of a passage after redaction; `None` if it is unchanged.
    pub fn redacted(&self, text: &str, findings: &[Finding]) -> Option<String> {
        let spans = self.spans(findings);
        if spans.is_empty() { None } else { Some(redact::redacted(text, &spans)) }
    }

    /// Whether a finding's span is replaced.
    pub fn redacts(&self, finding: &Finding) -> bool {
        let Some(member) = self.members().iter().find(|member| member.name() == finding.module) else { return false };
        self.mode_of(member) == Mode::Security && wants_redaction(&member.policy, finding)
    }
}

fn wants_redaction(policy: &Policy, finding: &Finding) -> bool {
    match policy.action {
        Action::Observe => false,
        Action::Auto | Action::Block => finding.redact,
        Action::Redact => finding.redact || finding.score >= policy.threshold,
    }
}

fn ruling(policy: &Policy, run: &Run, over: bool) -> (SafetyAction, &'static str) {
    if !run.found() {
        return (SafetyAction::Allow, if run.failure.is_some() { "the module could not look" } else { "nothing found" });
    }
    let counts = run.peak >= policy.threshold && run.peak > 0.0;
    match policy.action {
        Action::Observe => (SafetyAction::Observe, "found, and the module only observes"),
        Action::Block if counts || run.redactions > 0 => (SafetyAction::Block, "found, and the module blocks what it finds"),
        Action::Redact if counts || run.redactions > 0 => (SafetyAction::Redact, "what was found was replaced"),
        Action::Auto if counts && over => (SafetyAction::Block, "the caller's session has reached the threshold with this finding"),
        Action::Auto if run.redactions > 0 => (SafetyAction::Redact, "sensitive values were replaced"),
        _ if counts => (SafetyAction::Observe, "found, and added to the caller's session"),
        _ => (SafetyAction::Observe, "faint signs, below the point of decision"),
    }
}
