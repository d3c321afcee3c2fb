//! The upstream half: which peer, what is tried again, and the request head as the provider gets it.

use std::time::Duration;

use http::HeaderName;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::context::{Context, Destination};
use super::respond;
use crate::error::{Denial, codes};
use crate::gate::{self, Exchange, Gate, HeaderEdit, Verdict};
use crate::wire;

/// Carries a virtual key, or may: never forwarded.
const CREDENTIALS: [&str; 4] = ["x-api-key", "x-goog-api-key", "api-key", "cookie2"];
/// Says where the caller sits: no business of a provider.
const ORIGIN: [&str; 5] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded", "x-real-ip"];
/// Attempts at the most when kept-alive connections turn out to be dead; a dead connection says nothing of the provider.
const MAX_STALE: u32 = 3;
/// How long a plain upstream may stay silent unless its route says otherwise.
const PLAIN_TIMEOUT: Duration = Duration::from_secs(60);

/// The peer of the next attempt.
///
/// # Errors
/// No candidate is left, or the provider's name does not resolve.
pub async fn peer(cx: &mut Context) -> Result<Box<HttpPeer>> {
    cx.attempts += 1;
    cx.upstream_started.get_or_insert_with(std::time::Instant::now);
    let timeout = cx.route.as_ref().and_then(|r| r.timeout);
    let peer = match &cx.destination {
        Some(Destination::Provider { target, .. }) => target.peer(timeout.unwrap_or(target.provider.timeout)).await.ok(),
        Some(Destination::Upstream(balancer)) => balancer.peer(timeout.unwrap_or(PLAIN_TIMEOUT)),
        None => None,
    };
    match peer {
        Some(peer) => Ok(peer),
        None => cx.refuse(Denial::of(codes::UPSTREAM_FAILED)),
    }
}

/// A connect failed: try the next candidate while the route allows it. Nothing was sent, so nothing can happen twice.
pub fn connect_failed(cx: &Context, mut error: Box<Error>) -> Box<Error> {
    let retries = cx.route.as_ref().map_or(0, |r| r.retries);
    error.set_retry(cx.attempts <= retries);
    report(cx, &error, false);
    error
}

/// An attempt broke off. A kept-alive connection that turns out dead before any answer is tried again on a fresh one, as
/// nginx and curl do: the server closed it before it saw the request.
pub fn attempt_failed(session: &Session, cx: &Context, error: Box<Error>, reused: bool) -> Box<Error> {
    let mut error = error;
    error.retry.decide_reuse(reused);
    let broken = matches!(error.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed);
    let stale = reused && *error.esource() == ErrorSource::Upstream && broken;
    let answered = answered(session) || cx.upstream_status != 0;
    error.set_retry((error.retry() || stale) && !answered && cx.denial.is_none() && cx.attempts <= MAX_STALE);
    if cx.denial.is_none() {
        report(cx, &error, reused);
    }
    error
}

/// Whether the caller has the head of an answer; `100 Continue` and its like are none.
pub fn answered(session: &Session) -> bool {
    session.response_written().is_some_and(|head| !head.status.is_informational())
}

/// One line a failed attempt: kind and side of the failure, never Pingora's context, which may quote traffic.
fn report(cx: &Context, error: &Error, reused: bool) {
    let level = if *error.esource() == ErrorSource::Upstream { log::Level::Warn } else { log::Level::Debug };
    let destination = match &cx.destination {
        Some(Destination::Provider { target, .. }) => &*target.provider.name,
        _ => cx.route.as_ref().map_or("", |r| &*r.name),
    };
    log::log!(target: "upstream", level, request_id = cx.id.to_string().as_str(), destination = destination, error = error.etype().as_str(), side = error.esource().as_str(), attempt = cx.attempts, reused = reused, retry = error.retry(); "attempt failed");
}

/// The `pre_upstream` gate and the head for the provider.
///
/// # Errors
/// A plugin refused; nothing has been sent to the upstream.
pub async fn request_head(session: &mut Session, head: &mut RequestHeader, cx: &mut Context) -> Result<()> {
    let (Some(exchange), Some(route), Some(destination), Some(tap)) =
        (cx.exchange.clone(), cx.route.clone(), cx.destination.clone(), cx.tap.clone())
    else {
        return cx.refuse(Denial::of(codes::INTERNAL));
    };
    let mut exchange = exchange.lock().await;
    if !cx.pre_upstream_done {
        cx.pre_upstream_done = true;
        let before = exchange.draft.body.clone();
        if !route.chain.is_empty(Gate::PreUpstream)
            && let Verdict::Abort(denial) = gate::run(&route.chain, Gate::PreUpstream, &mut exchange, &session.req_header().headers).await
        {
            exchange.outcome.denial = Some((*denial).clone());
            return cx.refuse(*denial);
        }
        if before.as_ptr() != exchange.draft.body.as_ptr() || before.len() != exchange.draft.body.len() {
            cx.model_span = None;
        }
        if let Destination::Provider { slug, .. } = &destination
            && let Err(denial) = name_the_slug(&mut exchange, slug, cx.model_span.clone())
        {
            return cx.refuse(denial);
        }
        tap.set_body(exchange.draft.body.clone());
    }
    let sealed = write_head(head, &exchange, &destination, route.auth, cx);
    sealed.or_else(|_| cx.refuse(Denial::of(codes::INTERNAL)))
}

