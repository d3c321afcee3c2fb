//! Parsing and writing of the dialects the gateway speaks. Pure functions: no I/O, and no panic on any input.

pub mod endpoint;
pub mod ends;
pub mod envelope;
mod failure;
mod form;
mod grammar;
pub mod head;
pub mod json;
pub mod mcp;
mod method;
pub mod object;
pub mod parts;
pub mod percent;
mod places;
pub mod pointer;
mod probabilities;
mod scan;
pub mod sse;
pub mod texts;
mod token_ids;
pub mod usage;
mod vocabulary;

pub use endpoint::{Dialect, Endpoint};
pub use ends::{Ends, ends, goes_on};
pub use failure::tells_error;
pub use form::Form;
pub use head::{Head, Insertion, ParseError, Wants, head};
pub use json::{SpliceError, moved, overwrite, patch, set_string, splice};
pub use method::method_name;
pub use parts::{Part, Parts, PartsError};
pub use places::places;
pub use pointer::Pointer;
pub use probabilities::without_probabilities;
pub use texts::{Channel, Kind, Lane, Role, Text, raw_texts, stream_texts, texts, texts_and_numbers};
pub use token_ids::token_ids;
pub use usage::{Usage, UsageSource, UsageStream};
