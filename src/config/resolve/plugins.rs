//! `plugins` and `chains`.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

use super::process::positive;
use super::{InstancePart, StepPart, absent, secrets, unique};
use crate::config::Config;
use crate::config::problems::Problems;
use crate::config::sections::{PluginEntry, RecordsKind, StateKind};
use crate::gate::{Gate, Style, placement};
use crate::plugin::network::HostRule;
use crate::plugin::{Granted, InstanceSpec, Manifest, Need, Roster, Scope, StorageScope};

/// Every instance whose plugin exists, enabled or not.
pub(super) fn instances(config: &Config, roster: &Roster, problems: &mut Problems<'_>) -> Vec<InstancePart> {
    let mut seen = HashSet::new();
    let mut instances = Vec::new();
    let known = Known::of(config);
    for (index, entry) in config.root.plugins.iter().enumerate() {
        let here = format!("plugins[{index}]");
        unique(&mut seen, &entry.name, &format!("{here}.name"), "plugin", problems);
        positive(&format!("{here}.timeout"), entry.timeout, problems);
        if entry.rollout > 100 {
            problems.error(&format!("{here}.rollout"), "is a percentage, 0 to 100");
        }
        known.check(&entry.scope, &format!("{here}.scope"), problems);
        let Some(manifest) = roster.find(entry.plugin()) else {
            let member = if entry.plugin.is_some() { "use" } else { "name" };
            let names: Vec<&str> = roster.iter().map(|m| m.name).collect();
            absent(&format!("{here}.{member}"), "plugin", entry.plugin(), names.iter().copied(), problems);
            continue;
        };
        let config_path = format!("{here}.config");
        let settings = settings(entry, &config_path, problems);
        let granted = granted(entry, manifest, &here, config, problems);
        let spec = InstanceSpec {
            name: entry.name.clone(),
            config: settings,
            timeout: entry.timeout.0,
            on_error: entry.on_error,
            mode: entry.mode,
            scope: entry.scope.clone(),
            rollout: entry.rollout.min(100),
            granted,
        };
        instances.push(InstancePart { manifest, spec, config_path, enabled: entry.enabled });
    }
    unlisted(config, roster, problems);
    instances
}

/// Warns of instances that no chain lists: they guard nothing, which is hardly intended.
fn unlisted(config: &Config, roster: &Roster, problems: &mut Problems<'_>) {
    let listed: HashSet<&str> = config.root.chains.values().flat_map(|c| lists(c)).flat_map(|l| l.names).map(String::as_str).collect();
    for (index, entry) in config.root.plugins.iter().enumerate() {
        let told = roster.find(entry.plugin()).is_some_and(|manifest| manifest.need_set().contains(Need::Notices));
        if entry.enabled && !told && !listed.contains(entry.name.as_str()) {
            let finding = problems.warn(&format!("plugins[{index}]"), format!("`{}` is in no chain and never runs", entry.name));
            finding.help("list it under `chains`, or write `enabled: false`".to_owned());
        }
    }
}

/// The `config` object. The plugin itself parses it when it is built.
fn settings(entry: &PluginEntry, path: &str, problems: &mut Problems<'_>) -> Value {
    match &entry.config {
        Value::Null => Value::Object(Map::new()),
        Value::Object(_) => entry.config.clone(),
        _ => {
            problems.error(path, "expected a map of settings");
            Value::Object(Map::new())
        }
    }
}

/// What the operator grants to an instance. Nothing can be granted that the manifest does not ask for.
fn granted(entry: &PluginEntry, manifest: &Manifest, here: &str, config: &Config, problems: &mut Problems<'_>) -> Granted {
    let mut granted = Granted::new();
    let needs = manifest.need_set();
    let unasked = |what: &str| format!("plugin `{}` does not ask for {what}", manifest.name);
    if entry.grant.headers == Some(false) {
        granted = granted.without(Need::Headers);
    }
    if !entry.grant.network.is_empty() && !needs.contains(Need::Network) {
        problems.key_error(&format!("{here}.grant.network"), unasked("network"));
    }
    for (number, rule) in entry.grant.network.iter().enumerate() {
        match HostRule::parse(rule) {
            Ok(rule) => granted = granted.network(rule),
            Err(why) => {
                problems.error(&format!("{here}.grant.network[{number}]"), why);
            }
        }
    }
    if !entry.grant.files.is_empty() && !needs.contains(Need::Files) {
        problems.key_error(&format!("{here}.grant.files"), unasked("files"));
    }
    for (number, directory) in entry.grant.files.iter().enumerate() {
        if !directory.is_absolute() || directory.parent().is_none() {
            problems.error(&format!("{here}.grant.files[{number}]"), "a directory is named by its whole path, and is not the root");
        }
        granted = granted.directory(directory.clone());
    }
    if !entry.grant.secrets.is_empty() && !needs.contains(Need::Secrets) {
        problems.key_error(&format!("{here}.grant.secrets"), unasked("secrets"));
    }
    for (number, name) in entry.grant.secrets.iter().enumerate() {
        match config.root.secrets.get(name) {
            Some(reference) => {
                if let Some(secret) = secrets::resolve(reference, &format!("secrets.{name}"), config, problems) {
                    granted = granted.secret(name, secret);
                }
            }
            None => {
                let known = config.root.secrets.keys().map(String::as_str);
                absent(&format!("{here}.grant.secrets[{number}]"), "secret", name, known, problems);
            }
        }
    }
    let scopes = storage(entry, manifest, here, config, problems);
    for scope in &scopes {
        granted = granted.storage(*scope);
    }
    ungranted(entry, manifest, &scopes, here, problems);
    granted
}

