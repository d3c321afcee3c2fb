//! Settings of the process, typed and checked: what the parts of the gateway are handed instead of a configuration file.

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
    /// Worker threads; never 0, the number of cores by default.
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
    /// What its API asks for; `None`: there is none, only metrics and probes.
    pub token: Option<Secret>,
    /// `None` switches it off.
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
    /// For people.
    Text,
}

/// The evidence log.
#[derive(Debug, Clone)]
pub struct EvidenceSettings {
    /// Write evidence at all.
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
    /// PKCS#8 PEM or base64, given by reference.
    Given(Secret),
    /// A file that is made at the first start (mode 0600) and read afterwards.
    File(PathBuf),
}

/// The queue behind background plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginSettings {
    /// Parallel plugins of one gate that run at the same time.
    pub max_parallel: usize,
    /// Jobs that may wait; more are dropped and counted.
    pub async_queue: usize,
    /// Tasks that work on the queue.
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

/// SafetySec, put together for every route.
#[derive(Debug, Clone)]
pub struct SafetySettings {
    /// How sessions are remembered.
    pub risk: RiskPolicy,
    /// How findings become a session's score, and a score a block.
    pub rule: SessionRule,
    /// What it means that the session store does not answer.
    pub on_store_error: OnError,
    /// What makes fingerprints of callers.
    pub key: FingerprintKey,
    /// By the place of the route in the file.
    pub routes: Vec<RouteSafetySettings>,
}

/// SafetySec on one route.
#[derive(Debug, Clone)]
pub struct RouteSafetySettings {
    /// The modules under their policies here.
    pub engine: Arc<Engine>,
    /// For whom each of them runs.
    pub scopes: Vec<Scope>,
}

/// What makes fingerprints of callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FingerprintKey {
    /// A secret of the operator.
    Given(Secret),
    /// The address of a shared store, which all replicas know; chance for a store in memory.
    Derived,
}

/// How limits, budgets and usage behave where nothing is certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GovernanceSettings {
    /// Keys made at run time; `None`: they are not known.
    pub keys: Option<KeySettings>,
    /// What `POST /v1/internal/cache/invalidate` asks for; `None`: there is no such endpoint.
    pub invalidation_secret: Option<Secret>,
    /// A limit or budget that cannot be asked lets the request through, uncounted.
    pub allow_on_store_error: bool,
    /// A model without a price is refused where a budget counts money.
    pub refuse_unpriced: bool,
    /// What an answer counts that told no tokens.
    pub missing_usage: MissingUsage,
    /// After how long without a sign of life a reservation is released.
    pub reservation_ttl: Duration,
    /// How long usage records are kept.
    pub usage_retention: Duration,
    /// Directory in which usage waits for the record store; `None`: no usage is kept.
    pub usage_spool: Option<PathBuf>,
    /// Requests that were refused after their key was known have a usage record too.
    pub record_denials: bool,
}

/// Keys made at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySettings {
    /// The key of the hash that secrets are known by.
    pub hashing: HashingKey,
    /// How long keys are served after the record store answered last.
    pub grace: Duration,
    /// Where they are kept for a start without the record store.
    pub file: PathBuf,
}

/// Where the hashing key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashingKey {
    /// A secret of the operator.
    Given(Secret),
    /// A file that is made at the first use (mode 0600) and read afterwards.
    File(PathBuf),
}
