//! The configuration file: parsed, checked, and built into the [`Snapshot`] that requests run on.
//!
//! [`load`] parses and checks; [`Snapshot::build`] makes plugin instances and chains; [`open`] does both, and reports all
//! errors at once.

mod diagnostic;
mod document;
mod environment;
mod plugins_file;
mod problems;
mod resolve;
mod schema;
pub mod sections;
mod settings;
mod snapshot;
mod yaml;

#[cfg(test)]
mod tests;

pub use diagnostic::{Diagnostic, Severity};
pub use document::Document;
pub use environment::Environment;
pub use schema::schema;
pub use sections::{Size, Span};
pub use settings::{
    AdminSettings, EvidenceSettings, FingerprintKey, GovernanceSettings, HashingKey, KeySettings, LogFormat, LogSettings, PluginSettings,
    RecordsSettings, RouteSafetySettings, SafetySettings, ServerSettings, SigningKey, StateSettings, TlsFiles,
};
pub use snapshot::Snapshot;

use std::collections::HashMap;
use std::path::Path;

use crate::plugin::{Roster, SharedHost};
use crate::telemetry::Metrics;
use problems::Problems;
use sections::Root;
use yaml::{Position, Source};

/// A configuration as written, with the position of everything in it.
#[derive(Debug, Clone)]
pub struct Config {
    root: Root,
    /// The configuration file and, if named, the `plugins.json`.
    sources: Vec<Source>,
    /// Paths whose values are in another source: prefix here, index of the source, prefix there.
    moved: Vec<(String, usize, String)>,
    /// Paths that an environment variable has set, with the variable's name.
    from_environment: HashMap<String, String>,
    environment: Environment,
}

impl Config {
    /// The sections as written, with environment overrides and `plugins_file` applied.
    pub fn sections(&self) -> &Root {
        &self.root
    }

    /// The log settings, which are needed before a snapshot is built.
    pub fn log_settings(&self) -> LogSettings {
        resolve::log(self, &mut Problems::new(self))
    }

    /// The settings of the plugin runtime, which are needed before a snapshot is built.
    pub fn plugin_settings(&self) -> PluginSettings {
        resolve::plugin_settings(self, &mut Problems::new(self))
    }

    /// The outbox settings, which are needed before a snapshot is built.
    pub fn outbox_settings(&self) -> crate::outbox::OutboxSettings {
        resolve::outbox_settings(self, &mut Problems::new(self))
    }

    /// The configured state store.
    ///
    /// # Errors
    /// What is wrong with its section, or with the secret that it refers to.
    pub fn state_settings(&self) -> Result<StateSettings, Vec<Diagnostic>> {
        let mut problems = Problems::new(self);
        resolve::state(self, &mut problems).ok_or_else(|| problems.into_found())
    }

    /// The configured record store.
    ///
    /// # Errors
    /// What is wrong with its section, or with the secret that it refers to.
    pub fn records_settings(&self) -> Result<RecordsSettings, Vec<Diagnostic>> {
        let mut problems = Problems::new(self);
        resolve::records(self, &mut problems).ok_or_else(|| problems.into_found())
    }

    /// A diagnostic at a path of the file, for an error that only other modules can detect.
    pub fn refusal(&self, path: &str, message: String) -> Vec<Diagnostic> {
        let mut problems = Problems::new(self);
        problems.error(path, message);
        problems.into_found()
    }

    /// The settings of keys made at run time, and the organisations that can own them; `None` if such keys are switched
    /// off.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn virtual_keys(&self) -> Result<Option<(KeySettings, std::sync::Arc<crate::identity::Homes>)>, Vec<Diagnostic>> {
        let mut problems = Problems::new(self);
        let found = resolve::virtual_keys(self, &mut problems);
        if problems.refused() { Err(problems.into_found()) } else { Ok(found) }
    }

    /// The SafetySec engine of the named route, or of the first one, in mode `security` whatever its configured mode is.
    /// `safety scan` uses it, so that a guard can be measured before it is switched on. Scopes of modules are ignored.
    ///
    /// # Errors
    /// What is wrong with the section, or that no route has this name.
    pub fn safety_engine(&self, route: Option<&str>) -> Result<std::sync::Arc<crate::safety::Engine>, Vec<Diagnostic>> {
        let mut on = self.clone();
        on.root.safety.mode = crate::safety::Mode::Security;
        on.root.routes.iter_mut().for_each(|route| route.safety.mode = None);
        let mut problems = Problems::new(&on);
        let settings = resolve::safety(&on, &mut problems);
        let place = route.map_or(Some(0), |name| self.root.routes.iter().position(|route| route.name == name));
        let found = place.and_then(|place| settings.routes.get(place));
        match found {
            Some(found) if !problems.refused() => Ok(std::sync::Arc::clone(&found.engine)),
            Some(_) => Err(problems.into_found()),
            None => {
                problems.error("routes", format!("there is no route `{}`", route.unwrap_or_default()));
                Err(problems.into_found())
            }
        }
    }

    /// SHA-256 (hex) of the effective configuration without secrets.
    pub fn hash(&self) -> String {
        let text = serde_json::to_string(&self.root).unwrap_or_default();
        crate::identity::fingerprint(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether the value at a path comes from `plugins_file`.
    fn is_of_plugins_file(&self, path: &str) -> bool {
        self.moved.iter().any(|(prefix, ..)| under(path, prefix))
    }

    /// The file and position of a path's value or, if `key`, of its key.
    fn locate(&self, path: &str, key: bool) -> (String, Position) {
        if let Some((_, variable)) = self.from_environment.iter().find(|(prefix, _)| under(path, prefix)) {
            return (format!("environment {variable}"), Position { line: 1, column: 1 });
        }
        let (source, inner) = match self.moved.iter().find(|(prefix, ..)| under(path, prefix)) {
            Some((prefix, source, there)) => (*source, format!("{there}{}", &path[prefix.len()..])),
            None => (0, path.to_owned()),
        };
        let Some(source) = self.sources.get(source) else { return (String::new(), Position { line: 1, column: 1 }) };
        let at = if key { source.key_position(&inner) } else { source.position(&inner) };
        (source.file().to_owned(), at)
    }
}

fn under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A configuration that was parsed and checked.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings about it.
    pub warnings: Vec<Diagnostic>,
}

