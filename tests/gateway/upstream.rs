//! The provider of the tests: it records every byte it receives, and misbehaves on demand.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::Io;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Index of the connection, and of the request on it, from 0.
    pub connection: usize,
    pub nth: usize,
    pub method: String,
    pub path: String,
    /// Names in lower case, values as sent, in order.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// Whether the body ended as its framing promised.
    pub complete: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("the upstream got no JSON ({e}): {}", self.text()))
    }
}

/// How the provider handles a request.
#[derive(Debug, Clone)]
pub enum Act {
    Answer(Answer),
    /// Reads the head and closes, like a pooled connection that died while idle.
    CloseAfterHead,
    /// Reads the whole request and closes without sending a byte.
    CloseAfterBody,
    /// Reads the whole request and closes after a while.
    CloseLater(Duration),
    /// Writes these bytes unchanged and closes.
    Raw(Vec<u8>),
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    /// Time before the head is sent.
    pub delay: Duration,
}

#[derive(Debug, Clone)]
pub enum Body {
    Whole(Bytes),
    /// Chunked, with this pause before each part.
    Parts(Vec<Bytes>, Duration),
    /// The same with a pace, in milliseconds, that may change meanwhile.
    Paced(Vec<Bytes>, Arc<AtomicU64>),
    /// Chunked, and the connection is cut after the last part instead of ended.
    Cut(Vec<Bytes>),
    /// This many bytes `x`, with Content-Length.
    Huge(usize),
}

impl Answer {
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".into(), "application/json".into())],
            body: Body::Whole(body.into()),
            delay: Duration::ZERO,
        }
    }

    pub fn stream(parts: Vec<Bytes>, pace: Duration) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".into(), "text/event-stream".into())],
            body: Body::Parts(parts, pace),
            delay: Duration::ZERO,
        }
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Reply = dyn Fn(&Seen) -> Act + Send + Sync;

struct Script {
    queue: Mutex<VecDeque<Act>>,
    usual: Box<Reply>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    /// Number of connections that the gateway closed before the answer was complete.
    abandoned: AtomicUsize,
    /// Answers that were written to their end.
    answered: AtomicUsize,
}

/// A running provider on a loopback port. It ends with the test's runtime.
#[derive(Clone)]
pub struct Upstream {
    pub port: u16,
    script: Arc<Script>,
}

impl Upstream {
    /// A provider that answers like real ones: chat, messages and embeddings, as JSON or events.
    pub async fn start() -> Self {
        Self::with(provider).await
    }

    /// A provider with another usual answer.
    pub async fn with(usual: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let (upstream, listener) = Self::bind(usual).await;
        let script = upstream.script.clone();
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let _ = io.set_nodelay(true);
                let number = script.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(Box::new(io), number, script.clone()));
            }
        });
        upstream
    }

    /// A provider that serves HTTP/1.1 over TLS.
    pub async fn tls(acceptor: tokio_rustls::TlsAcceptor) -> Self {
        let (upstream, listener) = Self::bind(provider).await;
        let script = upstream.script.clone();
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let number = script.connections.fetch_add(1, Ordering::Relaxed);
                let (acceptor, script) = (acceptor.clone(), script.clone());
                tokio::spawn(async move {
                    if let Ok(io) = acceptor.accept(io).await {
                        serve(Box::new(io), number, script).await;
                    }
                });
            }
        });
        upstream
    }

    /// A provider that serves HTTP/2 with prior knowledge.
    pub async fn h2() -> Self {
        let (upstream, listener) = Self::bind(provider).await;
        let script = upstream.script.clone();
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let number = script.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve_h2(io, number, script.clone()));
            }
        });
        upstream
    }

    async fn bind(usual: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> (Self, TcpListener) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let script = Arc::new(Script {
            queue: Mutex::default(),
            usual: Box::new(usual),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
        });
        (Self { port: listener.local_addr().unwrap().port(), script }, listener)
    }

    /// Handles the next requests in this way, and then as usual again.
    pub fn next(&self, acts: impl IntoIterator<Item = Act>) {
        self.script.queue.lock().unwrap().extend(acts);
    }

    /// How much of what was planned no request has met yet.
    pub fn planned(&self) -> usize {
        self.script.queue.lock().unwrap().len()
    }

    /// Forgets what was planned.
    pub fn clear(&self) {
        self.script.queue.lock().unwrap().clear();
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().unwrap().clone()
    }

    pub fn last(&self) -> Seen {
        self.seen().pop().expect("the upstream was called")
    }

    pub fn count(&self) -> usize {
        self.script.seen.lock().unwrap().len()
    }

    /// Returns the requests seen so far, and forgets them.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.script.seen.lock().unwrap())
    }

    pub fn connections(&self) -> usize {
        self.script.connections.load(Ordering::Relaxed)
    }

    pub fn abandoned(&self) -> usize {
        self.script.abandoned.load(Ordering::Relaxed)
    }

    /// Answers over HTTP/1.1 that were written to their end.
    pub fn answered(&self) -> usize {
        self.script.answered.load(Ordering::Relaxed)
    }
}

