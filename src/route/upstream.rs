//! A route's own HTTP upstream: its addresses and how to connect to them.

use std::sync::Arc;
use std::time::Duration;

/// One backend address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `host:port`; the host is resolved by the proxy.
    pub address: String,
    /// The relative share of requests, at least 1.
    pub weight: u32,
}

/// How the health of an address is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// An HTTP GET of this path must answer 2xx.
    Http(String),
    /// A TCP (and TLS) connect must succeed.
    Tcp,
}

/// Active health checking of an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The probe.
    pub check: Check,
    /// Time between two probes of one address.
    pub interval: Duration,
}

/// A group of interchangeable backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The addresses, at least one.
    pub addresses: Vec<Address>,
    /// Whether to connect with TLS.
    pub tls: bool,
    /// The `Host` header and SNI to send; `None` keeps the caller's `Host` and uses the address as SNI.
    pub host: Option<Arc<str>>,
    /// Active probing; without it, every address counts as healthy.
    pub health_check: Option<HealthCheck>,
    /// Whether to use HTTP/2 (by ALPN with TLS, by prior knowledge without).
    pub h2: bool,
}
