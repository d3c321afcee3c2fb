//! SafetySec: detects attacks, personal data and leaks in the texts of requests and answers, and decides what to do about
//! them.
//!
//! Modules scan one [`Passage`] at a time and report [`Finding`]s; the engine combines the findings of all modules into one
//! decision per phase. Modules are pure: they use no sessions, configuration files or network, so that `odock-edge safety
//! scan`, the gateway and tests run the same code.

pub mod attack;
pub mod cache;
mod decision;
mod digest;
mod embedded;
mod engine;
pub mod entity;
pub mod eval;
mod finding;
pub mod fingerprint;
pub mod modules;
pub mod normal;
mod passage;
mod policy;
pub mod redact;
mod scanner;

#[cfg(test)]
mod linear_test;
#[cfg(test)]
mod worked_test;

pub use decision::{Decision, Ruling};
pub use embedded::{Decoder, Embedded, Opening};
#[cfg(test)]
pub(crate) use engine::tests::pair as test_pair;
pub use engine::{Admitted, Built, EVERYONE, Engine, Failure, Judgement, MOST_MODULES, Member, Run, guarded, verdicts};
pub use finding::{Category, Finding, Findings, Kinds};
pub use passage::{Passage, Side};
pub use policy::{Action, OnError, Policy, Risk, SessionRule};
pub use scanner::{Scanner, Settled};

use serde::{Deserialize, Serialize};

/// What the engine does with its decisions. Ordered by how much it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Nothing runs.
    #[default]
    Noop,
    /// Everything runs and is on record; not one byte changes.
    Observe,
    /// Decisions are carried out.
    Security,
}

/// A moment of a request's life at which modules may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before the key was looked at.
    PreAuth,
    /// The caller is known; the session's fingerprint is taken anew.
    PostAuth,
    /// Before anything is sent to the provider.
    PreUpstream,
    /// The provider answered, nothing was shown to the caller yet.
    PostUpstream,
    /// A stream has ended.
    Stream,
    /// The answer was written.
    PostResponse,
}

impl Phase {
    /// All phases, in the order of a request's life.
    pub const ALL: [Self; 6] = [Self::PreAuth, Self::PostAuth, Self::PreUpstream, Self::PostUpstream, Self::Stream, Self::PostResponse];

    /// The name in configuration, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PreAuth => "pre_auth",
            Self::PostAuth => "post_auth",
            Self::PreUpstream => "pre_upstream",
            Self::PostUpstream => "post_upstream",
            Self::Stream => "stream",
            Self::PostResponse => "post_response",
        }
    }
}

/// What is done about findings. Ordered: of several the strictest holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SafetyAction {
    /// Nothing.
    #[default]
    Allow,
    /// Put on record, and added to the session's score.
    Observe,
    /// The spans are replaced by markers.
    Redact,
    /// The caller gets 403 `safety_blocked`.
    Block,
}

impl SafetyAction {
    /// The name in configuration, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Observe => "observe",
            Self::Redact => "redact",
            Self::Block => "block",
        }
    }
}

/// How a module runs relative to others of the same phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// First, in the order of the list; may redact.
    Sequential,
    /// After these; only scores.
    Parallel,
    /// After the answer; only for the record.
    Background,
}

/// Why a module could not scan. Counted and recorded; it never appears as a denial.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ModuleError(pub String);

/// A module: it answers one safety question about every passage that [`Self::reads`] selects.
pub trait SafetyModule: Send + Sync + 'static {
    /// The name in configuration, findings, metrics and evidence.
    fn name(&self) -> &'static str;

    /// The phases at which it scans.
    fn phases(&self) -> &'static [Phase];

    /// How it runs relative to other modules.
    fn order(&self) -> Order;

    /// Whether it scans passages of this side, kind and role.
    fn reads(&self, passage: &Passage<'_>) -> bool;

    /// Scans one whole passage.
    ///
    /// # Errors
    /// When it could not scan; findings made so far stay in `out`.
    fn scan(&self, passage: &Passage<'_>, out: &mut Findings) -> Result<(), ModuleError>;

    /// Whether its findings in a passage of an answer depend only on the passage and on [what was asked](Passage::asked),
    /// so that they may be cached for that answer to that request. Only called for modules that are not pure.
    fn compares(&self) -> bool {
        false
    }

    /// Names what it looks for together with others, each from its side: what several of a kin find in a passage is one
    /// finding, told by the one that is surest of it. `None` for who looks alone.
    fn kin(&self) -> Option<u64> {
        None
    }

    /// How sure it is of that, on a scale it has in common with its kin.
    fn certainty(&self, _passage: &Passage<'_>) -> f32 {
        f32::NEG_INFINITY
    }

    /// A scanner for one text of a streamed answer; `None` if the module does not look at streams. Whatever the cuts, its
    /// findings equal those of [`Self::scan`] over the whole text.
    fn scanner(&self, _first: &Passage<'_>) -> Option<Box<dyn Scanner>> {
        None
    }
}
