//! The wrapper around the caller's session. It makes it possible to read the whole body before routing, to replay exactly the
//! filtered bytes on every attempt, and to hold the response head back until the body has been judged.
//!
//! Pingora's own retry buffer ends at 64 KiB, and its body filters run after the head has been sent. Its `Custom` session
//! variant solves both: Pingora asks the wrapper for the request body and hands it every response task. The wrapper is
//! installed by [`install`] at the end of admission and removed by [`TapHandle::remove`] at the beginning of `fail_to_proxy`
//! and `logging`, so that keep-alive stays Pingora's. No other file depends on this.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::Stream;
use http::header::TRANSFER_ENCODING;
use http::{HeaderMap, Version};
use parking_lot::Mutex;
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::context::Flights;

/// The body is replayed in slices of this size (bytes), so that an early answer of an HTTP/2 upstream is noticed in between.
const SLICE: usize = 64 * 1024;

/// The code with which [`TapHandle::remove`] asks the wrapper for its inner session, through `shutdown`; no protocol uses it.
const HAND_BACK: u32 = 0x0d0c_0d0c;

/// The error type of a request that is ended because the drain time is over.
pub const CUT: &str = "drain time over";

/// A response as the judge lets it leave: head and complete body.
pub struct Answer {
    /// Status and headers; framing headers are set by the wrapper.
    pub head: Box<ResponseHeader>,
    /// The body, empty for HEAD, 204 and 304.
    pub body: Bytes,
}

/// What to do with an answer that exceeds the cap.
pub enum Overflow {
    /// Send this instead. Nothing of the upstream's answer has been sent.
    Replace(Answer),
    /// Send what was held and let the rest pass unread, as the route's configuration allows.
    Release,
}

/// Decides about a held answer. It runs within the request's own task, so it may wait.
pub trait Judge: Send + Sync + Unpin + 'static {
    /// The whole upstream answer has arrived: returns what is sent instead.
    fn judge(&mut self, head: Box<ResponseHeader>, body: Bytes) -> impl Future<Output = Answer> + Send;
    /// The answer exceeds the cap.
    fn overflow(&mut self, head: &ResponseHeader) -> Overflow;
}

/// What the request's handle and the wrapper share: the handle sets it in filters, the wrapper reads it in Pingora's calls.
struct Shared<J> {
    body: Bytes,
    hold: Option<Hold<J>>,
    end_early: bool,
    /// The inner session, on its way back to Pingora when the wrapper is removed.
    home: Option<Box<ServerSession>>,
}

/// A judge for the response: head and body are held until the body is complete and the judge has decided.
struct Hold<J> {
    /// The cap of held body bytes, above which [`Judge::overflow`] decides; `None` once it has released the answer.
    cap: Option<usize>,
    judge: J,
}

/// The request's own handle on its wrapper.
pub struct TapHandle<J>(Arc<Mutex<Shared<J>>>);

impl<J: Judge> TapHandle<J> {
    /// Replaces the request body; takes effect at the start of the next attempt. Gives the one that was there.
    pub fn set_body(&self, body: Bytes) -> Bytes {
        std::mem::replace(&mut self.0.lock().body, body)
    }

    /// Holds the response, up to `cap` bytes of body, until `judge` has decided about the whole of it. To be called from
    /// `response_filter`, before the head reaches the wrapper.
    pub fn hold(&self, cap: usize, judge: J) {
        self.0.lock().hold = Some(Hold { cap: Some(cap), judge });
    }

    /// Ends the response cleanly after the current tasks and drops the upstream, for a stream that a guard cut off.
    pub fn end_early(&self) {
        self.0.lock().end_early = true;
    }

    /// Removes the wrapper and returns the judge, if one was set. Does nothing if the wrapper was removed before.
    pub async fn remove(&self, session: &mut Session) -> Option<J> {
        let custom = session.downstream_session.as_custom_mut()?;
        custom.shutdown(HAND_BACK, "").await;
        let mut shared = self.0.lock();
        if let Some(home) = shared.home.take() {
            session.downstream_session = home;
        }
        shared.hold.take().map(|hold| hold.judge)
    }
}

