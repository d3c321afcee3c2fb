//! The snapshot: everything that requests need of a configuration, immutable.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::Config;
use super::diagnostic::Diagnostic;
use super::problems::Problems;
use super::resolve::{InstancePart, Parts, RoutePart, StepPart, resolve};
use super::schema::{Unknown, unknown_in};
use super::settings::{AdminSettings, EvidenceSettings, GovernanceSettings, LogSettings, PluginSettings, SafetySettings, ServerSettings};
use crate::budget::Account;
use crate::gate::{Chain, ChainSpec, Style};
use crate::identity::{Directory, Homes, Keys};
use crate::limit::ScopePlan;
use crate::outbox::OutboxSettings;
use crate::plugin::{Instance, Manifest, Roster, SharedHost};
use crate::route::{McpServers, Models, Provider, Route, Router};
use crate::telemetry::Metrics;

/// One loaded configuration. A request uses the same snapshot from its first byte to its last; a reload makes a new one.
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
    /// What happens to requests when a store, a price or a usage report is missing; and how usage is kept.
    pub governance: GovernanceSettings,
    /// The plan of the gateway's own policy, if it has any limits.
    pub policy: Option<Arc<ScopePlan>>,
    /// Settings of the plugin runtime.
    pub plugins: PluginSettings,
    /// Settings of the outbox.
    pub outbox: Arc<OutboxSettings>,
    /// Every enabled plugin instance, by name.
    pub instances: BTreeMap<Arc<str>, Arc<Instance>>,
    /// The routes, ordered for lookup.
    pub routes: Router,
    /// Compiled chains by name.
    pub chains: BTreeMap<String, Arc<Chain>>,
    /// Virtual keys by the hash of their secret.
    pub keys: Keys,
    /// What applies to keys made at run time, by organisation.
    pub homes: Arc<Homes>,
    /// Models by organisation and name.
    pub models: Models,
    /// MCP servers by organisation and name.
    pub mcp_servers: McpServers,
    /// Providers by name.
    pub providers: HashMap<Arc<str>, Arc<Provider>>,
    /// Principals and models as plugins see them.
    pub directory: Arc<Directory>,
    /// SafetySec for each route.
    pub safety: SafetySettings,
}

impl Snapshot {
    /// Builds the plugins and chains of a checked configuration, and resolves every metric handle.
    ///
    /// # Errors
    /// Everything that is wrong, by line; mostly errors that plugins report about their `config`.
    pub fn build(config: &Config, roster: &Roster, host: &SharedHost, metrics: &Metrics) -> Result<Self, Vec<Diagnostic>> {
        let mut problems = Problems::new(config);
        let built = build(config, roster, host, metrics, &mut problems);
        built.ok_or_else(|| problems.into_found())
    }

    /// This configuration takes the place of another: of budgets and quotas that that one did not have the counters may be
    /// there, from before it, without what was used under it.
    pub fn follows(&self, before: &Self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        let counter = |account: &Arc<Account>| account.window(now).map(|open| open.key.as_str().to_owned());
        let accounts = |of: &Self| of.homes.values().flat_map(|home| home.accounts.iter().cloned()).collect::<Vec<_>>();
        let known: HashSet<String> = accounts(before).iter().filter_map(counter).collect();
        let lacked = |account: &&Arc<Account>| counter(account).is_none_or(|key| !known.contains(&key));
        accounts(self).iter().filter(lacked).for_each(|account| account.returns());
    }

    /// Whether there is any policy, budget or quota: without one no request asks the state store for anything.
    pub fn limits_any(&self) -> bool {
        let homes = || self.homes.values().any(|home| home.plan.is_some() || !home.team_plans.is_empty() || !home.accounts.is_empty());
        let keys = || self.directory.api_keys().any(|key| !key.caller.terms.scopes.is_empty() || !key.caller.terms.accounts.is_empty());
        let models = || self.models.iter().any(|model| model.limits.is_some());
        let servers = || self.mcp_servers.iter().any(|(_, _, server)| server.limits.is_some());
        self.policy.is_some() || homes() || keys() || models() || servers()
    }
}

