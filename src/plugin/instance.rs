//! A plugin as one configuration uses it: built, named, with its grant, scope, timeout and what a failure means.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::host::{Host, SharedHost};
use super::manifest::{BuildContext, BuildError, Manifest, Need, NeedSet, StorageScope};
use super::network::HostRule;
use super::{Plugin, StreamFilter, view};
use crate::gate::{Draft, Facts};
use crate::identity::{Directory, Secret};
use crate::wire::Endpoint;

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

/// For whom an instance runs: every list that is not empty must have a match. Entries are names or ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// Organisations.
    pub organisations: Vec<String>,
    /// Teams.
    pub teams: Vec<String>,
    /// Users.
    pub users: Vec<String>,
    /// Virtual keys.
    pub api_keys: Vec<String>,
    /// Models, by the organisation's names.
    pub models: Vec<String>,
    /// MCP servers.
    pub mcp_servers: Vec<String>,
    /// Routes.
    pub routes: Vec<String>,
}

impl Scope {
    /// The entry that lets this request in (the narrowest, `None` when nothing is listed), or `Err` if it is outside.
    pub(crate) fn admits(&self, facts: &Facts, model: Option<&str>) -> Result<Option<String>, OutOfScope> {
        let caller = facts.caller.as_deref();
        let organisation = caller.map(|c| (&*c.organisation.id, &*c.organisation.name));
        let team = caller.and_then(|c| c.team.as_ref()).map(|t| (&*t.id, &*t.name));
        let user = caller.and_then(|c| c.user.as_ref()).map(|u| (&*u.id, &*u.name));
        let key = caller.map(|c| (&*c.key_id, &*c.key_name));
        let server = mcp_server(facts);
        let rules = [
            ("routes", &self.routes, Some((&*facts.route, &*facts.route))),
            ("organisations", &self.organisations, organisation),
            ("models", &self.models, model.map(|m| (m, m))),
            ("mcp_servers", &self.mcp_servers, server.map(|s| (s, s))),
            ("teams", &self.teams, team),
            ("users", &self.users, user),
            ("api_keys", &self.api_keys, key),
        ];
        let mut narrowest = None;
        for (kind, allowed, here) in rules {
            if allowed.is_empty() {
                continue;
            }
            let entry = here
                .and_then(|(id, name)| allowed.iter().find(|entry| *entry == id || *entry == name))
                .ok_or(OutOfScope)?;
            narrowest = Some((kind, entry));
        }
        Ok(narrowest.map(|(kind, entry)| format!("{kind}:{entry}")))
    }

    /// Nothing is listed: it runs for everybody.
    pub fn is_everybody(&self) -> bool {
        *self == Self::default()
    }
}

/// The request is not in the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfScope;

/// The server's name in `/v1/mcp/{name}/…`.
fn mcp_server(facts: &Facts) -> Option<&str> {
    if facts.endpoint != Endpoint::Mcp {
        return None;
    }
    facts.path.split("/mcp/").nth(1)?.split('/').next()
}

/// What the operator grants an instance. Needs of the manifest are granted by listing the plugin, and can be taken
/// away one by one; hosts, secrets and storage must be named.
#[derive(Clone, Default)]
pub struct Granted {
    withdrawn: Vec<Need>,
    network: Vec<HostRule>,
    secrets: HashMap<String, Secret>,
    storage: Vec<StorageScope>,
}

impl Granted {
    /// Nothing beyond what listing the plugin grants.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a need away (`grant: {headers: false}`).
    pub fn without(mut self, need: Need) -> Self {
        self.withdrawn.push(need);
        self
    }

    /// Grants a host.
    pub fn network(mut self, rule: HostRule) -> Self {
        self.network.push(rule);
        self
    }

    /// Grants a secret under the name by which the plugin asks for it.
    pub fn secret(mut self, name: impl Into<String>, secret: Secret) -> Self {
        self.secrets.insert(name.into(), secret);
        self
    }

    /// Grants a group of stored things.
    pub fn storage(mut self, scope: StorageScope) -> Self {
        self.storage.push(scope);
        self
    }

    pub(crate) fn rules(&self) -> &[HostRule] {
        &self.network
    }

    pub(crate) fn find_secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)
    }

    pub(crate) fn may_read(&self, scope: StorageScope) -> bool {
        self.storage.contains(&scope)
    }

    /// What of the manifest's needs is left.
    fn needs(&self, manifest: &Manifest) -> NeedSet {
        let mut needs = manifest.need_set();
        for need in &self.withdrawn {
            needs.remove(*need);
        }
        for need in manifest.needs {
            if let Need::Storage(scope) = need
                && !self.may_read(*scope)
            {
                needs.remove(*need);
            }
        }
        needs
    }

    /// Names only: a secret is known by the name under which it is granted.
    fn describe(&self) -> String {
        let mut secrets: Vec<&str> = self.secrets.keys().map(String::as_str).collect();
        secrets.sort_unstable();
        format!("{:?} {:?} {:?}", self.network, secrets, self.storage)
    }
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Granted({})", self.describe())
    }
}

/// What a configuration says about one instance.
#[derive(Debug, Clone)]
pub struct InstanceSpec {
    /// The instance's name, unique in the configuration.
    pub name: String,
    /// Its `config`.
    pub config: serde_json::Value,
    /// How long one gate may take.
    pub timeout: Duration,
    /// What a failure means.
    pub on_error: OnError,
    /// Whether its verdict counts.
    pub mode: Mode,
    /// For whom it runs.
    pub scope: Scope,
    /// For which share of keys it runs, per cent.
    pub rollout: u8,
    /// What it may ask the host for.
    pub granted: Granted,
}

impl InstanceSpec {
    /// The default timeout of a step.
    pub const TIMEOUT: Duration = Duration::from_secs(1);

    /// Everything at its default.
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

/// A built plugin with everything the runner has to know about it.
pub struct Instance {
    /// Its name in configuration, evidence and metrics.
    pub name: Arc<str>,
    /// What the plugin says about itself.
    pub manifest: &'static Manifest,
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// How long one gate may take.
    pub timeout: Duration,
    /// What a failure means.
    pub on_error: OnError,
    /// Whether its verdict counts.
    pub mode: Mode,
    /// For whom it runs.
    pub scope: Scope,
    /// For which share of keys it runs, per cent.
    pub rollout: u8,
    /// The manifest's needs, less what the operator withheld.
    pub needs: NeedSet,
    /// No list of the scope has an entry; asked once for each request.
    pub(crate) for_everybody: bool,
    /// Everything that decides what it does, for the chain's id.
    pub(crate) fingerprint: String,
}

impl Instance {
    /// Builds the plugin from its configuration.
    ///
    /// # Errors
    /// What the plugin says about its `config`, or a rollout over 100.
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
        let host = Host::new(Arc::clone(&name), needs, spec.granted, shared.clone(), directory);
        let plugin = (manifest.build)(&BuildContext { config: &spec.config, host, name: &name })?;
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

    /// A filter for one stream, or nothing; the plugin's own panic is the caller's to catch.
    pub(crate) fn filter(&self, cx: &view::PostUpstream<'_>) -> Option<Box<dyn StreamFilter>> {
        self.plugin.stream(cx)
    }

    /// Whether the request's key is in the rollout: the same key always gets the same answer from the same instance,
    /// and raising the percentage only ever adds keys. Requests without a key are told apart by address.
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
        // FNV's low bits are weak; folding and multiplying brings the high ones down.
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
