//! The metric handles that requests use. [`super::Metrics`] resolves each when a configuration is loaded.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntGauge};

use super::names;

/// Counts the answers of one route.
#[derive(Debug, Clone)]
pub struct RouteMetrics {
    pub(super) requests: [[IntCounter; 2]; 6],
    pub(super) duration: [Histogram; 2],
    pub(super) overhead: Histogram,
    pub(super) streams: [IntCounter; 6],
    pub(super) stream_duration: Histogram,
}

impl RouteMetrics {
    /// Counts a request that is over: the status sent, whether the answer was a stream, the whole time, and the gateway's
    /// own share of it.
    pub fn finished(&self, status: u16, stream: bool, took: Duration, overhead: Duration) {
        self.requests[class_of(status)][usize::from(stream)].inc();
        self.duration[usize::from(stream)].observe(took.as_secs_f64());
        self.overhead.observe(overhead.as_secs_f64());
    }

    /// Counts a streamed answer that is over. `end` is one of [`names::ENDS`]; `took` runs from the head of the answer.
    pub fn stream_finished(&self, end: &str, took: Duration) {
        self.streams[position(&names::ENDS, end)].inc();
        self.stream_duration.observe(took.as_secs_f64());
    }
}

/// Counts the executions of one plugin instance at one gate.
#[derive(Debug, Clone)]
pub struct PluginMetrics {
    pub(super) executions: [IntCounter; 13],
    pub(super) duration: Histogram,
    pub(super) errors: IntCounter,
}

impl PluginMetrics {
    /// Counts one execution. `decision` is one of [`names::DECISIONS`]; skipped, enqueued and dropped executions have no
    /// duration.
    pub fn observe(&self, decision: &'static str, took: Duration) {
        self.executions[position(&names::DECISIONS, decision)].inc();
        match decision {
            "skipped_scope" | "skipped_rollout" | "enqueued" | "dropped" => return,
            "error" | "timeout" | "panicked" => self.errors.inc(),
            _ => {}
        }
        self.duration.observe(took.as_secs_f64());
    }
}

/// Why an attempt at a provider failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderError {
    /// No TCP or TLS connection could be made.
    Connect,
    /// No answer within the timeout.
    Timeout,
    /// The connection broke before the answer was complete.
    Broken,
    /// The provider answered 429.
    Throttled,
    /// The provider answered 5xx.
    Status,
}

impl ProviderError {
    pub(super) const ALL: [Self; 5] = [Self::Connect, Self::Timeout, Self::Broken, Self::Throttled, Self::Status];

    /// The value of the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Throttled => "throttled",
            Self::Status => "status",
        }
    }
}

/// Counts the attempts at one provider.
#[derive(Debug, Clone)]
pub struct ProviderMetrics {
    pub(super) requests: [IntCounter; 6],
    pub(super) duration: Histogram,
    pub(super) errors: [IntCounter; 5],
}

impl ProviderMetrics {
    /// Counts a complete answer of any status; 429 and 5xx are counted as errors too.
    pub fn answered(&self, status: u16, took: Duration) {
        self.requests[class_of(status)].inc();
        self.duration.observe(took.as_secs_f64());
        match status {
            429 => self.errors[ProviderError::Throttled as usize].inc(),
            500..=599 => self.errors[ProviderError::Status as usize].inc(),
            _ => {}
        }
    }

    /// Counts an attempt without a complete answer, once, with `status_class="error"`.
    pub fn failed(&self, error: ProviderError, took: Duration) {
        self.requests[0].inc();
        self.duration.observe(took.as_secs_f64());
        self.errors[error as usize].inc();
    }
}

/// Counts the tokens of one model.
#[derive(Debug, Clone)]
pub struct ModelMetrics {
    pub(super) input: IntCounter,
    pub(super) output: IntCounter,
    pub(super) cached: IntCounter,
    pub(super) reasoning: IntCounter,
    pub(super) embeddings: IntCounter,
    pub(super) per_request: Histogram,
}

