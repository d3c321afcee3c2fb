//! What the operator decides about a module, and how sessions turn findings into blocks.

use serde::{Deserialize, Serialize};

use super::Mode;
use crate::wire::Kind;

/// What becomes of a module's findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Spans a module marks are redacted; scores add to the session, which decides whether to block.
    #[default]
    Auto,
    /// On record, nothing more.
    Observe,
    /// Every finding's span is replaced by a marker.
    Redact,
    /// A finding blocks at once, whatever the session's score.
    Block,
}

/// What a module's failure means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// It goes on without this module; counted and on record.
    #[default]
    Allow,
    /// 503 `safety_unavailable`: what must be looked at was not.
    Deny,
}

/// One module as the operator wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The most this module may do; the engine's own mode bounds it as well.
    pub mode: Mode,
    /// What becomes of its findings.
    pub action: Action,
    /// What a score of 1 adds to the session.
    pub weight: f64,
    /// The score from which a finding counts; fainter ones hardly add to the session. 0 to 1.
    pub threshold: f32,
    /// What its failure means.
    pub on_error: OnError,
    /// Kinds of text it reads instead of its own choice.
    pub kinds: Option<Vec<Kind>>,
}

impl Policy {
    /// Whether a finding leads to as much under this policy as under the other, whoever may carry it out.
    pub fn does_at_least(&self, other: &Self) -> bool {
        let acts = self.action == other.action || self.action == Action::Block || other.action == Action::Observe;
        acts && self.threshold <= other.threshold && self.weight >= other.weight
    }
}

/// How findings become a session's score, and a score a block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SessionRule {
    /// The score from which a finding blocks.
    pub block_threshold: f64,
    /// Faint findings never lift a score above this.
    pub faint_ceiling: f64,
}

impl SessionRule {
    /// What a faint finding adds, as a share of weight × score.
    pub const FAINT_SHARE: f64 = 0.1;
}

impl Default for SessionRule {
    /// A ceiling of 0.3 leaves room for one borderline finding (0.5) below the threshold: who uses the literal phrases all
    /// day is still not blocked by a single mistake of a detector.
    fn default() -> Self {
        Self { block_threshold: 0.85, faint_ceiling: 0.3 }
    }
}

/// What a judgement adds to the caller's session.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Risk {
    /// Of findings that count: the strongest weight × score. Not their sum: readings of one text are no independent
    /// evidence.
    pub add: f64,
    /// Of findings that count in what was said before, the strongest weight × score: the session is brought up to it and not
    /// lifted by it again with every turn.
    pub before: f64,
    /// Of fainter ones, bounded by [`SessionRule::faint_ceiling`].
    pub faint: f64,
    /// One bit for each module that found something, by its place in the engine.
    pub flags: u32,
}

impl Risk {
    /// Nothing that a session would remember.
    pub fn is_none(&self) -> bool {
        !self.counts() && self.faint <= 0.0
    }

    /// Something was found that counts.
    pub fn counts(&self) -> bool {
        self.add > 0.0 || self.before > 0.0
    }

    /// The score of a session that had `score` before.
    pub fn onto(&self, score: f64, rule: &SessionRule) -> f64 {
        let score = (score + self.add).max(self.before);
        score.max((score + self.faint).min(rule.faint_ceiling))
    }
}
