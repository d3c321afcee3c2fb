//! From the request head to a destination: everything that `request_filter` does, in this order.
//!
//! 1. The head: unambiguous framing, an unambiguous path, no protocol upgrade.
//! 2. The gateway's own services, answered by [`counter`].
//! 3. The route; from here on the request is recorded as evidence.
//! 4. The cap of requests in flight in this process.
//! 5. SafetySec on the head, before the key is known.
//! 6. The gateway-wide policy.
//! 7. The key.
//! 8. The policies of organisation, team and key; then SafetySec on the head again, now with the key known.
//! 9. Whether the endpoint is served at all; `GET /models` is answered here; the MCP server of the path, and the key's grant.
//! 10. The body, bounded in bytes and in time, and decoded.
//! 11. The plugins at `pre_route`.
//! 12. The tools that an MCP request calls; else the model, its grant and its provider; else the route's own upstream.
//! 13. Limits, budgets and quotas, together with the counters that steps 6 and 8 deferred; what they grant is held.
//! 14. The access token of an MCP server.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, HOST, UPGRADE, USER_AGENT};
use http::{HeaderMap, HeaderName, Method};
use pingora_proxy::Session;
use serde_json::json;

use super::context::{Context, Destination};
use super::govern::{Steering, Turn};
use super::live::Live;
use super::presented::bearer;
use super::{Edge, address, body, counter, framing, mcp, respond, tap};
use crate::error::{Denial, codes};
use crate::gate::{self, Draft, Exchange, Facts, Gate, Outcome, Verdict};
use crate::identity::{self, Caller};
use crate::route::{Match, Model, Provider, ProviderKind, Route};
use crate::safety::Phase;
use crate::wire::endpoint::family_in_path;
use crate::wire::{self, Dialect, Endpoint, percent};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

/// A body up to this length has usually arrived together with its head.
const ALONG: u64 = 16 << 10;

/// Why admission ended without a destination.
pub enum Refusal {
    /// Answer with this denial.
    Denied {
        /// The answer.
        denial: Box<Denial>,
        /// Whether the connection must be closed, because the rest of the body is still on its way.
        close: bool,
    },
    /// Nothing is left to do: the gateway's own answer has been sent, or the caller is gone.
    Done,
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::Denied { denial: Box::new(denial), close: false }
    }
}

fn refuse(code: &crate::error::Code) -> Refusal {
    Denial::of(code).into()
}

/// Runs admission. `Ok(true)` means that the caller has been answered and nothing is sent upstream.
///
/// # Errors
/// The caller's connection broke while the answer was written.
pub async fn request(edge: &Edge, session: &mut Session, cx: &mut Context) -> pingora::Result<bool> {
    let mut admitted = admit(edge, session, cx).await;
    if admitted.is_err()
        && let Err(denial) = overdue(edge, cx).await
        && let Err(Refusal::Denied { denial: refused, .. }) = &mut admitted
    {
        **refused = denial;
    }
    match admitted {
        Ok(()) => Ok(false),
        Err(Refusal::Done) => Ok(true),
        Err(Refusal::Denied { denial, close }) => {
            let (_, dialect) = Endpoint::of(&session.req_header().method, session.req_header().uri.path());
            let close = close || !soon_over(session);
            cx.status = denial.status();
            if let Some(exchange) = &mut cx.exchange {
                exchange.outcome.denial = Some((*denial).clone());
            }
            let mut fields = cx.fields(dialect);
            if denial.status() == codes::METHOD_NOT_ALLOWED.status {
                fields.extend(allowed(&cx.live, session.req_header()).map(|methods| (ALLOW, methods)));
            }
            let sent = respond::deny(session, &denial, dialect, (&cx.id, cx.rpc_id(dialect).as_deref()), close, fields).await;
            cx.caller_gone |= sent.is_err();
            cx.denial = Some(*denial);
            if sent.is_ok() && !session.as_mut().is_body_done() {
                // Closing with unread bytes resets the connection, and a reset can destroy the answer on its way.
                let began = std::time::Instant::now();
                let rest = tokio::time::timeout(std::time::Duration::from_secs(2), session.as_mut().drain_request_body()).await;
                // Time spent waiting for the caller does not count as the gateway's overhead.
                cx.reading += began.elapsed();
                if !matches!(rest, Ok(Ok(()))) {
                    session.set_keepalive(None);
                }
            }
            sent.map(|()| true)
        }
    }
}

