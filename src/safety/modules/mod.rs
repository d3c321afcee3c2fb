//! The built-in modules: one folder each, and one line in the list below.
//!
//! Modules of other crates are linked with [`link`], or [`crate::gateway::Builder::safety_module`], before a configuration is
//! read; they then are as the built-in ones are.
//!
//! A module's folder has a `mod.rs` with a type that implements [`SafetyModule`] and a `pub static BLUEPRINT: Blueprint`
//! that says how it is built and what holds for it unless the operator says otherwise. The folder's name is the module's.

use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use super::attack::Detector;
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

/// Modules of other crates.
static LINKED: RwLock<Vec<&'static Blueprint>> = RwLock::new(Vec::new());

/// Adds a module of another crate for the rest of the process. One of the same name is replaced; a built-in one is not, and
/// the answer is false.
pub fn link(blueprint: &'static Blueprint) -> bool {
    if BUILT_IN.iter().any(|known| known.name == blueprint.name) {
        return false;
    }
    let mut linked = LINKED.write();
    linked.retain(|known| known.name != blueprint.name);
    linked.push(blueprint);
    true
}

/// Every module that a configuration may name: the built-in ones in the order in which they run, then the linked ones.
pub fn all() -> Vec<&'static Blueprint> {
    BUILT_IN.iter().chain(LINKED.read().iter()).copied().collect()
}

/// The blueprint of that name.
pub fn find(name: &str) -> Option<&'static Blueprint> {
    all().into_iter().find(|blueprint| blueprint.name == name)
}

/// Builds a module that asks a detector, with one of the operator's own.
pub type WithDetector = fn(&Value, Arc<Detector>) -> Result<Arc<dyn SafetyModule>, String>;

/// How the module of that name is built with weights of the operator's own; `None` for modules that have none.
pub fn with_detector(name: &str) -> Option<WithDetector> {
    match name {
        prompt_injection::NAME => Some(prompt_injection::with_detector),
        jailbreak::NAME => Some(jailbreak::with_detector),
        _ => None,
    }
}
