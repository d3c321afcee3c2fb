//! Merges the executions of `post_upstream`. A plugin that filters streams runs there in two parts, on the head of the answer
//! and then event by event; in evidence and counters that is one execution.

use super::{Chain, Decision, Execution, Gate};

/// Merges the executions of each plugin at `post_upstream` into one, and counts it.
pub fn close(chain: &Chain, executions: &mut Vec<Execution>) {
    let stage = chain.stage(Gate::PostUpstream);
    if chain.is_empty(Gate::PostUpstream) {
        return;
    }
    let mut at = 0;
    while at < executions.len() {
        let (before, rest) = executions.split_at_mut(at);
        let this = &mut rest[0];
        let first = before.iter_mut().find(|one| one.gate == Gate::PostUpstream && one.plugin == this.plugin);
        match first.filter(|_| this.gate == Gate::PostUpstream) {
            Some(first) => {
                first.join(this);
                executions.remove(at);
            }
            None => at += 1,
        }
    }
    for execution in executions.iter().filter(|execution| execution.gate == Gate::PostUpstream) {
        if let Some(step) = stage.all().find(|step| step.instance().name == execution.plugin) {
            step.observe(execution);
        }
    }
}

impl Execution {
    /// Adds the other part of the same execution. Of the two decisions the weightier one is kept.
    fn join(&mut self, other: &mut Self) {
        if weight(other.decision) > weight(self.decision) {
            self.decision = other.decision;
        }
        self.changed_request |= other.changed_request;
        self.changed_response |= other.changed_response;
        self.code = other.code.take().or_else(|| self.code.take());
        self.error = other.error.take().or_else(|| self.error.take());
        self.external = other.external.take().or_else(|| self.external.take());
        self.scope = self.scope.take().or_else(|| other.scope.take());
        self.notes.append(&mut other.notes);
        self.started = self.started.min(other.started);
        self.took += other.took;
    }
}

fn weight(decision: Decision) -> u8 {
    match decision {
        Decision::SkippedScope | Decision::SkippedRollout | Decision::Enqueued | Decision::Dropped => 0,
        Decision::Allowed => 1,
        Decision::WouldChange => 2,
        Decision::WouldBlock => 3,
        Decision::Changed => 4,
        Decision::Error | Decision::Timeout | Decision::Panicked => 5,
        Decision::Blocked => 6,
    }
}
