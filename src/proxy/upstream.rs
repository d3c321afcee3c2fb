//! The upstream half of the path: the choice of the peer, retries, and the request head for the provider.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::context::{Context, Destination};
use super::{address, mcp, respond};
use crate::error::{Denial, codes};
use crate::gate::{self, Exchange, Gate, HeaderEdit, Verdict};
use crate::route::Transport;
use crate::telemetry::ProviderError;
use crate::wire::{self, Endpoint, Insertion, endpoint::FAMILIES};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// How many dead kept-alive connections are tolerated in one request; they say nothing about the provider.
const MAX_STALE: u32 = 3;
/// A kept-alive connection that closes within this time after a request was sent was most likely closed before the server
/// saw the request. Later the server may have begun to work on it, and a retry could do the work twice.
const SOON: Duration = Duration::from_secs(1);
/// The timeout of a route's own upstream, unless the route configures one.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// The peer of the next attempt.
///
/// # Errors
/// No healthy address is left, or the provider's name does not resolve.
pub async fn peer(cx: &mut Context) -> Result<Box<HttpPeer>> {
    cx.attempts += 1;
    let now = Instant::now();
    cx.upstream_started.get_or_insert(now);
    cx.attempt_began = Some(now);
    let timeout = cx.route.as_ref().and_then(|r| r.timeout);
    let peer = match &cx.destination {
        Some(Destination::Provider { target, .. }) => target.peer(timeout.unwrap_or(target.provider.timeout)).await.ok(),
        Some(Destination::Mcp(mcp::Called { target, .. })) => target.peer(timeout.unwrap_or(target.provider.timeout)).await.ok(),
        Some(Destination::Upstream(balancer)) => balancer.peer(timeout.unwrap_or(PLAIN_TIMEOUT)),
        None => None,
    };
    match peer {
        Some(peer) => Ok(peer),
        None => cx.refuse(Denial::of(mcp::code_of_failure(cx.destination.as_ref()))),
    }
}

/// A connection attempt failed: retries as often as the route allows. Nothing was sent, so nothing can happen twice.
pub fn connect_failed(cx: &Context, mut error: Box<Error>) -> Box<Error> {
    let retries = cx.route.as_ref().map_or(0, |r| r.retries);
    error.set_retry(cx.attempts.saturating_sub(cx.stale) <= retries);
    if error.retry() {
        // The last failed attempt is counted in `settle`, when the request is over.
        count_failure(cx, &error);
    }
    report(cx, &error, false);
    error
}

/// An attempt broke off. A request on a kept-alive connection that closes at once, without a byte of answer, is sent again on
/// another connection, as nginx and curl do. The server may have seen it nevertheless: only its silence and the short time
/// speak against it. A request that an HTTP/2 server reports as not processed is sent again as well.
pub fn attempt_failed(session: &Session, cx: &mut Context, error: Box<Error>, reused: bool) -> Box<Error> {
    let mut error = error;
    error.retry.decide_reuse(reused);
    let answered = answered(session) || cx.upstream_status != 0;
    let again = match error.etype() {
        ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed => {
            let soon = cx.sent.is_none_or(|at| at.elapsed() <= SOON);
            reused && *error.esource() == ErrorSource::Upstream && soon && !has_begun(&error)
        }
        _ => error.retry(),
    };
    let again = again && !answered && cx.denial.is_none() && cx.stale < MAX_STALE;
    cx.stale += u32::from(again);
    error.set_retry(again);
    if cx.denial.is_none() {
        report(cx, &error, reused);
    }
    error
}

/// Whether part of the answer's head had arrived when the connection broke. Pingora tells it only in the text of its error.
fn has_begun(error: &Error) -> bool {
    let told = error.context.as_ref().and_then(|context| context.as_str().rsplit_once("bytes already read: "));
    told.is_some_and(|(_, count)| count.trim() != "0")
}

/// Whether the head of an answer has been sent to the caller; `100 Continue` and other 1xx do not count.
pub fn answered(session: &Session) -> bool {
    session.response_written().is_some_and(|head| !head.status.is_informational())
}

