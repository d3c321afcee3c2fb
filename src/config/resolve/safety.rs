//! `safety`: builds the modules, so that a check finds errors in their settings, and combines them into an engine for each
//! route.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::plugins::Known;
use super::process::positive;
use super::{absent, secrets, stores};
use crate::config::Config;
use crate::config::problems::Problems;
use crate::config::sections::{RouteSafety, SafetyModuleEntry};
use crate::config::settings::{FingerprintKey, RouteSafetySettings, SafetySettings};
use crate::plugin::Scope;
use crate::safety::attack::Detector;
use crate::safety::modules::Blueprint;
use crate::safety::{Built, Engine, MOST_MODULES, Member, Mode, SessionRule, modules, verdicts};
use crate::store::RiskPolicy;
use crate::wire::Kind;

/// Most verdicts that can be remembered; each takes about 100 bytes.
const MOST_REMEMBERED: usize = 16 << 20;

pub(in crate::config) fn resolve(config: &Config, problems: &mut Problems<'_>) -> SafetySettings {
    let written = &config.root.safety;
    let session = &written.session;
    positive("safety.session.ttl", session.ttl, problems);
    if !(session.block_threshold > 0.0 && session.block_threshold <= 10.0) {
        problems.error("safety.session.block_threshold", "expected a score of more than 0, usually 0.85");
    }
    if !(session.faint_ceiling >= 0.0 && session.faint_ceiling < session.block_threshold) {
        problems.error("safety.session.faint_ceiling", "must be below block_threshold, or phrases alone could block");
    }
    if written.remembered_texts > MOST_REMEMBERED {
        problems.error("safety.remembered_texts", format!("at most {MOST_REMEMBERED}"));
    }
    let given = session.fingerprint_key.as_ref().map(|key| secrets::require(key, "safety.session.fingerprint_key", config, problems));
    let routes = || config.root.routes.iter().filter_map(|route| route.safety.mode);
    let watches = std::iter::once(written.mode).chain(routes()).any(|mode| mode != Mode::Noop);
    if watches && given.is_none() && stores::is_guessable(config) {
        let what = "session fingerprints are keyed with an address that has no password: who knows the address can compute them";
        problems.warn("safety.session", what).help("set safety.session.fingerprint_key, the same on all replicas".to_owned());
    }
    let rule = SessionRule { block_threshold: session.block_threshold, faint_ceiling: session.faint_ceiling };
    let members = members(config, problems);
    let memory = verdicts(written.remembered_texts.min(MOST_REMEMBERED));
    let engine = |route: Option<&RouteSafety>, here: &str, problems: &mut Problems<'_>| {
        let (members, scopes) = on_route(&members, route, here, problems);
        let mode = route.and_then(|route| route.mode).unwrap_or(written.mode);
        RouteSafetySettings { engine: Arc::new(Engine::new(mode, rule, members, memory.clone())), scopes }
    };
    let routes = match config.root.routes.as_slice() {
        [] => vec![engine(None, "", problems)],
        routes => routes
            .iter()
            .enumerate()
            .map(|(index, route)| engine(Some(&route.safety), &format!("routes[{index}].safety"), problems))
            .collect(),
    };
    SafetySettings {
        risk: RiskPolicy { half_life: session.half_life.0, ttl: session.ttl.0, threshold: session.block_threshold },
        rule,
        on_store_error: session.on_store_error,
        key: match given {
            Some(Some(key)) => FingerprintKey::Given(key),
            _ => FingerprintKey::Derived,
        },
        routes,
    }
}

/// Every enabled module with the operator's policy.
fn members(config: &Config, problems: &mut Problems<'_>) -> Vec<(Member, Scope)> {
    let written = &config.root.safety.modules;
    for name in written.keys() {
        if modules::find(name).is_none() {
            let known = modules::all().into_iter().map(|blueprint| blueprint.name);
            absent(&format!("safety.modules.{name}"), "safety module", name, known, problems);
        }
    }
    let known = Known::of(config);
    let on = |mode: Option<Mode>| mode.is_some_and(|mode| mode != Mode::Noop);
    let used = on(Some(config.root.safety.mode)) || config.root.routes.iter().any(|route| on(route.safety.mode));
    let mut members = Vec::new();
    let mut detectors = BTreeMap::new();
    // If SafetySec is off, only modules with settings in the file are built, to report errors before it is switched on.
    for blueprint in modules::all().into_iter().filter(|blueprint| used || written.contains_key(blueprint.name)) {
        let standard = SafetyModuleEntry::default();
        let entry = written.get(blueprint.name).unwrap_or(&standard);
        let here = format!("safety.modules.{}", blueprint.name);
        let Some(built) = built(blueprint, entry, &format!("{here}.config"), &mut detectors, problems) else { continue };
        let mut policy = built.policy();
        policy.mode = entry.mode.unwrap_or(policy.mode);
        policy.action = entry.action.unwrap_or(policy.action);
        policy.on_error = entry.on_error.unwrap_or(policy.on_error);
        policy.weight = weight(entry.weight, &here, problems).unwrap_or(policy.weight);
        policy.threshold = threshold(entry.threshold, &here, problems).unwrap_or(policy.threshold);
        policy.kinds = entry.kinds.as_ref().map(|kinds| kinds_of(kinds, &format!("{here}.kinds"), problems));
        known.check(&entry.scope, &format!("{here}.scope"), problems);
        if !entry.enabled {
            policy.mode = Mode::Noop;
        }
        members.push((Member { built: Arc::new(built), policy }, entry.scope.clone()));
    }
    if members.len() > MOST_MODULES {
        problems.error("safety.modules", format!("this build has {} safety modules, and an engine runs {MOST_MODULES}", members.len()));
    }
    members
}