/// The scopes of `storage_access`; `all` and `*` mean all that the manifest asks for.
fn storage(entry: &PluginEntry, manifest: &Manifest, here: &str, config: &Config, problems: &mut Problems<'_>) -> Vec<StorageScope> {
    let asked: Vec<StorageScope> =
        manifest.needs.iter().filter_map(|n| if let Need::Storage(scope) = n { Some(*scope) } else { None }).collect();
    let mut scopes = Vec::new();
    for (number, name) in entry.storage_access.iter().enumerate() {
        let at = format!("{here}.storage_access[{number}]");
        if name == "all" || name == "*" {
            scopes.extend(&asked);
            continue;
        }
        match StorageScope::parse(name) {
            Some(scope) if asked.contains(&scope) => scopes.push(scope),
            Some(_) => {
                let message = format!("plugin `{}` does not ask for {name}", manifest.name);
                // Odock's own files grant more than plugins ask for, which is only a warning. In neither case does a plugin
                // get it.
                let finding = if config.is_of_plugins_file(&at) { problems.warn(&at, message) } else { problems.error(&at, message) };
                let names: Vec<&str> = asked.iter().map(|s| s.as_str()).collect();
                finding.help(if names.is_empty() {
                    "it reads nothing that is stored".to_owned()
                } else {
                    format!("it asks for {}", names.join(", "))
                });
            }
            None => {
                let names: Vec<&str> = StorageScope::ALL.iter().map(|s| s.as_str()).chain(["all"]).collect();
                absent(&at, "storage scope", name, names.iter().copied(), problems);
            }
        }
    }
    let (state, records) = (&config.root.state.kind, &config.root.records.kind);
    for (scope, there, what, kind) in [
        (StorageScope::Postgres, *records == RecordsKind::Postgres, "records", "postgres"),
        (StorageScope::Redis, *state == StateKind::Redis, "state", "redis"),
    ] {
        if !there && entry.enabled && scopes.contains(&scope) {
            let message = format!("plugin `{}` is granted {}, and {what} are not kept there", manifest.name, scope.as_str());
            problems.error(&format!("{here}.storage_access"), message).help(format!("set `{what}: {{kind: {kind}, url: …}}`"));
        }
    }
    scopes
}

/// Warns of scopes that the manifest asks for and that were not granted: the plugin's calls there will fail.
fn ungranted(entry: &PluginEntry, manifest: &Manifest, scopes: &[StorageScope], here: &str, problems: &mut Problems<'_>) {
    let mut missing = Vec::new();
    for need in manifest.needs {
        match need {
            Need::Network if entry.grant.network.is_empty() => missing.push("grant.network".to_owned()),
            Need::Storage(scope) if !scopes.contains(scope) => missing.push(format!("storage_access: [{}]", scope.as_str())),
            _ => {}
        }
    }
    if entry.enabled && !missing.is_empty() {
        let message = format!("plugin `{}` asks for what it was not granted: {}", manifest.name, missing.join(", "));
        problems.warn(here, message).help("grant it, or see in the plugin's README what it does without".to_owned());
    }
}

/// The names and ids that a scope may list, by dimension.
pub(super) struct Known<'c>([(&'static str, &'static str, Vec<&'c str>); 7]);

impl<'c> Known<'c> {
    pub(super) fn of(config: &'c Config) -> Self {
        let root = &config.root;
        fn both<'a>(name: &'a str, id: &'a Option<String>) -> impl Iterator<Item = &'a str> {
            [Some(name), id.as_deref()].into_iter().flatten()
        }
        let organisations = &root.organisations;
        Self([
            ("organisations", "organisation", organisations.iter().flat_map(|o| both(&o.name, &o.id)).collect()),
            ("teams", "team", organisations.iter().flat_map(|o| &o.teams).flat_map(|t| both(&t.name, &t.id)).collect()),
            ("users", "user", organisations.iter().flat_map(|o| &o.users).flat_map(|u| both(&u.name, &u.id)).collect()),
            ("api_keys", "key", organisations.iter().flat_map(|o| &o.api_keys).flat_map(|k| both(&k.name, &k.id)).collect()),
            ("models", "model", organisations.iter().flat_map(|o| &o.models).map(|m| m.name.as_str()).collect()),
            ("mcp_servers", "MCP server", organisations.iter().flat_map(|o| &o.mcp_servers).map(|s| s.name.as_str()).collect()),
            (
                "routes",
                "route",
                if root.routes.is_empty() { vec!["default"] } else { root.routes.iter().map(|r| r.name.as_str()).collect() },
            ),
        ])
    }

