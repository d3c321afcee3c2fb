//! One configuration, ready for traffic: the snapshot together with what only the proxy needs of it (addresses, credentials as
//! header values, balancers). It is replaced as a whole; a request keeps the one it began with.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use pingora::protocols::tls::CaType;
use pingora::protocols::{ALPN, TcpKeepalive};
use pingora::upstreams::peer::{H1UpgradePolicy, HttpPeer};
use pingora::utils::tls::{WrappedX509, parse_x509};
use pingora_load_balancing::health_check::{HealthCheck as Probe, HttpHealthCheck, TcpHealthCheck};
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backends, LoadBalancer};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::addresses::Addresses;
use super::egress::PingoraEgress;
use super::mcp::Called;
use super::resolve::Address;
use super::token::Tokens;
use crate::config::{FingerprintKey, RouteSafetySettings, Snapshot};
use crate::evidence::Policy;
use crate::gate::Guard;
use crate::gate::guard::{SessionPolicy, Sessions};
use crate::route::{ByName, Check, McpCredential, McpServer, Provider, ProviderKind, Route, Upstream};
use crate::store::StateStore;
use crate::telemetry::{Metrics, ModelMetrics, ProviderMetrics, RouteMetrics};

/// How long an idle HTTP/2 connection is kept, and how long an idle HTTP/1.1 connection is trusted without a TCP probe.
const IDLE: Duration = Duration::from_secs(60);
/// Between two TCP probes of an idle connection.
const PROBE: Duration = Duration::from_secs(10);
/// Between two pings on an HTTP/2 connection.
const H2_PING: Duration = Duration::from_secs(30);

/// A snapshot with the targets, balancers, guards and counters that the proxy needs for it.
pub struct Live {
    /// Routes, chains, keys, models.
    pub snapshot: Arc<Snapshot>,
    targets: ByName<Arc<Target>>,
    /// MCP servers by organisation and by the name that callers use.
    servers: HashMap<Arc<str>, HashMap<Arc<str>, Called>>,
    balancers: Vec<Option<Arc<Balancer>>>,
    routes: Vec<RouteMetrics>,
    policies: Vec<Policy>,
    guards: Vec<Option<Arc<Guard>>>,
    /// The callers' risk sessions, with the settings of this configuration.
    pub sessions: Arc<Sessions>,
}

/// What outlives a configuration: the store of counters and sessions, and the secret that keys fingerprints where the
/// operator configured none.
#[derive(Clone)]
pub struct State {
    /// The state store, in this process or shared.
    pub store: Arc<dyn StateStore>,
    /// The fingerprint secret, the same on every replica that shares the store.
    pub secret: Vec<u8>,
}

