//! SafetySec: what is in the text of requests and answers, and what to do about it.
//!
//! Modules look at one [`Passage`] at a time and report [`Finding`]s; the engine combines the findings of all modules into
//! one decision per phase. Modules are pure: they know neither sessions nor configuration files nor the network, so that
//! `odock-edge safety scan`, the gateway and a test all run the very same code.

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
    /// In the order of a request's life.
    pub const ALL: [Self; 6] = [Self::PreAuth, Self::PostAuth, Self::PreUpstream, Self::PostUpstream, Self::Stream, Self::PostResponse];

    /// The spelling in configuration, logs and metrics.
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
    /// The spelling in configuration, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Observe => "observe",
            Self::Redact => "redact",
            Self::Block => "block",
        }
    }
}

/// How a module stands to its siblings of one phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// First, in the order of the list; may redact.
    Sequential,
    /// Scores only.
    Parallel,
    /// After the answer, for the record alone.
    Background,
}

/// Why a module could not look. It is counted and on record, and never looks like a denial.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ModuleError(pub String);

/// One safety question, asked of every passage that [`Self::reads`] names.
pub trait SafetyModule: Send + Sync + 'static {
    /// The name in configuration, findings, metrics and evidence.
    fn name(&self) -> &'static str;

    /// When it looks.
    fn phases(&self) -> &'static [Phase];

    /// How it stands to its siblings.
    fn order(&self) -> Order;

    /// Whether a passage of this side, kind and role is its business.
    fn reads(&self, passage: &Passage<'_>) -> bool;

    /// Looks at one whole passage.
    ///
    /// # Errors
    /// It could not look; what it found so far stays in `out`.
    fn scan(&self, passage: &Passage<'_>, out: &mut Findings) -> Result<(), ModuleError>;

    /// Whether what it finds in a passage of an answer depends on the passage and on [what was asked](Passage::asked) alone,
    /// so that it may be remembered of that answer to that request. Only asked of modules that are not pure.
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
