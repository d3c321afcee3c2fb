//! A plugin's description of itself: where it may run, what it needs and what it records.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Plugin;
use super::host::Host;
use crate::error::Code;
use crate::gate::{Gate, Style};

/// A plugin's description of itself: constant data, read when a configuration is loaded and by `plugins show`.
///
/// A configuration that uses the plugin at a gate, in a style or with a need that is not declared here is refused.
pub struct Manifest {
    /// The name of the plugin's folder and the value of `use:`.
    pub name: &'static str,
    /// The semantic version of the plugin.
    pub version: &'static str,
    /// The author.
    pub author: &'static str,
    /// The category for a catalogue.
    pub category: &'static str,
    /// `audit`, `privacy`, `transform`, …; part of every execution in evidence.
    pub kind: &'static str,
    /// A summary in one sentence.
    pub summary: &'static str,
    /// The gates it implements.
    pub gates: &'static [Gate],
    /// The styles in which it may be listed.
    pub styles: &'static [Style],
    /// The least that it can work with. The host and the views refuse everything else.
    pub needs: &'static [Need],
    /// Whether it reads streams frame by frame, so that a streamed answer need not be held for it.
    pub streams: bool,
    /// The notes that it records in evidence: key and meaning.
    pub evidence: &'static [(&'static str, &'static str)],
    /// The codes of its refusals that are not the gateway's own, for `explain`. Codes that an operator or an external system
    /// chooses are not included.
    pub codes: &'static [Code],
    /// The JSON schema of its `config`, see [`schema_of`].
    pub config_schema: fn() -> serde_json::Value,
    /// Builds an instance from its configuration; called when a configuration is loaded, never during a request.
    pub build: fn(&BuildContext<'_>) -> Result<Arc<dyn Plugin>, BuildError>,
}

impl Manifest {
    /// The needs as a set.
    pub fn need_set(&self) -> NeedSet {
        let mut set = NeedSet::default();
        for need in self.needs {
            set.insert(*need);
        }
        set
    }
}

impl std::fmt::Debug for Manifest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Manifest({} {})", self.name, self.version)
    }
}

/// The JSON schema of a configuration type, for [`Manifest::config_schema`].
pub fn schema_of<T: JsonSchema>() -> serde_json::Value {
    schemars::schema_for!(T).to_value()
}

/// A capability that a plugin cannot work without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// Read the request body.
    ReadRequest,
    /// Replace the request body or the model.
    WriteRequest,
    /// Read the answer's body; without [`Manifest::streams`], streamed answers are held for this.
    ReadResponse,
    /// Replace the answer's body.
    WriteResponse,
    /// Refuse the request or the answer.
    Block,
    /// Attach tags, which go to evidence and usage.
    Tags,
    /// Set or remove headers sent to the provider or the caller.
    Headers,
    /// Call the hosts the operator grants in `grant.network`.
    Network,
    /// Read the secrets the operator grants in `grant.secrets`.
    Secrets,
    /// Read one group of stored data, granted in `storage_access`.
    Storage(StorageScope),
    /// Send mail.
    Mail,
    /// Run after the answer, from the queue.
    Background,
    /// Submit deliveries that must leave the gateway at least once.
    Deliver,
    /// Append to files under the directories that the operator grants in `grant.files`.
    Files,
    /// Be notified of occurrences apart from requests, such as a crossed budget threshold.
    Notices,
}

impl Need {
    /// The name in `plugins show` and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadRequest => "read_request",
            Self::WriteRequest => "write_request",
            Self::ReadResponse => "read_response",
            Self::WriteResponse => "write_response",
            Self::Block => "block",
            Self::Tags => "tags",
            Self::Headers => "headers",
            Self::Network => "network",
            Self::Secrets => "secrets",
            Self::Storage(scope) => scope.as_str(),
            Self::Mail => "mail",
            Self::Background => "background",
            Self::Deliver => "deliver",
            Self::Files => "files",
            Self::Notices => "notices",
        }
    }

    fn bit(self) -> u32 {
        let position = match self {
            Self::ReadRequest => 0,
            Self::WriteRequest => 1,
            Self::ReadResponse => 2,
            Self::WriteResponse => 3,
            Self::Block => 4,
            Self::Tags => 5,
            Self::Headers => 6,
            Self::Network => 7,
            Self::Secrets => 8,
            Self::Mail => 9,
            Self::Background => 10,
            Self::Deliver => 11,
            Self::Notices => 12,
            Self::Files => 13,
            Self::Storage(scope) => 16 + scope as u32,
        };
        1 << position
    }
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Self::Storage(_) = self {
            f.write_str("storage:")?;
        }
        f.write_str(self.as_str())
    }
}