/// Why a configuration cannot carry traffic.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A certificate file cannot be read or parsed.
    #[error("ca_file {path}: {reason}")]
    Ca {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An address of a plain upstream is none.
    #[error("route {route}: address {address}: {source}")]
    Upstream {
        /// The route's name.
        route: String,
        /// The address as configured.
        address: String,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// The credential is not a valid header value.
    #[error("provider {0}: the credential has characters that no header may carry")]
    Credential(String),
}

/// One provider as the proxy sees it.
pub struct Target {
    /// The provider's configuration.
    pub provider: Arc<Provider>,
    /// The header with the gateway's credential.
    pub credential: Option<(HeaderName, HeaderValue)>,
    /// The value of `Host` at the provider.
    pub authority: HeaderValue,
    /// Counters of the provider's attempts.
    pub metrics: ProviderMetrics,
    /// Token counters of the provider's configured models. Other names get no label, so that callers cannot create series.
    pub models: ByName<ModelMetrics>,
    address: Address,
    ca: Option<Arc<CaType>>,
}

impl Target {
    fn new(provider: Arc<Provider>, snapshot: &Snapshot, metrics: &Metrics) -> Result<Self, LiveError> {
        let url = &provider.base_url;
        let bad = || LiveError::Credential(provider.name.to_string());
        let credential = match &provider.api_key {
            None => None,
            Some(secret) => {
                let (name, text) = match provider.kind {
                    ProviderKind::Anthropic => ("x-api-key", secret.expose().to_owned()),
                    ProviderKind::Gemini => ("x-goog-api-key", secret.expose().to_owned()),
                    ProviderKind::AzureOpenAi => ("api-key", secret.expose().to_owned()),
                    _ => ("authorization", format!("Bearer {}", secret.expose())),
                };
                let mut value = HeaderValue::from_str(&text).map_err(|_| bad())?;
                value.set_sensitive(true);
                Some((HeaderName::from_static(name), value))
            }
        };
        Ok(Self {
            authority: HeaderValue::from_str(&url.authority()).map_err(|_| bad())?,
            address: Address::new(&url.host, url.port, provider.connect_timeout),
            ca: provider.ca_file.as_deref().map(load_ca).transpose()?,
            credential,
            metrics: metrics.provider(&provider.name),
            models: snapshot
                .models
                .iter()
                .filter(|m| m.provider.name == provider.name)
                .map(|m| (m.name.clone(), metrics.model(&provider.name, &m.name)))
                .collect(),
            provider,
        })
    }

    /// The target of an MCP server, with its fixed credential if it has one.
    fn of_server(server: &McpServer, metrics: &Metrics) -> Result<Self, LiveError> {
        let provider = Arc::clone(&server.upstream);
        let bad = || LiveError::Credential(format!("{} ({})", provider.name, server.name));
        let fixed = match &server.credential {
            McpCredential::Fixed(secret) => secret.as_ref(),
            McpCredential::None | McpCredential::Fetched(_) => None,
        };
        let credential = fixed.map(|secret| {
            let mut value = HeaderValue::from_str(secret.expose()).map_err(|_| bad())?;
            value.set_sensitive(true);
            Ok((http::header::AUTHORIZATION, value))
        });
        Ok(Self {
            authority: HeaderValue::from_str(&provider.base_url.authority()).map_err(|_| bad())?,
            address: Address::new(&provider.base_url.host, provider.base_url.port, provider.connect_timeout),
            ca: provider.ca_file.as_deref().map(load_ca).transpose()?,
            credential: credential.transpose()?,
            metrics: metrics.provider(&provider.name),
            models: ByName::default(),
            provider,
        })
    }

    /// The peer of the next attempt.
    ///
    /// # Errors
    /// The resolver's error, when the provider's name never resolved.
    pub async fn peer(&self, timeout: Duration) -> std::io::Result<Box<HttpPeer>> {
        let address = self.address.next().await?;
        let url = &self.provider.base_url;
        let mut peer = peer(address, url.tls, &url.host, self.provider.h2, timeout, self.provider.connect_timeout);
        peer.options.ca = self.ca.clone();
        Ok(peer)
    }
}

fn load_ca(path: &std::path::Path) -> Result<Arc<CaType>, LiveError> {
    let bad = |reason: String| LiveError::Ca { path: path.display().to_string(), reason };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|e| bad(e.to_string()))?;
    let mut authorities = Vec::new();
    for certificate in certificates {
        authorities.push(WrappedX509::new(certificate.map_err(|e| bad(e.to_string()))?.to_vec(), parse_x509));
    }
    if authorities.is_empty() {
        return Err(bad("has no certificate".to_owned()));
    }
    Ok(Arc::from(authorities))
}

fn peer(address: SocketAddr, tls: bool, sni: &str, h2: bool, timeout: Duration, connect: Duration) -> Box<HttpPeer> {
    let mut peer = HttpPeer::new(address, tls, sni.to_owned());
    let options = &mut peer.options;
    options.connection_timeout = Some(connect);
    options.total_connection_timeout = Some(connect * 2);
    options.read_timeout = Some(timeout);
    options.write_timeout = Some(timeout);
    if h2 {
        options.idle_timeout = Some(IDLE);
    } else {
        // TCP keep-alive watches idle connections; an idle timeout would cost a timer per request in Pingora's pool.
        options.tcp_keepalive = Some(TcpKeepalive { idle: IDLE, interval: PROBE, count: 3, user_timeout: Duration::ZERO });
    }
    // `upstream` rewrites the head and removes hop-by-hop fields in the same pass; upgrades are refused at admission.
    options.http_upstream_request_policy.strip_hop_by_hop = false;
    options.http_upstream_request_policy.h1_upgrade = H1UpgradePolicy::Deny;
    if h2 {
        options.alpn = if tls { ALPN::H2H1 } else { ALPN::H2 };
        options.max_h2_streams = 128;
        options.h2_ping_interval = Some(H2_PING);
    }
    Box::new(peer)
}

