//! The callers of the tests: an HTTP/1.1 client that sends exact bytes, and an HTTP/2 client. Both report what really
//! arrived, and repair nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::rustls;

/// Longer than anything healthy takes on a machine that has many other things to do; what hangs, hangs for ever.
pub const WATCHDOG: Duration = Duration::from_secs(30);

pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// How a request body is framed on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
    H2,
}

impl Framing {
    pub const ALL: [Self; 3] = [Self::Length, Self::Chunked, Self::H2];
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub framing: Framing,
}

impl Request {
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.into(), path: path.into(), headers: Vec::new(), body: Bytes::new(), framing: Framing::Length }
    }

    pub fn post(path: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::new("POST", path) }.header("content-type", "application/json")
    }

    /// A chat completion for `model`, authorised by `key`.
    pub fn chat(key: &str, model: &str, stream: bool) -> Self {
        let body = serde_json::json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": "Say hello."}]});
        Self::post("/v1/chat/completions", body.to_string()).bearer(key)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn bearer(self, key: &str) -> Self {
        self.header("authorization", &format!("Bearer {key}"))
    }

    pub fn framing(mut self, framing: Framing) -> Self {
        self.framing = framing;
        self
    }

    /// The request head and body as HTTP/1.1 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = format!("{} {} HTTP/1.1\r\nhost: edge.test\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        match self.framing {
            Framing::Chunked => {
                out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
                for chunk in self.body.chunks(32 * 1024) {
                    out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
            _ if self.body.is_empty() && self.method != "POST" => out.extend_from_slice(b"\r\n"),
            _ => {
                out.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
                out.extend_from_slice(&self.body);
            }
        }
        out
    }
}

#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    /// Whether the body ended as its framing promised.
    pub complete: bool,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}), status {}: {}", self.status, self.text()))
    }

    /// `error.code` of a refusal in any dialect.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// The framing of the rest of an answer's body.
#[derive(Debug)]
enum Rest {
    None,
    Length(usize),
    Chunked,
    UntilClose,
}

/// One HTTP/1.1 connection to the gateway.
pub struct Http1 {
    writer: WriteHalf<Box<dyn Io>>,
    reader: Reader,
}

/// Reads the answers of a connection.
struct Reader {
    io: ReadHalf<Box<dyn Io>>,
    buffer: BytesMut,
    rest: Rest,
}

impl Http1 {
    pub async fn connect(port: u16) -> Self {
        Self::try_connect(port).await.unwrap()
    }

    /// To a gateway that may be gone.
    pub async fn try_connect(port: u16) -> std::io::Result<Self> {
        let io = TcpStream::connect(("127.0.0.1", port)).await?;
        io.set_nodelay(true)?;
        Ok(Self::over(Box::new(io)))
    }

    pub async fn connect_tls(port: u16, certificate: &[u8]) -> Self {
        Self::over(Box::new(tls(port, certificate, &[b"http/1.1"]).await))
    }

    fn over(io: Box<dyn Io>) -> Self {
        let (reader, writer) = tokio::io::split(io);
        Self { writer, reader: Reader { io: reader, buffer: BytesMut::new(), rest: Rest::None } }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.writer.write_all(bytes).await?;
        self.writer.flush().await
    }

    /// The next response head, including 1xx; `None` if the connection ended first.
    pub async fn head(&mut self) -> Option<Response> {
        self.reader.head(false).await
    }

