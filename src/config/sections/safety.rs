//! `safety`, and `safety` of a route.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{SecretRef, Span};
use crate::plugin::Scope;
use crate::safety::{Action, Mode, OnError, SessionRule};

/// SafetySec.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Safety {
    /// `noop` scans nothing, `observe` records what it would have done, `security` redacts and blocks.
    pub mode: Mode,
    /// Risk of a caller over time.
    pub session: SafetySession,
    /// Texts whose verdict is remembered; 0 remembers none.
    pub remembered_texts: usize,
    /// Settings of the modules by name. A module that is not named runs as it comes.
    pub modules: BTreeMap<String, SafetyModuleEntry>,
}

impl Default for Safety {
    fn default() -> Self {
        Self { mode: Mode::Noop, session: SafetySession::default(), remembered_texts: 65_536, modules: BTreeMap::new() }
    }
}

/// Risk of a caller over time.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SafetySession {
    /// How long a session is remembered after its last request.
    pub ttl: Span,
    /// Accumulated score from which a finding blocks.
    pub block_threshold: f64,
    /// After this time half of a score is left; 0s never forgets before the ttl.
    pub half_life: Span,
    /// Faint findings, such as a suspicious phrase by itself, never lift a score above this.
    pub faint_ceiling: f64,
    /// A finding whose session cannot be asked: `allow` decides by the request alone, `deny` answers 503
    /// `store_unavailable`.
    pub on_store_error: OnError,
    /// Makes the fingerprints of callers. With a shared store every replica needs the same one; derived from the store's
    /// address by default, and random for a store in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint_key: Option<SecretRef>,
}

impl Default for SafetySession {
    fn default() -> Self {
        let rule = SessionRule::default();
        Self {
            ttl: Span::seconds(86_400),
            block_threshold: rule.block_threshold,
            half_life: Span::seconds(3600),
            faint_ceiling: rule.faint_ceiling,
            on_store_error: OnError::Allow,
            fingerprint_key: None,
        }
    }
}

/// One module.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SafetyModuleEntry {
    /// Off, it runs nowhere.
    pub enabled: bool,
    /// The most it may do; never more than the mode of the engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What becomes of its findings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// What a score of 1 adds to the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The score from which a finding counts, more than 0 and at most 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// What its failure means in mode `security`: `allow`, or `deny` with 503 `plugin_unavailable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
    /// Kinds of text it reads instead of its own choice: content, tool_arguments, tool_result, tool_definition,
    /// instruction, input, file_name, metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<String>>,
    /// For whom it runs; everyone by default. Every dimension that is given must fit.
    pub scope: Scope,
    /// Its own configuration.
    pub config: Map<String, Value>,
}

impl Default for SafetyModuleEntry {
    fn default() -> Self {
        Self {
            enabled: true,
            mode: None,
            action: None,
            weight: None,
            threshold: None,
            on_error: None,
            kinds: None,
            scope: Scope::default(),
            config: Map::new(),
        }
    }
}

/// SafetySec on a route.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteSafety {
    /// Instead of the mode of all routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What is different about modules on this route, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub modules: BTreeMap<String, RouteSafetyModule>,
}

/// What is different about a module on a route.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteSafetyModule {
    /// Whether it runs here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The most it may do here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// What becomes of its findings here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// What a score of 1 adds to the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The score from which a finding counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// What its failure means here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_error: Option<OnError>,
}
