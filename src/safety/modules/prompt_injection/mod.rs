//! Prompt injection: text that tries to replace the instructions, to extract them, or to hide commands in what a model
//! reads.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::Blueprint;
use crate::safety::attack::{Detector, Guard, INJECTION, INJECTION_PHRASES, Settings};
use crate::safety::{OnError, SafetyModule};

/// The name in configuration, findings, metrics and evidence.
pub const NAME: &str = "prompt_injection";

/// Its description for the engine.
pub static BLUEPRINT: Blueprint = Blueprint {
    name: NAME,
    question: "Do these words try to override, extract or smuggle instructions?",
    weight: 1.0,
    on_error: OnError::Allow,
    pure: true,
    build: |config: &Value| {
        let settings = Settings::deserialize(config).map_err(|error| error.to_string())?;
        let guard = Guard::new(NAME, INJECTION, INJECTION_PHRASES, &settings).map_err(|error| error.to_string())?;
        Ok(Arc::new(guard.reading_tools()))
    },
};

/// Builds the module with the operator's own weights.
///
/// # Errors
/// What is wrong with its configuration.
pub fn with_detector(config: &Value, detector: Arc<Detector>) -> Result<Arc<dyn SafetyModule>, String> {
    let settings = Settings::deserialize(config).map_err(|error| error.to_string())?;
    let guard = Guard::with(NAME, INJECTION, INJECTION_PHRASES, &settings, detector).map_err(|error| error.to_string())?;
    Ok(Arc::new(guard.reading_tools()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
