//! The life of one request: read it, decide the answer, send it.

use std::fmt::Write as _;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use tokio::time::sleep;

use super::ask::Ask;
use super::reply::{Answer, Body, Reply};
use super::switches::{Fault, Switches};
use super::{Options, Seen, anthropic, openai, send};

/// The mock provider as a Pingora application.
pub struct App {
    options: Options,
    http: HttpServerOptions,
    seen: Seen,
}

impl App {
    pub fn new(options: Options) -> Self {
        let mut http = HttpServerOptions::default();
        http.h2c = true;
        Self { options, http, seen: Seen::default() }
    }

    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(key) = self.options.require_key.as_deref() else { return true };
        let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
        let bearer = value("authorization").and_then(|v| v.strip_prefix(b"Bearer "));
        [bearer, value("x-api-key"), value("x-goog-api-key")].contains(&Some(key.as_bytes()))
    }

    /// Decides the answer, and the switches with which it is sent.
    fn answer(&self, request: &RequestHeader, body: &[u8]) -> (Answer, Switches) {
        let path = request.uri.path();
        let error = if path.starts_with("/v1/messages") { anthropic::error } else { openai::error };
        let mut switches = self.options.switches.clone();
        let ask = if body.first() == Some(&b'{') { Ask::parse(body) } else { None };
        let mut read = switches.read(&request.headers, request.uri.query());
        if let (Ok(()), Some(object)) = (&read, ask.as_ref().and_then(|ask| ask.mock)) {
            read = switches.read_object(object);
        }
        if let Err(bad) = read {
            return (error(400, &bad.0), Switches::default());
        }
        let answer = if !self.admits(&request.headers) {
            error(401, "incorrect API key provided")
        } else if let Some(status) = switches.status.filter(|status| *status >= 400) {
            error(status, "the mock provider was asked for this status")
        } else {
            let mut answer = endpoint(request, path, ask.as_ref(), body, &switches).unwrap_or_else(|(status, why)| error(status, why));
            if answer.status == 200 {
                answer.status = switches.status.unwrap_or(200);
            }
            answer
        };
        (answer, switches)
    }
}

fn endpoint(
    request: &RequestHeader,
    path: &str,
    ask: Option<&Ask<'_>>,
    body: &[u8],
    switches: &Switches,
) -> Result<Answer, (u16, &'static str)> {
    if path == "/echo" {
        return Ok(echo(request, body));
    }
    match (request.method.as_str(), path) {
        ("GET", "/v1/models") => return Ok(openai::models()),
        ("POST", _) => {}
        _ => return Err((404, "unknown method and path")),
    }
    let ask = || ask.ok_or((400, "the body is not the JSON this endpoint takes"));
    let reply = |ask: &Ask<'_>| Reply::to(ask, switches);
    Ok(match path {
        "/v1/chat/completions" => openai::chat(ask()?, &reply(ask()?)),
        "/v1/completions" => openai::completion(ask()?, &reply(ask()?)),
        "/v1/responses" => openai::response(ask()?, &reply(ask()?)),
        "/v1/embeddings" => openai::embeddings(ask()?),
        "/v1/messages" => anthropic::message(ask()?, &reply(ask()?)),
        "/v1/messages/count_tokens" => anthropic::count_tokens(ask()?),
        _ => return Err((404, "unknown path")),
    })
}

/// A summary of the request as JSON, with the length and SHA-256 of its body. Values of repeated fields are joined by `, `.
fn echo(request: &RequestHeader, body: &[u8]) -> Answer {
    let mut headers = serde_json::Map::new();
    for name in request.headers.keys() {
        let values: Vec<_> = request.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
        headers.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    let mut sha256 = String::with_capacity(64);
    for byte in ring::digest::digest(&ring::digest::SHA256, body).as_ref() {
        let _ = write!(sha256, "{byte:02x}");
    }
    let summary = serde_json::json!({
        "method": request.method.as_str(),
        "path": request.uri.path(),
        "query": request.uri.query(),
        "version": format!("{:?}", request.version),
        "headers": headers,
        "body_len": body.len(),
        "body_sha256": sha256,
    });
    openai::whole(200, summary.to_string().into_bytes())
}

async fn read_body(session: &mut ServerSession) -> pingora::Result<Bytes> {
    if session.req_header().headers.contains_key(header::EXPECT) {
        session.write_continue_response().await?;
    }
    let Some(first) = session.read_request_body().await? else { return Ok(Bytes::new()) };
    let Some(second) = session.read_request_body().await? else { return Ok(first) };
    let mut body = BytesMut::from(first.as_ref());
    body.extend_from_slice(&second);
    while let Some(more) = session.read_request_body().await? {
        body.extend_from_slice(&more);
    }
    Ok(body.freeze())
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(self: &Arc<Self>, mut session: ServerSession, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        if !session.read_request().await.ok()? {
            return None;
        }
        let number = self.seen.next();
        if *shutdown.borrow() {
            session.set_keepalive(None);
        }
        let body = read_body(&mut session).await.ok()?;
        let (mut answer, switches) = self.answer(session.req_header(), &body);
        if let Some(latency) = switches.latency() {
            sleep(latency).await;
        }
        if matches!(answer.status, 204 | 304) {
            answer.body = Body::Whole(Bytes::new());
        } else if switches.gzip == Some(true) {
            answer.body = send::compressed(answer.body);
        }
        match switches.fault {
            None | Some(Fault::CloseKeepalive) => send::whole(&mut session, answer, &switches, number).await.ok()?,
            Some(fault) => {
                send::broken(session, answer, &switches, number, fault).await;
                return None;
            }
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let reusable = session.finish().await.ok()??;
        if switches.fault == Some(Fault::CloseKeepalive) {
            return None;
        }
        Some(ReusedHttpStream::from_reusable_stream(reusable, settings))
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.http)
    }
}
