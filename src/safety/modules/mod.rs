//! The built-in modules: a folder for each, and a line in the list below.
//!
//! Modules of other crates are linked with [`link`], or [`crate::gateway::Builder::safety_module`], before a configuration
//! is read; from then on they work like built-in ones.
//!
//! A module's folder is named after the module. Its `mod.rs` has a type that implements [`SafetyModule`], and a `pub static
//! BLUEPRINT: Blueprint` that says how it is built, and its defaults.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use super::attack::Detector;
use super::{OnError, SafetyModule};

/// The description of a module: what the engine knows before the module is built.
#[derive(Debug, Clone, Copy)]
pub struct Blueprint {
    /// The name in configuration, findings, metrics and evidence.
    pub name: &'static str,
    /// The question that it answers, for people.
    pub question: &'static str,
    /// What a score of 1 adds to the session.
    pub weight: f64,
    /// What its failure means in mode `security` unless configured: a module that must not be bypassed fails closed.
    pub on_error: OnError,
    /// Whether its findings depend only on the passage's text, side, kind and role, so that they may be cached.
    pub pure: bool,
    /// Builds it from `safety.modules.<name>.config`, an object; the error says what is wrong with that.
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

/// Modules of other crates.
static LINKED: RwLock<Vec<&'static Blueprint>> = RwLock::new(Vec::new());

/// Adds a module of another crate for the rest of the process. It replaces a linked module of the same name; a built-in one
/// is not replaced, and the result is `false`.
pub fn link(blueprint: &'static Blueprint) -> bool {
    if BUILT_IN.iter().any(|known| known.name == blueprint.name) {
        return false;
    }
    let mut linked = LINKED.write();
    linked.retain(|known| known.name != blueprint.name);
    linked.push(blueprint);
    true
}

/// Every module that a configuration may name: the built-in ones in the order in which they run, then linked ones.
pub fn all() -> Vec<&'static Blueprint> {
    BUILT_IN.iter().chain(LINKED.read().iter()).copied().collect()
}

/// The blueprint with this name.
pub fn find(name: &str) -> Option<&'static Blueprint> {
    all().into_iter().find(|blueprint| blueprint.name == name)
}

/// Builds a module that uses a detector, with the operator's own.
pub type WithDetector = fn(&Value, Arc<Detector>) -> Result<Arc<dyn SafetyModule>, String>;

/// How to build the module with this name with the operator's own weights; `None` for modules without weights.
pub fn with_detector(name: &str) -> Option<WithDetector> {
    match name {
        prompt_injection::NAME => Some(prompt_injection::with_detector),
        jailbreak::NAME => Some(jailbreak::with_detector),
        _ => None,
    }
}