/// A set of needs in one word, so that checking a grant during a request is one `and`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NeedSet(u32);

impl NeedSet {
    /// Whether the need is in the set.
    pub fn contains(self, need: Need) -> bool {
        self.0 & need.bit() != 0
    }

    /// Adds a need.
    pub fn insert(&mut self, need: Need) {
        self.0 |= need.bit();
    }

    /// Removes a need.
    pub fn remove(&mut self, need: Need) {
        self.0 &= !need.bit();
    }

    /// The set as stable bits, for the chain's fingerprint.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }
}

/// A group of stored data that a plugin may ask to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageScope {
    /// Organisations: id, name, metadata.
    Organisations,
    /// Users of an organisation.
    Users,
    /// Teams of an organisation.
    Teams,
    /// Virtual keys, without their secrets.
    ApiKeys,
    /// Models of an organisation.
    Models,
    /// Which key may use which model.
    ModelAccess,
    /// Budgets and what is left of them.
    Budgets,
    /// Usage records.
    Usage,
    /// Policies in force.
    Policies,
    /// The record store itself.
    Postgres,
    /// The state store itself.
    Redis,
}

impl StorageScope {
    /// Every scope, in the order of the documentation.
    pub const ALL: [Self; 11] = [
        Self::Organisations,
        Self::Users,
        Self::Teams,
        Self::ApiKeys,
        Self::Models,
        Self::ModelAccess,
        Self::Budgets,
        Self::Usage,
        Self::Policies,
        Self::Postgres,
        Self::Redis,
    ];

    /// The spelling in `storage_access`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organisations => "organisations",
            Self::Users => "users",
            Self::Teams => "teams",
            Self::ApiKeys => "api_keys",
            Self::Models => "models",
            Self::ModelAccess => "model_access",
            Self::Budgets => "budgets",
            Self::Usage => "usage",
            Self::Policies => "policies",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
        }
    }

    /// The scope of this spelling. The configuration handles `all` and `*`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// What a plugin is built from.
pub struct BuildContext<'a> {
    /// The instance's `config`, an object (empty when the YAML has none).
    pub config: &'a serde_json::Value,
    /// The instance's host, limited to its grant.
    pub host: Host,
    /// The instance's name.
    pub name: &'a str,
    /// How long one call of the instance may take.
    pub timeout: std::time::Duration,
}

impl BuildContext<'_> {
    /// Parses the configuration into the plugin's own type.
    ///
    /// # Errors
    /// serde's error, with the dotted path of the key if it can be determined.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, BuildError> {
        let empty = serde_json::Value::Object(serde_json::Map::new());
        let config = if self.config.is_null() { &empty } else { self.config };
        T::deserialize(config).map_err(|error| {
            let message = error.to_string();
            let path = message
                .split('`')
                .nth(1)
                .filter(|_| message.starts_with("unknown field"))
                .and_then(|key| only_path_of(config, key))
                .unwrap_or_default();
            BuildError { path, message }
        })
    }
}

/// The dotted path of the only key of this name; `None` if there are none or several.
fn only_path_of(value: &serde_json::Value, key: &str) -> Option<String> {
    fn collect(value: &serde_json::Value, key: &str, at: &str, found: &mut Vec<String>) {
        let join = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
        match value {
            serde_json::Value::Object(map) => {
                for (name, child) in map {
                    if name == key {
                        found.push(join(name));
                    }
                    collect(child, key, &join(name), found);
                }
            }
            serde_json::Value::Array(items) => {
                for (index, child) in items.iter().enumerate() {
                    collect(child, key, &join(&index.to_string()), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(value, key, "", &mut found);
    if found.len() == 1 { found.pop() } else { None }
}

/// Why a plugin could not be built from its configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct BuildError {
    /// The dotted path inside `config` (`rules.0.pattern`); empty for the whole.
    pub path: String,
    /// The reason, for the operator; may quote the configuration.
    pub message: String,
}

impl BuildError {
    /// An error at a dotted path inside `config`.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}
