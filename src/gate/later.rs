//! The work after the answer: the `post_response` steps, from the queue, and the evidence record with their executions.
//!
//! Nearly every step completes at its first poll, and the record is closed once, with all of them in it. As soon as a step has
//! to wait, the record is closed without it, so that a slow step does not delay the evidence; later executions are added to
//! it. The record is closed exactly once, even if the job is dropped.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::background::Job;
use super::{Background, Chain, Decision, Execution, Finished, Gate, RequestId};

/// Records finished requests.
pub trait Ledger: Send + Sync + 'static {
    /// Records a request that is over. Called once per request. Must not block.
    fn close(&self, finished: Arc<Finished>);

    /// Adds an execution that ended after the record of its request was closed. Must not block.
    fn add(&self, request: RequestId, execution: Execution);
}

/// Queues the chain's `post_response` steps: sequential ones first, parallel ones next, background ones last, each of which
/// also has an `enqueued` entry. If the queue is full no step runs, and each is recorded as dropped. If all steps are declared
/// prompt they run at once, without the queue; should one of them wait nevertheless, the queue gets the rest.
pub fn post_response<L: Ledger>(chain: &Arc<Chain>, finished: Arc<Finished>, queue: &Background, ledger: L) {
    let queued = Instant::now();
    let closing = Closing { chain: Arc::clone(chain), finished, later: Vec::new(), done: 0, closed: false, queued, ledger };
    let stage = chain.stage(Gate::PostResponse);
    if stage.all().next().is_none() {
        return; // Dropping it closes the record.
    }
    let mut job: Job = Box::pin(closing.run());
    if stage.all().all(|step| step.instance().plugin.is_prompt()) {
        let mut context = Context::from_waker(Waker::noop());
        if job.as_mut().poll(&mut context).is_ready() {
            return;
        }
    }
    // If the queue refuses the job, dropping it closes the record.
    drop(queue.push(job));
}

/// The end of one request. Dropping it closes a record that is still open; steps that did not run are recorded as dropped.
struct Closing<L: Ledger> {
    chain: Arc<Chain>,
    finished: Arc<Finished>,
    later: Vec<Execution>,
    /// How many steps of the stage have run.
    done: usize,
    /// Whether the record is closed.
    closed: bool,
    queued: Instant,
    ledger: L,
}

impl<L: Ledger> Closing<L> {
    async fn run(mut self) {
        let (chain, finished) = (Arc::clone(&self.chain), Arc::clone(&self.finished));
        let stage = chain.stage(Gate::PostResponse);
        for step in &stage.background {
            let mut execution = step.entry(&finished.facts, self.queued);
            step.count(&mut execution, Decision::Enqueued);
            self.keep(execution);
        }
        for step in &stage.sequential {
            let execution = self.seen_through(step.follow_up(&finished)).await;
            self.ran(execution);
        }
        for group in [&stage.parallel, &stage.background] {
            if let [step] = &group[..] {
                let execution = self.seen_through(step.follow_up(&finished)).await;
                self.ran(execution);
            } else if !group.is_empty() {
                let ran = self.seen_through(join_all(group.iter().map(|step| step.follow_up(&finished)))).await;
                ran.into_iter().for_each(|execution| self.ran(execution));
            }
        }
    }

    /// Runs steps to their end. If they have to wait, the record is closed first.
    async fn seen_through<T>(&mut self, steps: impl Future<Output = T>) -> T {
        let mut steps = pin!(steps);
        if let Poll::Ready(ran) = futures::poll!(steps.as_mut()) {
            return ran;
        }
        if !self.closed {
            // A copy, because the steps that follow must not see the executions added here.
            let mut record = (*self.finished).clone();
            record.executions.append(&mut self.later);
            self.closed = true;
            self.ledger.close(Arc::new(record));
        }
        steps.await
    }

    fn ran(&mut self, execution: Execution) {
        self.done += 1;
        self.keep(execution);
    }

    fn keep(&mut self, execution: Execution) {
        if self.closed {
            self.ledger.add(self.finished.facts.id, execution);
        } else {
            self.later.push(execution);
        }
    }
}

impl<L: Ledger> Drop for Closing<L> {
    fn drop(&mut self) {
        let chain = Arc::clone(&self.chain);
        for step in chain.stage(Gate::PostResponse).all().skip(self.done) {
            let mut execution = step.entry(&self.finished.facts, Instant::now());
            execution.error = Some("the background queue had no room or no time for it".to_owned());
            execution.took = Duration::ZERO;
            step.count(&mut execution, Decision::Dropped);
            self.keep(execution);
        }
        if !self.closed {
            if !self.later.is_empty() {
                // No other owner is left, so this does not copy.
                Arc::make_mut(&mut self.finished).executions.append(&mut self.later);
            }
            self.ledger.close(Arc::clone(&self.finished));
        }
    }
}
