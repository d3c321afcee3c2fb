//! The attack detector: how much a text looks like an attack on the model that reads it.
//!
//! One automaton finds the vocabulary of attacks in many languages ([`lexicon`]), and a linear model over hashed words,
//! pieces and sequences of ideas ([`features`], [`model`]) scores every window of the text ([`window`]); the strongest
//! window decides. [`train`] makes the weights from labelled rows and from the project's own grammars.

mod detector;
mod family;
pub mod features;
mod floor;
mod gate;
mod guard;
pub mod lexicon;
pub mod model;
pub mod tokens;
pub mod train;
pub mod window;

pub use detector::{Detector, DetectorError, FAINTEST, Hit, Hits};
pub use floor::{FLOOR, Floor, INJECTION as INJECTION_PHRASES, JAILBREAK as JAILBREAK_PHRASES};
pub use guard::{Guard, Settings};
pub use model::{INJECTION, JAILBREAK, Model, WeightsError};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod shipped_test;