    /// The next part of the body as it arrives; `Ok(None)` at its proper end, `Err` if it was cut off.
    pub async fn part(&mut self) -> Result<Option<Bytes>, &'static str> {
        self.reader.part().await
    }

    /// The rest of the body after a head.
    pub async fn finish(&mut self, head: Response) -> Response {
        self.reader.finish(head).await
    }

    /// The final answer, skipping interim ones; `None` if the connection ended without one.
    pub async fn response(&mut self) -> Option<Response> {
        self.reader.response(false).await
    }

    /// Sends a request and reads its answer concurrently, since a refusal may come before the whole body was read.
    pub async fn send(&mut self, request: &Request) -> Option<Response> {
        let bytes = request.encode();
        let Self { writer, reader } = self;
        let write = async {
            let _refused = writer.write_all(&bytes).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            response = reader.response(request.method == "HEAD") => response,
            () = write => None,
        }
    }

    /// Says that no other request comes, and waits until the gateway closes as well. It counts, gives back and logs a moment
    /// after the last byte of an answer has left, and only then looks at its connection again: who sees the end of that knows
    /// that all is done.
    async fn done(mut self) {
        let _gone = self.writer.shutdown().await;
        let _late = self.closed(Duration::from_secs(5)).await;
    }

    /// Sends `bytes` again and again until there is an answer.
    pub async fn drip(&mut self, bytes: &[u8], pace: Duration) -> Option<Response> {
        let Self { writer, reader } = self;
        let write = async {
            loop {
                tokio::time::sleep(pace).await;
                let _refused = writer.write_all(bytes).await;
            }
        };
        tokio::select! {
            response = reader.response(false) => response,
            () = write => None,
        }
    }

    /// Whether the peer closes, waiting for it at most `within`.
    pub async fn closed(&mut self, within: Duration) -> bool {
        let mut byte = [0_u8; 1];
        matches!(tokio::time::timeout(within, self.reader.io.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
    }
}

impl Reader {
    /// Reads more bytes; `false` at the end of the connection.
    async fn fill(&mut self) -> bool {
        matches!(self.io.read_buf(&mut self.buffer).await, Ok(n) if n > 0)
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|w| w == b"\r\n") {
                let line = self.buffer.split_to(end + 2);
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn head(&mut self, to_head_request: bool) -> Option<Response> {
        let status_line = self.line().await?;
        let status: u16 = status_line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
        let find = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        self.rest = if to_head_request || status == 204 || status == 304 || status < 200 {
            Rest::None
        } else if find("transfer-encoding").is_some() {
            Rest::Chunked
        } else if let Some(length) = find("content-length") {
            Rest::Length(length.parse().unwrap())
        } else {
            Rest::UntilClose
        };
        Some(Response { status, headers, body: Bytes::new(), complete: false })
    }

    async fn part(&mut self) -> Result<Option<Bytes>, &'static str> {
        match self.rest {
            Rest::None | Rest::Length(0) => Ok(None),
            Rest::Length(left) => {
                if self.buffer.is_empty() && !self.fill().await {
                    return Err("the body is shorter than its Content-Length");
                }
                let part = self.buffer.split_to(left.min(self.buffer.len())).freeze();
                self.rest = Rest::Length(left - part.len());
                Ok(Some(part))
            }
            Rest::UntilClose => {
                if self.buffer.is_empty() && !self.fill().await {
                    return Ok(None);
                }
                Ok(Some(self.buffer.split().freeze()))
            }
            Rest::Chunked => {
                let size = self.line().await.ok_or("cut between chunks")?;
                let size = usize::from_str_radix(size.split(';').next().unwrap().trim(), 16).map_err(|_| "not a chunk size")?;
                while self.buffer.len() < size + 2 {
                    if !self.fill().await {
                        return Err("cut inside a chunk");
                    }
                }
                let part = self.buffer.split_to(size).freeze();
                let _crlf = self.buffer.split_to(2);
                if size == 0 {
                    self.rest = Rest::None;
                    return Ok(None);
                }
                Ok(Some(part))
            }
        }
    }

    async fn finish(&mut self, mut response: Response) -> Response {
        let mut body = BytesMut::new();
        response.complete = loop {
            match self.part().await {
                Ok(Some(part)) => body.extend_from_slice(&part),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        response.body = body.freeze();
        response
    }

    async fn response(&mut self, to_head_request: bool) -> Option<Response> {
        loop {
            let head = self.head(to_head_request).await?;
            if head.status >= 200 {
                return Some(self.finish(head).await);
            }
        }
    }
}

async fn tls(port: u16, certificate: &[u8], alpn: &[&[u8]]) -> impl Io + use<> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.to_vec().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap()
}

/// Sends one request over a connection of its own, HTTP/1.1 or HTTP/2 depending on its framing, under the watchdog.
pub async fn send(port: u16, request: &Request) -> Response {
    let exchange = async {
        match request.framing {
            Framing::H2 => H2::connect(port).await.send(request).await,
            _ => {
                let mut connection = Http1::connect(port).await;
                let answer = connection.send(request).await.expect("an answer before the end of the connection");
                connection.done().await;
                answer
            }
        }
    };
    match tokio::time::timeout(WATCHDOG, exchange).await {
        Ok(response) => response,
        Err(_) => panic!("{} {} ({:?}, {} bytes) hung", request.method, request.path, request.framing, request.body.len()),
    }
}

/// One HTTP/2 connection: with prior knowledge in plain text, by ALPN over TLS.
pub struct H2 {
    sender: h2::client::SendRequest<Bytes>,
}

impl H2 {
    pub async fn connect(port: u16) -> Self {
        let io = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        io.set_nodelay(true).unwrap();
        Self::over(io).await
    }

    pub async fn connect_tls(port: u16, certificate: &[u8]) -> Self {
        Self::over(tls(port, certificate, &[b"h2"]).await).await
    }

    async fn over<T: Io + 'static>(io: T) -> Self {
        let (sender, connection) =
            h2::client::Builder::new().initial_window_size(1 << 20).initial_connection_window_size(1 << 24).handshake(io).await.unwrap();
        tokio::spawn(async move {
            let _closed = connection.await;
        });
        Self { sender }
    }

    /// Sends the request, and returns the head and the stream of the unread body.
    pub async fn open(&mut self, request: &Request) -> Result<(Response, h2::RecvStream), h2::Error> {
        let mut head = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("http://edge.test{}", request.path))
            .version(http::Version::HTTP_2);
        for (name, value) in &request.headers {
            head = head.header(name.as_str(), value.as_str());
        }
        let mut sender = self.sender.clone().ready().await?;
        let bodyless = request.body.is_empty();
        let (answer, mut stream) = sender.send_request(head.body(()).unwrap(), bodyless)?;
        if !bodyless {
            let mut body = request.body.clone();
            tokio::spawn(async move {
                while !body.is_empty() {
                    stream.reserve_capacity(body.len().min(64 * 1024));
                    let Some(Ok(granted)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                    let part = body.split_to(granted.min(body.len()));
                    if stream.send_data(part, body.is_empty()).is_err() {
                        return;
                    }
                }
            });
        }
        let (parts, body) = answer.await?.into_parts();
        let headers =
            parts.headers.iter().map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect();
        Ok((Response { status: parts.status.as_u16(), headers, body: Bytes::new(), complete: false }, body))
    }

    pub async fn send(&mut self, request: &Request) -> Response {
        let (mut response, mut stream) = self.open(request).await.expect("an HTTP/2 answer");
        let mut body = BytesMut::new();
        response.complete = true;
        while let Some(part) = stream.data().await {
            let Ok(part) = part else {
                response.complete = false;
                break;
            };
            let _released = stream.flow_control().release_capacity(part.len());
            body.extend_from_slice(&part);
        }
        response.body = body.freeze();
        response
    }
}

/// The `data:` payloads of an event stream, in order.
pub fn events(body: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(body).lines().filter_map(|l| l.strip_prefix("data:")).map(|l| l.trim_start().to_owned()).collect()
}
