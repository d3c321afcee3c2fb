//! How long a connection may take to say what it wants. Pingora bounds each read of a head, but neither all of them together
//! nor the first bytes, by which it tells HTTP/2 from HTTP/1: whoever sends a byte now and then would hold a place for ever.
//! For those bytes it waits until there are as many as HTTP/2 begins with, which a short request of HTTP/1 never has. So they
//! are told apart here, by the first byte that differs.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as Cleartext;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;
use tokio::io::AsyncReadExt;

use super::Live;

/// The connection preface of HTTP/2 (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Who connected before the end has asked already, or is about to: it is answered, if it says something within this.
const GRACE: Duration = Duration::from_millis(500);

tokio::task_local! {
    /// Since when this task's connection has been waiting for a request head; `None` while a request is served.
    static OWES: Cell<Option<Instant>>;
}

/// To be called when the head of a request is complete.
pub fn head_came() {
    let _ = OWES.try_with(|owes| owes.set(None));
}

/// To be called when a request is over: the connection now waits for the next head.
pub fn head_awaited() {
    let _ = OWES.try_with(|owes| owes.set(Some(Instant::now())));
}

/// An application whose connections are closed when no request head completes within a limit. HTTP/2 connections, once known
/// to be such, have an idle timeout of their own instead.
pub struct Patient<A> {
    app: Arc<A>,
    one: Arc<Http1<A>>,
    live: Arc<ArcSwap<Live>>,
}

/// The application for connections that are known to speak HTTP/1: Pingora need not look at their first bytes again.
struct Http1<A> {
    app: Arc<A>,
    options: HttpServerOptions,
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Http1<A> {
    async fn process_new_http(self: &Arc<Self>, session: ServerSession, shutdown: &ShutdownWatch) -> Option<ReusedHttpStream> {
        self.app.process_new_http(session, shutdown).await
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}

impl<A: HttpServerApp> Patient<A> {
    /// Serves `app`; times are those of the configuration in force.
    pub fn new(app: A, live: Arc<ArcSwap<Live>>) -> Self {
        let app = Arc::new(app);
        let mut options = app.server_options().cloned().unwrap_or_default();
        options.h2c = false;
        Self { one: Arc::new(Http1 { app: Arc::clone(&app), options }), app, live }
    }
}

impl<A> Patient<A> {
    /// To be quiet, and then to send a head.
    fn limit(&self) -> Duration {
        let live = self.live.load();
        live.snapshot.server.keepalive.max(Duration::from_secs(1)) + live.snapshot.server.body_timeout
    }
}

/// What a connection turned out to be.
#[derive(Debug, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
}

/// Reads until it is clear what a connection speaks, and puts back what was read; `None` if it ends before it said anything.
async fn first_words(stream: &mut Cleartext) -> Option<Speaks> {
    let mut first = [0; PREFACE.len()];
    let mut length = 0;
    let speaks = loop {
        let read = stream.read(&mut first[length..]).await.ok()?;
        length += read;
        let so_far = &first[..length];
        match () {
            () if length == 0 => return None,
            () if so_far == PREFACE => break Speaks::Http2,
            () if read == 0 || !PREFACE.starts_with(so_far) => break Speaks::Http1,
            () => {}
        }
    };
    stream.rewind(&first[..length]);
    Some(speaks)
}

impl<A: HttpServerApp + Send + Sync + 'static> Patient<A> {
    async fn listen(&self, stream: Stream, shutdown: &ShutdownWatch) -> Option<(Stream, Speaks)> {
        if stream.get_ssl_digest().is_some() {
            let two = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
            return Some((stream, if two { Speaks::Http2 } else { Speaks::Http1 }));
        }
        // What is not encrypted is the socket itself.
        let mut stream = stream.into_any().downcast::<Cleartext>().ok()?;
        let mut shutdown = shutdown.clone();
        let ending = async {
            let _ = shutdown.wait_for(|ending| *ending).await;
            tokio::time::sleep(GRACE).await;
        };
        let speaks = tokio::select! {
            biased;
            speaks = first_words(&mut stream) => speaks,
            () = tokio::time::sleep(self.limit()) => return None,
            () = ending => return None,
        };
        Some((stream, speaks?))
    }

    /// Serves a connection until it ends or has waited for a request head for too long.
    async fn watched(&self, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let mut serving = pin!(self.one.process_new(stream, shutdown));
        let mut alarm = pin!(tokio::time::sleep(self.limit()));
        let mut set = false;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = serving.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            // Checked when the timer is first set and when it fires, not at every poll of a request.
            while !set || alarm.is_elapsed() {
                set = true;
                let limit = self.limit();
                let owed = OWES.with(Cell::get).map(|since| since.elapsed());
                if owed.is_some_and(|owed| owed >= limit) {
                    return Poll::Ready(None);
                }
                if alarm.is_elapsed() {
                    let left = limit.saturating_sub(owed.unwrap_or_default()).max(Duration::from_millis(10));
                    alarm.as_mut().reset(tokio::time::Instant::now() + left);
                }
                if alarm.as_mut().poll(cx).is_pending() {
                    break;
                }
            }
            Poll::Pending
        })
        .await
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Patient<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let owes = Cell::new(Some(Instant::now()));
        let (stream, speaks) = self.listen(stream, shutdown).await?;
        match speaks {
            Speaks::Http1 => OWES.scope(owes, self.watched(stream, shutdown)).await,
            Speaks::Http2 => self.app.process_new(stream, shutdown).await,
        }
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}