/// Whether the rest of a refused request is here already, or short enough to be read off after the answer, so that the
/// connection can be kept: a flood of refused requests must not become a flood of new connections.
fn soon_over(session: &mut Session) -> bool {
    session.as_mut().is_body_done() || declared_length(session).is_some_and(|length| length <= ALONG)
}

/// Asks the limits of the head that were deferred, because the request ends here and there is no later question.
async fn overdue(edge: &Edge, cx: &mut Context) -> Result<(), Denial> {
    let live = cx.live.clone();
    let caller = cx.exchange.as_ref().and_then(|exchange| exchange.facts.caller.clone());
    let turn = Turn { snapshot: &live.snapshot, id: cx.id, governed: &mut cx.governed, later: false, keyed: false };
    edge.governor.overdue(turn, caller.as_deref()).await
}

async fn admit(edge: &Edge, session: &mut Session, cx: &mut Context) -> Result<(), Refusal> {
    if !framing::is_sound(session) {
        return Err(Refusal::Denied { denial: Box::new(Denial::of(codes::BAD_FRAMING)), close: true });
    }
    let live = cx.live.clone();
    let snapshot = &live.snapshot;
    let head = session.req_header();
    let path = head.uri.path();
    let (endpoint, dialect) = Endpoint::of(&head.method, path);
    if is_ambiguous(path) {
        return Err(refuse(codes::ROUTE_NOT_FOUND));
    }
    if session.as_downstream().is_upgrade_req() && !offers_http2(&head.headers) {
        // After an upgrade the connection is not HTTP any more, and no gate could inspect it.
        return Err(refuse(codes::METHOD_NOT_ALLOWED));
    }
    if let Some(service) = counter::Service::of(snapshot, path) {
        return Err(counter::serve(service, edge, session, cx).await);
    }
    let host = || host_of(&head.headers, &head.uri);
    let route = match snapshot.routes.find(host, path, &head.method, &head.headers) {
        Match::Route(route) => route.clone(),
        Match::MethodNotAllowed => return Err(refuse(codes::METHOD_NOT_ALLOWED)),
        Match::None => return Err(refuse(codes::ROUTE_NOT_FOUND)),
    };
    cx.route = Some(route.clone());
    let client_ip = address::client(session, &snapshot.server.trusted_proxies);
    let exchange = begin(session, cx, &route, endpoint, dialect, client_ip);
    let exchange = cx.exchange.insert(exchange);
    cx.in_flight = edge.flights.begin(snapshot.server.max_concurrent_requests);
    cx.gauge = Some(edge.metrics.enter());
    if cx.in_flight.is_none() {
        let overloaded = Denial::of(codes::OVERLOADED).with_retry_after(std::time::Duration::from_secs(1));
        return Err(overloaded.into());
    }
    let guard = live.guard(route.index);
    if let Some(guard) = guard {
        guard.head(Phase::PreAuth, exchange).await?;
    }
    let length = declared_length(session);
    // A plugin at `pre_route` that calls other hosts must not be run for a request that a limit refuses.
    let ends_here = !route.auth || endpoint == Endpoint::Models;
    let later = edge.governor.may_wait(length) && !ends_here && !route.chain.calls_out(Gate::PreRoute);
    edge.governor.pre_auth(Turn { snapshot, id: cx.id, governed: &mut cx.governed, later, keyed: route.auth }, client_ip, length).await?;
    let caller = match route.auth {
        true => Some(authenticate(session, &snapshot.keys, edge.keyring.as_deref(), exchange.facts.received_at)?),
        false => None,
    };
    exchange.facts.caller = caller.clone();
    if let Some(caller) = &caller {
        edge.governor
            .early(Turn { snapshot, id: cx.id, governed: &mut cx.governed, later, keyed: route.auth }, caller, client_ip, length)
            .await?;
    }
    if let Some(guard) = guard {
        guard.head(Phase::PostAuth, exchange).await?;
    }

    if route.upstream.is_none() {
        served_here(session, endpoint)?;
        if endpoint == Endpoint::Models {
            let Some(caller) = &caller else { return Err(refuse(codes::UNAUTHORIZED)) };
            return Err(list_models(session, cx, caller).await);
        }
    }
    let called = match &caller {
        Some(caller) if route.upstream.is_none() && endpoint == Endpoint::Mcp => Some(mcp::find(&live, caller, exchange)?),
        _ => None,
    };
    let body = match body::read(session, snapshot.server.max_request_body, snapshot.server.body_timeout, &mut cx.reading).await {
        Ok(body) => body,
        Err(body::ReadError::Denied(denial)) => return Err(Refusal::Denied { denial: Box::new(denial), close: true }),
        Err(body::ReadError::CallerGone) => {
            cx.caller_gone = true;
            return Err(Refusal::Done);
        }
    };
    exchange.outcome.bytes_in = body.len() as u64;
    if caller.is_none() && length.is_none() {
        edge.governor.weighed(snapshot, cx.id, body.len() as u64)?;
    }
    let mut steering = match &called {
        // An MCP body is inspected after the plugins at `pre_route`, which may change it.
        Some(_) => None,
        None => Some(decode(&route, &body, exchange)?),
    };
    exchange.draft.body = body;
    if called.is_some() {
        mcp::agree(&session.req_header().headers, &exchange.draft.body)?;
    }

    if !route.chain.is_empty(Gate::PreRoute) {
        let before = exchange.draft.body.clone();
        match gate::run(&route.chain, Gate::PreRoute, exchange, &session.req_header().headers).await {
            Verdict::Next => {}
            Verdict::Abort(denial) => return Err(Refusal::Denied { denial, close: false }),
        }
        if before.as_ptr() != exchange.draft.body.as_ptr() || before.len() != exchange.draft.body.len() {
            cx.rewritten = true;
            steering = None;
        }
    }
    if let Some(steering) = &steering {
        exchange.draft.model_span = steering.model_span.clone();
        cx.ask_usage = steering.ask_usage.clone();
    }
    let tools = match &called {
        Some(called) => {
            let asked = mcp::inspect(&called.server, &exchange.draft.body)?;
            asked.tag(exchange);
            Some((Arc::clone(&called.server), asked.tools))
        }
        None => None,
    };
    cx.destination = Some(match called {
        Some(called) => Destination::Mcp(called),
        None => {
            let said = steering.as_ref().and_then(|steering| steering.provider.as_deref());
            destination(&live, &route, exchange, caller.as_deref(), said)?
        }
    });
    if let Some(caller) = &caller {
        edge.governor
            .last(Turn { snapshot, id: cx.id, governed: &mut cx.governed, later, keyed: route.auth }, exchange, caller, steering, tools)
            .await?;
    }
    // Last, so that no token is fetched for a request that is refused.
    if let Some(Destination::Mcp(called)) = &mut cx.destination {
        called.authorize().await?;
    }
    cx.tap = Some(tap::install(session, exchange.draft.body.clone(), edge.flights.clone(), cx.id.0[15]));
    Ok(())
}