/// Reports everything that can go wrong in [`build`], with a host that opens nothing.
pub(super) fn rehearse(config: &Config, roster: &Roster, problems: &mut Problems<'_>) {
    let parts = resolve(config, roster, problems);
    instances_of(parts.instances, &SharedHost::offline(), &parts.directory, problems);
}

/// The snapshot; `None` after errors were reported.
pub(super) fn build(
    config: &Config,
    roster: &Roster,
    host: &SharedHost,
    metrics: &Metrics,
    problems: &mut Problems<'_>,
) -> Option<Snapshot> {
    let parts = resolve(config, roster, problems);
    let Parts {
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
    } = parts;
    let off: Vec<String> = instances.iter().filter(|part| !part.enabled).map(|part| part.spec.name.clone()).collect();
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
    Some(Snapshot {
        hash,
        server,
        admin,
        log,
        evidence,
        governance,
        policy,
        plugins,
        outbox: Arc::new(outbox),
        instances: instances.into_iter().filter(|(name, _)| !off.contains(name)).map(|(name, built)| (name.into(), built)).collect(),
        routes,
        chains: compiled,
        keys,
        homes,
        models,
        mcp_servers,
        providers,
        directory,
        safety,
    })
}

/// Most unknown settings of one instance that are reported.
const MAX_UNKNOWN: usize = 20;

/// Builds every instance. Disabled ones too, so that errors show before they are enabled.
fn instances_of(
    parts: Vec<InstancePart>,
    host: &SharedHost,
    directory: &Arc<Directory>,
    problems: &mut Problems<'_>,
) -> HashMap<String, Arc<Instance>> {
    let mut instances = HashMap::new();
    for InstancePart { manifest, mut spec, config_path, .. } in parts {
        for _ in 0..MAX_UNKNOWN {
            // A plugin's constructor is foreign code: a panic in it refuses the configuration instead of ending the
            // gateway.
            let attempt = std::panic::AssertUnwindSafe(|| Instance::build(manifest, spec.clone(), host, Arc::clone(directory)));
            let wrong = match std::panic::catch_unwind(attempt) {
                Ok(Ok(instance)) => {
                    instances.insert(spec.name.clone(), instance);
                    break;
                }
                Ok(Err(wrong)) => wrong,
                Err(_) => {
                    problems.error(&config_path, format!("plugin `{}` panicked while it was built", manifest.name));
                    break;
                }
            };
            // Typing stops at the first unknown key: remove it and try again, to find the others.
            if let Some(unknown) = unknown_setting(&wrong.message, manifest, &spec.config)
                && take_away(&mut spec.config, &unknown.path)
            {
                let message = format!("plugin `{}` has no setting `{}`", manifest.name, unknown.key);
                problems.key_error(&format!("{config_path}.{}", unknown.path), message).help(unknown.help);
                continue;
            }
            problems.error(&format!("{config_path}{}", indexed(&wrong.path)), wrong.message);
            break;
        }
    }
    instances
}

/// The setting that serde reports as an unknown field, with its path. The schema alone cannot tell, since it does not
/// contain aliases.
fn unknown_setting(message: &str, manifest: &Manifest, config: &Value) -> Option<Unknown> {
    let key = message.strip_prefix("unknown field `")?.split('`').next()?;
    unknown_in(&(manifest.config_schema)(), config).into_iter().find(|unknown| unknown.key == key)
}

/// Removes the member at a path such as `rules[0].name`.
fn take_away(config: &mut Value, path: &str) -> bool {
    let pointer: String = path.replace('[', ".").replace(']', "").split('.').map(|part| format!("/{part}")).collect();
    let Some((parent, key)) = pointer.rsplit_once('/') else { return false };
    config.pointer_mut(parent).and_then(Value::as_object_mut).is_some_and(|members| members.remove(key).is_some())
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

/// The routes with their chains. A chain that is not in the file is the empty one.
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