/// Puts the wrapper around the caller's session, with the body that was read from it. The request ends when `flights` are cut;
/// `near` is any number of the request's own, see [`Flights::wait`].
pub fn install<J: Judge>(session: &mut Session, body: Bytes, flights: Arc<Flights>, near: u8) -> TapHandle<J> {
    let shared = Arc::new(Mutex::new(Shared { body: body.clone(), hold: None, end_early: false, home: None }));
    let inner = std::mem::replace(&mut session.downstream_session, Box::new(ServerSession::new_custom(Box::new(()))));
    let tap = Tap { inner, body, sent: 0, shared: shared.clone(), hold: None, held: Held::default(), flights, near };
    *session.downstream_session = ServerSession::new_custom(Box::new(tap));
    TapHandle(shared)
}

/// The part of a held response that has arrived.
#[derive(Default)]
struct Held {
    head: Option<Box<ResponseHeader>>,
    chunks: Vec<Bytes>,
    len: usize,
}

impl Held {
    fn take_body(&mut self) -> Bytes {
        self.len = 0;
        if self.chunks.len() == 1 {
            return self.chunks.pop().unwrap_or_default();
        }
        let mut whole = BytesMut::with_capacity(self.chunks.iter().map(Bytes::len).sum());
        for chunk in self.chunks.drain(..) {
            whole.extend_from_slice(&chunk);
        }
        whole.freeze()
    }
}

/// The wrapper itself, in the place of the caller's session.
struct Tap<J> {
    inner: Box<ServerSession>,
    body: Bytes,
    sent: usize,
    shared: Arc<Mutex<Shared<J>>>,
    hold: Option<Hold<J>>,
    held: Held,
    flights: Arc<Flights>,
    near: u8,
}

impl<J: Judge> Tap<J> {
    fn next_slice(&mut self) -> Option<Bytes> {
        if self.sent >= self.body.len() {
            return None;
        }
        let end = (self.sent + SLICE).min(self.body.len());
        let slice = self.body.slice(self.sent..end);
        self.sent = end;
        Some(slice)
    }

    /// Passes tasks on to the caller. HTTP/1.0 has no chunked encoding (RFC 9112 §6.1): a body without a length ends with the
    /// connection there.
    async fn pass(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        if self.inner.req_header().version == Version::HTTP_10 {
            for task in &mut tasks {
                if let HttpTask::Header(head, _) = task
                    && head.remove_header(&TRANSFER_ENCODING).is_some()
                {
                    self.inner.set_keepalive(None);
                }
            }
        }
        self.inner.response_duplex_vec(tasks).await
    }

    /// Sends head and body in one write, framed for the caller's protocol.
    async fn emit(&mut self, mut answer: Answer) -> Result<bool> {
        let bodiless = self.inner.req_header().method == http::Method::HEAD || matches!(answer.head.status.as_u16(), 204 | 304);
        answer.head.remove_header(&TRANSFER_ENCODING);
        if !bodiless {
            answer.head.insert_header(http::header::CONTENT_LENGTH, answer.body.len())?;
        }
        if bodiless || answer.body.is_empty() {
            return self.pass(vec![HttpTask::Header(answer.head, true)]).await;
        }
        let tasks = vec![HttpTask::Header(answer.head, false), HttpTask::Body(Some(answer.body), true)];
        self.pass(tasks).await
    }

