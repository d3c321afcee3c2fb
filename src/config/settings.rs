//! Typed and checked settings, which the parts of the gateway take instead of a configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::budget::MissingUsage;
use crate::identity::Secret;
use crate::plugin::Scope;
use crate::safety::{Engine, OnError, SessionRule};
use crate::store::RiskPolicy;

/// The listener for callers and the limits every request meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Addresses to listen on, at least one.
    pub listen: Vec<SocketAddr>,
    /// Serve TLS with these PEM files.
    pub tls: Option<TlsFiles>,
    /// Largest request body in bytes.
    pub max_request_body: usize,
    /// Largest answer in bytes that is held back for inspection.
    pub max_held_response: usize,
    /// Time in which a whole request body must arrive.
    pub body_timeout: Duration,
    /// Requests in flight above which new ones get 503; 0 switches the cap off.
    pub max_concurrent_requests: usize,
    /// How long open requests may take to finish at shutdown or upgrade.
    pub drain: Duration,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How long an idle caller's connection is kept; zero closes after each answer.
    pub keepalive: Duration,
    /// Worker threads: by default the number of cores, never 0.
    pub threads: usize,
    /// Socket over which a new process takes over the listeners.
    pub upgrade_sock: PathBuf,
}

/// A certificate chain and its key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// The listener for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSettings {
    /// The token that the API for keys requires; `None`: there is no such API, only metrics and probes.
    pub token: Option<Secret>,
    /// Address to listen on; `None`: there is no listener.
    pub listen: Option<SocketAddr>,
}

/// What the process writes to stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Form of a line.
    pub format: LogFormat,
    /// Least severe level written; an `env_logger` filter such as `info,pingora=warn`.
    pub level: String,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// The evidence log.
#[derive(Debug, Clone)]
pub struct EvidenceSettings {
    /// Whether evidence is written.
    pub enabled: bool,
    /// Directory of the files.
    pub path: PathBuf,
    /// Size in bytes at which the next file begins.
    pub rotate: u64,
    /// A signed checkpoint after this many records…
    pub checkpoint_every: u64,
    /// …and at the latest after this time.
    pub checkpoint_interval: Duration,
    /// Records that may wait for the writer before they are dropped and counted.
    pub queue: usize,
    /// The key that signs checkpoints.
    pub signing_key: SigningKey,
}

/// Where the Ed25519 signing key comes from.
#[derive(Debug, Clone)]
pub enum SigningKey {
    /// PKCS#8 as DER, PEM or base64, from a secret reference.
    Given(Secret),
    /// A file that is created at the first start (mode 0600).
    File(PathBuf),
}

/// Settings of the plugin runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginSettings {
    /// Parallel plugins of one gate that run at the same time.
    pub max_parallel: usize,
    /// Background jobs that may wait; more are dropped and counted.
    pub async_queue: usize,
    /// Tasks that work on background jobs.
    pub async_workers: usize,
}

/// Where counters, leases, reservations and risk sessions are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateSettings {
    /// In the memory of this process.
    Embedded,
    /// In Redis or Valkey at this address.
    Redis(Secret),
}

/// Where keys made at run time, usage and the outbox are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordsSettings {
    /// In this SQLite file.
    Embedded(PathBuf),
    /// In PostgreSQL at this address.
    Postgres(Secret),
}

/// SafetySec for all routes.
#[derive(Debug, Clone)]
pub struct SafetySettings {
    /// How risk sessions decay and expire.
    pub risk: RiskPolicy,
    /// How findings add to a session's score, and from which score on a finding blocks.
    pub rule: SessionRule,
    /// What happens to a finding when the session store does not answer.
    pub on_store_error: OnError,
    /// The key with which fingerprints of callers are made.
    pub key: FingerprintKey,
    /// Settings by the position of the route in the file.
    pub routes: Vec<RouteSafetySettings>,
}

/// SafetySec on one route.
#[derive(Debug, Clone)]
pub struct RouteSafetySettings {
    /// The modules with their policies on this route.
    pub engine: Arc<Engine>,
    /// The scope of each module.
    pub scopes: Vec<Scope>,
}

/// The key with which fingerprints of callers are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FingerprintKey {
    /// A secret of the operator.
    Given(Secret),
    /// Derived from the address of a shared store, which all replicas know; random for a store in memory.
    Derived,
}

/// What happens to requests when a store, a price or a usage report is missing; and how usage is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GovernanceSettings {
    /// Settings of keys made at run time; `None`: such keys are refused.
    pub keys: Option<KeySettings>,
    /// The secret that `POST /v1/internal/cache/invalidate` requires; `None`: there is no such endpoint.
    pub invalidation_secret: Option<Secret>,
    /// Whether a request passes, uncounted, when the store of its limits or budgets does not answer.
    pub allow_on_store_error: bool,
    /// Whether a model without a price is refused where a budget counts money.
    pub refuse_unpriced: bool,
    /// What is counted for an answer without token counts.
    pub missing_usage: MissingUsage,
    /// Time without a renewal after which a reservation is released.
    pub reservation_ttl: Duration,
    /// How long usage records are kept.
    pub usage_retention: Duration,
    /// Directory in which usage waits for the record store; `None`: no usage is kept.
    pub usage_spool: Option<PathBuf>,
    /// Whether requests that were refused after their key was known get a usage record too.
    pub record_denials: bool,
}

/// Settings of keys made at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    /// The key of the hash by which secrets are looked up.
    pub hashing: HashingKey,
    /// How long keys are served after the record store last answered.
    pub grace: Duration,
    /// The file in which keys are kept for a start without the record store.
    pub file: PathBuf,
}

/// Where the hashing key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashingKey {
    /// A secret of the operator.
    Given(Secret),
    /// A file that is created at first use (mode 0600).
    File(PathBuf),
}
