//! `routes`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RouteSafety, Span};

/// One route.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteEntry {
    /// Unique name; label of metrics.
    pub name: String,
    /// Which requests take it; all that no other route takes, by default.
    #[serde(default, rename = "match")]
    pub matcher: MatchEntry,
    /// The plugin chain.
    #[serde(default = "default_chain")]
    pub chain: String,
    /// A plain HTTP upstream. Without one the model of the request decides the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamEntry>,
    /// Whether a virtual key is required.
    #[serde(default)]
    pub auth: Auth,
    /// SafetySec on this route.
    #[serde(default)]
    pub safety: RouteSafety,
    /// Answers that the chain must read as a whole.
    #[serde(default)]
    pub held_response: HeldResponse,
    /// What happens to bodies that cannot be parsed.
    #[serde(default)]
    pub on_unparsed: Unparsed,
    /// Tell with every answer of an upstream, by the fields odock-receipt and server-timing, which steps ran and what they said.
    #[serde(default)]
    pub receipt: bool,
    /// Send `server-timing`.
    #[serde(default)]
    pub server_timing: bool,
    /// How often connecting is tried again where no connection could be made, 0 to 5.
    #[serde(default)]
    pub retries: u32,
    /// Time for one upstream attempt instead of the provider's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
}

fn default_chain() -> String {
    "default".into()
}

/// Which requests take a route. Everything that is given must fit.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MatchEntry {
    /// Exact host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Exact path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Path prefix by whole segments; the longest wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// Methods; all by default.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Header fields with their exact value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// A plain HTTP upstream.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamEntry {
    /// `host:port` of each backend.
    pub addresses: Vec<String>,
    /// Relative shares, one per address; all 1 by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<u32>,
    /// Speak TLS.
    #[serde(default)]
    pub tls: bool,
    /// `Host` field and SNI to send; the caller's `Host` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Speak HTTP/2.
    #[serde(default)]
    pub http2: bool,
    /// Probe the backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheckEntry>,
}

/// How backends are probed.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HealthCheckEntry {
    /// Path of an HTTP GET that must answer 2xx; without it a TCP connect is enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Time between two probes.
    pub interval: Span,
}

impl Default for HealthCheckEntry {
    fn default() -> Self {
        Self { path: None, interval: Span::seconds(5) }
    }
}

/// Whether a virtual key is required.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// 401 without one.
    #[default]
    Required,
    /// Anyone may call.
    None,
}

/// Answers that the chain must read as a whole.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeldResponse {
    /// What happens to one larger than `server.max_held_response`.
    pub overflow: OverflowEntry,
}

/// What happens to an answer too large to hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverflowEntry {
    /// 502 `held_response_too_large`.
    #[default]
    Deny,
    /// It passes unread, and the evidence says so.
    Allow,
}

/// What happens to bodies that cannot be parsed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unparsed {
    /// 400 `invalid_request`.
    #[default]
    Deny,
    /// They are forwarded unread, and the evidence says so.
    Allow,
}
