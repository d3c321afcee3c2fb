//! `plugins evaluate`: the evaluation checklist of a plugin.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::super::{FAILED, INVALID_CONFIG, OK, named_configuration, print, tell, tell_diagnostics};
use super::Format;
use super::checklist::{Checklist, Facts, Listed, QUESTIONS, State};
use crate::config::{self, Document};
use crate::plugin::harness::{Case, Used};
use crate::plugin::{Manifest, Roster};

const EXAMPLES: &str = "Examples:
  odock-edge plugins evaluate http_callout                                       what its manifest and cases say
  odock-edge plugins evaluate http_callout -c conf/odock.yaml                    with what this configuration grants
  odock-edge plugins evaluate http_callout -c conf/odock.yaml --answers dlp.yaml

An answers file is a map of the keys that are OPEN to what a person says: `owner: data protection, Mondays`.
Exit codes: 0 complete, 1 something is open or more is asked for than is used, 78 a file is wrong.";

/// Arguments of `plugins evaluate`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The plugin's name
    name: String,
    /// The configuration whose instances of it are looked at
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What people answered
    #[arg(long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// Its cases, which show what it needs; plugins/NAME/cases without
    #[arg(long, value_name = "DIR")]
    cases: Option<PathBuf>,
    /// How to report
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

/// Answers by the key of the question.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
struct Answers(BTreeMap<String, String>);

/// Evaluates a plugin. Returns 0 when nothing is open and nothing exceeds what is used.
pub fn run(args: &Args, roster: &Roster) -> i32 {
    match evaluated(args, roster) {
        Err(code) => code,
        Ok(checklist) => {
            let printed = match args.format {
                Format::Text => print(&checklist.text()),
                Format::Json => print(&format!("{:#}\n", as_json(&checklist))),
            };
            if checklist.is_complete() && printed == OK { OK } else { FAILED }
        }
    }
}

fn as_json(checklist: &Checklist) -> serde_json::Value {
    json!({
        "plugin": checklist.plugin,
        "version": checklist.version,
        "complete": checklist.is_complete(),
        "open": checklist.count(State::Open),
        "exceeds": checklist.count(State::Exceeds),
        "items": checklist.items,
    })
}

fn evaluated(args: &Args, roster: &Roster) -> Result<Checklist, i32> {
    let manifest = super::find(roster, &args.name)?;
    let answers = args.answers.as_deref().map_or(Ok(BTreeMap::new()), answers)?;
    let loaded = named_configuration(args.config.as_ref()).map(|file| {
        config::load(&file, roster).map_err(|diagnostics| {
            tell_diagnostics(&diagnostics);
            INVALID_CONFIG
        })
    });
    let loaded = loaded.transpose()?;
    let sections = loaded.as_ref().map(|loaded| loaded.config.sections());
    let instances = sections.map(|root| Listed::all(manifest.name, &root.plugins, &root.chains)).unwrap_or_default();
    if sections.is_some() && instances.is_empty() {
        tell(&format!("this configuration has no instance of {}", manifest.name));
    }
    let folder = args.cases.clone().unwrap_or_else(|| Path::new("plugins").join(manifest.name).join("cases"));
    let used = used(manifest, &folder, args.cases.is_some())?;
    Ok(Facts { manifest, used: used.as_ref(), instances: &instances, answers: &answers }.checklist())
}

fn answers(file: &Path) -> Result<BTreeMap<String, String>, i32> {
    let wrong = |diagnostics: &[config::Diagnostic]| {
        tell_diagnostics(diagnostics);
        INVALID_CONFIG
    };
    let document = Document::<Answers>::read(file).map_err(|diagnostics| wrong(&diagnostics))?;
    let known: Vec<&str> = QUESTIONS.iter().map(|(key, _)| *key).collect();
    let unknown: Vec<_> = document.value.0.keys().filter(|key| !known.contains(&key.as_str())).collect();
    let unknown: Vec<_> =
        unknown.iter().map(|key| document.error(key, "is no question", format!("known here: {}", known.join(", ")))).collect();
    if unknown.is_empty() { Ok(document.value.0) } else { Err(wrong(&unknown)) }
}

/// What the cases in a folder use; `None` if there is no such folder and `--cases` was not given.
fn used(manifest: &'static Manifest, folder: &Path, asked: bool) -> Result<Option<Used>, i32> {
    if !asked && !folder.is_dir() {
        return Ok(None);
    }
    let failed = |why: String| {
        tell(&format!("odock-edge: {}: {why}", folder.display()));
        FAILED
    };
    let cases = Case::read_folder(folder).map_err(failed)?;
    if cases.is_empty() {
        return Ok(None);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(error.to_string()))?;
    runtime.block_on(async {
        for (file, case) in &cases {
            let wrong = case.run(manifest).await;
            if let Some(first) = wrong.first() {
                return Err(failed(format!("{file}: {first}; a plugin is evaluated when its cases pass")));
            }
        }
        let cases: Vec<Case> = cases.into_iter().map(|(_, case)| case).collect();
        Ok(Some(Used::by(manifest, &cases).await))
    })
}
