//! The end of every request: one denial rendered, one evidence record, one access line, the counters, and the `post_response`
//! plugins queued. No store is waited for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::context::{Context, Destination};
use super::{Edge, answer, mcp, respond, tap, upstream};
use crate::error::{Denial, codes};
use crate::evidence::{Evidence, Policy};
use crate::gate::{self, End, Exchange, Execution, Facts, Finished, Gate, Guarded, Ledger, RequestId};
use crate::telemetry;
use crate::wire::{Dialect, Endpoint, UsageSource, method_name};

/// `fail_to_proxy`: answers with the denial that the failure stands for, unless an answer has been sent already.
pub async fn failed(session: &mut Session, error: &Error, cx: &mut Context) -> FailToProxy {
    cx.untap(session).await;
    if matches!(error.etype(), ErrorType::Custom(tap::CUT)) {
        let again = Denial::of(codes::OVERLOADED).with_message("this gateway is being stopped").with_retry_after(Duration::from_secs(1));
        cx.denial.get_or_insert(again);
    }
    if *error.esource() == ErrorSource::Downstream && cx.denial.is_none() {
        cx.caller_gone = true;
        return FailToProxy { error_code: codes::CALLER_GONE.status, can_reuse_downstream: false };
    }
    let denial = cx.denial.get_or_insert_with(|| denial_of(error, cx.destination.as_ref())).clone();
    let status = denial.status();
    if upstream::answered(session) {
        return FailToProxy { error_code: status, can_reuse_downstream: false };
    }
    cx.status = status;
    let dialect = Endpoint::of(&session.req_header().method, session.req_header().uri.path()).1;
    let sent = respond::deny(session, &denial, dialect, (&cx.id, cx.rpc_id(dialect).as_deref()), false, cx.fields(dialect)).await;
    cx.caller_gone |= sent.is_err();
    FailToProxy { error_code: status, can_reuse_downstream: sent.is_ok() }
}

fn denial_of(error: &Error, destination: Option<&Destination>) -> Denial {
    match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout | ErrorType::TLSHandshakeTimedout => {
            Denial::of(codes::UPSTREAM_TIMEOUT)
        }
        _ if *error.esource() == ErrorSource::Upstream => Denial::of(mcp::code_of_failure(destination)),
        _ => Denial::of(codes::INTERNAL),
    }
}

/// `logging`: the request is over.
pub async fn finished(edge: &Edge, session: &mut Session, error: Option<&Error>, cx: &mut Context) {
    let bytes_out = session.body_bytes_sent() as u64;
    let bytes_in = session.as_downstream().body_bytes_read() as u64;
    cx.untap(session).await;
    // The status that was written counts, whatever was decided since.
    cx.status = session.response_written().filter(|head| !head.status.is_informational()).map_or(0, |head| head.status.as_u16());
    if let Some(error) = error
        && *error.esource() == ErrorSource::Downstream
        && !matches!(error.etype(), ErrorType::Custom(tap::CUT))
    {
        cx.caller_gone = true;
    }
    let denied_code = match cx.exchange.take() {
        Some(mut exchange) => {
            if exchange.outcome.bytes_in == 0 {
                // The body was refused; this is how much of it arrived.
                exchange.outcome.bytes_in = bytes_in;
            }
            let ended = Instant::now();
            if let Some(watched) = cx.watched.take() {
                watched.look(&mut exchange, &mut cx.metered).await;
            }
            settle(edge, exchange, error, cx, bytes_out, ended)
        }
        None => {
            edge.governor.left(cx);
            early(session, cx)
        }
    };
    if let Some(code) = denied_code {
        edge.metrics.denied(&code);
    }
}

/// The end of a request that no route took: only an access line is written, with the caller if a service of the gateway's own
/// authenticated its key.
fn early(session: &Session, cx: &Context) -> Option<String> {
    let denial = cx.denial.as_ref();
    if denial.is_none() && cx.service.is_none() {
        return None;
    }
    telemetry::log::line(telemetry::log::ACCESS, log::Level::Info, "request", |line| {
        line.hex("request_id", &cx.id.0);
        line.text_if("endpoint", cx.service.as_ref().map(|(name, _)| *name));
        line.text("method", method_name(&session.req_header().method));
        line.number("status", denial.map_or(cx.status, Denial::status).into());
        line.text_if("code", denial.map(|denial| denial.code.as_ref()));
        if let Some((_, caller)) = &cx.service {
            line.text_if("organization_id", caller.as_ref().map(|caller| &*caller.organisation.id));
            line.text_if("api_key_id", caller.as_ref().map(|caller| &*caller.key_id));
            line.millis("duration_ms", cx.received.elapsed());
        }
    });
    denial.map(|denial| denial.code.to_string())
}

