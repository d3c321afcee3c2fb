//! Resolves the written configuration into checked values. A single pass both checks and converts, so that nothing is
//! converted unchecked; problems are collected, and the pass continues after each.

mod governance;
mod mcp;
mod organisations;
mod outbox;
mod plugins;
mod process;
mod providers;
mod routes;
mod safety;
mod secrets;
mod stores;

pub(super) use outbox::settings as outbox_settings;
pub(super) use process::{log, plugins as plugin_settings};
pub(super) use safety::resolve as safety;
pub(super) use stores::{records, state};

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::Config;
use super::diagnostic::suggestion;
use super::problems::Problems;
use super::settings::{
    AdminSettings, EvidenceSettings, GovernanceSettings, KeySettings, LogSettings, PluginSettings, SafetySettings, ServerSettings,
};
use crate::gate::{Gate, Style};
use crate::identity::{Directory, Homes, Keys};
use crate::limit::ScopePlan;
use crate::outbox::OutboxSettings;
use crate::plugin::{InstanceSpec, Manifest, Roster};
use crate::route::{Matcher, McpServers, Models, Overflow, Provider, Upstream};

/// Everything that is resolved before plugins are built.
pub(super) struct Parts {
    pub server: ServerSettings,
    pub admin: AdminSettings,
    pub log: LogSettings,
    pub evidence: EvidenceSettings,
    pub governance: GovernanceSettings,
    /// The plan of the gateway's own policy.
    pub policy: Option<Arc<ScopePlan>>,
    pub plugins: PluginSettings,
    pub outbox: OutboxSettings,
    pub providers: HashMap<Arc<str>, Arc<Provider>>,
    pub directory: Arc<Directory>,
    pub keys: Keys,
    pub homes: Arc<Homes>,
    pub models: Models,
    pub mcp_servers: McpServers,
    pub instances: Vec<InstancePart>,
    pub chains: BTreeMap<String, Vec<StepPart>>,
    pub routes: Vec<RoutePart>,
    pub safety: SafetySettings,
}

/// A plugin instance to be built.
pub(super) struct InstancePart {
    pub manifest: &'static Manifest,
    pub spec: InstanceSpec,
    /// Path of its `config` in the document.
    pub config_path: String,
    pub enabled: bool,
}

/// One step of a chain.
pub(super) struct StepPart {
    pub gate: Gate,
    pub style: Style,
    pub instance: String,
}

/// A route that still refers to its chain by name.
pub(super) struct RoutePart {
    pub name: Arc<str>,
    pub matcher: Matcher,
    pub chain: String,
    pub upstream: Option<Upstream>,
    pub auth: bool,
    pub held_overflow: Overflow,
    pub guard_unparsed: bool,
    pub receipt: bool,
    pub server_timing: bool,
    pub retries: u32,
    pub timeout: Option<std::time::Duration>,
}

/// Checks and converts the whole configuration.
pub(super) fn resolve(config: &Config, roster: &Roster, problems: &mut Problems<'_>) -> Parts {
    if config.root.version != 1 {
        problems.error("version", format!("version {} is not known", config.root.version)).help("write `version: 1`".to_owned());
    }
    let server = process::server(config, problems);
    let admin = process::admin(config, &server, problems);
    let log = process::log(config, problems);
    let evidence = process::evidence(config, problems);
    let governance = governance::settings(config, problems);
    let policy = governance::global(config, problems);
    let plugins = process::plugins(config, problems);
    let outbox = outbox::settings(config, problems);
    let providers = providers::resolve(config, problems);
    let organisations::World { directory, keys, models, mcp_servers, homes } = organisations::resolve(config, &providers, problems);
    let instances = plugins::instances(config, roster, problems);
    let chains = plugins::chains(config, roster, &instances, problems);
    let routes = routes::resolve(config, problems);
    let safety = safety::resolve(config, problems);
    Parts {
        server,
        admin,
        log,
        evidence,
        governance,
        policy,
        plugins,
        outbox,
        providers,
        directory,
        keys,
        homes,
        models,
        mcp_servers,
        instances,
        chains,
        routes,
        safety,
    }
}

/// Settings of keys made at run time, and the organisations that can own them.
pub(super) fn virtual_keys(config: &Config, problems: &mut Problems<'_>) -> Option<(KeySettings, Arc<Homes>)> {
    let settings = governance::settings(config, problems).keys?;
    let providers = providers::resolve(config, problems);
    Some((settings, organisations::resolve(config, &providers, problems).homes))
}

/// Checks that a name is usable as a metric label and a path segment, and is not used twice.
fn unique(seen: &mut HashSet<String>, name: &str, path: &str, what: &str, problems: &mut Problems<'_>) -> bool {
    if !well_formed(name) {
        problems.error(path, format!("a name of {what} is 1 to 64 letters, digits, `_`, `-` or `.`"));
        return false;
    }
    if !seen.insert(name.to_owned()) {
        problems.error(path, format!("{what} `{name}` exists already"));
        return false;
    }
    true
}

fn well_formed(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// Adds the error `no WHAT NAME`, with a suggestion.
fn absent<'a>(path: &str, what: &str, name: &str, known: impl IntoIterator<Item = &'a str> + Clone, problems: &mut Problems<'_>) {
    let help = suggestion(name, known);
    problems.error(path, format!("there is no {what} `{name}`")).help(help);
}