impl ModelMetrics {
    /// Counts the tokens of one request. As in providers' reports, cached tokens are part of the input and reasoning tokens
    /// part of the output. Tokens of embeddings are input.
    #[allow(clippy::cast_precision_loss)] // a histogram sum; counts of tokens are far below 2^52
    pub fn add(&self, input: u64, output: u64, cached: u64, reasoning: u64, embedded: bool) {
        let embeddings = if embedded { input } else { 0 };
        for (counter, tokens) in [
            (&self.input, input),
            (&self.output, output),
            (&self.cached, cached),
            (&self.reasoning, reasoning),
            (&self.embeddings, embeddings),
        ] {
            if tokens > 0 {
                counter.inc_by(tokens);
            }
        }
        self.per_request.observe(input.saturating_add(output) as f64);
    }
}

/// Counts the jobs of one background queue.
#[derive(Debug, Clone)]
pub struct PoolMetrics {
    pub(super) depth: IntGauge,
    pub(super) tasks: IntCounter,
    pub(super) duration: Histogram,
    pub(super) dropped: IntCounter,
}

impl PoolMetrics {
    /// Counts an accepted job.
    pub fn enqueued(&self) {
        self.depth.inc();
    }

    /// Counts the end of an accepted job.
    pub fn finished(&self, took: Duration) {
        self.depth.dec();
        self.tasks.inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a job that was dropped because the queue was full.
    pub fn dropped(&self) {
        self.dropped.inc();
    }
}

/// Counts the results of one SafetySec module at one phase.
#[derive(Debug, Clone)]
pub struct ModuleMetrics {
    pub(super) runs: [IntCounter; 8],
    pub(super) duration: Histogram,
    pub(super) redactions: IntCounter,
    pub(super) blocks: IntCounter,
}

impl ModuleMetrics {
    /// Counts one result. `outcome` is a position in [`names::READINGS`]; `redactions` is the number of spans that the
    /// module wanted replaced.
    pub fn ran(&self, outcome: usize, redactions: u32, took: Duration) {
        if let Some(counter) = self.runs.get(outcome) {
            counter.inc();
        }
        match names::READINGS.get(outcome) {
            Some(&"redact") => self.redactions.inc_by(redactions.into()),
            Some(&"block") => self.blocks.inc(),
            _ => {}
        }
        self.duration.observe(took.as_secs_f64());
    }
}

/// Counts the decisions of SafetySec at one phase.
#[derive(Debug, Clone)]
pub struct DecisionMetrics(pub(super) [IntCounter; 7]);

impl DecisionMetrics {
    /// Counts one decision out of [`names::SECURITY_DECISION_WORDS`].
    pub fn decided(&self, decision: &'static str) {
        self.0[position(&names::SECURITY_DECISION_WORDS, decision)].inc();
    }
}

/// Counts the texts that SafetySec was given at one phase.
#[derive(Debug, Clone)]
pub struct TextMetrics {
    pub(super) read: IntCounter,
    pub(super) remembered: IntCounter,
}

impl TextMetrics {
    /// Counts texts: `read` were scanned, for `remembered` the verdict was in the cache.
    pub fn shown(&self, read: u32, remembered: u32) {
        self.read.inc_by(read.into());
        self.remembered.inc_by(remembered.into());
    }
}

/// Counts failed calls to the session store.
#[derive(Debug, Clone)]
pub struct SessionMetrics(pub(super) IntCounter);

impl SessionMetrics {
    /// Counts one failed call.
    pub fn failed(&self) {
        self.0.inc();
    }
}

/// Metrics of the evidence writer.
#[derive(Debug, Clone)]
pub struct EvidenceMetrics {
    /// Records written.
    pub written: IntCounter,
    /// Records dropped.
    pub dropped: IntCounter,
    /// Failed writes.
    pub write_errors: IntCounter,
    /// Signed checkpoints.
    pub checkpoints: IntCounter,
    /// Records in the queue.
    pub queue_depth: IntGauge,
}

/// Counts a request as in flight until dropped.
#[derive(Debug)]
pub struct InFlight(pub(super) IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn class_of(status: u16) -> usize {
    match status / 100 {
        class @ 1..=5 => usize::from(class),
        _ => 0,
    }
}

/// The position of a value in a fixed set, whose last member stands for everything else.
fn position<const N: usize>(set: &[&'static str; N], value: &str) -> usize {
    set.iter().position(|known| *known == value).unwrap_or(N - 1)
}
