//! The operations that the gateway offers an instance, limited to what its manifest needs and its operator granted.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};

use super::Granted;
use super::delivery::{Delivery, DeliveryId, Dispatch, Undelivered};
use super::manifest::{Need, NeedSet};
use super::network::{HostName, Target};
use super::outlet::{Mail, Place, Relay, Transmission};
use super::storage::{Storage, Stores};
use crate::gate::Background;
use crate::identity::{Directory, Secret};

/// Headers of outgoing requests that only the gateway sets.
const FRAMING: [&str; 8] = ["host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade"];

/// Why an operation failed. The texts contain nothing of the request or answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// The manifest does not declare the need, or the operator did not grant it.
    #[error("not granted: {0}")]
    NotGranted(&'static str),
    /// The host and port are not in `grant.network`.
    #[error("{0} is not in grant.network")]
    HostNotGranted(String),
    /// The URL is not an unambiguous http(s) URL.
    #[error("URL refused: {0}")]
    BadUrl(&'static str),
    /// The name resolves to an address that must not be called.
    #[error("{0} leads to an address that must not be called")]
    AddressRefused(String),
    /// The name could not be resolved.
    #[error("{0} could not be resolved")]
    Unresolved(String),
    /// No connection could be made; nothing was sent.
    #[error("no connection")]
    Unreachable,
    /// The connection broke after something was sent.
    #[error("the connection broke: {0}")]
    Broken(&'static str),
    /// The answer is larger than the call allows.
    #[error("the answer is too large")]
    TooLarge,
    /// There was no answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The header is one that only the gateway sets, or malformed.
    #[error("header refused: {0}")]
    BadHeader(String),
    /// The secret is not in `grant.secrets`.
    #[error("secret `{0}` is not in grant.secrets")]
    NoSecret(String),
    /// A store did not answer, was not reached yet, or does not accept the value.
    #[error("not available: {0}")]
    Store(&'static str),
    /// PostgreSQL reported an error. The text quotes no values.
    #[error("{0}")]
    Sql(String),
    /// PostgreSQL takes the statement, and one of its values never. The text quotes none.
    #[error("{0}")]
    SqlValue(String),
    /// The file is under no directory of `grant.files`.
    #[error("{0} is not under a directory of grant.files")]
    FileNotGranted(String),
    /// The file system reported an error.
    #[error("the file cannot be written: {0}")]
    File(io::ErrorKind),
    /// The mail server did not take the mail now, but may later.
    #[error("mail not sent: {0}")]
    Mail(String),
    /// The mail server will not take the mail.
    #[error("mail refused: {0}")]
    MailRefused(String),
    /// The background queue is full or closed.
    #[error("the background queue is full")]
    QueueFull,
    /// The delivery is one that the outbox cannot keep.
    #[error("delivery refused: {0}")]
    BadDelivery(&'static str),
    /// More deliveries are waiting than the operator allows.
    #[error("the outbox is full")]
    OutboxFull,
    /// The delivery could not be stored.
    #[error("the outbox does not take it: {0}")]
    Outbox(&'static str),
}

/// A call to an external system.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// `https://host:port/path`, with host and port in `grant.network`.
    pub url: String,
    /// The headers to send, except `host` and framing.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The time for resolving, connecting and the whole answer.
    pub timeout: Duration,
    /// The largest answer to accept (bytes).
    pub max_response: usize,
}

impl HttpRequest {
    /// A request with a timeout of 5 seconds and answers of at most 1 MiB.
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        Self {
            method,
            url: url.into(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: Duration::from_secs(5),
            max_response: 1 << 20,
        }
    }

    /// A `POST` of a JSON text.
    pub fn post_json(url: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let mut request = Self::new(Method::POST, url);
        request.headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        request.body = body.into();
        request
    }
}

/// The answer to a call. Redirects are returned, not followed.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// A call whose URL was checked and whose address is fixed.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// The method.
    pub method: Method,
    /// The value of `Host`.
    pub authority: String,
    /// The path and query.
    pub path_and_query: String,
    /// The headers except `host` and framing.
    pub headers: HeaderMap,
    /// The body, whose length is the `content-length`.
    pub body: Bytes,
    /// The rest of the timeout.
    pub timeout: Duration,
    /// The largest answer to accept (bytes).
    pub max_response: usize,
}

/// Carries out checked calls, with the gateway's own connector. It follows no redirects, uses no proxy and resolves no names.
#[async_trait]
pub trait Egress: Send + Sync + 'static {
    /// Sends a request to exactly this address. `tls_host` is the name to verify and to send as SNI; `None` for plain HTTP.
    ///
    /// # Errors
    /// [`HostError::Unreachable`] only if nothing was sent.
    async fn send(&self, address: SocketAddr, tls_host: Option<&str>, request: Outbound) -> Result<HttpResponse, HostError>;

    /// Sends bytes to exactly this place. By default no place is reachable.
    ///
    /// # Errors
    /// [`HostError::Unreachable`] only if nothing was sent.
    async fn transmit(&self, _place: &Place, _transmission: &Transmission) -> Result<(), HostError> {
        Err(HostError::Unreachable)
    }

    /// Hands a mail to the server at exactly this place.
    ///
    /// # Errors
    /// As [`Self::transmit`].
    async fn mail(&self, _place: &Place, _relay: &Relay, _mail: &Mail) -> Result<Option<String>, HostError> {
        Err(HostError::Unreachable)
    }
}

/// Resolves names to addresses.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    /// All addresses of a name.
    ///
    /// # Errors
    /// The resolver's error.
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
#[derive(Debug, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((name, port)).await?.collect())
    }
}

