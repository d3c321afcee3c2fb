//! Guardrail policies: who may call from where, how often, how much at once.
//!
//! A [`Policy`] is what a person wrote for one [`Scope`]; a [`ScopePlan`] is the same with its counters named. Every scope
//! that has a policy must let a request pass, and nothing is taken from any counter unless all of them do. The gates are
//! those of the product: before the key is known the gateway's own policy, then [`Stage::Early`] with what the head tells,
//! then [`Stage::Final`] with model and tokens. [`Ask::admitted`] decides what needs no counter; the counters of one or
//! several gates are a [`Panel`], and what was taken of them is in the [`Receipt`] until the request is over. What most
//! requests meet, room everywhere, is granted at once along a [`Course`].

mod course;
mod full;
mod gate;
mod headers;
mod network;
mod panel;
mod plan;
mod policy;
mod receipt;

pub use course::Course;
pub use gate::{Ask, Decision, Outcome, Stage};
pub use headers::{Fields, headers, insert_headers};
pub use network::Network;
pub use panel::Panel;
pub use plan::{Field, Scope, ScopePlan};
pub use policy::{ConcurrencyPolicy, IpPolicy, Moment, Overlay, PayloadPolicy, Policy, RatePolicy, RequestPolicy, TokenPolicy};
pub use receipt::{Part, Receipt, Standing, Standings};
