//! Guardrail policies: who may call, from where, how often and how much at the same time.
//!
//! A [`Policy`] is what was configured for one [`Scope`]; a [`ScopePlan`] is a policy with named counters. Every scope that has
//! a policy must admit a request, and no counter gives anything unless all of them do. There are three stages: before the key
//! is known the gateway-wide policy, then [`Stage::Early`] with what the head reveals, then [`Stage::Final`] with model and
//! tokens. [`Ask::admitted`] checks what needs no counter. The counters of one or several stages form a [`Panel`], and what
//! they granted is in the [`Receipt`] until the request is over. The usual case, room everywhere, is granted in one call for a
//! whole [`Course`].

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
