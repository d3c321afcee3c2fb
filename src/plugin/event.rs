//! Events for external systems: facts, counts and names, in one form for all exporting plugins. They contain no text from
//! callers or providers, and no credentials.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use super::delivery::{DeliveryId, Notice};
use super::view::PostResponse;
use super::{HostError, Mode, Subject};
use crate::gate::{End, Execution, Finished, RequestId, guard};
use crate::identity::Caller;
use crate::telemetry::time::Rfc3339;
use crate::wire::method_name;

/// The longest caller-chosen name that an event includes (bytes).
const NAME: usize = 128;

/// The kinds of events, with their meanings.
pub const EVENTS: [(&str, &str); 7] = [
    ("request.completed", "The caller got an answer of the provider."),
    ("request.refused", "A gate refused the request or the answer."),
    ("request.failed", "The provider failed or was too slow."),
    ("request.aborted", "The caller went away."),
    ("security.finding", "SafetySec found something in a request or its answer."),
    ("budget.threshold", "A budget passed a threshold."),
    ("quota.threshold", "A quota passed a threshold."),
];

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Identifies the event: the same at every attempt to deliver it.
    pub id: String,
    /// One of [`EVENTS`].
    pub kind: &'static str,
    /// When it happened.
    pub at: SystemTime,
    /// What it concerns: the id of a request, or the name of a budget or quota.
    pub subject: String,
    /// The organisation, by its id.
    pub organisation: Option<String>,
    /// The virtual key, by its id.
    pub key: Option<String>,
    /// The user, by its id.
    pub user: Option<String>,
    /// The request that it concerns.
    pub request: Option<RequestId>,
    /// The facts, as a JSON object.
    pub data: Map<String, Value>,
}

impl Event {
    /// The events of a finished request: how it ended and, if SafetySec found anything, the finding.
    pub fn of_request(cx: &PostResponse<'_>) -> Vec<Self> {
        let finished = cx.finished();
        let mut events = vec![Self::about(finished, end(finished), facts(finished))];
        if finished.safety.iter().any(|reading| reading.outcome.is_notable()) {
            let mut data = facts(finished);
            data.retain(|name, _| !["plugins", "usage", "upstream_ms", "overhead_us", "bytes_in", "bytes_out"].contains(&name.as_str()));
            events.push(Self::about(finished, "security.finding", data));
        }
        events
    }

    /// Tells `system` what a finished request comes to: `tell` hands an event over, or says `None` where it is not wanted. What
    /// was told is on record with the plugin's execution, as is how many events that were, under `events`.
    ///
    /// # Errors
    /// The first of `tell`.
    pub fn told(
        cx: &PostResponse<'_>,
        system: &str,
        tell: impl Fn(&Self) -> Result<Option<DeliveryId>, HostError>,
    ) -> Result<(), HostError> {
        let mut count = 0;
        for event in Self::of_request(cx) {
            if let Some(id) = tell(&event)? {
                count += 1;
                cx.external(system, Some(id.to_string()));
            }
        }
        if count > 0 {
            cx.note("events", count.to_string());
        }
        Ok(())
    }

    /// What a plugin has seen in a request by itself: `kind` is its own, and so is `name`, which makes the id with the
    /// request's. The caller is added to the facts.
    pub fn of_plugin(
        kind: &'static str,
        name: &str,
        request: RequestId,
        caller: Option<&Caller>,
        at: SystemTime,
        mut data: Map<String, Value>,
    ) -> Self {
        data.insert("request_id".into(), request.to_string().into());
        if let Some(caller) = caller {
            data.insert("caller".into(), json!(Subject::of(caller)));
        }
        Self {
            id: format!("{name}_{request}"),
            kind,
            at,
            subject: request.to_string(),
            organisation: caller.map(|caller| caller.organisation.id.to_string()),
            key: caller.map(|caller| caller.key_id.to_string()),
            user: caller.and_then(|caller| caller.user.as_ref()).map(|user| user.id.to_string()),
            request: Some(request),
            data,
        }
    }

    /// The event of a notice.
    pub fn of_notice(notice: &Notice) -> Self {
        let mut data = notice.facts.clone();
        data.insert("name".into(), notice.subject.as_str().into());
        if let Some(organisation) = &notice.organisation {
            data.insert("organisation".into(), json!({ "id": organisation }));
        }
        Self {
            id: notice.id.clone(),
            kind: notice.event,
            at: notice.at,
            subject: notice.subject.clone(),
            organisation: notice.organisation.clone(),
            key: None,
            user: None,
            request: None,
            data,
        }
    }

    fn about(finished: &Finished, kind: &'static str, data: Map<String, Value>) -> Self {
        let caller = finished.facts.caller.as_deref();
        let id = finished.facts.id;
        Self {
            id: format!("{}_{id}", if kind == "security.finding" { "sec" } else { "req" }),
            kind,
            at: finished.facts.received_at,
            subject: id.to_string(),
            organisation: caller.map(|caller| caller.organisation.id.to_string()),
            key: caller.map(|caller| caller.key_id.to_string()),
            user: caller.and_then(|caller| caller.user.as_ref()).map(|user| user.id.to_string()),
            request: Some(id),
            data,
        }
    }

