//! A request as the gates see it: what is fixed ([`Facts`]), what steps may change ([`Draft`]), what the steps did
//! ([`Execution`]) and how the request ended ([`Outcome`]).

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

/// The gateway's own id of a request: 16 random bytes, displayed as 32 lowercase hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub [u8; 16]);

impl RequestId {
    /// A fresh id.
    pub fn random() -> Self {
        // Drawn as one number, because the generator would fill an array byte by byte.
        Self(rand::random::<u128>().to_ne_bytes())
    }

    /// The 32 lowercase hex digits.
    pub fn hex(&self) -> [u8; 32] {
        // Arithmetic instead of a look-up table, because the compiler vectorises it.
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
    /// What is fixed about the request.
    pub facts: Facts,
    /// What steps may change.
    pub draft: Draft,
    /// What the steps did, in the order in which they finished; parallel siblings in YAML order.
    pub executions: Vec<Execution>,
    /// SafetySec's state for this request; `None` on a route without SafetySec.
    pub safety: Option<Box<Guarded>>,
    /// How the request ended.
    pub outcome: Outcome,
}

impl Exchange {
    /// A request of which only its facts are known.
    pub fn new(facts: Facts) -> Self {
        let draft = Draft { model: facts.requested_model.clone(), ..Draft::default() };
        Self { facts, draft, executions: Vec::new(), safety: None, outcome: Outcome::default() }
    }

    /// Drops bodies and headers: what remains is for evidence and background steps.
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

/// What is fixed about a request, once it is known.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The gateway's own id.
    pub id: RequestId,
    /// The trace id from `traceparent`, 32 hex digits.
    pub trace_id: Option<String>,
    /// The caller's own `x-request-id`, sanitised; never trusted as an identity.
    pub caller_request_id: Option<String>,
    /// When the request head was received; durations count from here.
    pub received: Instant,
    /// The same moment in wall-clock time.
    pub received_at: SystemTime,
    /// The route's name.
    pub route: Arc<str>,
    /// The API endpoint that was called.
    pub endpoint: Endpoint,
    /// The API family of the endpoint.
    pub dialect: Dialect,
    /// The HTTP method.
    pub method: http::Method,
    /// The path without the query, which may contain a key.
    pub path: String,
    /// The caller's address, seen through trusted proxies.
    pub client_ip: Option<IpAddr>,
    /// The caller's `user-agent`.
    pub user_agent: Option<String>,
    /// The authenticated caller; `None` on a route without authentication.
    pub caller: Option<Arc<Caller>>,
    /// The model that the caller named.
    pub requested_model: Option<String>,
    /// The chosen provider.
    pub provider: Option<Arc<str>>,
    /// The chosen model's name at the provider.
    pub slug: Option<Arc<str>>,
    /// Whether the caller asked for a stream, or the provider answered with one.
    pub stream: bool,
}

/// What sequential steps may change.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The model in use, by the organisation's name for it.
    pub model: Option<String>,
    /// The request body as it will be sent upstream.
    pub body: Bytes,
    /// The byte range of the value of `model` in the body, quotes included, while it is known without parsing the body again.
    pub model_span: Option<Range<usize>>,
    /// Edits to the request head sent upstream, in order.
    pub request_edits: Vec<HeaderEdit>,
    /// Tags for evidence and usage.
    pub tags: Vec<(String, String)>,
    /// The provider's answer, at `post_upstream`.
    pub response: Option<Response>,
    /// Edits to the response head sent to the caller, in order.
    pub response_edits: Vec<HeaderEdit>,
}

/// The provider's answer as `post_upstream` sees it.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The response head as the provider sent it.
    pub headers: HeaderMap,
    /// The whole decoded body, or `None` if it is streamed.
    pub body: Option<Bytes>,
}

/// A change of one header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderEdit {
    /// Replaces all fields of this name by one.
    Set(HeaderName, HeaderValue),
    /// Removes all fields of this name.
    Remove(HeaderName),
}

