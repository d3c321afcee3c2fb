//! Bytes ⇄ meaning of the dialects the gateway speaks: pure, no I/O, never panics on any bytes.

pub mod endpoint;
pub mod head;
pub mod json;
pub mod usage;

pub use endpoint::{Dialect, Endpoint};
pub use head::{Head, ParseError, head};
pub use json::{SpliceError, set_string, splice};
pub use usage::{Usage, UsageSource};