    /// The time of the event, RFC 3339.
    pub fn time(&self) -> String {
        Rfc3339(self.at).to_string()
    }

    /// The event in a CloudEvents 1.0.2 envelope of type `ai.odock.gateway.<kind>.v1`.
    pub fn cloud(&self, source: &str) -> Value {
        json!({
            "specversion": "1.0",
            "id": self.id,
            "source": source,
            "type": format!("ai.odock.gateway.{}.v1", self.kind),
            "time": self.time(),
            "subject": self.subject,
            "datacontenttype": "application/json",
            "data": self.data,
        })
    }

    /// The event without an envelope, for systems that know none.
    pub fn native(&self) -> Value {
        let mut all = self.data.clone();
        for (name, value) in [("event_id", self.id.clone()), ("event", self.kind.to_owned()), ("at", self.time())] {
            all.insert(name.into(), value.into());
        }
        Value::Object(all)
    }
}

fn end(finished: &Finished) -> &'static str {
    match finished.outcome.end {
        _ if finished.outcome.denial.is_some() => "request.refused",
        End::Blocked => "request.refused",
        End::Complete => "request.completed",
        End::ClientAbort => "request.aborted",
        End::UpstreamError | End::Timeout => "request.failed",
    }
}

fn facts(finished: &Finished) -> Map<String, Value> {
    let Finished { facts, model, tags, executions, safety, outcome } = finished;
    let caller = facts.caller.as_deref().map(Subject::of);
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            data.insert(name.into(), value);
        }
    };
    put("request_id", facts.id.to_string().into());
    put("trace_id", facts.trace_id.as_deref().and_then(name).into());
    put("route", facts.route.as_ref().into());
    put("endpoint", facts.endpoint.as_str().into());
    put("dialect", facts.dialect.as_str().into());
    put("method", method_name(&facts.method).into());
    put("stream", facts.stream.into());
    if let Some(Ok(Value::Object(caller))) = caller.map(serde_json::to_value) {
        caller.into_iter().for_each(|(name, value)| put(if name == "kind" { "key_kind" } else { &name }, value));
    }
    put("model", model.as_deref().and_then(name).into());
    put("requested_model", facts.requested_model.as_deref().and_then(name).into());
    put("provider", facts.provider.as_deref().into());
    put("provider_model", facts.slug.as_deref().into());
    put("provider_request_id", outcome.provider_request_id.as_deref().and_then(name).into());
    put("status", outcome.status.into());
    put("end", outcome.end.as_str().into());
    put("code", outcome.denial.as_ref().map(|denial| denial.code.to_string()).into());
    put("attempts", outcome.attempts.into());
    put("duration_ms", millis(facts.received.elapsed()).into());
    put("upstream_ms", outcome.upstream_ms.into());
    put("overhead_us", outcome.overhead_us.into());
    put("bytes_in", outcome.bytes_in.into());
    put("bytes_out", outcome.bytes_out.into());
    let usage = &outcome.usage;
    put(
        "usage",
        json!({"input_tokens": usage.input, "output_tokens": usage.output, "cached_tokens": usage.cached,
               "reasoning_tokens": usage.reasoning, "total_tokens": usage.total, "source": usage.source.as_str()}),
    );
    if !tags.is_empty() {
        put("tags", tags.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect::<Map<_, Value>>().into());
    }
    put("plugins", executions.iter().map(execution).collect::<Vec<_>>().into());
    let findings: Vec<Value> = safety.iter().filter(|reading| reading.outcome.is_notable()).map(finding).collect();
    if !findings.is_empty() {
        put("findings", findings.into());
    }
    data
}

fn execution(execution: &Execution) -> Value {
    let mut entry = json!({
        "name": &*execution.plugin,
        "gate": execution.gate.as_str(),
        "decision": execution.decision.as_str(),
        "mode": if execution.mode == Mode::Observe { "observe" } else { "enforce" },
        "changed": execution.changed_request || execution.changed_response,
    });
    if let (Some(code), Value::Object(entry)) = (&execution.code, &mut entry) {
        entry.insert("code".into(), code.as_ref().into());
    }
    entry
}

fn finding(reading: &guard::Reading) -> Value {
    let categories: Map<String, Value> =
        reading.categories.iter().map(|(category, count)| (category.to_string(), (*count).into())).collect();
    json!({
        "module": reading.module,
        "phase": reading.phase.as_str(),
        "side": guard::side(reading.side),
        "action": reading.outcome.as_str(),
        "reason": reading.reason,
        "categories": categories,
    })
}

/// A text that a caller chose, if it looks like a name; any other text is not included.
fn name(text: &str) -> Option<&str> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b);
    (!text.is_empty() && text.len() <= NAME && text.bytes().all(fits)).then_some(text)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
