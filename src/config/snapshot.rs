//! Everything a request needs, immutable.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Config;
use super::diagnostic::Diagnostic;
use super::problems::Problems;
use super::resolve::{InstancePart, Parts, RoutePart, StepPart, resolve};
use super::settings::{AdminSettings, EvidenceSettings, LogSettings, PluginSettings, ServerSettings};
use crate::gate::{Chain, ChainSpec, Style};
use crate::identity::{Directory, Keys};
use crate::plugin::{Instance, Roster, SharedHost};
use crate::route::{Models, Provider, Route, Router};
use crate::telemetry::Metrics;

/// One loaded configuration. A request pins one snapshot from its first byte to its last; a reload makes another.
#[derive(Debug)]
pub struct Snapshot {
    /// SHA-256 (hex) over the effective configuration, for evidence and `/version`. Secrets are not part of it.
    pub hash: String,
    /// The listener for callers.
    pub server: ServerSettings,
    /// The listener for operators.
    pub admin: AdminSettings,
    /// Logging.
    pub log: LogSettings,
    /// The evidence log.
    pub evidence: EvidenceSettings,
    /// The queue behind background plugins.
    pub plugins: PluginSettings,
    /// Routes, ordered for lookup.
    pub routes: Router,
    /// Compiled chains by name.
    pub chains: BTreeMap<String, Arc<Chain>>,
    /// Virtual keys by the hash of their secret.
    pub keys: Keys,
    /// Models by organisation and name.
    pub models: Models,
    /// Providers by name.
    pub providers: HashMap<Arc<str>, Arc<Provider>>,
    /// Principals and models for plugins.
    pub directory: Arc<Directory>,
}

impl Snapshot {
    /// Builds plugins and chains of a checked configuration and resolves every metric handle.
    ///
    /// # Errors
    /// Everything that is wrong, by line; mostly what plugins say about their `config`.
    pub fn build(config: &Config, roster: &Roster, host: &SharedHost, metrics: &Metrics) -> Result<Self, Vec<Diagnostic>> {
        let mut problems = Problems::new(config);
        let built = build(config, roster, host, metrics, &mut problems);
        built.ok_or_else(|| problems.into_found())
    }
}

/// Everything that can go wrong in [`build`], with a host that opens nothing.
pub(super) fn rehearse(config: &Config, roster: &Roster, problems: &mut Problems<'_>) {
    let parts = resolve(config, roster, problems);
    instances_of(parts.instances, &SharedHost::offline(), &parts.directory, problems);
}

/// The snapshot, or `None` after noting why not.
pub(super) fn build(
    config: &Config,
    roster: &Roster,
    host: &SharedHost,
    metrics: &Metrics,
    problems: &mut Problems<'_>,
) -> Option<Snapshot> {
    let parts = resolve(config, roster, problems);
    let Parts { server, admin, log, evidence, plugins, providers, directory, keys, models, instances, chains, routes } = parts;
    let instances = instances_of(instances, host, &directory, problems);
    if problems.refused() {
        return None;
    }
    let mut compiled = BTreeMap::new();
    for (name, steps) in chains {
        let chain = chain_of(&steps, &instances, plugins.max_parallel, metrics);
        match chain {
            Ok(chain) => compiled.insert(name, Arc::new(chain)),
            Err(misplaced) => {
                problems.error(&format!("chains.{name}"), misplaced.message).help(misplaced.help);
                return None;
            }
        };
    }
    let routes = router_of(routes, &mut compiled);
    let hash = config.hash();
    Some(Snapshot { hash, server, admin, log, evidence, plugins, routes, chains: compiled, keys, models, providers, directory })
}

/// Every instance, built; those that are switched off too, so that a mistake shows before they are switched on.
fn instances_of(
    parts: Vec<InstancePart>,
    host: &SharedHost,
    directory: &Arc<Directory>,
    problems: &mut Problems<'_>,
) -> HashMap<String, Arc<Instance>> {
    let mut instances = HashMap::new();
    for InstancePart { manifest, spec, config_path, .. } in parts {
        let name = spec.name.clone();
        // A plugin's constructor is code of others: a panic in it is a refused configuration, not a dead gateway.
        let built = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Instance::build(manifest, spec, host, Arc::clone(directory))));
        match built {
            Ok(Ok(instance)) => {
                instances.insert(name, instance);
            }
            Ok(Err(wrong)) => {
                let path = format!("{config_path}{}", indexed(&wrong.path));
                // An unknown setting was found by the schema already.
                if !wrong.message.starts_with("unknown field") || !problems.knows(&path) {
                    problems.error(&path, wrong.message);
                }
            }
            Err(_) => {
                problems.error(&config_path, format!("plugin `{}` panicked while it was built", manifest.name));
            }
        }
    }
    instances
}

/// `rules.0.pattern` as `.rules[0].pattern`.
fn indexed(dotted: &str) -> String {
    let mut path = String::new();
    for part in dotted.split('.').filter(|p| !p.is_empty()) {
        if part.bytes().all(|b| b.is_ascii_digit()) {
            path.push_str(&format!("[{part}]"));
        } else {
            path.push('.');
            path.push_str(part);
        }
    }
    path
}

fn chain_of(
    steps: &[StepPart],
    instances: &HashMap<String, Arc<Instance>>,
    max_parallel: usize,
    metrics: &Metrics,
) -> Result<Chain, crate::gate::Misplaced> {
    let mut spec = ChainSpec { max_parallel, ..ChainSpec::default() };
    for step in steps {
        let Some(instance) = instances.get(&step.instance) else { continue };
        let stage = spec.stage(step.gate);
        let list = match step.style {
            Style::Sequential => &mut stage.sequential,
            Style::Parallel => &mut stage.parallel,
            Style::Background => &mut stage.background,
        };
        list.push(Arc::clone(instance));
    }
    Chain::compile(spec, metrics)
}

/// The routes with their chains; a chain that no one wrote is the empty one.
fn router_of(parts: Vec<RoutePart>, chains: &mut BTreeMap<String, Arc<Chain>>) -> Router {
    let routes = parts.into_iter().enumerate().map(|(index, part)| {
        let chain = Arc::clone(chains.entry(part.chain).or_default());
        let route = Route {
            name: part.name,
            index,
            chain,
            upstream: part.upstream,
            auth: part.auth,
            held_overflow: part.held_overflow,
            guard_unparsed: part.guard_unparsed,
            receipt: part.receipt,
            server_timing: part.server_timing,
            retries: part.retries,
            timeout: part.timeout,
        };
        (part.matcher, Arc::new(route))
    });
    Router::new(routes.collect())
}