    /// Collects the tasks of a held response. Returns whether the response has been sent completely.
    async fn keep(&mut self, tasks: Vec<HttpTask>, cap: usize) -> Result<bool> {
        let mut tasks = tasks.into_iter();
        while let Some(task) = tasks.next() {
            let end = match task {
                // An informational head is not the answer; a caller that waits for `100 Continue` got it when its body was read.
                HttpTask::Header(head, _) if head.status.is_informational() => false,
                HttpTask::Header(head, end) => {
                    self.held.head = Some(head);
                    end
                }
                HttpTask::Body(chunk, end) => {
                    if let Some(chunk) = chunk.filter(|c| !c.is_empty()) {
                        self.held.len += chunk.len();
                        self.held.chunks.push(chunk);
                    }
                    if self.held.len > cap {
                        return self.overflow(tasks.collect(), end).await;
                    }
                    end
                }
                HttpTask::Trailer(_) | HttpTask::Done => true,
                // Nothing has been sent: `fail_to_proxy` can still answer properly.
                HttpTask::Failed(error) => return Err(error),
                HttpTask::UpgradedBody(..) => return Error::e_explain(ErrorType::InternalError, "an upgraded connection cannot be held"),
            };
            if end {
                let Some(head) = self.held.head.take() else {
                    return Error::e_explain(ErrorType::InternalError, "the upstream's answer ended without a head");
                };
                let body = self.held.take_body();
                let Some(hold) = &mut self.hold else { return Ok(false) };
                let answer = hold.judge.judge(head, body).await;
                return self.emit(answer).await;
            }
        }
        Ok(false)
    }

    /// Lets the judge decide about an answer that exceeds the cap, and sends what it says. `rest` are tasks not yet handled.
    async fn overflow(&mut self, rest: Vec<HttpTask>, end: bool) -> Result<bool> {
        let Some(head) = self.held.head.take() else {
            return Error::e_explain(ErrorType::InternalError, "the upstream sent a body without a head");
        };
        let Some(hold) = &mut self.hold else { return Ok(false) };
        match hold.judge.overflow(&head) {
            Overflow::Replace(answer) => {
                self.held = Held::default();
                self.emit(answer).await
            }
            Overflow::Release => {
                hold.cap = None;
                let mut tasks = vec![HttpTask::Header(head, false), HttpTask::Body(Some(self.held.take_body()), end)];
                tasks.extend(rest);
                self.pass(tasks).await
            }
        }
    }
}

#[async_trait]
impl<J: Judge> CustomSession for Tap<J> {
    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(self.next_slice())
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.inner.write_response_header(resp).await
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, _end: bool) -> Result<()> {
        self.inner.write_response_header_ref(resp).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.inner.write_response_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner.write_response_trailers(trailers).await
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let end_early = {
            let mut shared = self.shared.lock();
            if shared.hold.is_some() {
                self.hold = shared.hold.take();
            }
            shared.end_early
        };
        if let Some(cap) = self.hold.as_ref().and_then(|hold| hold.cap) {
            return self.keep(tasks, cap).await;
        }
        let end = self.pass(tasks).await?;
        if end_early && !end {
            self.inner.finish_body().await?;
            return Ok(true);
        }
        Ok(end)
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner.get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.inner.response_written()
    }

    async fn shutdown(&mut self, code: u32, _context: &str) {
        if code == HAND_BACK {
            let home = std::mem::replace(&mut self.inner, Box::new(ServerSession::new_custom(Box::new(()))));
            let mut shared = self.shared.lock();
            shared.home = Some(home);
            if self.hold.is_some() {
                shared.hold = self.hold.take();
            }
        } else {
            self.inner.shutdown().await;
        }
    }

    fn is_body_done(&mut self) -> bool {
        self.sent >= self.body.len()
    }

    async fn finish(&mut self) -> Result<()> {
        self.inner.finish_body().await
    }

    fn is_body_empty(&mut self) -> bool {
        // Pingora calls this after `upstream_request_filter` and before it writes the head: the filtered body is taken over here.
        self.body = self.shared.lock().body.clone();
        self.body.is_empty()
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if !no_body_expected && let Some(slice) = self.next_slice() {
            return Ok(Some(slice));
        }
        // The body is replayed from memory; the socket is read only to notice that the caller went away.
        tokio::select! {
            biased;
            told = self.inner.read_body_or_idle(true) => told,
            () = self.flights.wait(self.near) => Error::e_explain(ErrorType::Custom(CUT), "the drain time is over"),
        }
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.to_h1_raw()
    }

    fn enable_retry_buffering(&mut self) {
        // Pingora calls this at the start of every attempt: the replay starts over, with the body as the gates left it.
        self.body = self.shared.lock().body.clone();
        self.sent = 0;
        self.held = Held::default();
    }

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
