//! The state that Pingora carries along with a request: the pinned configuration, the exchange that the gates see, and how far
//! the request has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use pingora_proxy::Session;
use tokio::sync::Notify;

use super::answer::{AnswerJudge, Streaming};
use super::govern::Governed;
use super::live::{Balancer, Live, Target};
use super::mcp::Called;
use super::receipt;
use super::tap::TapHandle;
use super::watch::Watched;
use crate::error::Denial;
use crate::gate::{Exchange, RequestId};
use crate::identity::Caller;
use crate::limit::Fields;
use crate::route::Route;
use crate::wire::envelope::jsonrpc_id;
use crate::wire::{Dialect, Insertion};

/// The state of one request.
pub struct Context {
    /// The configuration this request runs on, even if another one is loaded meanwhile.
    pub live: Arc<Live>,
    /// The gateway's request id, whatever id the caller sent.
    pub id: RequestId,
    /// The same id as the header value sent to caller and upstream.
    pub id_value: http::HeaderValue,
    /// When the head was complete.
    pub received: Instant,
    /// Counts this request towards the cap while it lives.
    pub in_flight: Option<InFlight>,
    /// Counts this request in the exported gauge while it lives.
    pub gauge: Option<crate::telemetry::InFlight>,
    /// The gateway's own service that was called, if it counts as a request, and the caller whose key was presented.
    pub service: Option<(&'static str, Option<Arc<Caller>>)>,
    /// Set when a route matched.
    pub route: Option<Arc<Route>>,
    /// What the gates see. While an answer is held its judge owns it, until the wrapper is removed.
    pub exchange: Option<Box<Exchange>>,
    /// The wrapper around the caller's session, once the body is read.
    pub tap: Option<TapHandle<AnswerJudge>>,
    /// Where the request goes.
    pub destination: Option<Destination>,
    /// What to insert into the admitted body to have the provider report a stream's usage.
    pub ask_usage: Option<Insertion>,
    /// Whether the provider was asked for usage that the caller did not ask for; the caller does not see it then.
    pub usage_unasked: bool,
    /// What is sent on is another body than the caller's.
    pub rewritten: bool,
    /// The refusal that an `Err` from a filter stands for.
    pub denial: Option<Denial>,
    /// Upstream attempts begun.
    pub attempts: u32,
    /// Attempts that failed because a kept-alive connection was dead.
    pub stale: u32,
    /// When the head of the latest attempt was sent.
    pub sent: Option<Instant>,
    /// Whether the `pre_upstream` gate has run; it runs once, not once per attempt.
    pub pre_upstream_done: bool,
    /// The scanner of a streamed answer. The lock is never taken (`get_mut` and `into_inner` need none): it only makes filters
    /// that are not `Sync` fit into a context that Pingora requires to be `Sync`.
    pub streaming: Option<Box<parking_lot::Mutex<Streaming>>>,
    /// The body of an answer that is not held, kept to read its usage.
    pub metered: std::collections::VecDeque<bytes::Bytes>,
    /// The guard that inspects `metered` when the answer is over.
    pub watched: Option<Box<Watched>>,
    /// Whether the judge of a held answer reads its usage, so that nothing is kept in `metered`.
    pub unmetered: bool,
    /// The length of `metered` (bytes).
    pub metered_bytes: usize,
    /// When the first upstream attempt began, plus the time of the `pre_upstream` gate, which counts as the gateway's own.
    pub upstream_started: Option<Instant>,
    /// When the current attempt began, plus the time of the `pre_upstream` gate.
    pub attempt_began: Option<Instant>,
    /// Time from the start of the upstream's work to the head of its answer.
    pub upstream_took: Option<Duration>,
    /// When the last byte of the upstream's answer arrived.
    pub upstream_ended: Option<Instant>,
    /// Time spent waiting for the caller's body.
    pub reading: Duration,
    /// Bytes of the upstream's answer so far.
    pub bytes_received: u64,
    /// The status of the provider's answer, 0 before there is one.
    pub upstream_status: u16,
    /// The status the caller received, 0 when none was sent.
    pub status: u16,
    /// Whether the caller's connection broke.
    pub caller_gone: bool,
    /// What the request holds of limits and budgets; `None` for a caller without any.
    pub governed: Option<Box<Governed>>,
}

/// Where a request is sent.
#[derive(Clone)]
pub enum Destination {
    /// A provider, by the model of the request.
    Provider {
        /// The provider.
        target: Arc<Target>,
        /// The model's name at the provider.
        slug: Arc<str>,
    },
    /// An MCP server of the caller's organisation.
    Mcp(Called),
    /// The route's own addresses.
    Upstream(Arc<Balancer>),
}

impl Context {
    /// The state of a request whose head has just arrived.
    pub fn new(live: Arc<Live>) -> Self {
        let id = RequestId::random();
        Self {
            live,
            id_value: http::HeaderValue::from_bytes(&id.hex()).unwrap_or(http::HeaderValue::from_static("")),
            id,
            received: Instant::now(),
            in_flight: None,
            gauge: None,
            service: None,
            route: None,
            exchange: None,
            tap: None,
            destination: None,
            ask_usage: None,
            usage_unasked: false,
            rewritten: false,
            denial: None,
            attempts: 0,
            stale: 0,
            sent: None,
            pre_upstream_done: false,
            streaming: None,
            metered: std::collections::VecDeque::new(),
            watched: None,
            unmetered: false,
            metered_bytes: 0,
            upstream_started: None,
            attempt_began: None,
            upstream_took: None,
            upstream_ended: None,
            reading: Duration::ZERO,
            bytes_received: 0,
            upstream_status: 0,
            status: 0,
            caller_gone: false,
            governed: None,
        }
    }

