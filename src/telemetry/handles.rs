//! What counts on the hot path. Every handle is resolved by [`super::Metrics`] when a configuration is loaded.

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
    /// A request is over: the status sent, whether the answer was a stream, the whole time and our share of it.
    pub fn finished(&self, status: u16, stream: bool, took: Duration, overhead: Duration) {
        self.requests[class_of(status)][usize::from(stream)].inc();
        self.duration[usize::from(stream)].observe(took.as_secs_f64());
        self.overhead.observe(overhead.as_secs_f64());
    }

    /// A streamed answer is over; `end` is one of [`names::ENDS`], `took` runs from the head of the answer.
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
    /// One execution; `decision` is one of [`names::DECISIONS`]. What was skipped, enqueued or dropped took no time.
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
    /// No connection, or no TLS.
    Connect,
    /// No answer in time.
    Timeout,
    /// The connection broke before the answer was complete.
    Broken,
    /// 429.
    Throttled,
    /// 5xx.
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
    /// The provider answered, well or not; 429 and 5xx count as errors too.
    pub fn answered(&self, status: u16, took: Duration) {
        self.requests[class_of(status)].inc();
        self.duration.observe(took.as_secs_f64());
        match status {
            429 => self.errors[ProviderError::Throttled as usize].inc(),
            500..=599 => self.errors[ProviderError::Status as usize].inc(),
            _ => {}
        }
    }

    /// The attempt failed without a complete answer; counted once, with `status_class="error"`.
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
    /// The tokens of one request. Cached are part of input and reasoning part of output, as providers report them; what was
    /// embedded is input too.
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
    /// A job was accepted.
    pub fn enqueued(&self) {
        self.depth.inc();
    }

    /// An accepted job is over.
    pub fn finished(&self, took: Duration) {
        self.depth.dec();
        self.tasks.inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// A job was refused because the queue was full.
    pub fn dropped(&self) {
        self.dropped.inc();
    }
}

/// Counts the readings of one SafetySec module at one phase.
#[derive(Debug, Clone)]
pub struct ModuleMetrics {
    pub(super) runs: [IntCounter; 8],
    pub(super) duration: Histogram,
    pub(super) redactions: IntCounter,
    pub(super) blocks: IntCounter,
}

impl ModuleMetrics {
    /// One reading; `outcome` is a place in [`names::READINGS`], `redactions` how many spans the module wanted replaced.
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
    /// One decision; one of [`names::SECURITY_DECISION_WORDS`].
    pub fn decided(&self, decision: &'static str) {
        self.0[position(&names::SECURITY_DECISION_WORDS, decision)].inc();
    }
}

/// Counts the texts that SafetySec was shown at one phase.
#[derive(Debug, Clone)]
pub struct TextMetrics {
    pub(super) read: IntCounter,
    pub(super) remembered: IntCounter,
}

impl TextMetrics {
    /// So many were read, and so many remembered.
    pub fn shown(&self, read: u32, remembered: u32) {
        self.read.inc_by(read.into());
        self.remembered.inc_by(remembered.into());
    }
}

/// Counts calls of the session store that failed.
#[derive(Debug, Clone)]
pub struct SessionMetrics(pub(super) IntCounter);

impl SessionMetrics {
    /// One call failed.
    pub fn failed(&self) {
        self.0.inc();
    }
}

/// What the evidence writer counts.
#[derive(Debug, Clone)]
pub struct EvidenceMetrics {
    /// Records written.
    pub written: IntCounter,
    /// Records lost.
    pub dropped: IntCounter,
    /// Failed writes.
    pub write_errors: IntCounter,
    /// Signed checkpoints.
    pub checkpoints: IntCounter,
    /// Records accepted and not yet written.
    pub queue_depth: IntGauge,
}

/// Keeps a request counted as in flight.
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

/// Where a value stands in a fixed set whose last member is for everything else.
fn position<const N: usize>(set: &[&'static str; N], value: &str) -> usize {
    set.iter().position(|known| *known == value).unwrap_or(N - 1)
}
