//! The bounded queue for work off the request path: `post_response` steps and jobs that plugins submit.
//!
//! Submitting a job never waits, and wakes no worker that polls soon anyway: workers take jobs in batches and poll again a
//! moment after each batch, so that under load the queue costs a request no system call.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use crate::telemetry::PoolMetrics;

/// A job: a future that runs off the request path.
pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How many jobs a worker takes at once.
const BATCH: usize = 64;
/// How many pending jobs a worker keeps under way at the same time.
const WAITING: usize = 256;
/// How long a worker lets jobs gather after a batch that was not full. Each poll of the queue costs a timer and a wake-up,
/// which on a quiet gateway would be most of the cost of a job.
const GATHER: Duration = Duration::from_millis(4);

/// The producing end of the queue. Cheap to clone.
#[derive(Clone)]
pub struct Background {
    lanes: Arc<[mpsc::Sender<Job>]>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    next: AtomicUsize,
    pending: AtomicUsize,
    finished: AtomicU64,
    dropped: AtomicU64,
    closed: AtomicBool,
    metrics: Option<PoolMetrics>,
}

/// How many jobs are pending, finished and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStats {
    /// Jobs accepted and not finished.
    pub pending: usize,
    /// Jobs finished, including those that panicked.
    pub finished: u64,
    /// Jobs refused because the queue was full or closed.
    pub dropped: u64,
}

/// A consuming end of the queue; each has to be run on a runtime.
pub struct Worker {
    jobs: mpsc::Receiver<Job>,
    state: Arc<State>,
}

impl Background {
    /// Creates a queue of about `capacity` jobs, and its workers (at least one). Jobs gather until the workers run.
    pub fn new(capacity: usize, workers: usize, metrics: Option<PoolMetrics>) -> (Self, Vec<Worker>) {
        let workers = workers.max(1);
        let state = Arc::new(State { metrics, ..State::default() });
        let (lanes, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(capacity.div_ceil(workers).max(1))).unzip();
        let consumers = receivers.into_iter().map(|jobs| Worker { jobs, state: Arc::clone(&state) }).collect();
        (Self { lanes: lanes.into(), state }, consumers)
    }

    /// Creates a queue and spawns its workers on the current runtime.
    pub fn start(capacity: usize, workers: usize, metrics: Option<PoolMetrics>) -> Self {
        let (queue, consumers) = Self::new(capacity, workers, metrics);
        for worker in consumers {
            tokio::spawn(worker.run());
        }
        queue
    }

    /// Creates a queue that refuses every job.
    pub fn closed() -> Self {
        let state = State { closed: AtomicBool::new(true), ..State::default() };
        Self { lanes: Arc::new([]), state: Arc::new(state) }
    }

    /// Submits a job without waiting.
    ///
    /// # Errors
    /// The queue is full or closed: returns the job, which is counted as dropped.
    pub fn push(&self, mut job: Job) -> Result<(), Job> {
        let state = &self.state;
        if !state.closed.load(Ordering::Acquire) {
            // Counted before it is sent, because a worker may finish the job before this call returns.
            state.pending.fetch_add(1, Ordering::AcqRel);
            let first = state.next.fetch_add(1, Ordering::Relaxed);
            for lane in 0..self.lanes.len() {
                let lane = &self.lanes[first.wrapping_add(lane) % self.lanes.len()];
                match lane.try_send(job) {
                    Ok(()) => {
                        if let Some(metrics) = &state.metrics {
                            metrics.enqueued();
                        }
                        return Ok(());
                    }
                    Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => job = back,
                }
            }
            state.pending.fetch_sub(1, Ordering::AcqRel);
        }
        state.dropped.fetch_add(1, Ordering::Relaxed);
        if let Some(metrics) = &state.metrics {
            metrics.dropped();
        }
        Err(job)
    }

    /// The current counts.
    pub fn stats(&self) -> QueueStats {
        QueueStats {
            pending: self.state.pending.load(Ordering::Acquire),
            finished: self.state.finished.load(Ordering::Relaxed),
            dropped: self.state.dropped.load(Ordering::Relaxed),
        }
    }