    /// Removes the wrapper from the caller's session and takes the exchange back from a judge that owned it.
    pub async fn untap(&mut self, session: &mut Session) {
        if let Some(tap) = self.tap.take()
            && let Some(judge) = tap.remove(session).await
        {
            self.exchange = Some(judge.into_exchange());
        }
    }

    /// Additional headers of a refusal: the state of the limits, and the receipt of the steps that ran.
    pub fn fields(&self, dialect: Dialect) -> Fields {
        let mut fields = self.governed.as_ref().map(|governed| governed.headers(dialect)).unwrap_or_default();
        if let (Some(route), Some(exchange)) = (&self.route, &self.exchange) {
            fields.extend(receipt::fields(route, exchange));
        }
        fields
    }

    /// The id of the caller's JSON-RPC message, if the body was read.
    pub fn rpc_id(&self, dialect: Dialect) -> Option<String> {
        rpc_id(dialect, self.exchange.as_deref()?)
    }

    /// Records the denial and returns the error that makes Pingora call `fail_to_proxy`, where the denial is rendered.
    pub fn refuse<T>(&mut self, denial: Denial) -> pingora::Result<T> {
        self.denial = Some(denial);
        pingora::Error::e_explain(pingora::ErrorType::Custom("denied"), "refused by a gate")
    }
}

/// The id of a JSON-RPC message, as it stands in the body; `None` for other dialects and for batches.
pub fn rpc_id(dialect: Dialect, exchange: &Exchange) -> Option<String> {
    (dialect == Dialect::Mcp).then(|| jsonrpc_id(&exchange.draft.body).map(str::to_owned)).flatten()
}

/// The requests in flight, counted for the cap of the process and for draining.
#[derive(Default)]
pub struct Flights {
    count: AtomicI64,
    over: AtomicBool,
    /// Several, so that threads do not contend for the lock of one.
    told: [Notify; DOORS],
}

const DOORS: usize = 16;

impl Flights {
    /// Ends every request that still waits for its upstream or its caller, because the drain time is over.
    pub fn cut(&self) {
        self.over.store(true, Ordering::Release);
        self.told.iter().for_each(Notify::notify_waiters);
    }

    /// Waits for [`Self::cut`]. `near` is any number of the request's own: it chooses which of the notifies is waited for.
    pub async fn wait(&self, near: u8) {
        let told = self.told[usize::from(near) % DOORS].notified();
        if !self.over.load(Ordering::Acquire) {
            told.await;
        }
    }

    /// Counts one more request unless that would exceed `cap` (0 = no cap).
    pub fn begin(self: &Arc<Self>, cap: usize) -> Option<InFlight> {
        let before = self.count.fetch_add(1, Ordering::AcqRel);
        if cap != 0 && before >= cap as i64 {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(InFlight(self.clone()))
    }

    /// How many requests are in flight.
    pub fn count(&self) -> i64 {
        self.count.load(Ordering::Acquire)
    }
}

/// One request in flight; stops counting when dropped, however the request ends.
pub struct InFlight(Arc<Flights>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}
