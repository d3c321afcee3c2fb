//! The four lifecycle gates and what runs at them: a compiled [`Chain`] of steps over one [`Exchange`].
//!
//! Timeout, panic guard, `on_error`, observe mode, scope, rollout and evidence are implemented here, once for all steps.

use serde::{Deserialize, Serialize};

mod background;
mod chain;
mod close;
mod exchange;
pub mod guard;
mod later;
mod run;
mod step;
mod stream;

pub use background::{Background, Job, QueueStats, Worker};
pub use chain::{Chain, ChainSpec, Misplaced, Readers, Stage, StageSpec, placement};
pub use close::close;
pub use exchange::{
    Decision, Draft, End, Exchange, Execution, External, Facts, Finished, HeaderEdit, Outcome, RequestId, Response, Shadowed, Unenforced,
};
pub use guard::{Guard, Guarded};
pub use later::{Ledger, post_response};
pub use run::{Turn, run, run_turn};
pub use step::Step;
pub use stream::{FrameVerdict, StreamChain};

pub use crate::plugin::Verdict;

/// A place in a request's life at which a chain runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Decoded, nothing chosen yet.
    PreRoute,
    /// Chosen and granted, nothing sent yet.
    PreUpstream,
    /// Answered by the provider, nothing shown to the caller yet.
    PostUpstream,
    /// Over.
    PostResponse,
}

impl Gate {
    /// All gates, in the order of a request's life.
    pub const ALL: [Self; 4] = [Self::PreRoute, Self::PreUpstream, Self::PostUpstream, Self::PostResponse];

    /// The spelling in YAML, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreRoute => "pre_route",
            Self::PreUpstream => "pre_upstream",
            Self::PostUpstream => "post_upstream",
            Self::PostResponse => "post_response",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// How a step stands to its siblings at a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// In order, may change and refuse.
    Sequential,
    /// Joined with its siblings over one read-only view; may refuse.
    Parallel,
    /// From the queue, after the answer.
    Background,
}

impl Style {
    /// The spelling in logs and evidence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Parallel => "parallel",
            Self::Background => "background",
        }
    }
}
