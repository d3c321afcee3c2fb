//! The routing of requests: routes, providers with their models, MCP servers, and plain upstreams. Only data and lookups; the
//! proxy turns them into connections.

mod mcp;
mod named;
mod provider;
mod router;
mod upstream;

pub use mcp::{Audience, ClientCredentials, McpCredential, McpPricing, McpServer, McpServers, PROVIDER, ToolRules, Transport};
pub use named::{ByName, NameHasher};
pub use provider::{BaseUrl, BaseUrlError, Model, Models, Provider, ProviderKind};
pub use router::{Match, Matcher, Router};
pub use upstream::{Address, Check, HealthCheck, Upstream};

use std::sync::Arc;
use std::time::Duration;

use crate::gate::Chain;

/// What happens when an answer that the chain must read is larger than `server.max_held_response`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// Refuse it with `held_response_too_large` (the default).
    Deny,
    /// Let it pass unread, and tag the request in evidence.
    Allow,
}

/// A route with all its references resolved.
#[derive(Debug)]
pub struct Route {
    /// Unique name, also the label in metrics.
    pub name: Arc<str>,
    /// The index in [`Router::routes`], under which the proxy keeps data per route (balancers, metrics, guards).
    pub index: usize,
    /// The compiled plugin chain.
    pub chain: Arc<Chain>,
    /// The route's own HTTP upstream; without one, the model of the request decides the provider.
    pub upstream: Option<Upstream>,
    /// Whether a virtual key is required.
    pub auth: bool,
    /// What to do with an answer too large to hold.
    pub held_overflow: Overflow,
    /// Refuse bodies that cannot be parsed instead of forwarding them unread (`on_unparsed: deny`).
    pub guard_unparsed: bool,
    /// Send `odock-receipt` with every answer.
    pub receipt: bool,
    /// Send `server-timing` with every answer.
    pub server_timing: bool,
    /// How often a failed connection attempt is repeated.
    pub retries: u32,
    /// The timeout of one upstream attempt; `None` uses the provider's own.
    pub timeout: Option<Duration>,
}