/// The body's length as `Content-Length` declares it; `None` for a chunked body.
fn declared_length(session: &Session) -> Option<u64> {
    session.req_header().headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
}

/// The exchange of a request of which only the head has been read.
fn begin(
    session: &Session,
    cx: &Context,
    route: &Arc<Route>,
    endpoint: Endpoint,
    dialect: Dialect,
    client_ip: Option<std::net::IpAddr>,
) -> Box<Exchange> {
    let head = session.req_header();
    let text = |name: &HeaderName| head.headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| v.len() <= 256);
    Box::new(Exchange {
        facts: Facts {
            id: cx.id,
            trace_id: text(&TRACEPARENT).and_then(trace_id),
            caller_request_id: text(&respond::REQUEST_ID).map(str::to_owned),
            received: cx.received,
            received_at: SystemTime::now(),
            route: route.name.clone(),
            endpoint,
            dialect,
            method: head.method.clone(),
            path: head.uri.path().to_owned(),
            client_ip,
            user_agent: head.headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).map(|v| v.get(..256).unwrap_or(v).to_owned()),
            caller: None,
            requested_model: None,
            provider: None,
            slug: None,
            stream: false,
        },
        draft: Draft::default(),
        executions: Vec::new(),
        safety: None,
        outcome: Outcome::default(),
    })
}

