//! Prompt injection: words that want to take the place of the instructions, pull them out, or hide in what a model reads.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::Blueprint;
use crate::safety::OnError;
use crate::safety::attack::{Guard, INJECTION, INJECTION_PHRASES, Settings};

/// The name in configuration, findings, metrics and evidence.
pub const NAME: &str = "prompt_injection";

/// How the engine builds it.
pub static BLUEPRINT: Blueprint = Blueprint {
    name: NAME,
    question: "Do these words try to override, extract or smuggle instructions?",
    weight: 1.0,
    on_error: OnError::Allow,
    pure: true,
    build: |config: &Value| {
        let settings = Settings::deserialize(config).map_err(|error| error.to_string())?;
        Ok(Arc::new(Guard::new(NAME, INJECTION, INJECTION_PHRASES, &settings).map_err(|error| error.to_string())?))
    },
};

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
