//! Where state and records are kept.

use crate::config::Config;
use crate::config::problems::Problems;
use crate::config::sections::{RecordsKind, SecretRef, StateKind};
use crate::config::settings::{RecordsSettings, StateSettings};
use crate::identity::Secret;

use super::secrets;

/// The state store.
pub(in crate::config) fn state(config: &Config, problems: &mut Problems<'_>) -> Option<StateSettings> {
    let state = &config.root.state;
    match state.kind {
        StateKind::Embedded => {
            unused(state.url.as_ref(), "state.url", problems);
            Some(StateSettings::Embedded)
        }
        StateKind::Redis => address(state.url.as_ref(), "state.url", config, problems).map(StateSettings::Redis),
    }
}

/// The record store.
pub(in crate::config) fn records(config: &Config, problems: &mut Problems<'_>) -> Option<RecordsSettings> {
    let records = &config.root.records;
    match records.kind {
        RecordsKind::Embedded => {
            unused(records.url.as_ref(), "records.url", problems);
            Some(RecordsSettings::Embedded(records.path.clone()))
        }
        RecordsKind::Postgres => address(records.url.as_ref(), "records.url", config, problems).map(RecordsSettings::Postgres),
    }
}

fn address(reference: Option<&SecretRef>, path: &str, config: &Config, problems: &mut Problems<'_>) -> Option<Secret> {
    let Some(reference) = reference else {
        let section = path.trim_end_matches(".url");
        problems.error(section, "a server has an address").help(format!("write `url: {{env: …}}` under `{section}`"));
        return None;
    };
    secrets::require(reference, path, config, problems)
}

fn unused(reference: Option<&SecretRef>, path: &str, problems: &mut Problems<'_>) {
    if reference.is_some() {
        problems.key_error(path, "an embedded store has no address").help("set `kind`, or take `url` out".to_owned());
    }
}