/// The addresses of a route's own upstream, with Pingora's weights and health checks.
pub struct Balancer {
    upstream: Upstream,
    addresses: Addresses,
    balancer: LoadBalancer<RoundRobin>,
}

impl Balancer {
    fn new(route: &str, upstream: &Upstream) -> Result<Arc<Self>, LiveError> {
        let bad = |(address, source)| LiveError::Upstream { route: route.to_owned(), address, source };
        let addresses = Addresses::of(upstream.addresses.iter().map(|entry| (&*entry.address, entry.weight as usize))).map_err(bad)?;
        let mut balancer: LoadBalancer<RoundRobin> = LoadBalancer::from_backends(Backends::new(Box::new(addresses.clone())));
        if let Some(check) = &upstream.health_check {
            balancer.set_health_check(probe(upstream, &check.check));
        }
        // The addresses are known; the future has nothing to wait for.
        let _ = futures::FutureExt::now_or_never(balancer.update());
        Ok(Arc::new(Self { upstream: upstream.clone(), addresses, balancer }))
    }

    /// The value of `Host` for the addresses, if the route configures one.
    pub fn host(&self) -> Option<&str> {
        self.upstream.host.as_deref()
    }

    /// The peer of the next attempt, among the healthy addresses; `None` when no address is healthy.
    pub fn peer(&self, timeout: Duration) -> Option<Box<HttpPeer>> {
        let backend = self.balancer.select(b"", 256)?;
        let address = *backend.addr.as_inet()?;
        let sni = self.upstream.host.as_deref().map_or_else(|| address.ip().to_string(), |h| h.split(':').next().unwrap_or(h).to_owned());
        Some(peer(address, self.upstream.tls, &sni, self.upstream.h2, timeout, Duration::from_secs(5)))
    }
}

fn probe(upstream: &Upstream, check: &Check) -> Box<dyn Probe + Send + Sync + 'static> {
    let host = upstream.host.as_deref().unwrap_or("localhost");
    match check {
        Check::Tcp if upstream.tls => TcpHealthCheck::new_tls(host),
        Check::Tcp => TcpHealthCheck::new(),
        Check::Http(path) => {
            let mut probe: HttpHealthCheck = HttpHealthCheck::new(host, upstream.tls);
            if let Ok(uri) = path.parse() {
                probe.req.set_uri(uri);
            }
            Box::new(probe)
        }
    }
}

/// Runs the health checks of an upstream until its configuration is dropped.
pub async fn watch_health(balancer: Weak<Balancer>) {
    loop {
        let interval = {
            let Some(balancer) = balancer.upgrade() else { return };
            let Some(check) = &balancer.upstream.health_check else { return };
            balancer.balancer.backends().run_health_check(true).await;
            check.interval
        };
        tokio::time::sleep(interval).await;
    }
}

/// Follows an upstream's names until the configuration it belongs to is gone.
pub async fn watch_addresses(balancer: Weak<Balancer>) {
    loop {
        let Some(again) = balancer.upgrade().and_then(|balancer| balancer.addresses.again()) else { return };
        tokio::time::sleep(again).await;
        let Some(balancer) = balancer.upgrade() else { return };
        balancer.addresses.look_up().await;
        if let Err(error) = balancer.balancer.update().await {
            log::warn!(target: "upstream", "the addresses of an upstream stay as they are: {error}");
        }
    }
}