    /// Checks the names in a scope: one that matches nothing would silently switch the plugin off.
    pub(super) fn check(&self, scope: &Scope, here: &str, problems: &mut Problems<'_>) {
        let lists = [&scope.organisations, &scope.teams, &scope.users, &scope.api_keys, &scope.models, &scope.mcp_servers, &scope.routes];
        for ((member, what, known), list) in self.0.iter().zip(lists) {
            for (number, name) in list.iter().enumerate() {
                // A key without an id can also be named ORGANISATION/NAME.
                let bare = if *member == "api_keys" { name.rsplit('/').next().unwrap_or(name) } else { name };
                if !known.contains(&name.as_str()) && !known.contains(&bare) {
                    absent(&format!("{here}.{member}[{number}]"), what, name, known.iter().copied(), problems);
                }
            }
        }
    }
}

/// One list of instance names in a chain.
struct List<'c> {
    gate: Gate,
    style: Style,
    member: &'static str,
    names: &'c [String],
}

fn lists(entry: &crate::config::sections::ChainEntry) -> [List<'_>; 8] {
    let after = &entry.post_response;
    let late = |style| if after.background { Style::Background } else { style };
    let list = |gate, style, member, names| List { gate, style, member, names };
    [
        list(Gate::PreRoute, Style::Sequential, "sequential", &entry.pre_route.sequential),
        list(Gate::PreRoute, Style::Parallel, "parallel", &entry.pre_route.parallel),
        list(Gate::PreUpstream, Style::Sequential, "sequential", &entry.pre_upstream.sequential),
        list(Gate::PreUpstream, Style::Parallel, "parallel", &entry.pre_upstream.parallel),
        list(Gate::PostUpstream, Style::Sequential, "sequential", &entry.post_upstream.sequential),
        list(Gate::PostUpstream, Style::Parallel, "parallel", &entry.post_upstream.parallel),
        list(Gate::PostResponse, late(Style::Sequential), "sequential", &after.sequential),
        list(Gate::PostResponse, late(Style::Parallel), "parallel", &after.parallel),
    ]
}

/// The chains by name, with their steps in order; disabled instances are left out.
pub(super) fn chains(
    config: &Config,
    roster: &Roster,
    instances: &[InstancePart],
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Vec<StepPart>> {
    let mut chains = BTreeMap::new();
    for (name, entry) in &config.root.chains {
        let mut steps = Vec::new();
        let mut seen: HashSet<(Gate, &str)> = HashSet::new();
        for list in lists(entry) {
            for (number, instance) in list.names.iter().enumerate() {
                let at = format!("chains.{name}.{}.{}[{number}]", list.gate.as_str(), list.member);
                if !seen.insert((list.gate, instance)) {
                    problems.error(&at, format!("`{instance}` is listed twice at {}", list.gate.as_str()));
                }
                match instances.iter().find(|i| i.spec.name == *instance) {
                    Some(found) => {
                        let Some(style) = placed(config, found.manifest, &list, &at, problems) else { continue };
                        if found.enabled {
                            steps.push(StepPart { gate: list.gate, style, instance: instance.clone() });
                        }
                    }
                    None => nobody(config, roster, instance, &at, problems),
                }
            }
        }
        chains.insert(name.clone(), steps);
    }
    chains
}

/// The style in which a plugin runs at its place in a chain; `None` if the step is left out. Odock's own deployments list
/// plugins at gates where they do not run, and in parallel although they change what others read: such files are accepted
/// with a warning that says what happens instead.
fn placed(config: &Config, manifest: &Manifest, list: &List<'_>, at: &str, problems: &mut Problems<'_>) -> Option<Style> {
    let Err(misplaced) = placement(manifest, list.gate, list.style) else { return Some(list.style) };
    if !config.is_of_plugins_file(at) {
        problems.error(at, misplaced.message).help(misplaced.help);
        // The error refuses the configuration; the step is kept so that further errors are found.
        return Some(list.style);
    }
    if !manifest.gates.contains(&list.gate) {
        problems.warn(at, format!("{}: the step is left out", misplaced.message)).help(misplaced.help);
        return None;
    }
    if list.style == Style::Parallel && placement(manifest, list.gate, Style::Sequential).is_ok() {
        problems.warn(at, format!("{}: it runs in order, before those beside it", misplaced.message)).help(misplaced.help);
        return Some(Style::Sequential);
    }
    problems.error(at, misplaced.message).help(misplaced.help);
    Some(list.style)
}

/// Reports a step whose instance does not exist.
fn nobody(config: &Config, roster: &Roster, instance: &str, at: &str, problems: &mut Problems<'_>) {
    let mut named = config.root.plugins.iter().map(|p| p.name.as_str());
    if named.clone().any(|n| n == instance) {
        return; // its plugin does not exist, which was reported where it is configured
    }
    if named.next().is_none() || roster.find(instance).is_some() {
        let finding = problems.error(at, format!("there is no instance `{instance}` under `plugins`"));
        finding.help(roster.find(instance).map(|m| format!("add `- {{name: {}}}` under `plugins`", m.name)));
        return;
    }
    absent(at, "instance", instance, config.root.plugins.iter().map(|p| p.name.as_str()), problems);
}
