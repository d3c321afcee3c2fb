//! `plugins`, `plugin_runtime`, `chains`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Span;
use crate::plugin::{Mode, OnError, Scope};

/// One plugin instance.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginEntry {
    /// Unique name of the instance; what chains list.
    pub name: String,
    /// The plugin it is an instance of; the name by default.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub plugin: Option<String>,
    /// Off leaves it out of every chain.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Its own configuration; `odock-edge plugins show NAME` prints what it takes.
    #[serde(default)]
    #[schemars(with = "Map<String, Value>")]
    pub config: Value,
    /// Longest time for one call.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// What a failure, a panic or running out of time means for the request.
    #[serde(default)]
    pub on_error: OnError,
    /// `observe` records what it would have done and changes nothing.
    #[serde(default)]
    pub mode: Mode,
    /// For whom it runs; everyone by default. Every dimension that is given must fit.
    #[serde(default)]
    pub scope: Scope,
    /// Percentage of keys for which it runs, 0 to 100; the same keys every time.
    #[serde(default = "everyone")]
    pub rollout: u8,
    /// What it may do beyond its chain.
    #[serde(default)]
    pub grant: GrantEntry,
    /// What it may look up: organisations, users, teams, api_keys, models, model_access, budgets, usage, policies,
    /// postgres, redis, or all.
    #[serde(default)]
    pub storage_access: Vec<String>,
}

impl PluginEntry {
    /// Name of the plugin that this is an instance of.
    pub fn plugin(&self) -> &str {
        self.plugin.as_deref().unwrap_or(&self.name)
    }
}

fn yes() -> bool {
    true
}

fn timeout() -> Span {
    Span::seconds(1)
}

fn everyone() -> u8 {
    100
}

/// What a plugin may do beyond its chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrantEntry {
    /// `host:port` it may call; private addresses only as `host:port private`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<String>,
    /// Directories under which it may append to files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<PathBuf>,
    /// Names under `secrets` it may read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// `false` takes away header changes that its manifest asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<bool>,
}

/// How plugins run.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PluginRuntime {
    /// Parallel plugins of one gate that run at the same time.
    pub max_parallel: usize,
    /// Background jobs that may wait; more are dropped and counted.
    pub async_queue_size: usize,
    /// Tasks that work on background jobs.
    pub async_workers: usize,
}

impl Default for PluginRuntime {
    fn default() -> Self {
        Self { max_parallel: 4, async_queue_size: 128, async_workers: 2 }
    }
}

/// One chain: which instances run at which gate.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChainEntry {
    /// Before the model is resolved; may change it.
    pub pre_route: StageEntry,
    /// Before the provider is called.
    pub pre_upstream: StageEntry,
    /// Before anything of the answer is sent.
    pub post_upstream: StageEntry,
    /// After the answer.
    pub post_response: PostResponseEntry,
}

/// The instances of one gate.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StageEntry {
    /// One after the other; may change and refuse.
    pub sequential: Vec<String>,
    /// All at once after the sequential ones; may refuse.
    pub parallel: Vec<String>,
}

/// The instances that run after the answer.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PostResponseEntry {
    /// One after the other.
    pub sequential: Vec<String>,
    /// All at once.
    pub parallel: Vec<String>,
    /// Each from the queue, by itself.
    #[serde(rename = "async")]
    pub background: bool,
}