impl Live {
    /// Makes a snapshot ready for traffic.
    ///
    /// # Errors
    /// A certificate that cannot be read, an address that is none.
    pub fn new(snapshot: Arc<Snapshot>, metrics: &Metrics, state: &State) -> Result<Self, LiveError> {
        let mut targets = ByName::default();
        for provider in snapshot.providers.values() {
            targets.insert(provider.name.clone(), Arc::new(Target::new(provider.clone(), &snapshot, metrics)?));
        }
        let mut servers: HashMap<Arc<str>, HashMap<Arc<str>, Called>> = HashMap::new();
        // Lazy: creating a connector reads the system's certificate authorities, and most configurations need none.
        let egress = LazyCell::new(|| Arc::new(PingoraEgress::new()));
        let mut made: HashMap<*const McpServer, Called> = HashMap::new();
        for (organisation, name, server) in snapshot.mcp_servers.iter() {
            // A server may be listed under a name and an identifier; both share one target and one token.
            let called = match made.entry(Arc::as_ptr(server)) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(place) => {
                    let target = Arc::new(Target::of_server(server, metrics)?);
                    let tokens = match &server.credential {
                        McpCredential::Fetched(grant) => Some(Arc::new(Tokens::new(grant.clone(), Arc::clone(&egress)))),
                        McpCredential::None | McpCredential::Fixed(_) => None,
                    };
                    place.insert(Called { server: server.clone(), target, tokens, token: None }).clone()
                }
            };
            servers.entry(organisation.clone()).or_default().insert(name.clone(), called);
        }
        let routes = snapshot.routes.routes();
        let mut balancers = vec![None; routes.len()];
        for route in routes {
            if let Some(upstream) = &route.upstream {
                balancers[route.index] = Some(Balancer::new(&route.name, upstream)?);
            }
        }
        let counters = routes.iter().map(|r| metrics.route(&r.name)).collect();
        let policies = routes.iter().map(|r| Policy::new(&r.chain.id, &snapshot.hash)).collect();
        let safety = &snapshot.safety;
        let session_policy =
            SessionPolicy { risk: safety.risk, faint_ceiling: safety.rule.faint_ceiling, on_store_error: safety.on_store_error };
        let secret = match &safety.key {
            FingerprintKey::Given(key) => key.expose().as_bytes(),
            FingerprintKey::Derived => &state.secret,
        };
        let sessions = Sessions::new(state.store.clone(), secret, session_policy, metrics.safety_sessions());
        let guard = |route: &Arc<Route>| {
            let RouteSafetySettings { engine, scopes } = safety.routes.get(route.index)?;
            Guard::new(Arc::clone(engine), scopes.clone(), Arc::clone(&sessions), metrics)
        };
        let mut guards = vec![None; routes.len()];
        for route in routes {
            guards[route.index] = guard(route);
        }
        Ok(Self { targets, servers, balancers, routes: counters, policies, guards, sessions, snapshot })
    }

    /// The provider of that name.
    pub fn target(&self, provider: &str) -> Option<&Arc<Target>> {
        self.targets.get(provider)
    }

    /// The MCP server that callers of an organisation know under this name.
    pub fn mcp_server(&self, organisation: &str, name: &str) -> Option<&Called> {
        self.servers.get(organisation)?.get(name)
    }

    /// The counters of a route.
    pub fn route_metrics(&self, route: usize) -> &RouteMetrics {
        &self.routes[route]
    }

    /// The SafetySec guard of a route; `None` if no module is active there.
    pub fn guard(&self, route: usize) -> Option<&Arc<Guard>> {
        self.guards.get(route).and_then(Option::as_ref)
    }

    /// The policy in force on a route, as evidence records it.
    pub fn policy(&self, route: usize) -> &Policy {
        &self.policies[route]
    }

    /// The balancer of a route with an upstream of its own.
    pub fn balancer(&self, route: usize) -> Option<&Arc<Balancer>> {
        self.balancers.get(route).and_then(Option::as_ref)
    }

    /// Every balancer.
    pub fn balancers(&self) -> impl Iterator<Item = &Arc<Balancer>> {
        self.balancers.iter().flatten()
    }
}
