//! `organisations[].mcp_servers`: tools behind the gateway.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, Span};
use crate::limit::Policy;
use crate::route::{McpPricing, Transport};

/// An MCP server of an organisation, called at `/v1/mcp/NAME`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpServerEntry {
    /// What callers write in the path, unique in the organisation: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// A stable identifier that callers may write instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How it is spoken to.
    #[serde(default)]
    pub transport: Transport,
    /// The URL of its MCP endpoint.
    pub endpoint_url: String,
    /// How it knows this gateway.
    #[serde(default)]
    pub auth: McpAuth,
    /// Serve it; off means 404 `mcp_not_found`.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Names of keys that may use it, beside those that name it themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_keys: Vec<String>,
    /// Only keys of this team, granted ones; a name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_team: Option<String>,
    /// Only this key, if granted; a name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_api_key: Option<String>,
    /// The only tools that may be called; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_tools: Vec<String>,
    /// Tools that may not be called, also if allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_tools: Vec<String>,
    /// Words that may stand nowhere in a request, in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_keywords: Vec<String>,
    /// What it costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<McpPricing>,
    /// Network and rate-limit policies.
    #[serde(default, skip_serializing_if = "Policy::is_default")]
    pub policies: Policy,
    /// Longest silence: up to the answer's head, and between two events of a stream.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Longest time for connecting, TLS included.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// Speak HTTP/2 (by ALPN with https, by prior knowledge with http).
    #[serde(default)]
    pub http2: bool,
    /// PEM file of the authorities that sign its certificate, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Free text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

fn timeout() -> Span {
    Span::seconds(300)
}

fn connect_timeout() -> Span {
    Span::seconds(5)
}

fn yes() -> bool {
    true
}

/// How an MCP server knows the gateway. What the caller sent as its credential never reaches the server.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum McpAuth {
    /// It does not ask.
    #[default]
    None,
    /// `Authorization: Bearer`.
    Bearer {
        /// The token.
        token: SecretRef,
    },
    /// `Authorization: Basic`.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: SecretRef,
    },
    /// `Authorization: Bearer` with a token that the gateway fetches and renews: OAuth 2.0, client credentials.
    Oauth2 {
        /// The URL of the token endpoint.
        token_url: String,
        /// Who the gateway is there.
        client_id: String,
        /// Its secret.
        client_secret: SecretRef,
        /// What the token is to be good for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
        /// Whom it is to be good for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        audience: Option<String>,
    },
}
