//! Settings of the state store and the record store.

use crate::config::Config;
use crate::config::environment::REDIS_LOGIN;
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
        StateKind::Redis => {
            let address = address(state.url.as_ref(), "state.url", config, problems)?;
            Some(StateSettings::Redis(with_login(address, config)))
        }
    }
}

/// Whether the shared state store's address has no password, so that it is no secret what is derived from it.
pub(super) fn is_guessable(config: &Config) -> bool {
    // What is wrong with the address is said where it is used.
    let address = state(config, &mut Problems::new(config));
    matches!(address, Some(StateSettings::Redis(address)) if !has_password(address.expose()))
}

/// Whether a URL has a password (RFC 3986 §3.2.1).
fn has_password(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', '?', '#']).next().unwrap_or_default();
    let password = authority.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
    password.is_some_and(|(_, password)| !password.is_empty())
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

/// Adds login and database from the product's variables to a `REDIS_ADDR` without a scheme.
fn with_login(address: Secret, config: &Config) -> Secret {
    let [user, password, database] = REDIS_LOGIN.map(|variable| config.environment.get(variable));
    let told = user.is_some() || password.is_some() || database.is_some();
    if !told || !config.from_environment.contains_key("state.url") || address.expose().contains("://") {
        return address;
    }
    let mut whole = "redis://".to_owned();
    if user.is_some() || password.is_some() {
        encode(user.unwrap_or_default(), &mut whole);
        whole.push(':');
        encode(password.unwrap_or_default(), &mut whole);
        whole.push('@');
    }
    whole.push_str(address.expose());
    if let Some(database) = database {
        whole.push('/');
        encode(database, &mut whole);
    }
    Secret::new(whole)
}

/// Percent-encodes everything that may have a meaning in a URL.
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => into.push(char::from(byte)),
            _ => into.push_str(&format!("%{byte:02X}")),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls() {
        for url in ["redis://:p@h:1", "rediss://u:p@h/0", "redis+sentinel://u:p@a:1,b:2/m", "redis://u:p%40@h?x=1"] {
            assert!(has_password(url), "{url}");
        }
        for url in ["redis://redis:6379", "redis://u@h", "redis://u:@h", "h:6379", "redis://h/a:b@c", "redis://h?a:b@c"] {
            assert!(!has_password(url), "{url}");
        }
    }
}
