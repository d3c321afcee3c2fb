//! Guardrail policies: who may call from where, how often, how much at once.
//!
//! A [`Policy`] is what a person wrote for one [`Scope`]; a [`ScopePlan`] is the same with its counters named. Every scope
//! that has a policy must let a request pass, and nothing is taken from any counter unless all of them do. The gates are
//! those of the product: before the key is known the network alone, then [`Stage::Early`] with what the head tells, then
//! [`Stage::Final`] with model and tokens, and [`Receipt::finish`] when the request is over.

mod gate;
mod headers;
mod network;
mod plan;
mod policy;

pub use gate::{Ask, Decision, Gate, Outcome, Receipt, Refusal, Stage, Standing};
pub use headers::headers;
pub use network::Network;
pub use plan::{Field, Scope, ScopePlan};
pub use policy::{ConcurrencyPolicy, IpPolicy, Moment, Overlay, PayloadPolicy, Policy, RatePolicy, RequestPolicy, TokenPolicy};
