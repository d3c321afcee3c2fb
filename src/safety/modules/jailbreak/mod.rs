//! Jailbreak patterns: personas without rules, invented modes, pretexts and suppressed refusals.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::Blueprint;
use crate::safety::attack::{Detector, Guard, JAILBREAK, JAILBREAK_PHRASES, Settings};
use crate::safety::{OnError, SafetyModule};

/// The name in configuration, findings, metrics and evidence.
pub const NAME: &str = "jailbreak";

/// Its description for the engine.
pub static BLUEPRINT: Blueprint = Blueprint {
    name: NAME,
    question: "Do these words try to talk a model out of its limits?",
    weight: 1.0,
    on_error: OnError::Allow,
    pure: true,
    build: |config: &Value| {
        let settings = Settings::deserialize(config).map_err(|error| error.to_string())?;
        Ok(Arc::new(Guard::new(NAME, JAILBREAK, JAILBREAK_PHRASES, &settings).map_err(|error| error.to_string())?))
    },
};

/// Builds the module with the operator's own weights.
///
/// # Errors
/// What is wrong with its configuration.
pub fn with_detector(config: &Value, detector: Arc<Detector>) -> Result<Arc<dyn SafetyModule>, String> {
    let settings = Settings::deserialize(config).map_err(|error| error.to_string())?;
    Ok(Arc::new(Guard::with(NAME, JAILBREAK, JAILBREAK_PHRASES, &settings, detector).map_err(|error| error.to_string())?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