/// The trace id of a `traceparent` header (W3C Trace Context §3.2), or `None` if the header is malformed.
fn trace_id(traceparent: &str) -> Option<String> {
    let mut parts = traceparent.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let hex = |s: &str| s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let valid =
        version.len() == 2 && hex(version) && version != "ff" && trace.len() == 32 && hex(trace) && trace.bytes().any(|b| b != b'0');
    valid.then(|| trace.to_owned())
}

fn host_of<'a>(headers: &'a HeaderMap, uri: &'a http::Uri) -> &'a str {
    let host = headers.get(HOST).and_then(|v| v.to_str().ok()).or_else(|| uri.authority().map(http::uri::Authority::as_str)).unwrap_or("");
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether the next hop could read the path as another one. Routes are matched on the path exactly as it was sent, and it is
/// forwarded unchanged; a path that normalises to another one could therefore bypass the route meant for that other path.
fn is_ambiguous(path: &str) -> bool {
    // Most paths contain none of the bytes that matter.
    if !path.bytes().any(|b| matches!(b, b'%' | b'\\' | b'.')) && !path.contains("//") {
        return false;
    }
    let encoded = |at: usize, code: &[u8; 2]| path.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.eq_ignore_ascii_case(code));
    let unreserved = |at: usize| {
        let encoded = path.as_bytes().get(at + 1..at + 3).and_then(percent::byte);
        encoded.is_none_or(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
    };
    path.contains("//")
        || path.contains('\\')
        || path.split('/').any(|segment| segment == "." || segment == "..")
        || path.match_indices('%').any(|(at, _)| encoded(at, b"2f") || encoded(at, b"5c") || unreserved(at))
}

/// Finds the caller by the credential it presented. Of several credentials the first counts, in the documented order:
/// `Authorization`, `x-api-key`, `x-goog-api-key`, `?key=`.
pub(super) fn authenticate(
    session: &Session,
    keys: &identity::Keys,
    ring: Option<&identity::Keyring>,
    now: SystemTime,
) -> Result<Arc<Caller>, Denial> {
    let head = session.req_header();
    let header = |name: &HeaderName| head.headers.get(name).map(http::HeaderValue::as_bytes);
    let query = || head.uri.query()?.split('&').find_map(|pair| pair.strip_prefix("key=")).map(str::as_bytes);
    let Some(secret) = bearer(&head.headers).or_else(|| header(&X_API_KEY)).or_else(|| header(&X_GOOG_API_KEY)).or_else(query) else {
        return Err(Denial::of(codes::UNAUTHORIZED));
    };
    let secret = secret.trim_ascii();
    match ring {
        Some(ring) => ring.authenticate(keys, secret, now),
        None => identity::authenticate(keys, secret, now),
    }
}

/// The value of `Allow` for a path: the methods it supports, whichever was sent (RFC 9110 §10.2.1).
fn allowed(live: &Live, head: &pingora_http::RequestHeader) -> Option<http::HeaderValue> {
    let (snapshot, path) = (&live.snapshot, head.uri.path());
    let takes = |method: &Method| match counter::Service::of(snapshot, path) {
        Some(service) => service.takes(method),
        None => match snapshot.routes.find(|| host_of(&head.headers, &head.uri), path, method, &head.headers) {
            Match::Route(route) => route.upstream.is_some() || takes(method, path),
            _ => false,
        },
    };
    let every = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let methods: Vec<&str> = every.iter().filter(|method| takes(method)).map(Method::as_str).collect();
    http::HeaderValue::from_str(&methods.join(", ")).ok().filter(|_| !methods.is_empty())
}

/// Whether a provider route supports a method at a path.
fn takes(method: &Method, path: &str) -> bool {
    match Endpoint::of(method, path).0 {
        Endpoint::Other => false,
        Endpoint::Models => method == Method::GET || method == Method::HEAD,
        // An MCP client ends its session with DELETE and opens the server's event stream with GET.
        Endpoint::Mcp => [Method::GET, Method::POST, Method::DELETE].contains(method),
        _ => method == Method::POST,
    }
}

/// Refuses endpoints and methods that a provider route does not know, so that nothing is forwarded without being read.
fn served_here(session: &Session, endpoint: Endpoint) -> Result<(), Refusal> {
    let path = session.req_header().uri.path();
    match endpoint {
        Endpoint::Other if [Method::GET, Method::POST].iter().any(|m| Endpoint::of(m, path).0 != Endpoint::Other) => {
            Err(refuse(codes::METHOD_NOT_ALLOWED))
        }
        // No provider of this build serves these endpoints; forwarding the requests would mean forwarding them unread.
        Endpoint::Other | Endpoint::UnifiedChat | Endpoint::Task => Err(refuse(codes::ROUTE_NOT_FOUND)),
        Endpoint::GenerateContent | Endpoint::StreamGenerateContent => Err(refuse(codes::PROVIDER_TYPE_UNSUPPORTED)),
        _ if takes(&session.req_header().method, path) => Ok(()),
        _ => Err(refuse(codes::METHOD_NOT_ALLOWED)),
    }
}

/// `GET /v1/models`: the models this key may use, in OpenAI's list shape; `GET /v1/{family}/models`: those of one family;
/// `GET /v1/models/{model}`: one of them.
async fn list_models(session: &mut Session, cx: &mut Context, caller: &Caller) -> Refusal {
    let snapshot = &cx.live.snapshot;
    let told = |model: &Model| json!({"id": &*model.name, "object": "model", "created": 0, "owned_by": &*model.provider.name});
    let answer = match wire::endpoint::model_listed(session.req_header().uri.path()) {
        None => {
            let family = family_in_path(session.req_header().uri.path());
            let listed = |model: &&Arc<Model>| caller.may_use_model(&model.name) && is_of_family(model.provider.kind, family);
            let mut models: Vec<_> = snapshot.models.of(&caller.organisation.id).filter(listed).collect();
            models.sort_by(|a, b| a.name.cmp(&b.name));
            json!({"object": "list", "data": models.into_iter().map(|model| told(model)).collect::<Vec<_>>()})
        }
        Some(name) => match snapshot.models.get(&caller.organisation.id, &name) {
            None => return refuse(codes::MODEL_NOT_FOUND),
            Some(model) if !caller.may_use_model(&model.name) => return refuse(codes::MODEL_NOT_ALLOWED),
            Some(model) => told(model),
        },
    };
    say(session, cx, 200, &answer).await
}

/// Whether the only upgrade asked for is to HTTP/2 (`h2c`), which a server may ignore (RFC 9110 §7.8). The header is not
/// forwarded to the upstream.
fn offers_http2(headers: &HeaderMap) -> bool {
    headers.get_all(UPGRADE).iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"h2c"))
}

