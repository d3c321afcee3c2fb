//! The only module that depends on Pingora's proxy. [`Edge`] is the request path, in the order in which Pingora calls it:
//!
//! | Pingora's callback | gate | what happens |
//! |---|---|---|
//! | `request_filter` | `pre_route` | [`admit`]: key, body, decode, plugins, model, grant |
//! | `upstream_request_filter` | `pre_upstream` | [`upstream`]: plugins, credentials, slug, framing |
//! | `response_filter` | `post_upstream` | [`answer`]: pass, hold and judge, or scan the stream |
//! | `logging` | `post_response` | [`settle`]: evidence, metrics, queued plugins |

mod address;
mod addresses;
mod admin;
mod admin_keys;
mod admin_usage;
mod admit;
mod answer;
mod ask;
mod asked;
mod body;
mod context;
mod counter;
mod egress;
mod fields;
mod framing;
mod govern;
mod holding;
mod inflate;
mod live;
mod mcp;
mod outlet;
mod patience;
mod presented;
mod quantities;
mod readiness;
mod receipt;
mod resolve;
mod respond;
mod settle;
mod tap;
mod token;
mod upstream;
mod watch;

pub use admin::Admin;
pub use context::{Context, Flights};
pub use egress::PingoraEgress;
pub use govern::Governor;
pub use holding::thresholds;
pub use live::{Live, LiveError, State, watch_addresses, watch_health};
pub use patience::Patient;
pub use readiness::Readiness;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};

use crate::evidence::Evidence;
use crate::gate::Background;
use crate::identity::Keyring;
use crate::telemetry::Metrics;

/// The proxy: state shared between requests. A request takes all its settings from the [`Live`] it began with.
pub struct Edge {
    /// The configuration for new requests.
    pub live: Arc<ArcSwap<Live>>,
    /// The requests in flight.
    pub flights: Arc<Flights>,
    /// Set while a new process takes over: answers then close their connections, so that callers reconnect to it.
    pub closing: Arc<AtomicBool>,
    /// The recorder of evidence.
    pub evidence: Evidence,
    /// The queue of `post_response` plugins.
    pub background: Background,
    /// Limits, budgets and quotas.
    pub governor: Arc<Governor>,
    /// Keys made at run time; `None` when that feature is off.
    pub keyring: Option<Arc<Keyring>>,
    /// Whether traffic should come.
    pub readiness: Arc<Readiness>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
}

#[async_trait]
impl ProxyHttp for Edge {
    // Boxed, because Pingora moves the context from phase to phase.
    type CTX = Box<Context>;

    fn new_ctx(&self) -> Self::CTX {
        Box::new(Context::new(self.live.load_full()))
    }

    async fn early_request_filter(&self, session: &mut Session, cx: &mut Self::CTX) -> Result<()> {
        patience::head_came();
        // A caller that stops reading must not occupy its connection for ever.
        session.set_write_timeout(Some(cx.live.snapshot.server.body_timeout));
        if self.closing.load(Ordering::Relaxed) {
            session.set_keepalive(None);
        } else if session.get_keepalive() == Some(0) {
            // Pingora keeps a reused connection alive without limit; an idle caller must not hold one that long.
            session.set_keepalive(Some(cx.live.snapshot.server.keepalive.as_secs()));
        }
        Ok(())
    }

    /// Gate `pre_route`.
    async fn request_filter(&self, session: &mut Session, cx: &mut Self::CTX) -> Result<bool> {
        admit::request(self, session, cx).await
    }

    async fn upstream_peer(&self, _session: &mut Session, cx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        upstream::peer(cx).await
    }

    fn fail_to_connect(&self, _session: &mut Session, _peer: &HttpPeer, cx: &mut Self::CTX, error: Box<Error>) -> Box<Error> {
        upstream::connect_failed(cx, error)
    }

    /// Gate `pre_upstream`.
    async fn upstream_request_filter(&self, session: &mut Session, head: &mut RequestHeader, cx: &mut Self::CTX) -> Result<()> {
        upstream::request_head(session, head, cx).await
    }

    /// Gate `post_upstream`.
    async fn response_filter(&self, _session: &mut Session, head: &mut ResponseHeader, cx: &mut Self::CTX) -> Result<()> {
        answer::head(head, cx).await
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        cx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        answer::body(body, end, cx);
        Ok(None)
    }

    async fn response_trailer_filter(&self, _session: &mut Session, trailers: &mut HeaderMap, cx: &mut Self::CTX) -> Result<Option<Bytes>> {
        trailers.remove(receipt::RECEIPT);
        // With trailers no body task says that it is the last: what a scanner still holds leaves here, and what was gathered is
        // whole.
        let mut rest = None;
        answer::body(&mut rest, true, cx);
        Ok(rest.filter(|bytes| !bytes.is_empty()))
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        cx: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        upstream::attempt_failed(session, cx, error, reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, cx: &mut Self::CTX) -> FailToProxy {
        settle::failed(session, error, cx).await
    }

    /// Gate `post_response`.
    async fn logging(&self, session: &mut Session, error: Option<&Error>, cx: &mut Self::CTX) {
        settle::finished(self, session, error, cx).await;
        patience::head_awaited();
    }

    fn suppress_error_log(&self, _session: &Session, _cx: &Self::CTX, _error: &Error) -> bool {
        // The access line says how the request ended; Pingora's own log line would contain the caller's URL.
        true
    }

    fn request_summary(&self, _session: &Session, cx: &Self::CTX) -> String {
        format!("request {}", cx.id)
    }
}