/// Counts a failed attempt at a provider or MCP server.
pub fn count_failure(cx: &Context, error: &Error) {
    let (Some(Destination::Provider { target, .. } | Destination::Mcp(mcp::Called { target, .. })), Some(began)) =
        (&cx.destination, cx.attempt_began)
    else {
        return;
    };
    let kind = match error.etype() {
        ErrorType::ConnectTimedout
        | ErrorType::ConnectRefused
        | ErrorType::ConnectError
        | ErrorType::ConnectNoRoute
        | ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout => ProviderError::Connect,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => ProviderError::Timeout,
        _ => ProviderError::Broken,
    };
    target.metrics.failed(kind, cx.upstream_ended.unwrap_or_else(Instant::now).saturating_duration_since(began));
}

/// Logs a failed attempt: kind and side of the failure, never Pingora's context, which may quote traffic.
fn report(cx: &Context, error: &Error, reused: bool) {
    let level = if *error.esource() == ErrorSource::Upstream { log::Level::Warn } else { log::Level::Debug };
    let destination = match &cx.destination {
        Some(Destination::Provider { target, .. }) => &*target.provider.name,
        Some(Destination::Mcp(called)) => &*called.server.name,
        _ => cx.route.as_ref().map_or("", |r| &*r.name),
    };
    log::log!(target: "upstream", level, request_id = cx.id.to_string().as_str(), destination = destination, error = error.etype().as_str(), side = error.esource().as_str(), attempt = cx.attempts, reused = reused, retry = error.retry(); "attempt failed");
}

/// Runs the `pre_upstream` gate and writes the head for the upstream.
///
/// # Errors
/// A plugin refused; nothing has been sent to the upstream.
pub async fn request_head(session: &mut Session, head: &mut RequestHeader, cx: &mut Context) -> Result<()> {
    if cx.pre_upstream_done {
        let done = prepare(session, head, cx).await;
        cx.sent = Some(Instant::now());
        return done;
    }
    let began = Instant::now();
    let done = prepare(session, head, cx).await;
    cx.sent = Some(Instant::now());
    let ours = began.elapsed();
    cx.upstream_started = cx.upstream_started.map(|at| at + ours);
    cx.attempt_began = cx.attempt_began.map(|at| at + ours);
    if done.is_err() {
        // A connection without a request does not count as an attempt: the provider has received nothing and charges nothing.
        cx.attempts = 0;
    }
    done
}

