//! Jailbreak patterns: personas without rules, modes that do not exist, pretexts and suppressed refusals.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::Blueprint;
use crate::safety::OnError;
use crate::safety::attack::{Guard, JAILBREAK, JAILBREAK_PHRASES, Settings};

/// The name in configuration, findings, metrics and evidence.
pub const NAME: &str = "jailbreak";

/// How the engine builds it.
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