/// What the hosts of all instances share.
#[derive(Clone)]
pub struct SharedHost {
    egress: Arc<dyn Egress>,
    resolver: Arc<dyn Resolver>,
    dispatch: Arc<dyn Dispatch>,
    background: Background,
    stores: Stores,
}

impl SharedHost {
    /// A host that calls through `egress` and queues jobs in `background`.
    pub fn new(egress: Arc<dyn Egress>, background: Background) -> Self {
        Self { egress, resolver: Arc::new(SystemResolver), dispatch: Arc::new(Undelivered), background, stores: Stores::default() }
    }

    /// Sets the outbox.
    pub fn with_dispatch(mut self, dispatch: Arc<dyn Dispatch>) -> Self {
        self.dispatch = dispatch;
        self
    }

    /// Sets another resolver.
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Sets the stores.
    pub fn with_stores(mut self, stores: Stores) -> Self {
        self.stores = stores;
        self
    }

    /// A host that calls and queues nothing, for `check`, which opens nothing.
    pub fn offline() -> Self {
        struct Nowhere;
        #[async_trait]
        impl Egress for Nowhere {
            async fn send(&self, _: SocketAddr, _: Option<&str>, _: Outbound) -> Result<HttpResponse, HostError> {
                Err(HostError::Unreachable)
            }
        }
        Self::new(Arc::new(Nowhere), Background::closed())
    }
}

impl std::fmt::Debug for SharedHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedHost")
    }
}

/// The host of one instance. Cheap to clone; a plugin keeps the one that it was built with.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    instance: Arc<str>,
    needs: NeedSet,
    /// Whether the instance only observes.
    observes: bool,
    granted: Granted,
    shared: SharedHost,
    storage: Storage,
}

impl Host {
    pub(crate) fn new(instance: Arc<str>, needs: NeedSet, granted: Granted, shared: SharedHost, directory: Arc<Directory>) -> Self {
        let storage = Storage::new(needs, directory, shared.stores.clone(), Arc::clone(&instance));
        Self(Arc::new(Inner { instance, needs, observes: false, granted, shared, storage }))
    }