async fn prepare(session: &mut Session, head: &mut RequestHeader, cx: &mut Context) -> Result<()> {
    let (Some(exchange), Some(route), Some(destination), Some(tap)) = (&mut cx.exchange, &cx.route, &cx.destination, &cx.tap) else {
        return cx.refuse(Denial::of(codes::INTERNAL));
    };
    if !cx.pre_upstream_done {
        cx.pre_upstream_done = true;
        // Governed requests need token counts, which a stream of these endpoints reports only if asked.
        let asks = cx.governed.is_some()
            && exchange.facts.stream
            && matches!(exchange.facts.endpoint, Endpoint::ChatCompletions | Endpoint::Completions);
        let admitted = (asks || matches!(destination, Destination::Mcp(_))).then(|| exchange.draft.body.clone());
        if let Some(guard) = cx.live.guard(route.index) {
            let before = exchange.draft.body.clone();
            if let Some(query) = head.uri.query()
                && let Err(denial) = guard.query(exchange, query).await
            {
                exchange.outcome.denial = Some(denial.clone());
                return cx.refuse(denial);
            }
            if let Err(denial) = guard.request(exchange, route.guard_unparsed).await {
                exchange.outcome.denial = Some(denial.clone());
                return cx.refuse(denial);
            }
            if before.as_ptr() != exchange.draft.body.as_ptr() {
                exchange.draft.model_span = None;
            }
        }
        if !route.chain.is_empty(Gate::PreUpstream)
            && let Verdict::Abort(denial) = gate::run(&route.chain, Gate::PreUpstream, exchange, &session.req_header().headers).await
        {
            exchange.outcome.denial = Some((*denial).clone());
            return cx.refuse(*denial);
        }
        if let Destination::Provider { slug, target } = destination {
            let known = exchange.draft.model_span.take();
            let known = match &admitted {
                // The place of the insertion is known only for the body as it was admitted.
                Some(body) if asks => known.filter(|_| same(body, &exchange.draft.body)).map(|span| (span, cx.ask_usage.take())),
                _ => known.map(|span| (span, None)),
            };
            match address(exchange, slug, known, asks && target.provider.stream_usage) {
                Ok(asked) => cx.usage_unasked = asked,
                Err(denial) => return cx.refuse(denial),
            }
        }
        if let Destination::Mcp(called) = destination
            && admitted.is_some_and(|body| !same(&body, &exchange.draft.body))
            && let Err(denial) = mcp::still_permitted(&called.server, &exchange.draft.body)
        {
            exchange.outcome.denial = Some(denial.clone());
            return cx.refuse(denial);
        }
        let was = tap.set_body(exchange.draft.body.clone());
        cx.rewritten |= !same(&was, &exchange.draft.body);
    }
    let proxied =
        matches!(destination, Destination::Upstream(_)) && address::is_behind_a_proxy(session, &cx.live.snapshot.server.trusted_proxies);
    let reads = || {
        let guard = cx.live.guard(route.index);
        guard.is_some_and(|guard| guard.enforces() && guard.reads_answers_of(exchange.facts.dialect))
            || route.chain.readers(&exchange.facts, &exchange.draft, false).enforces
    };
    let unfit = Unfit { parts: !matches!(destination, Destination::Upstream(_)) || reads(), digests: cx.rewritten };
    let written = write_head(head, exchange, destination, (route.auth, proxied), unfit, &cx.id_value);
    written.or_else(|_| cx.refuse(Denial::of(codes::INTERNAL)))
}

/// Whether nobody has put another body in the place of this one.
pub(super) fn same(before: &Bytes, now: &Bytes) -> bool {
    before.as_ptr() == now.as_ptr() && before.len() == now.len()
}

/// Replaces the model's name by the provider's, and asks for a stream's usage where `asks`. `known` is where both go in the
/// body, if that is known. Returns whether usage was asked for.
fn address(
    exchange: &mut Exchange,
    slug: &str,
    known: Option<(std::ops::Range<usize>, Option<Insertion>)>,
    asks: bool,
) -> std::result::Result<bool, Denial> {
    let own = known.is_some() && exchange.facts.requested_model.as_deref() == Some(slug) && exchange.draft.model.as_deref() == Some(slug);
    let (span, ask) = match known {
        Some(known) => known,
        // A plugin rewrote the body: it must still be readable for this gateway before it leaves.
        None => {
            let head = wire::head(exchange.facts.endpoint, &exchange.draft.body).map_err(|_| Denial::of(codes::PLUGIN_UNAVAILABLE))?;
            // Without a model the provider would choose one that was not granted.
            (head.model_span.ok_or_else(|| Denial::of(codes::PLUGIN_UNAVAILABLE))?, head.ask_usage)
        }
    };
    let body = &exchange.draft.body;
    match ask.filter(|_| asks) {
        Some(ask) => {
            let name = if own { body.get(span.clone()).unwrap_or_default().to_vec() } else { wire::json::quoted(slug) };
            let rewritten = wire::overwrite(body, &mut [(span, &name), (ask.at, ask.text.as_bytes())]);
            exchange.draft.body = rewritten;
            Ok(true)
        }
        None if own => Ok(false),
        None => {
            exchange.draft.body = wire::set_string(body, span, slug);
            Ok(false)
        }
    }
}

/// Fields of the caller's head that do not fit what becomes of its request here.
#[derive(Clone, Copy)]
struct Unfit {
    /// Those that ask for a part of the answer: it is read here, and a part of it tells nobody what is in the whole.
    parts: bool,
    /// Those that vouch for the bytes of the body: another one is sent.
    digests: bool,
}

impl Unfit {
    fn has(self, name: &str) -> bool {
        match name {
            // The last is an older name, which servers take still.
            "range" | "if-range" | "request-range" => self.parts,
            "content-md5" | "digest" | "content-digest" | "repr-digest" => self.digests,
            _ => false,
        }
    }
}

