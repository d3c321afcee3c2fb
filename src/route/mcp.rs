//! MCP servers: their addresses, who may call which of their tools, and what a call costs.

use std::collections::HashMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BaseUrl, Provider};
use crate::identity::{Caller, Secret};
use crate::limit::ScopePlan;

/// The provider name that all MCP servers share in usage records, metrics and evidence.
pub const PROVIDER: &str = "mcp";

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// Streamable HTTP: answers are JSON or event streams.
    #[default]
    #[serde(alias = "STREAMABLE_HTTP", alias = "HTTP", alias = "http")]
    StreamableHttp,
    /// Every answer is an event stream.
    #[serde(alias = "SSE")]
    Sse,
}

impl Transport {
    /// The name in configuration and usage records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StreamableHttp => "streamable_http",
            Self::Sse => "sse",
        }
    }

    /// The value of `Accept` that the server requires.
    pub const fn accept(self) -> &'static str {
        match self {
            Self::StreamableHttp => "application/json, text/event-stream",
            Self::Sse => "text/event-stream",
        }
    }
}

/// An MCP server of an organisation.
#[derive(Debug)]
pub struct McpServer {
    /// The server's name, unique in the organisation; callers use it in the path.
    pub name: Arc<str>,
    /// The server's address and timeouts. All servers share the provider name [`PROVIDER`].
    pub upstream: Arc<Provider>,
    /// The path of the server's endpoint, beginning with `/`.
    pub path: String,
    /// The transport of its answers.
    pub transport: Transport,
    /// The credential that it requires.
    pub credential: McpCredential,
    /// The keys that may call it at all, in addition to a grant.
    pub audience: Audience,
    /// The tools that may be called.
    pub tools: ToolRules,
    /// Words that must not occur anywhere in a request, in lower case.
    pub blocked_keywords: Vec<String>,
    /// The price of calling it, if one is configured.
    pub pricing: Option<McpPricing>,
    /// Its own policy, if that limits anything, with one counter for all callers.
    pub limits: Option<Arc<ScopePlan>>,
}

/// The credential that an MCP server requires.
#[derive(Debug)]
pub enum McpCredential {
    /// The server requires none.
    None,
    /// A fixed value of `Authorization`. `None` if its reference could not be resolved; requests are refused then.
    Fixed(Option<Secret>),
    /// An access token that has to be fetched.
    Fetched(ClientCredentials),
}

/// How access tokens are fetched: the client credentials grant of OAuth 2.0 (RFC 6749 §4.4).
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    /// The address of the token endpoint.
    pub token_url: BaseUrl,
    /// The path of the token endpoint.
    pub path: String,
    /// The gateway's client id.
    pub client_id: String,
    /// The gateway's client secret; `None` if its reference could not be resolved.
    pub client_secret: Option<Secret>,
    /// The scope to ask for.
    pub scope: Option<String>,
    /// The audience to ask for.
    pub audience: Option<String>,
}

/// The keys that a server is meant for. A grant is needed in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience {
    /// Only keys of this team, by its id.
    pub team: Option<Arc<str>>,
    /// Only this key, by its id.
    pub key: Option<Arc<str>>,
}

impl Audience {
    /// Whether a caller's key belongs to the audience.
    pub fn has(&self, caller: &Caller) -> bool {
        let team = caller.team.as_ref().map(|team| &team.id);
        self.team.as_ref().is_none_or(|wanted| team == Some(wanted)) && self.key.as_ref().is_none_or(|wanted| *wanted == caller.key_id)
    }
}

/// The tools of a server that may be called. Names are compared exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolRules {
    /// Only these tools, unless the list is empty.
    pub allowed: Vec<String>,
    /// None of these tools, even if they are allowed.
    pub blocked: Vec<String>,
}

impl ToolRules {
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty() && self.blocked.is_empty()
    }

    /// Whether a tool may be called.
    pub fn permit(&self, tool: &str) -> bool {
        let named = |list: &[String]| list.iter().any(|name| name == tool);
        !named(&self.blocked) && (self.allowed.is_empty() || named(&self.allowed))
    }
}

/// What an MCP server costs, nano-USD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct McpPricing {
    /// A request; one that calls several tools costs this for each.
    pub call_nanos_usd: u64,
    /// A byte of a request's body.
    pub input_byte_nanos_usd: u64,
    /// A byte of an answer's body.
    pub output_byte_nanos_usd: u64,
}

impl McpPricing {
    /// The costs of the calls, the request's bytes and the answer's bytes (nano-USD). Saturates instead of wrapping.
    pub fn parts(&self, calls: u64, bytes_in: u64, bytes_out: u64) -> [i64; 3] {
        let part = |price: u64, count: u64| i64::try_from(price.saturating_mul(count)).unwrap_or(i64::MAX);
        [part(self.call_nanos_usd, calls.max(1)), part(self.input_byte_nanos_usd, bytes_in), part(self.output_byte_nanos_usd, bytes_out)]
    }
}

/// All MCP servers, by organisation (id) and by the names that callers use. A lookup allocates nothing.
#[derive(Debug, Clone, Default)]
pub struct McpServers(HashMap<Arc<str>, HashMap<Arc<str>, Arc<McpServer>>>);

impl McpServers {
    /// Adds a server under its name and, if it has one, its id.
    pub fn insert(&mut self, organisation: Arc<str>, id: Option<Arc<str>>, server: Arc<McpServer>) {
        let own = self.0.entry(organisation).or_default();
        if let Some(id) = id {
            own.insert(id, Arc::clone(&server));
        }
        own.insert(Arc::clone(&server.name), server);
    }

    /// Every name and id of every server, with its organisation.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &Arc<McpServer>)> {
        self.0.iter().flat_map(|(organisation, own)| own.iter().map(move |(name, server)| (organisation, name, server)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_beats_allowed() {
        let rules = |allowed: &[&str], blocked: &[&str]| ToolRules {
            allowed: allowed.iter().map(|name| (*name).to_owned()).collect(),
            blocked: blocked.iter().map(|name| (*name).to_owned()).collect(),
        };
        assert!(rules(&[], &[]).permit("a") && rules(&[], &[]).is_empty());
        assert!(rules(&["a"], &[]).permit("a") && !rules(&["a"], &[]).permit("b") && !rules(&["a"], &[]).permit("A"));
        assert!(!rules(&["a"], &["a"]).permit("a") && rules(&[], &["a"]).permit("b"));
    }

    #[test]
    fn the_price_of_the_products_own_example() {
        let pricing = McpPricing { call_nanos_usd: 1000, input_byte_nanos_usd: 50, output_byte_nanos_usd: 50 };
        assert_eq!(pricing.parts(1, 166, 22_751).iter().sum::<i64>(), 1_146_850);
        assert_eq!(pricing.parts(0, 0, 0), [1000, 0, 0]);
        assert_eq!(McpPricing { call_nanos_usd: u64::MAX, ..pricing }.parts(3, 0, 0)[0], i64::MAX);
    }
}
