//! Odock's own `plugins.json`, read as it is: `plugins[]` are added to those of the file, `phases` become the chain
//! `default`.

use serde::Deserialize;
use serde_json::Value;

use super::diagnostic::{Diagnostic, Severity};
use super::sections::{ChainEntry, PluginEntry, PostResponseEntry, StageEntry};
use super::yaml::Source;

/// The name of the chain that is made of `phases`.
pub(super) const CHAIN: &str = "default";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginsFile {
    plugins: Vec<PluginEntry>,
    #[serde(default)]
    phases: Phases,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Phases {
    pre_route: StageEntry,
    pre_upstream: StageEntry,
    post_upstream: StageEntry,
    post_response: PostResponseEntry,
}

/// The content of a `plugins.json`.
pub(super) struct Read {
    pub source: Source,
    pub plugins: Vec<PluginEntry>,
    pub chain: ChainEntry,
}

/// Parses a `plugins.json` as YAML. The only JSON that is not YAML has tabs between tokens. They are replaced by spaces,
/// which changes no position; within JSON strings there are no raw tabs.
pub(super) fn read(file: &str, text: &str) -> Result<Read, Vec<Diagnostic>> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let found = Diagnostic {
            severity: Severity::Error,
            file: file.to_owned(),
            line: error.line().max(1),
            column: error.column().max(1),
            path: String::new(),
            message: "this is no JSON".to_owned(),
            help: Some("the file is Odock's plugins.json: an object with `plugins` and `phases`".to_owned()),
        };
        return Err(vec![found]);
    }
    let text = text.replace('\t', " ");
    let source = Source::read(file, &text)?;
    let written: PluginsFile = source.parse(&text).map_err(|d| vec![d])?;
    let Phases { pre_route, pre_upstream, post_upstream, post_response } = written.phases;
    let plugins = written.plugins.into_iter().map(objects).collect();
    Ok(Read { source, plugins, chain: ChainEntry { pre_route, pre_upstream, post_upstream, post_response } })
}

/// Replaces `"config": null`, which is common in such files, by an empty object.
fn objects(mut entry: PluginEntry) -> PluginEntry {
    if entry.config.is_null() {
        entry.config = Value::Object(serde_json::Map::new());
    }
    entry
}
