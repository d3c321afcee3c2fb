//! What the gateway tells its operators: metrics and log lines. Nothing here ever holds a prompt, an answer or a key.
//!
//! [`names`] is the table of metrics, [`metrics`] the handles that count, [`log`] the form of log lines.

pub mod log;
pub mod metrics;
pub mod names;
pub mod time;

#[cfg(test)]
mod shipped;

pub use metrics::{
    CONTENT_TYPE, EvidenceMetrics, InFlight, Metrics, MetricsError, ModelMetrics, PluginMetrics, PoolMetrics,
    ProviderError, ProviderMetrics, RouteMetrics,
};
