//! One request as the gates see it: what is fixed ([`Facts`]), what steps may change ([`Draft`]), what they did
//! ([`Execution`]) and how it ended ([`Outcome`]).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::guard::{Guarded, Reading};
use super::{Gate, Style};
use crate::error::Denial;
use crate::identity::Caller;
use crate::plugin::Mode;
use crate::wire::{Dialect, Endpoint, Usage};

/// The gateway's own id of a request: 16 random bytes, shown as 32 lowercase hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    /// A fresh id.
    pub fn random() -> Self {
        // As one number: an array would be drawn byte by byte.
        Self(rand::random::<u128>().to_ne_bytes())
    }

    /// As it is shown.
    pub fn hex(&self) -> [u8; 32] {
        // Arithmetic instead of a table, which the compiler turns into vector code.
        let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        let mut text = [0u8; 32];
        for (at, byte) in self.0.into_iter().enumerate() {
            text[2 * at] = digit(byte >> 4);
            text[2 * at + 1] = digit(byte & 15);
        }
        text
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

/// One request on its way through the gates.
#[derive(Debug)]
pub struct Exchange {
    /// What is fixed.
    pub facts: Facts,
    /// What steps may change.
    pub draft: Draft,
    /// What steps did, in the order in which they ended; parallel siblings in YAML order.
    pub executions: Vec<Execution>,
    /// What SafetySec keeps of it; nothing on a route without it.
    pub safety: Option<Box<Guarded>>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Exchange {
    /// A request of which nothing is known but its facts.
    pub fn new(facts: Facts) -> Self {
        let draft = Draft { model: facts.requested_model.clone(), ..Draft::default() };
        Self { facts, draft, executions: Vec::new(), safety: None, outcome: Outcome::default() }
    }

    /// What evidence and background steps get: everything but bodies and headers.
    pub fn finish(self) -> Finished {
        let safety = self.safety.map(|kept| kept.readings).unwrap_or_default();
        Finished {
            facts: self.facts,
            model: self.draft.model,
            tags: self.draft.tags,
            executions: self.executions,
            safety,
            outcome: self.outcome,
        }
    }
}

/// What is fixed about a request once it is known.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Ours.
    pub id: RequestId,
    /// From `traceparent`, 32 hex digits.
    pub trace_id: Option<String>,
    /// The caller's own `x-request-id`, sanitised; never trusted as an identity.
    pub caller_request_id: Option<String>,
    /// Start of the request head; durations count from here.
    pub received: Instant,
    /// The same moment on the wall clock.
    pub received_at: SystemTime,
    /// The route's name.
    pub route: Arc<str>,
    /// Which API was called.
    pub endpoint: Endpoint,
    /// Whose API that is.
    pub dialect: Dialect,
    /// The method.
    pub method: http::Method,
    /// Without the query, which may hold a key.
    pub path: String,
    /// The caller's address, after trusted proxies.
    pub client_ip: Option<IpAddr>,
    /// The caller's `user-agent`.
    pub user_agent: Option<String>,
    /// Who calls; `None` on a route without authentication.
    pub caller: Option<Arc<Caller>>,
    /// The model the caller named.
    pub requested_model: Option<String>,
    /// The chosen provider.
    pub provider: Option<Arc<str>>,
    /// The chosen model's name at the provider.
    pub slug: Option<Arc<str>>,
    /// The caller asked for a stream, or the provider answered with one.
    pub stream: bool,
}

/// What sequential steps may change.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The model in force, the organisation's name for it.
    pub model: Option<String>,
    /// The request body as it will be sent.
    pub body: Bytes,
    /// Where the value of `model` stands in it, quotes included, as long as that is known without reading it again.
    pub model_span: Option<Range<usize>>,
    /// Edits to the head towards the provider, in order.
    pub request_edits: Vec<HeaderEdit>,
    /// Tags for evidence and usage.
    pub tags: Vec<(String, String)>,
    /// The provider's answer, at `post_upstream`.
    pub response: Option<Response>,
    /// Edits to the head towards the caller, in order.
    pub response_edits: Vec<HeaderEdit>,
}

/// The provider's answer as `post_upstream` sees it.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The head as the provider sent it.
    pub headers: HeaderMap,
    /// The whole decoded body, or `None` if it is streamed.
    pub body: Option<Bytes>,
}

/// One change of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderEdit {
    /// Replace every field of this name by one.
    Set(HeaderName, HeaderValue),
    /// Remove every field of this name.
    Remove(HeaderName),
}

impl HeaderEdit {
    /// The field it speaks of.
    pub fn name(&self) -> &HeaderName {
        match self {
            Self::Set(name, _) | Self::Remove(name) => name,
        }
    }

    /// Applies edits to a head, in order.
    pub fn apply(edits: &[Self], headers: &mut HeaderMap) {
        for edit in edits {
            match edit {
                Self::Set(name, value) => {
                    headers.insert(name.clone(), value.clone());
                }
                Self::Remove(name) => {
                    headers.remove(name);
                }
            }
        }
    }
}

