//! Runs the chain at the three gates on the request's path.

use std::time::Instant;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use http::HeaderMap;

use super::{Chain, Decision, Draft, Exchange, Execution, Facts, Gate, Step};
use crate::plugin::Verdict;
use crate::plugin::view::Access;

/// Which steps of a gate have their turn. At `post_upstream` of an answer that nobody holds there are two: who wants to see its
/// body and only observes gets a copy when the caller has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Every step.
    All,
    /// Those that do not wait for the copy of this answer, a stream or not.
    Head {
        /// Who filters streams does not wait for one.
        streamed: bool,
    },
    /// Those that have waited.
    Copy {
        /// See [`Self::Head`].
        streamed: bool,
    },
}

impl Turn {
    fn has(self, step: &Step, facts: &Facts, draft: &Draft) -> bool {
        let waits = |streamed: bool| {
            let frames = streamed && step.instance().manifest.streams;
            // Who is not meant is on record as skipped at the head already.
            step.observes() && step.reads_answers() && !frames && step.admit(facts, draft).is_ok()
        };
        match self {
            Self::All => true,
            Self::Head { streamed } => !waits(streamed),
            Self::Copy { streamed } => waits(streamed),
        }
    }
}

/// Runs what the chain has at a gate: ordered steps one after the other, then the joined ones over what the ordered
/// ones left. The first refusal of an ordered step ends it; what did not run leaves no entry. Joined steps all finish,
/// and the strictest of them decides, whichever was faster: a refusal before a failure, each in YAML order.
///
/// `headers` is the caller's request head. Rendering the denial is left to the caller of this function.
pub async fn run(chain: &Chain, gate: Gate, ex: &mut Exchange, headers: &HeaderMap) -> Verdict {
    run_turn(chain, gate, ex, headers, Turn::All).await
}

/// The same of those steps whose turn it is.
pub async fn run_turn(chain: &Chain, gate: Gate, ex: &mut Exchange, headers: &HeaderMap, turn: Turn) -> Verdict {
    let stage = chain.stage(gate);
    if gate == Gate::PostResponse || chain.is_empty(gate) {
        return Verdict::Next;
    }
    let Exchange { facts, draft, executions, .. } = ex;
    if executions.is_empty() {
        executions.reserve_exact(chain.steps());
    }
    for step in &stage.sequential {
        if !turn.has(step, facts, draft) {
            continue;
        }
        let access = Access::Own { draft: &mut *draft, keep: step.revertible(), undo: None };
        let started = Instant::now();
        let mut execution = step.entry(facts, started);
        let verdict = step.judge(facts, headers, access, started, &mut execution).await;
        executions.push(execution);
        if verdict != Verdict::Next {
            return verdict;
        }
    }
    let (facts, draft) = (&*facts, &*draft);
    if let [alone] = &stage.parallel[..] {
        if !turn.has(alone, facts, draft) {
            return Verdict::Next;
        }
        let started = Instant::now();
        let mut execution = alone.entry(facts, started);
        let verdict = alone.judge(facts, headers, Access::Shared(draft), started, &mut execution).await;
        executions.push(execution);
        return verdict;
    }
    // Collected, because the compiler cannot prove a mapped iterator of these futures to be `Send`.
    let mut siblings = Vec::with_capacity(stage.parallel.len());
    for step in stage.parallel.iter().filter(|step| turn.has(step, facts, draft)) {
        siblings.push(step.judge_beside(facts, headers, draft));
    }
    let judged = match siblings.len() {
        0 => return Verdict::Next,
        n if n <= chain.max_parallel() => join_all(siblings).await,
        _ => stream::iter(siblings).buffered(chain.max_parallel()).collect().await,
    };
    strictest(judged, executions)
}

/// Records the executions and returns the first refusal, else the first failure.
fn strictest(judged: Vec<(Execution, Verdict)>, executions: &mut Vec<Execution>) -> Verdict {
    let (mut refusal, mut failure) = (Verdict::Next, Verdict::Next);
    for (execution, verdict) in judged {
        let place = if execution.decision == Decision::Blocked { &mut refusal } else { &mut failure };
        if *place == Verdict::Next {
            *place = verdict;
        }
        executions.push(execution);
    }
    if refusal == Verdict::Next { failure } else { refusal }
}

#[cfg(test)]
#[path = "run_test.rs"]
pub(super) mod tests;
