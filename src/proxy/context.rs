//! What Pingora carries along with a request: the pinned configuration, the exchange as the gates see it, and where on
//! its path the request is.

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
    /// The configuration this request runs on, whatever is loaded meanwhile.
    pub live: Arc<Live>,
    /// Ours, whatever the caller sent.
    pub id: RequestId,
    /// The id as it is sent, in both directions.
    pub id_value: http::HeaderValue,
    /// When the head was complete.
    pub received: Instant,
    /// Counts this request as in flight while it lives.
    pub in_flight: Option<InFlight>,
    /// The same for the gauge that is scraped.
    pub gauge: Option<crate::telemetry::InFlight>,
    /// The service of the gateway's own that counts as a request, and whose key was presented.
    pub service: Option<(&'static str, Option<Arc<Caller>>)>,
    /// Set when a route matched.
    pub route: Option<Arc<Route>>,
    /// What the gates see. The judge of a held answer has it until the wrapper is taken off.
    pub exchange: Option<Box<Exchange>>,
    /// The wrapper, once the body is read.
    pub tap: Option<TapHandle<AnswerJudge>>,
    /// Where the request goes.
    pub destination: Option<Destination>,
    /// How the stream would be asked for usage in the body as it was admitted.
    pub ask_usage: Option<Insertion>,
    /// The provider was asked for usage that the caller did not ask for: the caller does not get to see it.
    pub usage_unasked: bool,
    /// What is sent on is another body than the caller's.
    pub rewritten: bool,
    /// The refusal that an `Err` from a filter stands for.
    pub denial: Option<Denial>,
    /// Upstream attempts begun.
    pub attempts: u32,
    /// Those that met a dead connection.
    pub stale: u32,
    /// When the head of the last one was sent.
    pub sent: Option<Instant>,
    /// Whether the `pre_upstream` gate has run; it runs once, not once per attempt.
    pub pre_upstream_done: bool,
    /// The answer to the caller's stream, when it is one. The lock is never taken: it makes filters, which need not be
    /// shareable, fit into what Pingora shares.
    pub streaming: Option<Box<parking_lot::Mutex<Streaming>>>,
    /// The body of an answer that passes unheld, kept to read its usage.
    pub metered: std::collections::VecDeque<bytes::Bytes>,
    /// Who looks at `metered` when the answer is over.
    pub watched: Option<Box<Watched>>,
    /// The judge of a held answer reads its usage: nothing is kept for it here.
    pub unmetered: bool,
    /// How much of `metered` there is.
    pub metered_bytes: usize,
    /// When the first upstream attempt began, moved on by what the `pre_upstream` gate took: that time is ours.
    pub upstream_started: Option<Instant>,
    /// When the attempt that is under way began, moved on in the same way.
    pub attempt_began: Option<Instant>,
    /// Time between the start of the upstream's work and its answer's head.
    pub upstream_took: Option<Duration>,
    /// When the last byte of the upstream's answer was here.
    pub upstream_ended: Option<Instant>,
    /// How long the caller's body was waited for.
    pub reading: Duration,
    /// Bytes of the upstream's answer so far.
    pub bytes_received: u64,
    /// The status of the provider's answer, 0 before there is one.
    pub upstream_status: u16,
    /// The status the caller received, 0 when none was sent.
    pub status: u16,
    /// Whether the caller's connection broke.
    pub caller_gone: bool,
    /// What the request holds of limits and budgets; nothing for who has none.
    pub governed: Option<Box<Governed>>,
}

/// Where a request goes.
#[derive(Clone)]
pub enum Destination {
    /// A provider, by the model of the request.
    Provider {
        /// The provider.
        target: Arc<Target>,
        /// What the provider calls the model.
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

    /// Takes the wrapper off the caller's session; what its judge had is here again.
    pub async fn untap(&mut self, session: &mut Session) {
        if let Some(tap) = self.tap.take()
            && let Some(judge) = tap.remove(session).await
        {
            self.exchange = Some(judge.into_exchange());
        }
    }

    /// What a refusal tells beside its reason: how limits stand, and which steps ran.
    pub fn fields(&self, dialect: Dialect) -> Fields {
        let mut fields = self.governed.as_ref().map(|governed| governed.headers(dialect)).unwrap_or_default();
        if let (Some(route), Some(exchange)) = (&self.route, &self.exchange) {
            fields.extend(receipt::fields(route, exchange));
        }
        fields
    }

    /// The id of the caller's JSON-RPC message, where it was read.
    pub fn rpc_id(&self, dialect: Dialect) -> Option<String> {
        rpc_id(dialect, self.exchange.as_deref()?)
    }

    /// Refuses with an error that Pingora carries to `fail_to_proxy`, where the denial is rendered.
    pub fn refuse<T>(&mut self, denial: Denial) -> pingora::Result<T> {
        self.denial = Some(denial);
        pingora::Error::e_explain(pingora::ErrorType::Custom("denied"), "refused by a gate")
    }
}

/// The id of a JSON-RPC message, as it stands in the body; `None` for other dialects and for several messages.
pub fn rpc_id(dialect: Dialect, exchange: &Exchange) -> Option<String> {
    (dialect == Dialect::Mcp).then(|| jsonrpc_id(&exchange.draft.body).map(str::to_owned)).flatten()
}

/// The number of requests in flight, for the process cap and for draining.
#[derive(Default)]
pub struct Flights {
    count: AtomicI64,
    over: AtomicBool,
    /// Several, so that requests of all threads do not wait for one lock.
    told: [Notify; DOORS],
}

const DOORS: usize = 16;

impl Flights {
    /// Ends every request that still waits for its upstream or its caller: the drain time is over.
    pub fn cut(&self) {
        self.over.store(true, Ordering::Release);
        self.told.iter().for_each(Notify::notify_waiters);
    }

    /// Waits for [`Self::cut`]; `near` is any number of the request's own.
    pub async fn wait(&self, near: u8) {
        let told = self.told[usize::from(near) % DOORS].notified();
        if !self.over.load(Ordering::Acquire) {
            told.await;
        }
    }

    /// Counts one more unless that would exceed `cap` (0 = no cap).
    pub fn begin(self: &Arc<Self>, cap: usize) -> Option<InFlight> {
        let before = self.count.fetch_add(1, Ordering::AcqRel);
        if cap != 0 && before >= cap as i64 {
            self.count.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(InFlight(self.clone()))
    }

    /// How many there are now.
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
