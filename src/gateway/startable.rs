//! What a start needs of a configuration beyond its sense: stores whose addresses can be read, TLS files that can be used.

use super::listeners::usable;
use crate::config::{Config, Diagnostic, RecordsSettings, StateSettings, TlsFiles};
use crate::store::redis::{self, RedisState};
use crate::store::sql::SqlRecords;

/// Whether a process could start with this configuration, as far as that shows without asking anybody.
///
/// # Errors
/// What stands in the way, each with its place.
pub fn startable(config: &Config, tls: Option<&TlsFiles>) -> Result<(), Vec<Diagnostic>> {
    let mut found = Vec::new();
    match config.state_settings() {
        Err(wrong) => found.extend(wrong),
        Ok(StateSettings::Redis(address)) => {
            if let Err(error) = RedisState::open(address.expose(), redis::Options::default()) {
                found.extend(config.refusal("state.url", error.to_string()));
            }
        }
        Ok(StateSettings::Embedded) => {}
    }
    match config.records_settings() {
        Err(wrong) => found.extend(wrong),
        Ok(RecordsSettings::Postgres(address)) => {
            if let Err(error) = SqlRecords::names_a_server(address.expose()) {
                found.extend(config.refusal("records.url", error.to_string()));
            }
        }
        Ok(RecordsSettings::Embedded(_)) => {}
    }
    if let Some(Err(why)) = tls.map(usable) {
        found.extend(config.refusal("server.tls", why));
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}
