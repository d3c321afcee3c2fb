//! What SafetySec records of a request: which module read what and when, how often it found which category, what was done and
//! why. Never a text.

use std::borrow::Cow;
use std::time::Duration;

use crate::safety::{Category, Kinds, Phase, SafetyAction, Side};
use crate::telemetry::names;

/// The result of one module at one phase.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The name of the module.
    pub module: &'static str,
    /// The phase in which it ran.
    pub phase: Phase,
    /// Whether it read the request or the answer.
    pub side: Side,
    /// What was done.
    pub outcome: Outcome,
    /// The number of findings by category.
    pub categories: Vec<(Category, u32)>,
    /// In what kinds of text.
    pub kinds: Kinds,
    /// Why, for people. Stable, and never shown to the caller.
    pub reason: &'static str,
    /// The highest score of its findings, 0 to 1; 0 for findings that are only redacted.
    pub score: f32,
    /// The level of the caller's session, if it was asked.
    pub session: Option<Level>,
    /// Why the module failed.
    pub error: Option<Cow<'static, str>>,
    /// When the phase began, relative to the request's head.
    pub started: Duration,
    /// How long the module ran.
    pub took: Duration,
}

/// What was done after a module's reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The module ran, and this was done.
    Done(SafetyAction),
    /// The module ran, and this would have been done in enforcing mode.
    Would(SafetyAction),
    /// The module failed.
    Error,
    /// The module panicked.
    Panicked,
}

impl Outcome {
    /// Every spelling in evidence and metrics.
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

    /// The index in [`Self::ALL`].
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|name| *name == self.as_str()).unwrap_or(0)
    }

    /// The effect that the caller could notice, in the words used for plugins; `None` if there is none.
    pub fn visible(self, side: Side) -> Option<&'static str> {
        match (self, side) {
            (Self::Done(SafetyAction::Block), _) => Some("refused"),
            (Self::Done(SafetyAction::Redact), Side::Request) => Some("request_changed"),
            (Self::Done(SafetyAction::Redact), Side::Response) => Some("answer_changed"),
            _ => None,
        }
    }

    /// Whether something was found or failed.
    pub fn is_notable(self) -> bool {
        self != Self::Done(SafetyAction::Allow)
    }
}

/// The level of a session's score, in words: the score itself would tell a reader of the log how close it is to a block.
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
    /// The store did not answer.
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
