//! The operator's policy for a module, and how findings add to sessions and lead to blocks.

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
    /// 503 `plugin_unavailable`: what must be looked at was not.
    Deny,
}

/// The operator's policy for one module.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The most that the module may do; bounded by the engine's own mode as well.
    pub mode: Mode,
    /// What happens to its findings.
    pub action: Action,
    /// What a score of 1 adds to the session.
    pub weight: f64,
    /// The score from which on a finding counts; lower scores hardly add to the session. 0 to 1.
    pub threshold: f32,
    /// What its failure means for the request.
    pub on_error: OnError,
    /// The kinds of text that it reads, in place of its own choice.
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
    /// The session score from which on a finding blocks.
    pub block_threshold: f64,
    /// Faint findings never raise a score above this.
    pub faint_ceiling: f64,
}

impl SessionRule {
    /// The share of weight × score that a faint finding adds.
    pub const FAINT_SHARE: f64 = 0.1;
}

impl Default for SessionRule {
    /// With a ceiling of 0.3, one borderline finding (0.5) stays below the threshold: a caller who uses the literal phrases
    /// all day is still not blocked by a single mistake of a detector.
    fn default() -> Self {
        Self { block_threshold: 0.85, faint_ceiling: 0.3 }
    }
}

/// What a judgement adds to the caller's session.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Risk {
    /// The strongest weight × score among the findings that count. Not their sum, because several scores of one text are
    /// not independent evidence.
    pub add: f64,
    /// The strongest weight × score among the findings in what was said before. It raises the session score up to its own
    /// value, never above it, so that repeating a conversation's history with every turn does not add up.
    pub before: f64,
    /// What fainter findings add, bounded by [`SessionRule::faint_ceiling`].
    pub faint: f64,
    /// One bit for each module with a finding, by its position in the engine.
    pub flags: u32,
}

impl Risk {
    /// Whether it changes nothing in a session.
    pub fn is_none(&self) -> bool {
        !self.counts() && self.faint <= 0.0
    }

    /// Whether any finding counts.
    pub fn counts(&self) -> bool {
        self.add > 0.0 || self.before > 0.0
    }

    /// The score of a session after adding this risk to `score`.
    pub fn onto(&self, score: f64, rule: &SessionRule) -> f64 {
        let score = (score + self.add).max(self.before);
        score.max((score + self.faint).min(rule.faint_ceiling))
    }
}