    /// Sets whether the instance only observes, so that its deliveries are recorded and not sent.
    pub(crate) fn observing(mut self, observes: bool) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.observes = observes;
        }
        self
    }

    /// A host without grants, for tests of a plugin's `build`.
    pub fn detached() -> Self {
        let nothing = NeedSet::default();
        Self::new("detached".into(), nothing, Granted::new(), SharedHost::offline(), Arc::default())
    }

    pub(super) fn need(&self, need: Need) -> Result<(), HostError> {
        if self.0.needs.contains(need) { Ok(()) } else { Err(HostError::NotGranted(need.as_str())) }
    }

    /// The instance's name.
    pub fn instance(&self) -> &str {
        &self.0.instance
    }

    /// The wall clock.
    pub fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    /// Sleeps. The instance's timeout keeps running.
    pub async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Checks that a URL may be called, so that a plugin can refuse its configuration at load instead of failing requests.
    ///
    /// # Errors
    /// Without `network`, for a malformed URL, or for a host that is not granted.
    pub fn may_fetch(&self, url: &str) -> Result<(), HostError> {
        self.need(Need::Network)?;
        let target = Target::parse(url)?;
        self.rule(&target).map(|_| ())
    }

    pub(super) fn egress(&self) -> &dyn Egress {
        self.0.shared.egress.as_ref()
    }

    pub(super) fn granted(&self) -> &Granted {
        &self.0.granted
    }

    pub(super) fn rule(&self, target: &Target) -> Result<&super::network::HostRule, HostError> {
        let rule = self.0.granted.rules().iter().find(|rule| rule.names(target));
        rule.ok_or_else(|| HostError::HostNotGranted(format!("{}:{}", target.host, target.port)))
    }

    /// The addresses of a granted target, all of which have been checked.
    pub(super) async fn addresses(&self, target: &Target, deadline: tokio::time::Instant) -> Result<Vec<SocketAddr>, HostError> {
        let rule = self.rule(target)?;
        let addresses = match &target.host {
            HostName::Ip(ip) => vec![SocketAddr::new(*ip, target.port)],
            HostName::Dns(name) => tokio::time::timeout_at(deadline, self.0.shared.resolver.resolve(name, target.port))
                .await
                .map_err(|_| HostError::Timeout)?
                .map_err(|_| HostError::Unresolved(target.host.to_string()))?,
        };
        // One forbidden address among allowed ones makes the whole name suspicious.
        if !addresses.iter().all(|address| rule.admits(address.ip())) {
            return Err(HostError::AddressRefused(target.host.to_string()));
        }
        Ok(addresses)
    }

    /// Calls a granted host. The name is resolved once, every address it has is judged, and the connection goes to an
    /// address that was judged. Redirects are handed back, not followed. Where a connection had lain idle and the other end closed
    /// it before anything of an answer came, the call is made once more over a new one.
    ///
    /// # Errors
    /// See [`HostError`]. A refused call causes no network traffic except resolving a granted name.
    pub async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, HostError> {
        self.need(Need::Network)?;
        let target = Target::parse(&request.url)?;
        self.rule(&target)?;
        if let Some(name) = request.headers.keys().find(|name| FRAMING.contains(&name.as_str())) {
            return Err(HostError::BadHeader(name.to_string()));
        }
        let deadline = tokio::time::Instant::now() + request.timeout;
        let late = |_| HostError::Timeout;
        let addresses = self.addresses(&target, deadline).await?;
        let tls_host = match &target.host {
            _ if !target.tls => None,
            HostName::Dns(name) => Some(name.clone()),
            HostName::Ip(ip) => Some(ip.to_string()),
        };
        let mut outcome = Err(HostError::Unresolved(target.host.to_string()));
        for address in addresses.into_iter().take(3) {
            let address = SocketAddr::new(address.ip().to_canonical(), target.port);
            let outbound = Outbound {
                method: request.method.clone(),
                authority: target.authority(),
                path_and_query: target.path_and_query.clone(),
                headers: request.headers.clone(),
                body: request.body.clone(),
                timeout: deadline.saturating_duration_since(tokio::time::Instant::now()),
                max_response: request.max_response,
            };
            let sent = self.0.shared.egress.send(address, tls_host.as_deref(), outbound);
            outcome = tokio::time::timeout_at(deadline, sent).await.map_err(late)?;
            if !matches!(outcome, Err(HostError::Unreachable)) {
                break;
            }
        }
        let answer = outcome?;
        if answer.body.len() > request.max_response { Err(HostError::TooLarge) } else { Ok(answer) }
    }

    /// A granted secret, by its name in `grant.secrets`.
    ///
    /// # Errors
    /// Without `secrets`, or for a name that is not granted.
    pub fn secret(&self, name: &str) -> Result<Secret, HostError> {
        self.need(Need::Secrets)?;
        self.0.granted.find_secret(name).cloned().ok_or_else(|| HostError::NoSecret(name.to_owned()))
    }

    /// The stored data, by granted scopes.
    pub fn storage(&self) -> &Storage {
        &self.0.storage
    }

    /// Submits something that must leave the gateway at least once. It is on disk when this returns, and `Plugin::deliver` gets
    /// it. Does not wait, so any gate may call it. In observe mode it is recorded and not sent. The caller should record it in
    /// evidence with `cx.external(destination, Some(id))`.
    ///
    /// # Errors
    /// Without `deliver`; for a delivery that exceeds the bounds of [`Delivery`]; [`HostError::OutboxFull`] if
    /// `outbox.on_full` is `deny`; [`HostError::Outbox`] if the disk fails.
    pub fn deliver(&self, delivery: Delivery) -> Result<DeliveryId, HostError> {
        self.need(Need::Deliver)?;
        delivery.check()?;
        self.0.shared.dispatch.dispatch(&self.0.instance, &delivery, self.0.observes)?;
        Ok(delivery.id)
    }

    /// Queues a job to run off the request's path. The queue is bounded.
    ///
    /// # Errors
    /// Without `background`, or when the queue is full.
    pub fn enqueue(&self, job: impl Future<Output = ()> + Send + 'static) -> Result<(), HostError> {
        self.need(Need::Background)?;
        self.0.shared.background.push(Box::pin(job)).map_err(|_| HostError::QueueFull)
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Host({})", self.0.instance)
    }
}

#[cfg(test)]
#[path = "host_test.rs"]
mod tests;
