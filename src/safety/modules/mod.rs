//! The built-in modules: one folder each, and one line in the list below.
//!
//! A module's folder has a `mod.rs` with a type that implements [`SafetyModule`] and a `pub static BLUEPRINT: Blueprint`
//! that says how it is built and what holds for it unless the operator says otherwise. The folder's name is the module's.

use std::sync::Arc;

use serde_json::Value;

use super::{OnError, SafetyModule};

/// What the engine knows of a module before it is built.
#[derive(Debug, Clone, Copy)]
pub struct Blueprint {
    /// The name in configuration, findings, metrics and evidence.
    pub name: &'static str,
    /// The one question it answers, for people.
    pub question: &'static str,
    /// What a score of 1 adds to the session.
    pub weight: f64,
    /// What a failure means in mode `security` unless configured: a module that must hold fails closed.
    pub on_error: OnError,
    /// Its findings depend on the passage's text, side, kind and role alone, so that they may be remembered.
    pub pure: bool,
    /// Builds it from `safety.modules.<name>.config`, an object; what is wrong with it otherwise.
    pub build: fn(&Value) -> Result<Arc<dyn SafetyModule>, String>,
}

macro_rules! modules {
    ($($name:ident),* $(,)?) => {
        $(pub mod $name;)*
        /// Every module of this build, in the order in which they run.
        pub static BUILT_IN: &[&Blueprint] = &[$(&$name::BLUEPRINT),*];
    };
}

modules! {
    sensitive_redaction,
    prompt_injection,
    jailbreak,
    data_leakage,
}

/// The blueprint of that name.
pub fn find(name: &str) -> Option<&'static Blueprint> {
    BUILT_IN.iter().copied().find(|blueprint| blueprint.name == name)
}