/// Sends a JSON answer of the gateway's own.
pub(super) async fn say(session: &mut Session, cx: &mut Context, status: u16, answer: &serde_json::Value) -> Refusal {
    let body = Bytes::from(answer.to_string());
    let head = pingora_http::ResponseHeader::build(status, Some(4)).and_then(|mut head| {
        head.insert_header(http::header::CONTENT_TYPE, "application/json")?;
        head.insert_header(http::header::CONTENT_LENGTH, body.len())?;
        head.insert_header(respond::REQUEST_ID, cx.id.to_string())?;
        Ok(head)
    });
    cx.status = status;
    if let Ok(head) = head
        && respond::send(session, head, body).await.is_err()
    {
        cx.caller_gone = true;
    }
    Refusal::Done
}

/// Reads model, stream flag and token counts from the body. A guarded route refuses a body that it cannot parse.
fn decode(route: &Route, body: &Bytes, exchange: &mut Exchange) -> Result<Steering, Refusal> {
    if body.is_empty() && route.upstream.is_some() {
        return Ok(Steering::default());
    }
    match wire::head(exchange.facts.endpoint, body) {
        Ok(head) => {
            // Any of them may be one that this key must not use, or that costs something else.
            if let Some(others) = head.others.filter(|_| route.upstream.is_none()) {
                let message = format!("`{others}` names other models: name one, in `model`");
                return Err(Denial::of(codes::INVALID_REQUEST).with_message(message).into());
            }
            exchange.facts.stream = head.stream;
            exchange.draft.model = head.model.as_deref().map(str::to_owned);
            exchange.facts.requested_model = exchange.draft.model.clone();
            Ok(Steering {
                provider: head.provider.map(std::borrow::Cow::into_owned),
                model_span: head.model_span,
                ask_usage: head.ask_usage,
                wants: head.wants,
            })
        }
        Err(_) if route.upstream.is_some() && !route.guard_unparsed => Ok(Steering::default()),
        Err(error) => {
            Err(Denial::of(codes::INVALID_REQUEST).with_message(format!("the request is not valid for this endpoint: {error}")).into())
        }
    }
}