fn write_head(
    head: &mut RequestHeader,
    exchange: &Exchange,
    destination: &Destination,
    (authenticated, proxied): (bool, bool),
    unfit: Unfit,
    id: &HeaderValue,
) -> Result<()> {
    // Pingora keeps the caller's spelling of every field name beside the map and parses a name again for each change. Names are
    // case-insensitive (RFC 9110 §5.1); without the spelling the changes below cost a fraction.
    let raw_target = Some(head.raw_path()).filter(|raw| *raw != target(&head.uri).as_bytes()).map(<[u8]>::to_vec);
    let empty = RequestHeader::from(http::Request::new(()).into_parts().0);
    let mut parts = http::request::Parts::from(std::mem::replace(head, empty));
    let fields = &mut parts.headers;
    let (to_provider, credential) = match destination {
        Destination::Provider { target, .. } => (true, target.credential.clone()),
        Destination::Mcp(called) => (true, called.credential()),
        Destination::Upstream(_) => (false, None),
    };
    // One pass over the fields instead of a look-up for every field that might be there. A caller's credential under the name of
    // ours is not removed but overwritten below.
    let replaced = |name: &HeaderName| credential.as_ref().is_some_and(|(own, _)| own == name);
    let unwanted = |name: &str| stays_here(name, authenticated, to_provider, proxied) || unfit.has(name);
    let ends = |name: &&HeaderName| unwanted(name.as_str()) && !replaced(name);
    let mut unwanted: Vec<HeaderName> = fields.keys().filter(ends).cloned().collect();
    let before = unwanted.len();
    if to_provider {
        unwanted.extend(fields.keys().filter(|name| mcp::repeats(name.as_str())).cloned());
    }
    let repeated = unwanted.len() > before;
    for name in &unwanted {
        fields.remove(name);
    }
    HeaderEdit::apply(&exchange.draft.request_edits, fields);
    let body = &exchange.draft.body;
    let has_body = !body.is_empty() || exchange.facts.method == http::Method::POST || fields.contains_key(CONTENT_LENGTH);
    let length = has_body.then(|| (CONTENT_LENGTH, HeaderValue::from(body.len())));
    let id = Some((respond::REQUEST_ID, id.clone()));
    match destination {
        Destination::Provider { target, .. } => {
            // Admission has parsed the body as JSON; a different label of the caller's must not reach the provider.
            let json = (!body.is_empty()).then(|| (CONTENT_TYPE, HeaderValue::from_static("application/json")));
            set(fields, [length, id, Some((HOST, target.authority.clone())), json, credential]);
            let path = provider_path(&target.provider.base_url.base_path, &exchange.facts.path, parts.uri.query());
            // The authority of an HTTP/2 caller's URI is this gateway.
            if path.is_some() || parts.uri.authority().is_some() {
                set_target(&mut parts.uri, path)?;
            }
            *head = RequestHeader::from(parts);
        }
        Destination::Mcp(mcp::Called { server, target, .. }) => {
            let json = (!body.is_empty()).then(|| (CONTENT_TYPE, HeaderValue::from_static("application/json")));
            set(fields, [length, id, Some((HOST, target.authority.clone())), json, credential]);
            // MCP servers refuse clients that do not accept both kinds of answers by name; `*/*` is not enough.
            let vague = fields.get(ACCEPT).is_none_or(|accept| accept.as_bytes() == b"*/*");
            if vague || server.transport == Transport::Sse {
                fields.insert(ACCEPT, HeaderValue::from_static(server.transport.accept()));
            }
            if repeated {
                fields.extend(mcp::fields_of(body));
            }
            let path = mcp::target_path(server, &exchange.facts.path, parts.uri.query());
            set_target(&mut parts.uri, Some(path))?;
            *head = RequestHeader::from(parts);
        }
        Destination::Upstream(balancer) => {
            let host = balancer.host().map(HeaderValue::from_str).transpose().map_err(unusable)?;
            let ip = exchange.facts.client_ip.map(|ip| HeaderValue::try_from(ip.to_string())).transpose().map_err(unusable)?;
            set(fields, [length, id, host.map(|host| (HOST, host)), ip.map(|ip| (X_FORWARDED_FOR, ip))]);
            let keyed = authenticated && carries_key(parts.uri.query());
            if keyed {
                let path = with_query(exchange.facts.path.clone(), parts.uri.query());
                set_target(&mut parts.uri, Some(path))?;
            }
            *head = RequestHeader::from(parts);
            if !keyed && let Some(raw) = raw_target.as_deref().and_then(origin_form) {
                head.set_raw_path(raw)?;
            }
        }
    }
    Ok(())
}

