//! Odock Edge: the edge data plane of the Odock AI gateway, a reverse proxy for LLM and MCP traffic on Pingora.
//!
//! The path of a request is [`proxy`]: four of Pingora's callbacks are the four lifecycle gates, and at each gate the
//! route's plugin [`gate`] chain runs. Everything a request needs is in one immutable [`config::Snapshot`].

// Lets a plugin's source say `odock_edge::…` both in this tree and in a crate of its own.
extern crate self as odock_edge;

pub mod budget;
pub mod cli;
pub mod config;
pub mod error;
pub mod evidence;
pub mod gate;
pub mod gateway;
pub mod identity;
pub mod limit;
pub mod mock;
pub mod outbox;
pub mod plugin;
pub mod proxy;
pub mod route;
pub mod safety;
pub mod store;
pub mod telemetry;
pub mod usage;
pub mod wire;

pub use gateway::{Builder, Gateway, GatewayError};
