//! A plugin as one configuration uses it: built and named, with its grant, scope, timeout and failure mode.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::host::{Host, SharedHost};
use super::manifest::{BuildContext, BuildError, Manifest, NeedSet};
use super::scope::{OutOfScope, Scope};
use super::{Granted, Plugin, StreamFilter, view};
use crate::gate::{Draft, Facts};
use crate::identity::Directory;

/// What a failure of the step means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The request is refused with `plugin_unavailable`.
    #[default]
    Deny,
    /// The request goes on as if the step were not there.
    Allow,
}

impl OnError {
    /// The spelling in YAML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Allow => "allow",
        }
    }
}

/// Whether the step's verdict counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It does.
    #[default]
    Enforce,
    /// It is recorded; not one byte changes.
    Observe,
}

impl Mode {
    /// The spelling in evidence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        }
    }
}

/// The configuration of one instance.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// The instance's name, unique in the configuration.
    pub name: String,
    /// The plugin's own configuration.
    pub config: serde_json::Value,
    /// The longest time that one gate may take.
    pub timeout: Duration,
    /// What a failure means for the request.
    pub on_error: OnError,
    /// Whether verdicts are enforced or only observed.
    pub mode: Mode,
    /// The requests for which it runs.
    pub scope: Scope,
    /// The percentage of keys for which it runs.
    pub rollout: u8,
    /// What it may use through its host.
    pub granted: Granted,
}

impl InstanceSpec {
    /// The default timeout of a step.
    pub const TIMEOUT: Duration = Duration::from_secs(1);

    /// A specification with defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            config: serde_json::Value::Object(serde_json::Map::new()),
            timeout: Self::TIMEOUT,
            on_error: OnError::default(),
            mode: Mode::default(),
            scope: Scope::default(),
            rollout: 100,
            granted: Granted::default(),
        }
    }
}

/// A built plugin, with everything that the runner needs to know about it.
pub struct Instance {
    /// The name in configuration, evidence and metrics.
    pub name: Arc<str>,
    /// The plugin's manifest.
    pub manifest: &'static Manifest,
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// The longest time that one gate may take.
    pub timeout: Duration,
    /// What a failure means for the request.
    pub on_error: OnError,
    /// Whether verdicts are enforced or only observed.
    pub mode: Mode,
    /// The requests for which it runs.
    pub scope: Scope,
    /// The percentage of keys for which it runs.
    pub rollout: u8,
    /// The manifest's needs without those that the operator withdrew.
    pub needs: NeedSet,
    /// Whether the scope is empty; precomputed because every request asks.
    pub(crate) for_everybody: bool,
    /// Everything that decides what the instance does, for the chain's id.
    pub(crate) fingerprint: String,
}

impl Instance {
    /// Builds the plugin from its configuration.
    ///
    /// # Errors
    /// The plugin's error about its `config`, or a rollout over 100.
    pub fn build(
        manifest: &'static Manifest,
        spec: InstanceSpec,
        shared: &SharedHost,
        directory: Arc<Directory>,
    ) -> Result<Arc<Self>, BuildError> {
        if spec.rollout > 100 {
            return Err(BuildError::at("", "rollout is a percentage, 0 to 100"));
        }
        let needs = spec.granted.needs(manifest);
        let fingerprint = format!(
            "{} {}@{} {:?} {:?} {:?} {:?} {} {:x} {} {}",
            spec.name,
            manifest.name,
            manifest.version,
            spec.timeout,
            spec.on_error,
            spec.mode,
            spec.scope,
            spec.rollout,
            needs.bits(),
            spec.granted.describe(),
            spec.config,
        );
        let name: Arc<str> = spec.name.into();
        let host = Host::new(Arc::clone(&name), needs, spec.granted, shared.clone(), directory).observing(spec.mode == Mode::Observe);
        let plugin = (manifest.build)(&BuildContext { config: &spec.config, host, name: &name, timeout: spec.timeout })?;
        let for_everybody = spec.scope.is_everybody();
        Ok(Arc::new(Self {
            name,
            manifest,
            plugin,
            timeout: spec.timeout,
            on_error: spec.on_error,
            mode: spec.mode,
            scope: spec.scope,
            rollout: spec.rollout,
            needs,
            for_everybody,
            fingerprint,
        }))
    }

    /// The plugin's filter for one stream, if it has one. Panics of the plugin are left to the caller.
    pub(crate) fn filter(&self, cx: &view::PostUpstream<'_>) -> Option<Box<dyn StreamFilter>> {
        self.plugin.stream(cx)
    }

    /// Whether the request's key is in the rollout. The same key always gets the same result from the same instance, and raising
    /// the percentage only adds keys. Requests without a key are distinguished by their address.
    pub(crate) fn rolled_out(&self, facts: &Facts) -> bool {
        if self.rollout >= 100 {
            return true;
        }
        let hash = fnv1a(FNV_START, self.name.as_bytes());
        let hash = match (&facts.caller, facts.client_ip) {
            (Some(caller), _) => fnv1a(hash, caller.key_id.as_bytes()),
            (None, Some(std::net::IpAddr::V4(ip))) => fnv1a(hash, &ip.octets()),
            (None, Some(std::net::IpAddr::V6(ip))) => fnv1a(hash, &ip.octets()),
            (None, None) => hash,
        };
        // FNV's low bits are weak: folding and multiplying mixes the high ones in.
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        mixed % 100 < u64::from(self.rollout)
    }

    /// Whether the request is in scope, see [`Scope::admits`].
    pub(crate) fn admits(&self, facts: &Facts, draft: &Draft) -> Result<Option<String>, OutOfScope> {
        if self.for_everybody {
            return Ok(None);
        }
        self.scope.admits(facts, draft.model.as_deref())
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({} of {:?})", self.name, self.manifest)
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv1a(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
