//! What SafetySec leaves behind of a request: who looked when, what sort of thing was found how often, what was done and
//! why. Never a text.

use std::borrow::Cow;
use std::time::Duration;

use crate::safety::{Category, Kinds, Phase, SafetyAction, Side};
use crate::telemetry::names;

/// What one module did at one phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The module.
    pub module: &'static str,
    /// When it looked.
    pub phase: Phase,
    /// At whose words.
    pub side: Side,
    /// What came of it.
    pub outcome: Outcome,
    /// What was found, counted by category.
    pub categories: Vec<(Category, u32)>,
    /// In what kinds of text.
    pub kinds: Kinds,
    /// Why, for people. Stable, and never shown to the caller.
    pub reason: &'static str,
    /// The highest score it gave, 0 to 1; 0 for what is only redacted.
    pub score: f32,
    /// Where the caller's session stood, where it was asked.
    pub session: Option<Level>,
    /// Why the module could not look.
    pub error: Option<Cow<'static, str>>,
    /// When the phase began, counted from the request's head.
    pub started: Duration,
    /// How long it looked.
    pub took: Duration,
}

/// What came of a module's reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It looked, and this was done.
    Done(SafetyAction),
    /// It looked, and this would have been done if it were enforced.
    Would(SafetyAction),
    /// It could not look.
    Error,
    /// It panicked.
    Panicked,
}

impl Outcome {
    /// Every spelling, as in evidence and metrics.
    pub const ALL: [&'static str; 8] = names::READINGS;

    /// The spelling in evidence and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done(action) => action.as_str(),
            Self::Would(SafetyAction::Block) => "would_block",
            Self::Would(SafetyAction::Redact) => "would_redact",
            Self::Would(action) => action.as_str(),
            Self::Error => "error",
            Self::Panicked => "panicked",
        }
    }

    /// Its place among [`Self::ALL`].
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|name| *name == self.as_str()).unwrap_or(0)
    }

    /// What the caller could notice of it, as of a plugin; `None` if nothing.
    pub fn visible(self, side: Side) -> Option<&'static str> {
        match (self, side) {
            (Self::Done(SafetyAction::Block), _) => Some("refused"),
            (Self::Done(SafetyAction::Redact), Side::Request) => Some("request_changed"),
            (Self::Done(SafetyAction::Redact), Side::Response) => Some("answer_changed"),
            _ => None,
        }
    }

    /// Something was found or failed.
    pub fn is_notable(self) -> bool {
        self != Self::Done(SafetyAction::Allow)
    }
}

/// Where a session stands, in words: the score itself would tell a reader of the log how far one may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Below a quarter of the threshold.
    Low,
    /// Below three quarters.
    Raised,
    /// Below the threshold.
    High,
    /// At the threshold or above.
    Over,
    /// The store did not say.
    Unknown,
}

impl Level {
    /// The level of a score.
    pub fn of(score: f64, threshold: f64) -> Self {
        match score / threshold {
            share if share < 0.25 => Self::Low,
            share if share < 0.75 => Self::Raised,
            share if share < 1.0 => Self::High,
            _ => Self::Over,
        }
    }

    /// The spelling in evidence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Raised => "raised",
            Self::High => "high",
            Self::Over => "over",
            Self::Unknown => "unknown",
        }
    }
}

/// `request` or `response`.
pub fn side(side: Side) -> &'static str {
    match side {
        Side::Request => "request",
        Side::Response => "response",
    }
}
