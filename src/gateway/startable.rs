//! What a start needs beyond a valid configuration: store addresses that can be parsed, TLS files that can be used.

use super::listeners::usable;
use crate::config::sections::SecretRef;
use crate::config::{Config, Diagnostic, RecordsSettings, Severity, StateSettings, TlsFiles};
use crate::store::redis::{self, RedisState};
use crate::store::sql::SqlRecords;

/// Checks that a process could start with this configuration on this machine, without contacting any server.
///
/// # Errors
/// What prevents a start, with its places in the configuration.
pub fn startable(config: &Config, tls: Option<&TlsFiles>) -> Result<(), Vec<Diagnostic>> {
    let found = hindrances(config, tls);
    match found.is_empty() {
        true => Ok(()),
        false => Err(found.into_iter().map(|found| Diagnostic { severity: Severity::Error, ..found }).collect()),
    }
}

/// What would prevent a start. Problems that may not exist on another machine, such as files and environment variables, are
/// warnings, because a configuration may be checked elsewhere than where it runs.
pub fn hindrances(config: &Config, tls: Option<&TlsFiles>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let root = config.sections();
    let of = |url: Option<&SecretRef>, refusal: Vec<Diagnostic>| match url {
        Some(SecretRef::Inline(_)) | None => refusal,
        Some(_) => elsewhere(refusal),
    };
    match config.state_settings() {
        Err(wrong) => found.extend(wrong),
        Ok(StateSettings::Redis(address)) => {
            if let Err(error) = RedisState::open(address.expose(), redis::Options::default()) {
                found.extend(of(root.state.url.as_ref(), config.refusal("state.url", error.to_string())));
            }
        }
        Ok(StateSettings::Embedded) => {}
    }
    match config.records_settings() {
        Err(wrong) => found.extend(wrong),
        Ok(RecordsSettings::Postgres(address)) => {
            if let Err(error) = SqlRecords::names_a_server(address.expose()) {
                found.extend(of(root.records.url.as_ref(), config.refusal("records.url", error.to_string())));
            }
        }
        Ok(RecordsSettings::Embedded(_)) => {}
    }
    if let Some(Err(why)) = tls.map(usable) {
        found.extend(elsewhere(config.refusal("server.tls", why)));
    }
    found
}

fn elsewhere(found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let warned = |found| Diagnostic { severity: Severity::Warning, help: Some("`run` would not start here like this".into()), ..found };
    found.into_iter().map(warned).collect()
}
