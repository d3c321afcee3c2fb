//! `server`, `admin`, `log`, `evidence`.

use std::path::PathBuf;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, Size, Span};

/// The listener for callers and the limits every request meets.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Addresses to listen on.
    pub listen: Vec<String>,
    /// Serve TLS with these files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Largest request body.
    pub max_request_body: Size,
    /// Largest answer that is held back for inspection; larger ones meet the route's `held_response.overflow`.
    pub max_held_response: Size,
    /// Time in which a whole request body must arrive.
    pub body_timeout: Span,
    /// Requests in flight above which new ones get 503 `overloaded`; 0 switches the cap off.
    pub max_concurrent_requests: usize,
    /// How long open requests may take to finish at shutdown or upgrade.
    pub drain: Span,
    /// Networks (CIDR) whose `X-Forwarded-For` is believed.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    /// How long an idle connection of a caller is kept; `0s` closes after each answer.
    pub keepalive: Span,
    /// Worker threads; 0 means one per core.
    pub threads: usize,
    /// Socket over which a new process takes over the listeners. Only a restart changes it.
    pub upgrade_sock: PathBuf,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:8080".into()],
            tls: None,
            max_request_body: Size::mib(16),
            max_held_response: Size::mib(16),
            body_timeout: Span::seconds(30),
            max_concurrent_requests: 0,
            drain: Span::seconds(30),
            trusted_proxies: Vec::new(),
            keepalive: Span::seconds(60),
            threads: 0,
            upgrade_sock: "./var/odock-edge.sock".into(),
        }
    }
}

/// PEM files of a TLS listener.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// The listener for operators.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// What the API for keys asks for, as `Authorization: Bearer`; without it there is no such API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretRef>,
    /// Address of /metrics, /livez, /readyz and /version; `off` for none. Not for the open network.
    pub listen: String,
}

impl Default for Admin {
    fn default() -> Self {
        Self { token: None, listen: "127.0.0.1:9090".into() }
    }
}

/// What the process writes to stderr.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// One JSON object a line, or text for people.
    pub format: LogForm,
    /// Least severe level: error, warn, info, debug or trace; a filter such as `info,pingora=warn` is accepted.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogForm::Json, level: "info".into() }
    }
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogForm {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The evidence log.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Evidence {
    /// Write evidence.
    pub enabled: bool,
    /// Directory of the files.
    pub path: PathBuf,
    /// Size at which the next file begins.
    pub rotate: Size,
    /// When a signed checkpoint is written.
    pub checkpoint: Checkpoint,
    /// Records that may wait for the writer before they are dropped and counted.
    pub queue: usize,
    /// Ed25519 key (PKCS#8) that signs checkpoints. Without it one is made at the first start and kept in
    /// the evidence directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signing_key: Option<SecretRef>,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            enabled: true,
            path: "./var/evidence".into(),
            rotate: Size::mib(64),
            checkpoint: Checkpoint::default(),
            queue: 8192,
            signing_key: None,
        }
    }
}

/// When a signed checkpoint is written: at whichever comes first.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Checkpoint {
    /// After this many records.
    pub every: u64,
    /// After this time, when there are new records.
    pub interval: Span,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { every: 1000, interval: Span::seconds(10) }
    }
}