/// Sets each of these fields to one value. Existing fields are overwritten in place, which saves a look-up.
fn set<const N: usize>(fields: &mut HeaderMap, mut due: [Option<(HeaderName, HeaderValue)>; N]) {
    let mut set = [false; N];
    let mut again = Vec::new();
    for (name, value) in fields.iter_mut() {
        let Some(at) = due.iter().position(|field| field.as_ref().is_some_and(|(own, _)| own == name)) else { continue };
        if std::mem::replace(&mut set[at], true) {
            again.push(at);
        } else if let Some((_, own)) = &due[at] {
            *value = own.clone();
        }
    }
    for at in (0..N).filter(|at| !set[*at] || again.contains(at)) {
        if let Some((name, value)) = due[at].take() {
            fields.insert(name, value);
        }
    }
}

fn unusable(error: impl Into<http::Error>) -> Box<Error> {
    Error::because(ErrorType::InvalidHTTPHeader, "a head for the upstream", error.into())
}

/// Whether a field of the caller's head ends at this gateway. What describes the caller's connection (RFC 9110 §7.6.1) ends
/// here for every upstream; the fields that `Connection` names Pingora has taken out already. `proxied`: what came, came from a
/// proxy whose word counts.
fn stays_here(name: &str, authenticated: bool, to_provider: bool, proxied: bool) -> bool {
    match name {
        "connection"
        | "keep-alive"
        | "proxy-connection"
        | "proxy-authenticate"
        | "proxy-authorization"
        | "te"
        | "trailer"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings"
        | "expect" => true,
        // Answers that must be read should not come encoded; one that does anyway is decoded or refused.
        "accept-encoding" => true,
        // These may carry a virtual key.
        "authorization" | "cookie" | "cookie2" | "x-api-key" | "x-goog-api-key" | "api-key" => authenticated,
        // Says where the caller sits: no business of a provider, and told to any other by our own `X-Forwarded-For` alone. What
        // the caller writes here would be a claim beside it.
        "x-forwarded-for" | "forwarded" | "x-real-ip" | "x-client-ip" | "true-client-ip" => true,
        "x-forwarded-host" | "x-forwarded-proto" | "x-forwarded-port" => to_provider || !proxied,
        _ => false,
    }
}

/// Path and query as they are sent.
fn target(uri: &http::Uri) -> &str {
    uri.path_and_query().map_or("", PathAndQuery::as_str)
}

/// A target as a server takes it that is no proxy: one that begins with scheme and host would be about that host, whatever the
/// `Host` field says (RFC 9112 §3.2.2). `None` if the URI's own path and query say the same.
fn origin_form(raw: &[u8]) -> Option<&[u8]> {
    if raw.starts_with(b"/") || raw == b"*" {
        return Some(raw);
    }
    let rest = raw.get(raw.windows(3).position(|at| at == b"://")? + 3..)?;
    let path = rest.get(rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'))?..)?;
    path.starts_with(b"/").then_some(path)
}

/// Leaves nothing of a URI but path and query: these, or those it has.
fn set_target(uri: &mut http::Uri, path: Option<String>) -> Result<()> {
    let target = match path {
        Some(path) => PathAndQuery::try_from(path).map_err(unusable)?,
        None => uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
    };
    *uri = http::Uri::from(target);
    Ok(())
}

/// The path at the provider, if it differs from the caller's: the provider's base path, then the endpoint without the family
/// segment that only this gateway knows; the query without a credential.
fn provider_path(base: &str, path: &str, query: Option<&str>) -> Option<String> {
    let (version, rest) = match path.strip_prefix("/v1") {
        Some(rest) if rest.starts_with('/') => ("/v1", rest),
        _ => ("", path),
    };
    let endpoint = FAMILIES.iter().find_map(|f| rest.strip_prefix(f).filter(|r| r.starts_with('/'))).unwrap_or(rest);
    if base.is_empty() && endpoint.len() == rest.len() && !carries_key(query) {
        return None;
    }
    let mut own = String::with_capacity(base.len() + path.len() + query.map_or(0, |q| q.len() + 1));
    own.push_str(base);
    own.push_str(version);
    own.push_str(endpoint);
    Some(with_query(own, query))
}

fn carries_key(query: Option<&str>) -> bool {
    query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("key=")))
}

