//! What runs after the answer: the steps of `post_response`, from the queue, and then the evidence record, which so
//! holds what they did. The record is closed exactly once, whatever becomes of the job.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::{Background, Chain, Decision, Execution, Finished, Gate};

/// Where a finished request is put on record.
pub trait Ledger: Send + Sync + 'static {
    /// The request is over and nothing will be added to it. Must not block.
    fn close(&self, finished: Arc<Finished>);
}

/// Queues the chain's `post_response` steps: ordered ones first, joined ones next, background ones last, each of which
/// also has an `enqueued` entry. When the queue is full none of them runs, and each is on record as dropped.
pub fn post_response<L: Ledger>(chain: &Arc<Chain>, finished: Arc<Finished>, queue: &Background, ledger: L) {
    let queued = Instant::now();
    let closing = Closing { chain: Arc::clone(chain), finished, later: Vec::new(), done: 0, queued, ledger };
    let stage = chain.stage(Gate::PostResponse);
    if stage.all().next().is_none() {
        return; // Dropping it closes the record.
    }
    // A job that is refused is dropped, and closes its record by that.
    drop(queue.push(Box::pin(closing.run())));
}

/// A record that is not closed yet. Dropping it closes it, with what did not run on record as dropped.
struct Closing<L: Ledger> {
    chain: Arc<Chain>,
    finished: Arc<Finished>,
    later: Vec<Execution>,
    /// How many of the stage's steps have run.
    done: usize,
    queued: Instant,
    ledger: L,
}

impl<L: Ledger> Closing<L> {
    async fn run(mut self) {
        let chain = Arc::clone(&self.chain);
        let stage = chain.stage(Gate::PostResponse);
        for step in &stage.background {
            let mut execution = step.entry(&self.finished.facts, self.queued);
            step.count(&mut execution, Decision::Enqueued);
            self.later.push(execution);
        }
        for step in &stage.sequential {
            let execution = step.follow_up(&self.finished).await;
            self.add([execution]);
        }
        for group in [&stage.parallel, &stage.background] {
            let ran = join_all(group.iter().map(|step| step.follow_up(&self.finished))).await;
            self.add(ran);
        }
    }

    fn add(&mut self, ran: impl IntoIterator<Item = Execution>) {
        let before = self.later.len();
        self.later.extend(ran);
        self.done += self.later.len() - before;
    }
}

impl<L: Ledger> Drop for Closing<L> {
    fn drop(&mut self) {
        for step in self.chain.stage(Gate::PostResponse).all().skip(self.done) {
            let mut execution = step.entry(&self.finished.facts, Instant::now());
            execution.error = Some("the background queue had no room or no time for it".to_owned());
            execution.took = Duration::ZERO;
            step.count(&mut execution, Decision::Dropped);
            self.later.push(execution);
        }
        if !self.later.is_empty() {
            Arc::make_mut(&mut self.finished).executions.append(&mut self.later);
        }
        self.ledger.close(self.finished.clone());
    }
}