/// Completes the outcome of a request that a route took, settles its limits and budgets, and records it. Returns the code of
/// the denial, if there was one.
fn settle(
    edge: &Edge,
    mut exchange: Box<Exchange>,
    error: Option<&Error>,
    cx: &mut Context,
    bytes_out: u64,
    ended: Instant,
) -> Option<String> {
    let took = ended.duration_since(cx.received);
    let outcome = &mut exchange.outcome;
    if outcome.denial.is_none() {
        outcome.denial = cx.denial.clone();
    }
    if cx.denial.is_none() {
        cx.denial = outcome.denial.clone();
    }
    outcome.status = if cx.caller_gone && cx.status == 0 { codes::CALLER_GONE.status } else { cx.status };
    // The judge of an answer that was held has read it already.
    let mut told_failure = outcome.end == End::UpstreamError;
    outcome.end = answer::end_of(cx, error.is_some());
    outcome.attempts = cx.attempts;
    outcome.bytes_out = bytes_out;
    outcome.bytes_received = cx.bytes_received;
    outcome.upstream_ms = cx.upstream_took.map(|t| t.as_secs_f64() * 1e3);
    let streamed = cx.streaming.is_some();
    // Overhead: all time that was neither spent waiting for the caller's body nor for the upstream.
    let before = cx.upstream_started.map_or(took, |at| at.saturating_duration_since(cx.received));
    let upstream = cx.upstream_started.map(|at| cx.upstream_ended.unwrap_or(ended).saturating_duration_since(at)).unwrap_or_default();
    let overhead = if streamed { before } else { took.saturating_sub(upstream) }.saturating_sub(cx.reading);
    outcome.overhead_us = overhead.as_micros() as u64;

    let guard = cx.route.as_ref().and_then(|route| cx.live.guard(route.index)).cloned();
    let guard = guard.as_deref();
    if let Some(streaming) = cx.streaming.take() {
        let streaming = streaming.into_inner();
        outcome.usage = streaming.usage();
        told_failure |= streaming.failed();
        if streaming.unread() {
            exchange.draft.tags.push(("stream".to_owned(), "answer_unread".to_owned()));
        }
        let (scanner, watched) = streaming.into_parts();
        if let Some(scanner) = scanner {
            scanner.settle(&mut exchange.executions);
        }
        if let (Some(guard), Some(watched)) = (guard, watched) {
            guard.streamed(&mut exchange, watched);
        }
    } else if outcome.usage.source == UsageSource::None && !cx.metered.is_empty() {
        outcome.usage = metered_usage(exchange.facts.dialect, cx.metered.make_contiguous(), cx.upstream_status);
    }
    let outcome = &mut exchange.outcome;
    if outcome.end == End::Complete && (told_failure || outcome.usage.source == UsageSource::Failed) {
        outcome.end = End::UpstreamError;
    }
    if let Some(guard) = guard {
        guard.over(&mut exchange, streamed);
    }
    if let Some(route) = &cx.route {
        gate::close(&route.chain, &mut exchange.executions);
    }
    if let Some(Destination::Mcp(called)) = &cx.destination
        && cx.upstream_status == 401
    {
        called.forget();
    }
    edge.governor.finished(cx, &mut exchange, took);
    count(&exchange, error, cx, streamed, took, overhead);
    access_line(&exchange, took);

    let code = exchange.outcome.denial.as_ref().map(|d| d.code.to_string());
    if let Some(route) = &cx.route {
        let policy = cx.live.policy(route.index);
        if route.chain.is_empty(Gate::PostResponse) {
            edge.evidence.record(&exchange.finish(), policy, took);
        } else {
            let ledger = EvidenceLedger { evidence: edge.evidence.clone(), policy: policy.clone(), took };
            gate::post_response(&route.chain, Arc::new(exchange.finish()), &edge.background, ledger);
        }
    }
    code
}

/// Records the evidence of a finished request under the policy it ran with.
struct EvidenceLedger {
    evidence: Evidence,
    policy: Policy,
    /// The request's own duration, without the time that background steps took before the record was written.
    took: Duration,
}

impl Ledger for EvidenceLedger {
    fn close(&self, finished: Arc<Finished>) {
        self.evidence.record(&finished, &self.policy, self.took);
    }

    fn add(&self, request: RequestId, execution: Execution) {
        self.evidence.execution(request, &execution);
    }
}

fn metered_usage(dialect: Dialect, chunks: &[bytes::Bytes], status: u16) -> crate::wire::Usage {
    if !(200..300).contains(&status) {
        return crate::wire::Usage::default();
    }
    match chunks {
        [one] => crate::wire::usage::from_body(dialect, one),
        many => crate::wire::usage::from_body(dialect, &many.concat()),
    }
}

