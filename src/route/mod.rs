//! Where a request goes: routes, the providers and models behind them, and plain upstreams. Pure data and lookup; the
//! proxy turns it into connections.

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
    /// Let it through unread, and say so in the evidence.
    Allow,
}

/// One route, with everything resolved.
#[derive(Debug)]
pub struct Route {
    /// Unique name; label of metrics.
    pub name: Arc<str>,
    /// Position in [`Router::routes`], to find what the proxy keeps per route (balancers, metric handles).
    pub index: usize,
    /// The compiled plugin chain.
    pub chain: Arc<Chain>,
    /// A plain HTTP upstream; without one the model of the request decides the provider.
    pub upstream: Option<Upstream>,
    /// Whether a virtual key is required.
    pub auth: bool,
    /// What to do with an answer too large to hold.
    pub held_overflow: Overflow,
    /// Refuse bodies that cannot be parsed instead of forwarding them unread (`on_unparsed: deny`).
    pub guard_unparsed: bool,
    /// Send a signed receipt header with every answer.
    pub receipt: bool,
    /// Send `server-timing`.
    pub server_timing: bool,
    /// How often a failed attempt is repeated before anything was sent to the caller.
    pub retries: u32,
    /// Time for one upstream attempt; `None` leaves the provider's own.
    pub timeout: Option<Duration>,
}
