//! Metrics and log lines for operators. Neither ever contains a prompt, an answer or a key.
//!
//! [`names`] is the table of metrics, [`Metrics`] the registry that resolves its [`handles`], [`log`] the format of log
//! lines.

pub mod address;
mod families;
mod governance;
pub mod handles;
mod keys;
mod lines;
pub mod log;
mod metrics;
pub mod names;
mod outbox;
mod sheets;
mod sparse;
pub mod time;

#[cfg(test)]
mod shipped;

pub use governance::GovernanceMetrics;
pub use handles::{
    DecisionMetrics, EvidenceMetrics, InFlight, ModelMetrics, ModuleMetrics, PluginMetrics, PoolMetrics, ProviderError, ProviderMetrics,
    RouteMetrics, SessionMetrics, TextMetrics,
};
pub use keys::{KeyMetrics, Lookup};
pub use metrics::{CONTENT_TYPE, Metrics, MetricsError};
pub use outbox::OutboxMetrics;
pub use sheets::Sheets;
pub use sparse::Sparse;