/// The provider of the request's model, once key and model pass all checks, or the route's own upstream. `said` is the
/// provider family that the body names, if it names one.
fn destination(
    live: &Live,
    route: &Route,
    exchange: &mut Exchange,
    caller: Option<&Caller>,
    said: Option<&str>,
) -> Result<Destination, Refusal> {
    if route.upstream.is_some() {
        let balancer = live.balancer(route.index).ok_or_else(|| refuse(codes::INTERNAL))?;
        return Ok(Destination::Upstream(balancer.clone()));
    }
    let Some(caller) = caller else { return Err(refuse(codes::UNAUTHORIZED)) };
    let Some(name) = exchange.draft.model.as_deref() else {
        return Err(Denial::of(codes::INVALID_REQUEST).with_message("the request names no model").into());
    };
    let model = live.snapshot.models.get(&caller.organisation.id, name).ok_or_else(|| refuse(codes::MODEL_NOT_FOUND))?;
    if !caller.may_use_model(&model.name) {
        return Err(refuse(codes::MODEL_NOT_ALLOWED));
    }
    let provider = &model.provider;
    if !provider.enabled {
        return Err(refuse(codes::PROVIDER_DISABLED));
    }
    if !serves(provider.kind, exchange.facts.dialect)
        || !is_of_family(provider.kind, family_in_path(&exchange.facts.path))
        || said.is_some_and(|said| !confirms(said, provider, exchange.facts.dialect))
    {
        return Err(refuse(codes::PROVIDER_NOT_ALLOWED));
    }
    if provider.key_required && provider.api_key.is_none() {
        return Err(refuse(codes::PROVIDER_KEY_NOT_CONFIGURED));
    }
    let target = live.target(&provider.name).ok_or_else(|| refuse(codes::PROVIDER_NOT_CONFIGURED))?;
    exchange.facts.provider = Some(provider.name.clone());
    exchange.facts.slug = Some(model.slug.clone());
    Ok(Destination::Provider { target: target.clone(), slug: model.slug.clone() })
}

/// Whether a provider of this kind speaks the dialect of the endpoint.
fn serves(kind: ProviderKind, dialect: Dialect) -> bool {
    match dialect {
        Dialect::Anthropic => kind == ProviderKind::Anthropic,
        Dialect::OpenAi => !matches!(kind, ProviderKind::Anthropic | ProviderKind::Gemini),
        Dialect::Gemini | Dialect::Mcp | Dialect::Plain => false,
    }
}

/// Whether a provider belongs to the family that the path names; `true` if the path names none.
fn is_of_family(kind: ProviderKind, family: Option<&str>) -> bool {
    family.is_none_or(|family| kind.as_str() == family)
}

/// Whether the provider family that the body names agrees with the endpoint's or the model's: it may repeat them, not override.
fn confirms(said: &str, provider: &Provider, dialect: Dialect) -> bool {
    [provider.kind.as_str(), &provider.name, dialect.as_str()].iter().any(|family| said.eq_ignore_ascii_case(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_mean_something_else_to_the_next_hop() {
        for bad in [
            "/public/../private",
            "/v1//chat",
            "/v1/./chat",
            "/a%2Fb",
            "/a%5cb",
            "/a%2e%2e/b",
            "/%63hat",
            "/a\\b",
            "/a%zz",
            "/a%2",
            "/a%+1",
        ] {
            assert!(is_ambiguous(bad), "{bad}");
        }
        for good in ["/v1/chat/completions", "/v1/models/a%20b", "/v1beta/models/g:generate", "/a..b/c", "/"] {
            assert!(!is_ambiguous(good), "{good}");
        }
    }

    #[test]
    fn the_trace_id_of_a_traceparent() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(&format!("00-{id}-00f067aa0ba902b7-01")).as_deref(), Some(id));
        assert_eq!(trace_id(&format!("cc-{id}-00f067aa0ba902b7-01-future")).as_deref(), Some(id));
        for bad in
            ["", "00", "00-xyz-1-01", &format!("ff-{id}-00f067aa0ba902b7-01"), "00-00000000000000000000000000000000-00f067aa0ba902b7-01"]
        {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
    }
}