/// Replaces the name the caller used by the one the provider knows.
fn name_the_slug(exchange: &mut Exchange, slug: &str, span: Option<std::ops::Range<usize>>) -> std::result::Result<(), Denial> {
    if exchange.facts.requested_model.as_deref() == Some(slug) && exchange.draft.model.as_deref() == Some(slug) && span.is_some() {
        return Ok(());
    }
    let span = match span {
        Some(span) => Some(span),
        // A plugin rewrote the body: what leaves must still be what this gateway can read.
        None => wire::head(&exchange.draft.body).map_err(|_| Denial::of(codes::PLUGIN_UNAVAILABLE))?.model_span,
    };
    // Without a model in it the provider would choose one that nobody granted.
    let Some(span) = span else { return Err(Denial::of(codes::PLUGIN_UNAVAILABLE)) };
    exchange.draft.body = wire::set_string(&exchange.draft.body, span, slug);
    Ok(())
}

fn write_head(head: &mut RequestHeader, exchange: &Exchange, destination: &Destination, authenticated: bool, cx: &Context) -> Result<()> {
    let to_provider = matches!(destination, Destination::Provider { .. });
    // One look at what is there instead of a look-up for everything that might be.
    let unwanted: Vec<HeaderName> = head.headers.keys().filter(|name| stays_here(name, authenticated, to_provider)).cloned().collect();
    for name in &unwanted {
        head.remove_header(name);
    }
    for edit in &exchange.draft.request_edits {
        match edit {
            HeaderEdit::Set(name, value) => head.insert_header(name.clone(), value.clone())?,
            HeaderEdit::Remove(name) => {
                head.remove_header(name);
            }
        }
    }
    let body = &exchange.draft.body;
    let has_body = !body.is_empty() || head.headers.contains_key(CONTENT_LENGTH) || exchange.facts.method == http::Method::POST;
    if has_body {
        head.insert_header(CONTENT_LENGTH, body.len())?;
    }
    head.insert_header(respond::REQUEST_ID, cx.id_value.clone())?;
    match destination {
        Destination::Provider { target, .. } => {
            head.insert_header(HOST, target.authority.clone())?;
            // Admission has read it as JSON; no label of the caller's may tell the provider otherwise.
            if !body.is_empty() {
                head.insert_header(CONTENT_TYPE, "application/json")?;
            }
            if let Some((name, value)) = &target.credential {
                head.insert_header(name.clone(), value.clone())?;
            }
            let path = provider_path(&target.provider.base_url.base_path, &exchange.facts.path, head.uri.query());
            set_path(head, &path)?;
        }
        Destination::Upstream(balancer) => {
            if let Some(host) = balancer.host() {
                head.insert_header(HOST, host)?;
            }
            if let Some(ip) = exchange.facts.client_ip {
                head.insert_header("x-forwarded-for", ip.to_string())?;
            }
            if authenticated && head.uri.query().is_some_and(|q| q.split('&').any(|p| p.starts_with("key="))) {
                let path = with_query(exchange.facts.path.clone(), head.uri.query());
                set_path(head, &path)?;
            }
        }
    }
    Ok(())
}

/// Whether a field of the caller's head ends at this gateway.
fn stays_here(name: &HeaderName, authenticated: bool, to_provider: bool) -> bool {
    // What must be read must not come encoded; an answer that does anyway is decoded or refused.
    if [TRANSFER_ENCODING, EXPECT, PROXY_AUTHORIZATION, ACCEPT_ENCODING].contains(name) {
        return true;
    }
    let credential = *name == AUTHORIZATION || *name == COOKIE || CREDENTIALS.contains(&name.as_str());
    authenticated && credential || to_provider && ORIGIN.contains(&name.as_str())
}

fn set_path(head: &mut RequestHeader, path: &str) -> Result<()> {
    let path: PathAndQuery = path.parse().map_err(|_| Error::explain(ErrorType::InvalidHTTPHeader, "path"))?;
    head.set_uri(http::Uri::from(path));
    Ok(())
}

/// The provider's path: its own base, then the endpoint without the family segment that only this gateway knows.
fn provider_path(base: &str, path: &str, query: Option<&str>) -> String {
    let rest = path.strip_prefix("/v1").filter(|r| r.starts_with('/')).unwrap_or(path);
    let rest =
        ["/vllm", "/mistral", "/huggingface"].iter().find_map(|f| rest.strip_prefix(f).filter(|r| r.starts_with('/'))).unwrap_or(rest);
    let version = if path.starts_with("/v1/") { "/v1" } else { "" };
    with_query(format!("{base}{version}{rest}"), query)
}

/// Adds the caller's query without the credential it may carry.
fn with_query(mut path: String, query: Option<&str>) -> String {
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
    fn family_segments_and_keys_stay_here() {
        assert_eq!(provider_path("", "/v1/chat/completions", None), "/v1/chat/completions");
        assert_eq!(
            provider_path("/openai", "/v1/chat/completions", Some("api-version=3&key=sk_1")),
            "/openai/v1/chat/completions?api-version=3"
        );
        assert_eq!(provider_path("", "/v1/mistral/embeddings", Some("key=sk_1")), "/v1/embeddings");
        assert_eq!(provider_path("", "/v1/messages", Some("beta=true")), "/v1/messages?beta=true");
    }
}
