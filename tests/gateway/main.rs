//! Tests of the whole gateway: the real binary on loopback, between callers that send exact bytes and a provider that
//! records exact bytes. Nothing here uses internals; the library's own tests do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod client;
mod edge;
mod faults;
mod upstream;

mod bodies;
mod callers;
mod canary;
mod commands;
mod delivery;
mod delivery_peers;
mod delivery_shared;
mod dialects;
mod egress;
mod evasions;
mod evidence;
mod failures;
mod framing;
mod governance;
mod governance_calls;
mod governance_costs;
mod governance_load;
mod governance_shared;
mod held;
mod http2;
mod keys;
mod lifecycle;
mod made;
mod mcp;
mod metering;
mod observe;
mod order;
mod plugin_life;
mod plugins_callout;
mod plugins_events;
mod plugins_policy;
mod policy_engine;
mod postgres;
mod refusals;
mod safety;
mod safety_cli;
mod safety_edges;
mod safety_modules;
mod safety_places;
mod safety_sessions;
mod services;
mod syslog_server;
mod systemd;
mod transport;
mod upgrade;