/// How a request ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The status the caller got, 0 if none was sent.
    pub status: u16,
    /// The refusal, if there was one.
    pub denial: Option<Denial>,
    /// In what way it ended.
    pub end: End,
    /// Attempts at providers.
    pub attempts: u32,
    /// Tokens.
    pub usage: Usage,
    /// Time spent waiting for the provider, milliseconds.
    pub upstream_ms: Option<f64>,
    /// Time that was ours, microseconds.
    pub overhead_us: u64,
    /// Body bytes from the caller.
    pub bytes_in: u64,
    /// Body bytes to the caller.
    pub bytes_out: u64,
    /// Bytes of the upstream's answer as they came, whether or not the caller got them.
    pub bytes_received: u64,
    /// The provider's own id of the request.
    pub provider_request_id: Option<String>,
    /// What was let through without being asked, because a store did not answer and `on_store_error` says so.
    pub unenforced: Unenforced,
    /// Refusals that policies in shadow mode would have made.
    pub shadowed: Vec<Shadowed>,
}

/// A refusal that a policy in shadow mode would have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadowed {
    /// Whose policy: `global`, `organisation`, `team`, `api_key`, `model` or `mcp_server`.
    pub scope: &'static str,
    /// Which of its limits, as the metrics name them: `ip`, `payload`, `max_tokens`, `concurrency`, `burst`, `rps`, `rpm`, `tpm`.
    pub limit: &'static str,
}

/// What a store that did not answer left undone of a request that went on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unenforced {
    /// A limit, budget or quota was not asked.
    pub limits: bool,
    /// The usage record could not be written.
    pub usage: bool,
}

impl Unenforced {
    /// The spellings in evidence and log.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        [(self.limits, "limits"), (self.usage, "usage")].into_iter().filter_map(|(is, word)| is.then_some(word))
    }
}

impl Default for Outcome {
    fn default() -> Self {
        Self {
            status: 0,
            denial: None,
            end: End::Complete,
            attempts: 0,
            usage: Usage::default(),
            upstream_ms: None,
            overhead_us: 0,
            bytes_in: 0,
            bytes_out: 0,
            bytes_received: 0,
            provider_request_id: None,
            unenforced: Unenforced::default(),
            shadowed: Vec::new(),
        }
    }
}

/// In what way a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The caller got the whole answer.
    Complete,
    /// The caller went away.
    ClientAbort,
    /// The provider failed, or answered with 400 or above.
    UpstreamError,
    /// A gate refused.
    Blocked,
    /// Somebody was too slow.
    Timeout,
}

impl End {
    /// The spelling in evidence and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientAbort => "client_abort",
            Self::UpstreamError => "upstream_error",
            Self::Blocked => "blocked",
            Self::Timeout => "timeout",
        }
    }
}

/// What one step did at one gate.
#[derive(Debug, Clone, Serialize)]
pub struct Execution {
    /// The instance's name.
    pub plugin: Arc<str>,
    /// The manifest's kind.
    pub kind: &'static str,
    /// Where.
    pub gate: Gate,
    /// How it stood to its siblings.
    pub style: Style,
    /// Whether its verdict counted.
    pub mode: Mode,
    /// What came of it.
    pub decision: Decision,
    /// Request data in force are other than before.
    pub changed_request: bool,
    /// Answer data in force are other than before.
    pub changed_response: bool,
    /// The code of a refusal, also of one that only would have been.
    pub code: Option<Cow<'static, str>>,
    /// Which entry of the instance's `scope` let it run, such as `teams:support`.
    pub scope: Option<String>,
    /// Why it failed; safe to show.
    pub error: Option<String>,
    /// Which system outside it spoke to.
    pub external: Option<External>,
    /// The notes its manifest announces.
    pub notes: Vec<(&'static str, String)>,
    /// When it began, counted from [`Facts::received`].
    pub started: Duration,
    /// How long it took.
    pub took: Duration,
    /// It ran before the answer was complete; `false` after it, from the queue.
    pub response_path: bool,
}

/// A system outside that a step spoke to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct External {
    /// Its name.
    pub system: String,
    /// Its id of what it was given.
    pub delivery_id: Option<String>,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It ran and let everything pass unchanged.
    Allowed,
    /// It ran and changed something.
    Changed,
    /// It refused.
    Blocked,
    /// It would have refused, in observe mode.
    WouldBlock,
    /// It would have changed something, in observe mode.
    WouldChange,
    /// It failed, or tried what it may not.
    Error,
    /// It ran out of time.
    Timeout,
    /// It panicked.
    Panicked,
    /// It did not run: the request is not in its scope.
    SkippedScope,
    /// It did not run: the key is not in its rollout.
    SkippedRollout,
    /// It waits in the queue.
    Enqueued,
    /// It never ran: the queue was full, or the process ended first.
    Dropped,
}

impl Decision {
    /// The spelling in evidence and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Changed => "changed",
            Self::Blocked => "blocked",
            Self::WouldBlock => "would_block",
            Self::WouldChange => "would_change",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Panicked => "panicked",
            Self::SkippedScope => "skipped_scope",
            Self::SkippedRollout => "skipped_rollout",
            Self::Enqueued => "enqueued",
            Self::Dropped => "dropped",
        }
    }

    /// Error, timeout or panic.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Error | Self::Timeout | Self::Panicked)
    }
}

/// A request that is over: what evidence, usage and `post_response` steps get. No bodies, no headers.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What was fixed.
    pub facts: Facts,
    /// The model in force at the end.
    pub model: Option<String>,
    /// The tags steps attached.
    pub tags: Vec<(String, String)>,
    /// What the steps did up to the answer.
    pub executions: Vec<Execution>,
    /// What SafetySec's modules did.
    pub safety: Vec<Reading>,
    /// How it ended.
    pub outcome: Outcome,
}