impl HeaderEdit {
    /// The name of the field that is changed.
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
    /// The status sent to the caller, 0 if none was sent.
    pub status: u16,
    /// The refusal, if there was one.
    pub denial: Option<Denial>,
    /// In which way the request ended.
    pub end: End,
    /// Attempts at providers.
    pub attempts: u32,
    /// The tokens used.
    pub usage: Usage,
    /// Time spent waiting for the provider (ms).
    pub upstream_ms: Option<f64>,
    /// Time spent in the gateway itself (µs).
    pub overhead_us: u64,
    /// Body bytes received from the caller.
    pub bytes_in: u64,
    /// Body bytes sent to the caller.
    pub bytes_out: u64,
    /// Body bytes received from the upstream, whether or not the caller got them.
    pub bytes_received: u64,
    /// The provider's own id for the request.
    pub provider_request_id: Option<String>,
    /// Checks that were skipped because a store did not answer and `on_store_error` lets such requests through.
    pub unenforced: Unenforced,
    /// Refusals that policies in shadow mode would have made.
    pub shadowed: Vec<Shadowed>,
}

/// A refusal that a policy in shadow mode would have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadowed {
    /// The owner of the policy: `global`, `organisation`, `team`, `api_key`, `model` or `mcp_server`.
    pub scope: &'static str,
    /// The limit, as the metrics name it: `ip`, `payload`, `max_tokens`, `concurrency`, `burst`, `rps`, `rpm`, `tpm`.
    pub limit: &'static str,
}

/// Checks that were skipped because a store did not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unenforced {
    /// Limits, budgets or quotas were not enforced.
    pub limits: bool,
    /// The usage record could not be written.
    pub usage: bool,
}

impl Unenforced {
    /// The spellings in evidence and access log.
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

/// In which way a request ended.
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
    /// The provider, or the caller while sending its body, was too slow.
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
    /// The name of the plugin instance.
    pub plugin: Arc<str>,
    /// The kind in the plugin's manifest.
    pub kind: &'static str,
    /// The gate.
    pub gate: Gate,
    /// How it ran relative to its siblings.
    pub style: Style,
    /// Whether its verdict was enforced or only observed.
    pub mode: Mode,
    /// The result.
    pub decision: Decision,
    /// Whether it changed the request that was sent upstream.
    pub changed_request: bool,
    /// Whether it changed the answer that was sent to the caller.
    pub changed_response: bool,
    /// The code of its refusal, including one that was only observed.
    pub code: Option<Cow<'static, str>>,
    /// The entry of the instance's `scope` that admitted the request, such as `teams:support`.
    pub scope: Option<String>,
    /// Why it failed; the text is safe to show.
    pub error: Option<String>,
    /// The external system that it called.
    pub external: Option<External>,
    /// Notes under the names that its manifest declares.
    pub notes: Vec<(&'static str, String)>,
    /// When it began, relative to [`Facts::received`].
    pub started: Duration,
    /// How long it took.
    pub took: Duration,
    /// Whether it ran before the answer was complete; `false` for steps at `post_response`.
    pub response_path: bool,
}

/// An external system that a step called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct External {
    /// The name of the system.
    pub system: String,
    /// The id that the system assigned to the delivery.
    pub delivery_id: Option<String>,
}

/// The result of a step.
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
    /// It failed, or attempted something that it was not granted.
    Error,
    /// It ran out of time.
    Timeout,
    /// It panicked.
    Panicked,
    /// It did not run: the request is not in its scope.
    SkippedScope,
    /// It did not run: the key is not in its rollout.
    SkippedRollout,
    /// It is waiting in the queue.
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

    /// Whether this is an error, a timeout or a panic.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Error | Self::Timeout | Self::Panicked)
    }
}

/// A request that is over, for evidence, usage and `post_response` steps. Contains no bodies and no headers.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What was fixed about the request.
    pub facts: Facts,
    /// The model in use at the end.
    pub model: Option<String>,
    /// The tags that steps attached.
    pub tags: Vec<(String, String)>,
    /// What the steps did until the answer was complete.
    pub executions: Vec<Execution>,
    /// The results of SafetySec's modules.
    pub safety: Vec<Reading>,
    /// How the request ended.
    pub outcome: Outcome,
}
