//! `state`, `records`, `safety`: typed here; what this build does not enforce is refused by the check.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{SecretRef, Span};

/// Where counters and leases live.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// In this process, or shared.
    pub kind: StateKind,
    /// Address of the shared store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretRef>,
}

impl Default for State {
    fn default() -> Self {
        Self { kind: StateKind::Embedded, url: None }
    }
}

/// Kind of the state store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// In the memory of this process.
    Embedded,
    /// Redis or Valkey.
    Redis,
}

/// Where records live.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Records {
    /// A file, or a server.
    pub kind: RecordsKind,
    /// File of the embedded store.
    pub path: PathBuf,
    /// Address of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretRef>,
}

impl Default for Records {
    fn default() -> Self {
        Self { kind: RecordsKind::Embedded, path: "./var/odock.db".into(), url: None }
    }
}

/// Kind of the record store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordsKind {
    /// A file of this process.
    Embedded,
    /// PostgreSQL.
    Postgres,
}

/// SafetySec.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Safety {
    /// Off, watching, or deciding.
    pub mode: SafetyMode,
    /// Risk of a caller over time.
    pub session: SafetySession,
    /// Settings of the modules by name.
    pub modules: Map<String, Value>,
}

impl Default for Safety {
    fn default() -> Self {
        Self { mode: SafetyMode::Noop, session: SafetySession::default(), modules: Map::new() }
    }
}

/// What SafetySec does with its findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SafetyMode {
    /// Nothing is scanned.
    Noop,
    /// Findings are recorded, nothing is changed.
    Observe,
    /// Findings redact and block.
    Security,
}

/// Risk of a caller over time.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SafetySession {
    /// How long a session is remembered.
    pub ttl: Span,
    /// Accumulated score from which requests are blocked, 0 to 1.
    pub block_threshold: f64,
}

impl Default for SafetySession {
    fn default() -> Self {
        Self { ttl: Span::seconds(86_400), block_threshold: 0.85 }
    }
}
