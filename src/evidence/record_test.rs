//! The records as serde structs, against which the writer is compared byte by byte.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proptest::option;
use proptest::prelude::*;
use serde::Serialize;

use super::*;
use crate::error::Denial;
use crate::gate::{Decision, End, External, Facts, Gate, Outcome, Style};
use crate::identity::{KeyKind, Organisation, Team, User};
use crate::wire::{Dialect, Endpoint, Usage, UsageSource};

#[derive(Debug, Serialize)]
struct RequestModel<'a> {
    at: String,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget: Option<&'a str>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    request_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_model: Option<&'a str>,
    route: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    safety: Vec<ReadingEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    seq: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shadow: Vec<BTreeMap<&'static str, &'static str>>,
    status: u16,
    stream: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<&'a str, Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unenforced: Vec<&'static str>,
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

#[derive(Debug, Serialize)]
struct ExecutionEntry<'a> {
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

#[derive(Debug, Serialize)]
struct ReadingEntry<'a> {
    action: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    categories: BTreeMap<&'a str, u32>,
    duration_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kinds: Vec<&'static str>,
    module: &'a str,
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'static str>,
    side: &'static str,
    started_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    visible: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct LaterModel<'a> {
    at: String,
    execution: ExecutionEntry<'a>,
    kind: &'static str,
    request_id: String,
    seq: u64,
}

