//! What is kept of a request: names, numbers and decisions, never a text that a caller, a provider or a key holds.
//!
//! Fields stand in the order of the alphabet, which makes the JSON canonical; times are integers with their unit in the
//! name. Names that a caller chooses (a model that may not exist, a request id) are kept only if they look like names.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::gate::{Decision, Execution, Finished, RequestId};
use crate::plugin::Mode;
use crate::telemetry::time::Rfc3339;

/// Characters of a note, tag or error that are kept.
const TEXT: usize = 200;
/// Longest name that is kept.
const NAME: usize = 128;

/// One request, entry kind `request`.
#[derive(Debug, Serialize)]
pub struct RequestEntry<'a> {
    at: String,
    attempts: u32,
    bytes_in: u64,
    bytes_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller_request_id: Option<&'a str>,
    chain: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    config: &'a str,
    dialect: &'static str,
    duration_us: u64,
    end: &'static str,
    endpoint: &'static str,
    executions: Vec<ExecutionEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    kind: &'static str,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    organisation: Option<&'a str>,
    overhead_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_request_id: Option<&'a str>,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_model: Option<&'a str>,
    route: &'a str,
    seq: u64,
    status: u16,
    stream: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_us: Option<u64>,
    usage: UsageEntry,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct UsageEntry {
    cached: u64,
    input: u64,
    output: u64,
    reasoning: u64,
    source: &'static str,
    total: u64,
}

/// One plugin execution, within its request or, when it ended later, within a [`LaterEntry`].
#[derive(Debug, Serialize)]
pub struct ExecutionEntry<'a> {
    action: &'static str,
    changed_request: bool,
    changed_response: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_id: Option<Cow<'a, str>>,
    duration_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_system: Option<Cow<'a, str>>,
    mode: &'static str,
    moment: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    notes: BTreeMap<&'static str, Cow<'a, str>>,
    path: &'static str,
    plugin: &'a str,
    plugin_kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<Cow<'a, str>>,
    started_us: u64,
    style: &'static str,
    visible: &'static str,
}

/// An execution that ended after its request was recorded, entry kind `execution`; linked by the request id.
#[derive(Debug, Serialize)]
pub struct LaterEntry<'a> {
    at: String,
    execution: ExecutionEntry<'a>,
    kind: &'static str,
    request_id: String,
    seq: u64,
}

impl<'a> RequestEntry<'a> {
    /// The entry of a request that took `duration`, under the chain and configuration of these hashes.
    pub fn of(finished: &'a Finished, chain: &'a str, config: &'a str, duration: Duration, seq: u64) -> Self {
        let Finished { facts, outcome, .. } = finished;
        let caller = facts.caller.as_deref();
        Self {
            at: Rfc3339(facts.received_at).to_string(),
            attempts: outcome.attempts,
            bytes_in: outcome.bytes_in,
            bytes_out: outcome.bytes_out,
            caller_request_id: facts.caller_request_id.as_deref().and_then(name),
            chain,
            code: outcome.denial.as_ref().map(|denial| denial.code.as_ref()),
            config,
            dialect: facts.dialect.as_str(),
            duration_us: micros(duration),
            end: outcome.end.as_str(),
            endpoint: facts.endpoint.as_str(),
            executions: finished.executions.iter().map(ExecutionEntry::of).collect(),
            key_id: caller.map(|caller| &*caller.key_id),
            kind: "request",
            method: facts.method.as_str(),
            model: finished.model.as_deref().and_then(name),
            organisation: caller.map(|caller| &*caller.organisation.id),
            overhead_us: outcome.overhead_us,
            provider: facts.provider.as_deref(),
            provider_model: facts.slug.as_deref(),
            provider_request_id: outcome.provider_request_id.as_deref().and_then(name),
            request_id: facts.id.to_string(),
            requested_model: facts.requested_model.as_deref().and_then(name),
            route: &facts.route,
            seq,
            status: outcome.status,
            stream: facts.stream,
            tags: finished.tags.iter().map(|(key, value)| (key.as_str(), text(value))).collect(),
            team: caller.and_then(|caller| caller.team.as_ref()).map(|team| &*team.id),
            trace_id: facts.trace_id.as_deref().and_then(name),
            upstream_us: outcome.upstream_ms.map(whole_micros),
            usage: UsageEntry {
                cached: outcome.usage.cached,
                input: outcome.usage.input,
                output: outcome.usage.output,
                reasoning: outcome.usage.reasoning,
                source: outcome.usage.source.as_str(),
                total: outcome.usage.total,
            },
            user: caller.and_then(|caller| caller.user.as_ref()).map(|user| &*user.id),
        }
    }
}

impl<'a> ExecutionEntry<'a> {
    fn of(execution: &'a Execution) -> Self {
        Self {
            action: execution.decision.as_str(),
            changed_request: execution.changed_request,
            changed_response: execution.changed_response,
            code: execution.code.as_deref(),
            delivery_id: execution.external.as_ref().and_then(|external| external.delivery_id.as_deref()).map(text),
            duration_us: micros(execution.took),
            error: execution.error.as_deref().map(text),
            external_system: execution.external.as_ref().map(|external| text(&external.system)),
            mode: execution.mode.as_str(),
            moment: execution.gate.as_str(),
            notes: execution.notes.iter().map(|(key, value)| (*key, text(value))).collect(),
            path: if execution.response_path { "response" } else { "background" },
            plugin: &execution.plugin,
            plugin_kind: execution.kind,
            scope: execution.scope.as_deref().map(text),
            started_us: micros(execution.started),
            style: execution.style.as_str(),
            visible: visible(execution),
        }
    }
}

impl<'a> LaterEntry<'a> {
    /// The entry of an execution that ended at `at`.
    pub fn of(request: RequestId, execution: &'a Execution, at: SystemTime, seq: u64) -> Self {
        Self {
            at: Rfc3339(at).to_string(),
            execution: ExecutionEntry::of(execution),
            kind: "execution",
            request_id: request.to_string(),
            seq,
        }
    }
}

/// What the caller could notice of an execution.
fn visible(execution: &Execution) -> &'static str {
    let refused = match execution.decision {
        Decision::Blocked => true,
        // With `on_error: deny` a failure carries the code that the caller got.
        Decision::Error | Decision::Timeout | Decision::Panicked => execution.code.is_some(),
        _ => false,
    };
    match execution.mode {
        Mode::Enforce if !execution.response_path => "none",
        Mode::Enforce if refused => "refused",
        Mode::Enforce if execution.changed_response => "answer_changed",
        Mode::Enforce if execution.changed_request => "request_changed",
        _ => "none",
    }
}

/// A bounded text in one line.
fn text(text: &str) -> Cow<'_, str> {
    if text.len() <= TEXT && !text.chars().any(char::is_control) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT).collect())
    }
}

/// The text, if it looks like the name of a model or an id and not like prose.
fn name(text: &str) -> Option<&str> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b);
    (!text.is_empty() && text.len() <= NAME && text.bytes().all(fits)).then_some(text)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds as whole microseconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, and times are not negative
fn whole_micros(millis: f64) -> u64 {
    (millis * 1000.0).round() as u64
}