/// Counts the request for its route and its provider, and the tokens for its model.
fn count(exchange: &Exchange, error: Option<&Error>, cx: &Context, streamed: bool, took: Duration, overhead: Duration) {
    let outcome = &exchange.outcome;
    if let Some(route) = &cx.route {
        let metrics = cx.live.route_metrics(route.index);
        metrics.finished(outcome.status, streamed, took, overhead);
        if streamed {
            metrics.stream_finished(outcome.end.as_str(), took);
        }
    }
    let Some(Destination::Provider { target, .. } | Destination::Mcp(mcp::Called { target, .. })) = &cx.destination else { return };
    if cx.attempts == 0 {
        return;
    }
    let broke_off = error.filter(|error| *error.esource() == ErrorSource::Upstream && !cx.caller_gone);
    match (cx.upstream_took, broke_off.or(error)) {
        (Some(_), Some(error)) if broke_off.is_some() && cx.upstream_ended.is_none() => upstream::count_failure(cx, error),
        (Some(_), _) => {
            let ended = cx.upstream_ended.unwrap_or_else(Instant::now);
            target.metrics.answered(cx.upstream_status, cx.attempt_began.map(|at| ended.saturating_duration_since(at)).unwrap_or_default());
        }
        // Attempts without an answer may also have been ended by a refusal of our own; that is no failure of the provider.
        (None, Some(error)) if failed_there(cx, error) => upstream::count_failure(cx, error),
        _ => {}
    }
    if outcome.usage.total > 0
        && let Some(model) = exchange.draft.model.as_deref()
        && let Some(metrics) = target.models.get(model)
    {
        let usage = &outcome.usage;
        metrics.add(usage.input, usage.output, usage.cached, usage.reasoning, exchange.facts.endpoint == Endpoint::Embeddings);
    }
}

/// Whether an attempt without an answer failed at the provider.
fn failed_there(cx: &Context, error: &Error) -> bool {
    use ErrorType::{ConnectTimedout, ReadTimedout, TLSHandshakeTimedout, WriteTimedout};
    if *error.esource() == ErrorSource::Downstream {
        return false;
    }
    matches!(error.etype(), ReadTimedout | WriteTimedout | ConnectTimedout | TLSHandshakeTimedout)
        || cx.denial.as_ref().is_none_or(|denial| denial.code == mcp::code_of_failure(cx.destination.as_ref()).code)
}

/// The path for the access line, if it cannot contain anything of the caller's: a known endpoint without a name in it. Any
/// other path may contain a secret that was put there by mistake.
fn known_path(facts: &Facts) -> Option<&str> {
    let path = facts.path.as_str();
    match facts.endpoint {
        Endpoint::Other | Endpoint::Mcp | Endpoint::GenerateContent | Endpoint::StreamGenerateContent => None,
        Endpoint::Models => Some(path).filter(|path| path.ends_with("/models")),
        _ => Some(path),
    }
}

fn access_line(exchange: &Exchange, took: Duration) {
    let (facts, outcome) = (&exchange.facts, &exchange.outcome);
    let caller = facts.caller.as_deref();
    telemetry::log::line(telemetry::log::ACCESS, log::Level::Info, "request", |line| {
        line.hex("request_id", &facts.id.0);
        line.text_if("trace_id", facts.trace_id.as_deref());
        line.text("route", &facts.route);
        line.text("endpoint", facts.endpoint.as_str());
        line.text("method", method_name(&facts.method));
        line.text_if("path", known_path(facts));
        if let Some(address) = facts.client_ip {
            telemetry::address::written(address, |text| line.text("remote_addr", text));
        }
        line.number("status", outcome.status.into());
        line.text_if("code", outcome.denial.as_ref().map(|d| d.code.as_ref()));
        if let Some(denial) = &outcome.denial {
            line.text_if("scope", denial.scope);
            line.text_if("limit", denial.limit);
            line.text_if("account", denial.room.as_ref().map(|room| &*room.name));
            line.text_if("reason", denial.reason);
        }
        line.text("end", outcome.end.as_str());
        line.flag("stream", facts.stream);
        line.text_if("organization_id", caller.map(|c| &*c.organisation.id));
        line.text_if("api_key_id", caller.map(|c| &*c.key_id));
        line.text_if("provider", facts.provider.as_deref());
        line.text_if("mcp_server", facts.slug.as_deref().filter(|_| facts.endpoint == Endpoint::Mcp));
        line.text_if("model", exchange.draft.model.as_deref().filter(|_| facts.provider.is_some()));
        // Written only if SafetySec found something, which is rare.
        if let Some((module, decision)) = exchange.safety.as_deref().and_then(Guarded::strictest) {
            line.text("security_module", module);
            line.text("decision", decision);
        }
        // Written only if a check was skipped because a store did not answer.
        if outcome.unenforced.limits {
            line.flag("limits_unenforced", true);
        }
        if outcome.unenforced.usage {
            line.flag("usage_unrecorded", true);
        }
        line.number("attempts", outcome.attempts.into());
        line.number("bytes_in", outcome.bytes_in);
        line.number("bytes_out", outcome.bytes_out);
        line.number("overhead_us", outcome.overhead_us);
        line.millis("duration_ms", took);
    });
}