impl<'a> RequestModel<'a> {
    fn of(finished: &'a Finished, chain: &'a str, config: &'a str, duration: Duration, seq: u64) -> Self {
        let Finished { facts, outcome, .. } = finished;
        let caller = facts.caller.as_deref();
        Self {
            at: Rfc3339(facts.received_at).to_string(),
            attempts: outcome.attempts,
            budget: outcome.denial.as_ref().and_then(|denial| denial.room.as_ref()).map(|room| room.name.as_str()),
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
            limit: outcome.denial.as_ref().and_then(|denial| denial.limit),
            method: crate::wire::method_name(&facts.method),
            model: finished.model.as_deref().and_then(name),
            organisation: caller.map(|caller| &*caller.organisation.id),
            overhead_us: outcome.overhead_us,
            provider: facts.provider.as_deref(),
            provider_model: facts.slug.as_deref(),
            provider_request_id: outcome.provider_request_id.as_deref().and_then(name),
            reason: outcome.denial.as_ref().and_then(|denial| denial.reason),
            request_id: facts.id.to_string(),
            requested_model: facts.requested_model.as_deref().and_then(name),
            route: &facts.route,
            safety: finished.safety.iter().map(ReadingEntry::of).collect(),
            scope: outcome.denial.as_ref().and_then(|denial| denial.scope),
            seq,
            status: outcome.status,
            stream: facts.stream,
            tags: finished.tags.iter().map(|(key, value)| (key.as_str(), text(value))).collect(),
            team: caller.and_then(|caller| caller.team.as_ref()).map(|team| &*team.id),
            trace_id: facts.trace_id.as_deref().and_then(name),
            unenforced: outcome.unenforced.words().collect(),
            shadow: outcome.shadowed.iter().map(|one| [("limit", one.limit), ("scope", one.scope)].into()).collect(),
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

impl<'a> ReadingEntry<'a> {
    fn of(reading: &'a Reading) -> Self {
        Self {
            action: reading.outcome.as_str(),
            categories: reading.categories.iter().map(|(category, count)| (category.as_ref(), *count)).collect(),
            duration_us: micros(reading.took),
            error: reading.error.as_deref().map(text),
            kinds: reading.kinds.names().collect(),
            module: reading.module,
            phase: reading.phase.as_str(),
            reason: reading.outcome.is_notable().then_some(reading.reason),
            score: hundredths(reading.score).map(|score| score as f64 / 100.0),
            session: reading.session.map(guard::Level::as_str),
            side: guard::side(reading.side),
            started_us: micros(reading.started),
            visible: reading.outcome.visible(reading.side),
        }
    }
}

fn any_reading() -> impl Strategy<Value = Reading> {
    use crate::gate::guard::{Level, Outcome as Read};
    use crate::safety::{Kinds, Phase, SafetyAction, Side};
    use crate::wire::Kind;
    let outcomes =
        vec![Read::Done(SafetyAction::Allow), Read::Done(SafetyAction::Block), Read::Would(SafetyAction::Redact), Read::Panicked];
    let categories = proptest::collection::btree_map("[a-d_]{1,2}", any::<u32>(), 0..4);
    let levels = option::of(proptest::sample::select(vec![Level::Low, Level::Over, Level::Unknown]));
    let score = (0_u8..=100).prop_map(|hundredths| f32::from(hundredths) / 100.0);
    let kinds = proptest::sample::subsequence(Kind::ALL.to_vec(), 0..=3).prop_map(|kinds| {
        let mut found = Kinds::default();
        kinds.into_iter().for_each(|kind| found.insert(kind));
        found
    });
    let what = (proptest::sample::select(outcomes), 0..Phase::ALL.len(), any::<bool>(), levels, score, kinds);
    (what, categories, option::of(any_text()), any_duration(), any_duration()).prop_map(|(what, categories, error, started, took)| {
        Reading {
            module: "prompt_injection",
            phase: Phase::ALL[what.1],
            side: if what.2 { Side::Request } else { Side::Response },
            outcome: what.0,
            categories: categories.into_iter().map(|(category, count)| (category.into(), count)).collect(),
            kinds: what.5,
            reason: "nothing found",
            score: what.4,
            session: what.3,
            error: error.map(Cow::Owned),
            started,
            took,
        }
    })
}

impl<'a> LaterModel<'a> {
    fn of(request: RequestId, execution: &'a Execution, at: SystemTime, seq: u64) -> Self {
        Self {
            at: Rfc3339(at).to_string(),
            execution: ExecutionEntry::of(execution),
            kind: "execution",
            request_id: request.to_string(),
            seq,
        }
    }
}

/// Names, prose, escapes, control characters, and texts longer than what is kept.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9._:/@+-]{0,12}", "[ -~]{0,40}", "[\\x00-\\x22\\\\aé\u{7f}\u{85}\u{2028}😀]{0,30}", "[aé\n]{190,230}"]
}

fn any_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![(0..5_000_000_u64).prop_map(Duration::from_nanos), Just(Duration::MAX)]
}

fn any_execution() -> impl Strategy<Value = Execution> {
    let decisions = [Decision::Allowed, Decision::Changed, Decision::Blocked, Decision::WouldBlock, Decision::Error, Decision::Timeout];
    let notes = proptest::collection::vec((proptest::sample::select(vec!["b", "a", "event", "c", "_d"]), any_text()), 0..7);
    let who = (any_text(), proptest::sample::select(decisions.to_vec()), 0..4_usize, any::<[bool; 5]>());
    let what = (option::of(any_text()), option::of(any_text()), option::of(any_text()), option::of((any_text(), option::of(any_text()))));
    (who, what, notes, any_duration(), any_duration()).prop_map(|(who, what, notes, started, took)| Execution {
        plugin: who.0.into(),
        kind: "http_callout",
        gate: Gate::ALL[who.2],
        style: if who.3[0] { Style::Sequential } else { Style::Background },
        mode: if who.3[1] { Mode::Enforce } else { Mode::Observe },
        decision: who.1,
        changed_request: who.3[2],
        changed_response: who.3[3],
        code: what.0.map(Cow::Owned),
        scope: what.1,
        error: what.2,
        external: what.3.map(|(system, delivery_id)| External { system, delivery_id }),
        notes,
        started,
        took,
        response_path: who.3[4],
    })
}

fn caller(id: String, team: bool, user: bool) -> Caller {
    let (id, metadata): (Arc<str>, _) = (id.into(), BTreeMap::new());
    let organisation = Arc::new(Organisation { id: id.clone(), name: "acme".into(), metadata: metadata.clone() });
    let team = team.then(|| Team { id: id.clone(), name: "t".into(), organisation: id.clone(), metadata: metadata.clone() });
    let user = user.then(|| User { id: id.clone(), name: "u".into(), organisation: id.clone(), metadata });
    Caller {
        key_id: id,
        key_name: "k".into(),
        kind: KeyKind::Organisation,
        organisation,
        team: team.map(Arc::new),
        user: user.map(Arc::new),
        models: Default::default(),
        mcp_servers: Default::default(),
        terms: Arc::default(),
    }
}

prop_compose! {
    fn any_finished()(
        texts in proptest::collection::vec(option::of(any_text()), 9),
        numbers in any::<[u64; 9]>(),
        flags in any::<[bool; 4]>(),
        millis in option::of(0.0..1e7_f64),
        tags in proptest::collection::vec(("[a-c_.]{1,2}", any_text()), 0..6),
        executions in proptest::collection::vec(any_execution(), 0..4),
        safety in proptest::collection::vec(any_reading(), 0..4),
        at in 0..10_000_000_000_000_000_u64,
    ) -> Finished {
        let mut texts = texts.into_iter();
        let mut next = || texts.next().flatten();
        let facts = Facts {
            id: RequestId(u128::from(numbers[0]).to_ne_bytes()),
            trace_id: next(),
            caller_request_id: next(),
            received: Instant::now(),
            received_at: UNIX_EPOCH + Duration::from_micros(at),
            route: next().unwrap_or_default().into(),
            endpoint: Endpoint::ALL[numbers[1] as usize % Endpoint::ALL.len()],
            dialect: Dialect::OpenAi,
            method: if flags[0] { http::Method::POST } else { http::Method::from_bytes(b"O'DD").unwrap() },
            path: "/".to_owned(),
            client_ip: None,
            user_agent: None,
            caller: next().map(|id| Arc::new(caller(id, flags[1], flags[2]))),
            requested_model: next(),
            provider: next().map(Arc::from),
            slug: next().map(Arc::from),
            stream: flags[3],
        };
        let [input, output, cached, reasoning, total] = [2, 3, 4, 5, 6].map(|i| numbers[i]);
        let outcome = Outcome {
            status: numbers[7] as u16,
            denial: flags[0].then(|| {
                let mut denial = Denial::custom(451, "a_code", "b");
                (denial.scope, denial.limit, denial.reason) = (Some("api_key"), flags[1].then_some("burst"), Some("burst_exceeded"));
                denial.room = flags[1].then(|| {
                    let resets_at = "2026-12-01T00:00:00Z".to_owned();
                    Box::new(crate::error::Room { name: "month \"é\"".to_owned(), cap: 1, settled: 1, reserved: 0, estimate: 1, resets_at })
                });
                denial
            }),
            end: if flags[1] { End::Complete } else { End::ClientAbort },
            attempts: numbers[8] as u32,
            usage: Usage { input, output, cached, reasoning, total, source: UsageSource::Provider, ..Usage::default() },
            upstream_ms: millis,
            overhead_us: numbers[8],
            bytes_in: numbers[0],
            bytes_out: numbers[1],
            bytes_received: numbers[1],
            provider_request_id: next(),
            unenforced: Unenforced { limits: flags[2], usage: flags[3] },
            shadowed: vec![Shadowed { scope: "team", limit: "rpm" }; numbers[2] as usize % 3],
        };
        Finished { facts, model: next(), tags, executions, safety, outcome }
    }
}

/// Writes an entry behind other bytes, and inserts its number.
fn numbered(seq: u64, write: impl FnOnce(&mut Vec<u8>) -> usize) -> Vec<u8> {
    let mut out = b"before".to_vec();
    let number_at = write(&mut out);
    out.splice(number_at..number_at, seq.to_string().into_bytes());
    out.split_off(6)
}

proptest! {
    #[test]
    fn what_is_written_is_what_serde_would_write(finished in any_finished(), took in any_duration(), seq in any::<u64>(), chain in any_text()) {
        let policy = Policy::new(&chain, "c0ffee");
        let entry = RequestEntry { finished: &finished, policy: &policy, duration: took };
        let written = numbered(seq, |out| entry.write(out));
        let model = RequestModel::of(&finished, &chain, "c0ffee", took, seq);
        prop_assert_eq!(String::from_utf8(written), Ok(serde_json::to_string(&model).unwrap()));
        for execution in &finished.executions {
            let (request, at) = (finished.facts.id, finished.facts.received_at);
            let written = numbered(seq, |out| LaterEntry { request, execution, at }.write(out));
            let model = LaterModel::of(request, execution, at, seq);
            prop_assert_eq!(String::from_utf8(written), Ok(serde_json::to_string(&model).unwrap()));
        }
    }
}