    /// Refuses further jobs and waits up to `limit` for the accepted ones. Returns how many are left.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.state.closed.store(true, Ordering::Release);
        let started = Instant::now();
        loop {
            let left = self.stats().pending;
            if left == 0 || started.elapsed() >= limit {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(5).min(limit)).await;
        }
    }
}

impl std::fmt::Debug for Background {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Background({:?})", self.stats())
    }
}

impl Worker {
    /// Runs jobs until every producer is dropped and every job has finished.
    pub async fn run(mut self) {
        let mut waiting = FuturesUnordered::new();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                taken = self.jobs.recv_many(&mut batch, BATCH), if waiting.len() < WAITING => {
                    if taken == 0 {
                        break;
                    }
                    for job in batch.drain(..) {
                        // Most jobs complete at their first poll.
                        if let Some(job) = self.state.begin(job).await {
                            waiting.push(job);
                        }
                    }
                    if taken == BATCH {
                        continue;
                    }
                    let mut gathered = pin!(tokio::time::sleep(GATHER));
                    loop {
                        tokio::select! {
                            () = &mut gathered => break,
                            Some(()) = waiting.next(), if !waiting.is_empty() => {}
                        }
                    }
                }
                Some(()) = waiting.next(), if !waiting.is_empty() => {}
            }
        }
        while waiting.next().await.is_some() {}
    }
}

/// A job under way. Dropping it counts the job as finished, even if the job was cancelled.
struct UnderWay(Arc<State>, Instant);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::AcqRel);
        self.0.finished.fetch_add(1, Ordering::Relaxed);
        if let Some(metrics) = &self.0.metrics {
            metrics.finished(self.1.elapsed());
        }
    }
}

impl State {
    /// Polls a job for the first time; returns the rest of it if it is not complete then.
    async fn begin(self: &Arc<Self>, mut job: Job) -> Option<Job> {
        let under_way = UnderWay(Arc::clone(self), Instant::now());
        let first = {
            let mut guarded = pin!(AssertUnwindSafe(job.as_mut()).catch_unwind());
            futures::poll!(guarded.as_mut())
        };
        match first {
            Poll::Ready(result) => {
                over(result);
                None
            }
            Poll::Pending => Some(Box::pin(async move {
                over(AssertUnwindSafe(job).catch_unwind().await);
                drop(under_way);
            })),
        }
    }
}

/// Logs a panic. Its payload is dropped unread, because it may quote the traffic.
fn over(result: std::thread::Result<()>) {
    if result.is_err() {
        log::error!(target: "plugin", "a background job panicked");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_run_and_a_panic_takes_nobody_along() {
        let queue = Background::start(64, 2, None);
        let count = Arc::new(AtomicUsize::new(0));
        for at in 0..50 {
            let count = Arc::clone(&count);
            let job: Job = Box::pin(async move {
                if at % 10 == 3 {
                    panic!("on purpose");
                }
                if at % 2 == 0 {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                count.fetch_add(1, Ordering::Relaxed);
            });
            assert!(queue.push(job).is_ok());
        }
        assert_eq!(queue.drain(Duration::from_secs(5)).await, 0);
        assert_eq!(count.load(Ordering::Relaxed), 45);
        assert_eq!(queue.stats(), QueueStats { pending: 0, finished: 50, dropped: 0 });
        assert!(queue.push(Box::pin(async {})).is_err());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_counts() {
        let (queue, workers) = Background::new(4, 2, None);
        let accepted = (0..10).filter(|_| queue.push(Box::pin(async {})).is_ok()).count();
        assert_eq!((accepted, queue.stats().dropped, queue.stats().pending), (4, 6, 4));
        assert_eq!(queue.drain(Duration::from_millis(20)).await, 4);
        for worker in workers {
            tokio::spawn(worker.run());
        }
        assert_eq!(queue.drain(Duration::from_secs(5)).await, 0);
        assert!(Background::closed().push(Box::pin(async {})).is_err());
    }
}
