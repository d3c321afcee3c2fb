//! `outbox`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Span;

/// What plugins deliver in the background: where it waits, how often it is tried, when it is given up.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Outbox {
    /// Directory in which deliveries wait for the record store.
    pub path: PathBuf,
    /// Deliveries that may wait.
    pub max_pending: u64,
    /// What happens to one more: `drop_newest` and `drop_oldest` say in metrics and evidence what they dropped; `deny` tells
    /// the plugin, whose `on_error` decides about a request that is not answered yet.
    pub on_full: OutboxFull,
    /// Deliveries under way at once.
    pub in_flight: usize,
    /// How long deliveries are kept after they were given up, for `odock-edge outbox retry`.
    pub keep_dead: Span,
    /// Time before each attempt, the first included, give or take a fifth; after the last a delivery is given up.
    pub schedule: Vec<Span>,
    /// Longest time for one attempt.
    pub timeout: Span,
    /// When a destination is paused that does not take deliveries.
    pub breaker: Breaker,
    /// What is different for some instances.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub instances: BTreeMap<String, OutboxInstance>,
}

impl Default for Outbox {
    fn default() -> Self {
        let schedule = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
        Self {
            path: "./var/outbox".into(),
            max_pending: 100_000,
            on_full: OutboxFull::DropNewest,
            in_flight: 32,
            keep_dead: Span::seconds(30 * 86_400),
            schedule: schedule.map(Span::seconds).to_vec(),
            timeout: Span::seconds(20),
            breaker: Breaker::default(),
            instances: BTreeMap::new(),
        }
    }
}

/// What happens to a delivery for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutboxFull {
    /// It is dropped.
    DropNewest,
    /// The oldest that waits is dropped for it.
    DropOldest,
    /// The plugin is told.
    Deny,
}

/// When a destination is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// After so many attempts in a row that failed.
    pub failures: u32,
    /// For so long; then one delivery is tried, and while that fails the pause doubles, up to 15 minutes.
    pub pause: Span,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, pause: Span::seconds(30) }
    }
}

/// What is different for an instance.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxInstance {
    /// Time before each attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Vec<Span>>,
    /// Longest time for one attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// When a destination is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
}
