//! How long a connection may take to say what it wants. Pingora bounds each read of a head, but neither all of them together
//! nor the first bytes, by which it tells HTTP/2 from HTTP/1: whoever sends a byte now and then would hold a place for ever.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::{ALPN, Stream};
use pingora::server::ShutdownWatch;

use super::Live;

/// What a connection of HTTP/2 begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Who connected before the end has asked already, or is about to: it is answered, if it says something within this.
const GRACE: Duration = Duration::from_millis(500);

tokio::task_local! {
    /// Since when the connection of this task owes a head; nothing while a request is served.
    static OWES: Cell<Option<Instant>>;
}

/// The head of a request is complete.
pub fn head_came() {
    let _ = OWES.try_with(|owes| owes.set(None));
}

/// The request is over: if there is to be another one, its head is awaited.
pub fn head_awaited() {
    let _ = OWES.try_with(|owes| owes.set(Some(Instant::now())));
}

/// An application whose connections are closed when they say nothing whole for too long. Those of HTTP/2 have an idle time of
/// their own once they are known to be such.
pub struct Patient<A> {
    app: Arc<A>,
    live: Arc<ArcSwap<Live>>,
}

impl<A> Patient<A> {
    /// Serves `app`; times are those of the configuration in force.
    pub fn new(app: A, live: Arc<ArcSwap<Live>>) -> Self {
        Self { app: Arc::new(app), live }
    }

    /// To be quiet, and then to send a head.
    fn limit(&self) -> Duration {
        let live = self.live.load();
        live.snapshot.server.keepalive.max(Duration::from_secs(1)) + live.snapshot.server.body_timeout
    }
}

/// What a connection turned out to be.
enum Speaks {
    Http1,
    Http2,
    /// Nothing, for too long, or until the process ends.
    Nothing,
}

impl<A: ServerApp + Send + Sync + 'static> Patient<A> {
    async fn listen(&self, stream: &mut Stream, shutdown: &ShutdownWatch) -> Speaks {
        if stream.get_ssl_digest().is_some() {
            return if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) { Speaks::Http2 } else { Speaks::Http1 };
        }
        let mut first = [0; PREFACE.len()];
        let mut shutdown = shutdown.clone();
        let ending = async {
            let _ = shutdown.wait_for(|ending| *ending).await;
            tokio::time::sleep(GRACE).await;
        };
        let peeked = tokio::select! {
            biased;
            peeked = stream.try_peek(&mut first) => peeked,
            () = tokio::time::sleep(self.limit()) => return Speaks::Nothing,
            () = ending => return Speaks::Nothing,
        };
        match peeked {
            Ok(true) if first == PREFACE => Speaks::Http2,
            Ok(_) => Speaks::Http1,
            Err(_) => Speaks::Nothing,
        }
    }

    /// Serves a connection for as long as it does not owe a head for too long.
    async fn watched(&self, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let mut serving = pin!(self.app.process_new(stream, shutdown));
        let mut alarm = pin!(tokio::time::sleep(self.limit()));
        let mut set = false;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = serving.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            // The alarm is looked at when it is set and when it rings, not at every step of a request.
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
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Patient<A> {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let owes = Cell::new(Some(Instant::now()));
        match self.listen(&mut stream, shutdown).await {
            Speaks::Http1 => OWES.scope(owes, self.watched(stream, shutdown)).await,
            Speaks::Http2 => self.app.process_new(stream, shutdown).await,
            Speaks::Nothing => None,
        }
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}