/// Builds a module from its configuration, with the weights file that it names.
fn built(
    blueprint: &'static Blueprint,
    entry: &SafetyModuleEntry,
    here: &str,
    detectors: &mut BTreeMap<String, Arc<Detector>>,
    problems: &mut Problems<'_>,
) -> Option<Built> {
    let config = Value::Object(entry.config.clone());
    let built = match (modules::with_detector(blueprint.name), entry.config.get("weights")) {
        (Some(build), Some(Value::String(path))) => match detector(path, detectors) {
            Ok(detector) => build(&config, detector).map(|module| Built::of(blueprint, module)),
            Err(wrong) => {
                problems.error(&format!("{here}.weights"), wrong);
                return None;
            }
        },
        _ => Built::new(blueprint, &config),
    };
    built
        .map_err(|wrong| match wrong.split_once(": ") {
            // A module that names the wrong setting gets the error reported at that setting.
            Some((path, why)) if is_path(path) => problems.error(&format!("{here}.{path}"), why),
            _ => problems.error(here, wrong),
        })
        .ok()
}

/// Whether a text is the path of a setting, as `patterns[0].regex`.
fn is_path(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'[' | b']'))
}

/// Largest weights file, in bytes.
const LONGEST_WEIGHTS: u64 = 16 << 20;

/// The detector with the weights in a file. Modules that name the same file share one.
fn detector(path: &str, detectors: &mut BTreeMap<String, Arc<Detector>>) -> Result<Arc<Detector>, String> {
    if let Some(known) = detectors.get(path) {
        return Ok(Arc::clone(known));
    }
    let unreadable = |error: std::io::Error| format!("{path} cannot be read: {error}");
    if std::fs::metadata(path).map_err(unreadable)?.len() > LONGEST_WEIGHTS {
        return Err(format!("{path} is too long for weights"));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let detector = Detector::new(bytes).map(Arc::new).map_err(|error| format!("{path}: {error}"))?;
    detectors.insert(path.to_owned(), Arc::clone(&detector));
    Ok(detector)
}

/// The modules as configured for one route.
fn on_route(
    members: &[(Member, Scope)],
    route: Option<&RouteSafety>,
    here: &str,
    problems: &mut Problems<'_>,
) -> (Vec<Member>, Vec<Scope>) {
    let different = route.map(|route| &route.modules);
    for name in different.into_iter().flat_map(BTreeMap::keys) {
        if modules::find(name).is_none() {
            let known = modules::all().into_iter().map(|blueprint| blueprint.name);
            absent(&format!("{here}.modules.{name}"), "safety module", name, known, problems);
        }
    }
    let mut chosen = Vec::new();
    for (member, scope) in members {
        let mut member = member.clone();
        if let Some(here_only) = different.and_then(|modules| modules.get(member.name())) {
            let at = format!("{here}.modules.{}", member.name());
            let policy = &mut member.policy;
            // A module that is off by default and enabled for this route gets its own mode or, without one, the full mode.
            if here_only.enabled == Some(true) && policy.mode == Mode::Noop {
                policy.mode = Mode::Security;
            }
            policy.mode = here_only.mode.unwrap_or(policy.mode);
            policy.action = here_only.action.unwrap_or(policy.action);
            policy.on_error = here_only.on_error.unwrap_or(policy.on_error);
            policy.weight = weight(here_only.weight, &at, problems).unwrap_or(policy.weight);
            policy.threshold = threshold(here_only.threshold, &at, problems).unwrap_or(policy.threshold);
            if here_only.enabled == Some(false) {
                policy.mode = Mode::Noop;
            }
        }
        chosen.push((member, scope.clone()));
    }
    chosen.into_iter().unzip()
}

fn weight(weight: Option<f64>, here: &str, problems: &mut Problems<'_>) -> Option<f64> {
    let weight = weight?;
    if !(0.0..=10.0).contains(&weight) {
        problems.error(&format!("{here}.weight"), "expected 0 to 10; 1 is usual");
    }
    Some(weight)
}

#[allow(clippy::cast_possible_truncation)] // a score needs no more digits
fn threshold(threshold: Option<f64>, here: &str, problems: &mut Problems<'_>) -> Option<f32> {
    let threshold = threshold?;
    if !(threshold > 0.0 && threshold <= 1.0) {
        problems.error(&format!("{here}.threshold"), "expected more than 0 and at most 1; 0.5 is usual");
    }
    Some(threshold as f32)
}

fn kinds_of(names: &[String], here: &str, problems: &mut Problems<'_>) -> Vec<Kind> {
    let known = || Kind::ALL.iter().copied().filter(|kind| *kind != Kind::Structural);
    let mut kinds = Vec::new();
    if names.is_empty() {
        problems.error(here, "no kind of text is left to read; leave `kinds` out, or say `enabled: false`");
    }
    for (number, name) in names.iter().enumerate() {
        match known().find(|kind| kind.as_str() == name) {
            Some(kind) => kinds.push(kind),
            None => {
                let names: Vec<&str> = known().map(Kind::as_str).collect();
                absent(&format!("{here}[{number}]"), "kind of text", name, names.iter().copied(), problems);
            }
        }
    }
    kinds
}