impl Script {
    /// The planned handling of a request whose head has been read, if any. The usual answer also depends on the body.
    fn scripted(&self) -> Option<Act> {
        self.queue.lock().unwrap().pop_front()
    }

    fn record(&self, seen: Seen) {
        self.seen.lock().unwrap().push(seen);
    }
}

async fn serve(mut io: Box<dyn Io>, connection: usize, script: Arc<Script>) {
    let mut buffer = BytesMut::with_capacity(64 * 1024);
    for nth in 0.. {
        let head_end = loop {
            if let Some(at) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !matches!(io.read_buf(&mut buffer).await, Ok(n) if n > 0) {
                return;
            }
        };
        let head = String::from_utf8_lossy(&buffer.split_to(head_end)).into_owned();
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (method, path) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
        let headers: Vec<(String, String)> =
            lines.filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect();
        let mut seen = Seen { connection, nth, method, path, headers, body: Bytes::new(), complete: false };
        let act = script.scripted();
        if matches!(act, Some(Act::CloseAfterHead)) {
            script.record(seen);
            return;
        }
        if seen.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue")) {
            let _ = io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        match read_body(&mut io, &mut buffer, &seen).await {
            Some(body) => (seen.body, seen.complete) = (body, true),
            None => {
                script.record(seen);
                return;
            }
        }
        let act = act.unwrap_or_else(|| (script.usual)(&seen));
        let head_only = seen.method == "HEAD";
        script.record(seen);
        let done = match act {
            Act::Answer(answer) => write_answer(&mut io, &answer, head_only).await,
            Act::Raw(bytes) => {
                let _ = io.write_all(&bytes).await;
                return;
            }
            Act::CloseAfterHead | Act::CloseAfterBody => return,
            Act::CloseLater(after) => return tokio::time::sleep(after).await,
        };
        match done {
            Ok(true) => _ = script.answered.fetch_add(1, Ordering::Relaxed),
            Ok(false) => return,
            Err(_) => {
                script.abandoned.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

async fn read_body(io: &mut Box<dyn Io>, buffer: &mut BytesMut, seen: &Seen) -> Option<Bytes> {
    if seen.header("transfer-encoding").is_none() {
        let length: usize = seen.header("content-length").map_or(0, |v| v.parse().unwrap());
        while buffer.len() < length {
            if !matches!(io.read_buf(buffer).await, Ok(n) if n > 0) {
                return None;
            }
        }
        return Some(buffer.split_to(length).freeze());
    }
    let mut body = BytesMut::new();
    loop {
        let line_end = loop {
            if let Some(at) = buffer.windows(2).position(|w| w == b"\r\n") {
                break at;
            }
            if !matches!(io.read_buf(buffer).await, Ok(n) if n > 0) {
                return None;
            }
        };
        let line = buffer.split_to(line_end + 2);
        let size = usize::from_str_radix(std::str::from_utf8(&line[..line_end]).ok()?.trim(), 16).ok()?;
        while buffer.len() < size + 2 {
            if !matches!(io.read_buf(buffer).await, Ok(n) if n > 0) {
                return None;
            }
        }
        body.extend_from_slice(&buffer.split_to(size));
        let _crlf = buffer.split_to(2);
        if size == 0 {
            return Some(body.freeze());
        }
    }
}

/// Writes an answer. `Ok(true)` if the connection can be reused.
async fn write_answer(io: &mut Box<dyn Io>, answer: &Answer, head_only: bool) -> std::io::Result<bool> {
    tokio::time::sleep(answer.delay).await;
    let mut head = format!("HTTP/1.1 {} Whatever\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match &answer.body {
        Body::Whole(body) => head.push_str(&format!("content-length: {}\r\n\r\n", body.len())),
        Body::Huge(length) => head.push_str(&format!("content-length: {length}\r\n\r\n")),
        Body::Parts(..) | Body::Paced(..) | Body::Cut(_) => head.push_str("transfer-encoding: chunked\r\n\r\n"),
    }
    let mut out = head.into_bytes();
    if head_only {
        io.write_all(&out).await?;
        return Ok(true);
    }
    match &answer.body {
        Body::Whole(body) => {
            out.extend_from_slice(body);
            io.write_all(&out).await?;
        }
        Body::Huge(length) => {
            io.write_all(&out).await?;
            let block = vec![b'x'; 64 * 1024];
            let mut left = *length;
            while left > 0 {
                let n = left.min(block.len());
                io.write_all(&block[..n]).await?;
                left -= n;
            }
        }
        Body::Parts(parts, pace) => {
            io.write_all(&out).await?;
            for part in parts {
                tokio::time::sleep(*pace).await;
                write_chunk(io, part).await?;
            }
            io.write_all(b"0\r\n\r\n").await?;
        }
        Body::Paced(parts, pace) => {
            io.write_all(&out).await?;
            for part in parts {
                tokio::time::sleep(Duration::from_millis(pace.load(Ordering::Relaxed))).await;
                write_chunk(io, part).await?;
            }
            io.write_all(b"0\r\n\r\n").await?;
        }
        Body::Cut(parts) => {
            io.write_all(&out).await?;
            for part in parts {
                write_chunk(io, part).await?;
            }
            io.flush().await?;
            return Ok(false);
        }
    }
    io.flush().await?;
    Ok(true)
}

async fn write_chunk(io: &mut Box<dyn Io>, part: &Bytes) -> std::io::Result<()> {
    let mut out = format!("{:x}\r\n", part.len()).into_bytes();
    out.extend_from_slice(part);
    out.extend_from_slice(b"\r\n");
    io.write_all(&out).await?;
    io.flush().await
}

async fn serve_h2(io: tokio::net::TcpStream, connection: usize, script: Arc<Script>) {
    let Ok(mut server) = h2::server::Builder::new().initial_window_size(1 << 20).handshake::<_, Bytes>(io).await else { return };
    let mut nth = 0;
    while let Some(Ok((request, respond))) = server.accept().await {
        tokio::spawn(answer_h2(request, respond, connection, nth, script.clone()));
        nth += 1;
    }
}

async fn answer_h2(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    connection: usize,
    nth: usize,
    script: Arc<Script>,
) {
    let (parts, mut stream) = request.into_parts();
    let mut body = BytesMut::new();
    while let Some(Ok(part)) = stream.data().await {
        let _ = stream.flow_control().release_capacity(part.len());
        body.extend_from_slice(&part);
    }
    let headers = parts.headers.iter().map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect();
    let path = parts.uri.path_and_query().map_or_else(String::new, |p| p.as_str().to_owned());
    let seen = Seen { connection, nth, method: parts.method.to_string(), path, headers, body: body.freeze(), complete: true };
    let act = script.scripted().unwrap_or_else(|| (script.usual)(&seen));
    script.record(seen);
    let Act::Answer(answer) = act else {
        respond.send_reset(h2::Reason::REFUSED_STREAM);
        return;
    };
    tokio::time::sleep(answer.delay).await;
    let mut head = http::Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        head = head.header(name.as_str(), value.as_str());
    }
    let (body, pace) = match answer.body {
        Body::Whole(body) => (vec![body], Duration::ZERO),
        Body::Parts(parts, pace) => (parts, pace),
        Body::Paced(parts, pace) => (parts, Duration::from_millis(pace.load(Ordering::Relaxed))),
        Body::Cut(parts) => (parts, Duration::ZERO),
        Body::Huge(length) => (vec![Bytes::from(vec![b'x'; length])], Duration::ZERO),
    };
    let Ok(mut out) = respond.send_response(head.body(()).unwrap(), false) else { return };
    for part in body {
        tokio::time::sleep(pace).await;
        out.reserve_capacity(part.len());
        if out.send_data(part, false).is_err() {
            return;
        }
    }
    let _ = out.send_data(Bytes::new(), true);
}

/// Answers like the real providers, as far as the gateway reads the answer.
pub fn provider(seen: &Seen) -> Act {
    let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap_or_default();
    let model = body["model"].as_str().unwrap_or("none").to_owned();
    let streamed = body["stream"].as_bool().unwrap_or_default();
    Act::Answer(match (seen.path.split('?').next().unwrap_or_default(), streamed) {
        ("/v1/chat/completions", false) => Answer::json(chat(&model, "Hello from upstream.")),
        ("/v1/chat/completions", true) => Answer::stream(chat_events(&model, &["Hello ", "from ", "upstream."]), Duration::from_millis(2)),
        ("/v1/messages", false) => Answer::json(
            serde_json::json!({"id": "msg_1", "type": "message", "role": "assistant", "model": model, "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "Hello from upstream."}], "usage": {"input_tokens": 9, "output_tokens": 4}})
            .to_string(),
        ),
        ("/v1/messages", true) => Answer::stream(message_events(&model), Duration::from_millis(2)),
        ("/v1/embeddings", _) => Answer::json(
            serde_json::json!({"object": "list", "model": model, "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
                "usage": {"prompt_tokens": 2, "total_tokens": 2}})
            .to_string(),
        ),
        _ => Answer::json(serde_json::json!({"echo": seen.body.len(), "path": seen.path}).to_string()),
    })
}

pub fn chat(model: &str, text: &str) -> String {
    serde_json::json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}})
    .to_string()
}

/// One event for each text, then usage and `[DONE]`.
pub fn chat_events(model: &str, texts: &[&str]) -> Vec<Bytes> {
    let event = |choices: serde_json::Value, usage: serde_json::Value| {
        let chunk = serde_json::json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": choices, "usage": usage});
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let delta = |text: &str| serde_json::json!([{"index": 0, "delta": {"content": text}, "finish_reason": null}]);
    let mut all: Vec<Bytes> = texts.iter().map(|t| event(delta(t), serde_json::Value::Null)).collect();
    all.push(event(serde_json::json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]), serde_json::Value::Null));
    all.push(event(serde_json::json!([]), serde_json::json!({"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13})));
    all.push(Bytes::from_static(b"data: [DONE]\n\n"));
    all
}

fn message_events(model: &str) -> Vec<Bytes> {
    let event = |name: &str, data: serde_json::Value| Bytes::from(format!("event: {name}\ndata: {data}\n\n"));
    vec![
        event(
            "message_start",
            serde_json::json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
            "model": model, "content": [], "stop_reason": null, "usage": {"input_tokens": 9, "output_tokens": 1}}}),
        ),
        event(
            "content_block_start",
            serde_json::json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        ),
        event(
            "content_block_delta",
            serde_json::json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello "}}),
        ),
        event(
            "content_block_delta",
            serde_json::json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "there."}}),
        ),
        event("content_block_stop", serde_json::json!({"type": "content_block_stop", "index": 0})),
        event(
            "message_delta",
            serde_json::json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}}),
        ),
        event("message_stop", serde_json::json!({"type": "message_stop"})),
    ]
}