/// Appends the caller's query without the credential it may contain.
pub(super) fn with_query(mut path: String, query: Option<&str>) -> String {
    let mut separator = '?';
    for pair in query.unwrap_or("").split('&').filter(|p| !p.is_empty() && !p.starts_with("key=")) {
        path.push(separator);
        path.push_str(pair);
        separator = '&';
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_set_stands_once() {
        let mut fields = HeaderMap::new();
        for (name, value) in [(HOST, "a"), (HOST, "b"), (CONTENT_TYPE, "c"), (X_FORWARDED_FOR, "d"), (X_FORWARDED_FOR, "e")] {
            fields.append(name, HeaderValue::from_static(value));
        }
        let ours = |name| Some((name, HeaderValue::from_static("ours")));
        set(&mut fields, [ours(HOST), None, ours(CONTENT_TYPE), ours(CONTENT_LENGTH)]);
        for name in [HOST, CONTENT_TYPE, CONTENT_LENGTH] {
            assert_eq!(fields.get_all(&name).iter().collect::<Vec<_>>(), ["ours"], "{name}");
        }
        assert_eq!(fields.get_all(X_FORWARDED_FOR).iter().count(), 2);
    }

    #[test]
    fn where_a_caller_sits_only_a_trusted_proxy_says() {
        for name in ["x-forwarded-for", "forwarded", "x-real-ip", "x-client-ip", "true-client-ip"] {
            assert!([false, true].iter().all(|proxied| stays_here(name, false, false, *proxied)), "{name}");
        }
        for name in ["x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"] {
            assert!(stays_here(name, false, false, false) && !stays_here(name, false, false, true), "{name}");
            assert!(stays_here(name, false, true, true), "{name}: no business of a provider");
        }
    }

    #[test]
    fn a_target_with_a_host_in_it_loses_it() {
        for (raw, sent) in [
            ("/p/x?a=://b/c", Some("/p/x?a=://b/c")),
            ("*", Some("*")),
            ("http://internal.vhost/p/x?q=1", Some("/p/x?q=1")),
            ("HTTP://[::1]:80//p", Some("//p")),
            ("http://internal.vhost?q=/1", None),
            ("http://internal.vhost", None),
            ("internal.vhost:443", None),
        ] {
            assert_eq!(origin_form(raw.as_bytes()), sent.map(str::as_bytes), "{raw}");
        }
    }

    #[test]
    fn family_segments_and_keys_stay_here() {
        assert_eq!(provider_path("", "/v1/chat/completions", None), None);
        assert_eq!(provider_path("", "/v1/messages", Some("beta=true")), None);
        assert_eq!(provider_path("", "/v1/mistralx/y", None), None);
        let expected = "/openai/v1/chat/completions?api-version=3";
        assert_eq!(provider_path("/openai", "/v1/chat/completions", Some("api-version=3&key=sk_1")).as_deref(), Some(expected));
        assert_eq!(provider_path("", "/v1/mistral/embeddings", Some("key=sk_1")).as_deref(), Some("/v1/embeddings"));
        assert_eq!(provider_path("", "/v1/embeddings", Some("key=sk_1&a=b")).as_deref(), Some("/v1/embeddings?a=b"));
    }
}