/// A configuration built into a snapshot.
#[derive(Debug)]
pub struct Opened {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Warnings about the configuration.
    pub warnings: Vec<Diagnostic>,
}

/// Parses and checks a file with the environment of this process. Plugins are built and dropped again, so that errors in
/// their settings are reported along with all others.
///
/// # Errors
/// Everything that is wrong with the file, by line.
pub fn load(path: &Path, roster: &Roster) -> Result<Loaded, Vec<Diagnostic>> {
    let (config, mut found) = read(path, Environment::process())?;
    let mut problems = Problems::new(&config);
    snapshot::rehearse(&config, roster, &mut problems);
    found.extend(problems.into_found());
    let warnings = split(found)?;
    Ok(Loaded { config, warnings })
}

/// Parses and checks a file, and builds everything that requests need from it. Opens no files but those that the
/// configuration names, and no connections.
///
/// # Errors
/// Everything that is wrong, including plugin configurations, by line.
pub fn open(
    path: &Path,
    environment: Environment,
    roster: &Roster,
    host: &SharedHost,
    metrics: &Metrics,
) -> Result<Opened, Vec<Diagnostic>> {
    let (config, mut found) = read(path, environment)?;
    let mut problems = Problems::new(&config);
    let snapshot = snapshot::build(&config, roster, host, metrics, &mut problems);
    found.extend(problems.into_found());
    let warnings = split(found)?;
    match snapshot {
        Some(snapshot) => Ok(Opened { snapshot, warnings }),
        None => Err(warnings),
    }
}

/// The findings as warnings if none of them is an error, otherwise as errors.
fn split(found: Vec<Diagnostic>) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    if found.iter().any(|d| d.severity == Severity::Error) { Err(found) } else { Ok(found) }
}

fn unreadable(file: &str, message: String) -> Diagnostic {
    let (severity, path) = (Severity::Error, String::new());
    Diagnostic { severity, file: file.to_owned(), line: 1, column: 1, path, message, help: None }
}

fn text_of(path: &Path) -> Result<String, Diagnostic> {
    let file = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| unreadable(&file, format!("cannot be read: {e}")))?;
    String::from_utf8(bytes).map_err(|_| unreadable(&file, "is not UTF-8".into()))
}

/// Parses the text into types and applies the environment and `plugins_file`.
fn read(path: &Path, environment: Environment) -> Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>> {
    let text = text_of(path).map_err(|d| vec![d])?;
    let source = Source::read(&path.display().to_string(), &text)?;
    let unknown = schema::unknown_keys(&source, &text);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let root: Root = source.parse(&text).map_err(|d| vec![d])?;
    let mut config = Config { root, sources: vec![source], moved: Vec::new(), from_environment: HashMap::new(), environment };
    let found = environment::apply(&mut config);
    add_plugins_file(&mut config, path)?;
    environment::apply_to_chains(&mut config);
    Ok((config, found))
}

/// Merges `plugins_file`; a relative path is relative to the configuration file.
fn add_plugins_file(config: &mut Config, path: &Path) -> Result<(), Vec<Diagnostic>> {
    let Some(named) = config.root.plugins_file.clone() else { return Ok(()) };
    let by_variable = config.from_environment.contains_key("plugins_file");
    let full = if by_variable { named } else { path.parent().unwrap_or(Path::new("")).join(named) };
    let text = text_of(&full).map_err(|mut d| {
        d.message = format!("{} {}", full.display(), d.message);
        let (file, at) = config.locate("plugins_file", false);
        vec![Diagnostic { file, line: at.line, column: at.column, path: "plugins_file".into(), ..d }]
    })?;
    let read = plugins_file::read(&full.display().to_string(), &text)?;
    let number = config.sources.len();
    let offset = config.root.plugins.len();
    for index in 0..read.plugins.len() {
        config.moved.push((format!("plugins[{}]", index + offset), number, format!("plugins[{index}]")));
    }
    config.root.plugins.extend(read.plugins);
    if config.root.chains.contains_key(plugins_file::CHAIN) {
        let mut problems = Problems::new(config);
        problems
            .error("chains.default", "the phases of `plugins_file` are the chain `default`, which is written here too")
            .help("rename this chain, or leave `plugins_file` out".to_owned());
        return Err(problems.into_found());
    }
    config.root.chains.insert(plugins_file::CHAIN.to_owned(), read.chain);
    config.moved.push((format!("chains.{}", plugins_file::CHAIN), number, "phases".to_owned()));
    config.sources.push(read.source);
    Ok(())
}
