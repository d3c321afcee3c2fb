//! The sections of the file as written: one type per section, defaults included, nothing resolved.

mod governed;
mod mcp;
mod organisations;
mod outbox;
mod plugins;
mod providers;
mod routes;
mod safety;
mod secret;
mod server;
mod units;

pub use governed::{Certainty, Governance, OnStoreError, Records, RecordsKind, State, StateKind};
pub use mcp::{McpAuth, McpServerEntry};
pub use organisations::{ApiKeyEntry, KeyType, ModelEntry, ModelGrant, OrganisationEntry, TeamEntry, UserEntry};
pub use outbox::{Breaker, Outbox, OutboxFull, OutboxInstance};
pub use plugins::{ChainEntry, GrantEntry, PluginEntry, PluginRuntime, PostResponseEntry, StageEntry};
pub use providers::{ProviderEntry, ProviderType};
pub use routes::{Auth, HealthCheckEntry, HeldResponse, MatchEntry, OverflowEntry, RouteEntry, Unparsed, UpstreamEntry};
pub use safety::{RouteSafety, Safety, SafetyModuleEntry};
pub use secret::SecretRef;
pub use server::{Admin, Checkpoint, Evidence, Log, LogForm, Server, Tls};
pub use units::{Instant, Size, Span};

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limit::Policy;

/// The whole file.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Odock Edge configuration")]
pub struct Root {
    /// Version of the format; always 1.
    pub version: u32,
    /// Accept secrets written out in this file. For trying things only.
    #[serde(default)]
    pub allow_inline_secrets: bool,
    /// The listener for callers and the limits every request meets.
    #[serde(default)]
    pub server: Server,
    /// The listener for operators.
    #[serde(default)]
    pub admin: Admin,
    /// What the process writes to stderr.
    #[serde(default)]
    pub log: Log,
    /// The evidence log: who asked for what, what was decided, hash-linked and signed; never content.
    #[serde(default)]
    pub evidence: Evidence,
    /// Where counters and leases live.
    #[serde(default)]
    pub state: State,
    /// Where keys made at run time and usage live.
    #[serde(default)]
    pub records: Records,
    /// SafetySec.
    #[serde(default)]
    pub safety: Safety,
    /// What every request must meet, whoever sends it: its rates count all callers together.
    #[serde(default, skip_serializing_if = "Policy::is_default")]
    pub policies: Policy,
    /// How limits, budgets and usage behave where nothing is certain.
    #[serde(default)]
    pub governance: Governance,
    /// What plugins deliver in the background.
    #[serde(default)]
    pub outbox: Outbox,
    /// Secrets that plugins may be granted, by name.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretRef>,
    /// Who serves models.
    #[serde(default)]
    pub providers: Vec<ProviderEntry>,
    /// Tenants with their teams, users, models and virtual keys.
    #[serde(default)]
    pub organisations: Vec<OrganisationEntry>,
    /// How plugins run.
    #[serde(default)]
    pub plugin_runtime: PluginRuntime,
    /// Plugin instances.
    #[serde(default)]
    pub plugins: Vec<PluginEntry>,
    /// An Odock `plugins.json` whose plugins are added to `plugins` and whose phases become the chain `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugins_file: Option<PathBuf>,
    /// Plugin chains by name. A route without `chain` uses `default`.
    #[serde(default)]
    pub chains: BTreeMap<String, ChainEntry>,
    /// Routes. Without any, everything under `/v1/` goes through the chain `default`.
    #[serde(default)]
    pub routes: Vec<RouteEntry>,
}
