//! `providers`.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::process::positive;
use super::{secrets, unique};
use crate::config::Config;
use crate::config::problems::Problems;
use crate::config::sections::ProviderEntry;
use crate::route::{BaseUrl, Provider, ProviderKind};

pub(super) fn resolve(config: &Config, problems: &mut Problems<'_>) -> HashMap<Arc<str>, Arc<Provider>> {
    let mut seen = HashSet::new();
    let mut providers = HashMap::new();
    for (index, entry) in config.root.providers.iter().enumerate() {
        let here = format!("providers[{index}]");
        let named = unique(&mut seen, &entry.name, &format!("{here}.name"), "provider", problems);
        if let Some(provider) = one(entry, &here, config, problems)
            && named
        {
            providers.insert(Arc::clone(&provider.name), Arc::new(provider));
        }
    }
    providers
}

fn one(entry: &ProviderEntry, here: &str, config: &Config, problems: &mut Problems<'_>) -> Option<Provider> {
    let kind = ProviderKind::from(entry.kind);
    positive(&format!("{here}.timeout"), entry.timeout, problems);
    positive(&format!("{here}.connect_timeout"), entry.connect_timeout, problems);
    let api_key = entry.api_key.as_ref().and_then(|r| secrets::resolve(r, &format!("{here}.api_key"), config, problems));
    let url_path = format!("{here}.base_url");
    let Some(text) = entry.base_url.as_deref().or(kind.default_base_url()) else {
        problems.error(here, format!("a provider of type {} needs `base_url`", kind.as_str()));
        return None;
    };
    let base_url = match BaseUrl::parse(text) {
        Ok(url) => url,
        Err(why) => {
            problems.error(&url_path, why.to_string());
            return None;
        }
    };
    if !base_url.tls && entry.api_key.is_some() && !near(&base_url.host) {
        problems.warn(&url_path, "the credential is sent in clear text").help("use https".to_owned());
    }
    if entry.ca_file.is_some() && !base_url.tls {
        problems.warn(&format!("{here}.ca_file"), "has no effect without https");
    }
    if entry.api_key.is_none() && entry.base_url.is_none() {
        let finding = problems.warn(here, format!("{} asks for a credential and `api_key` is not set", base_url.host));
        finding.help("add `api_key: {env: NAME}`".to_owned());
    }
    Some(Provider {
        name: entry.name.as_str().into(),
        kind,
        base_url,
        api_key,
        key_required: entry.api_key.is_some(),
        timeout: entry.timeout.0,
        connect_timeout: entry.connect_timeout.0,
        h2: entry.http2,
        ca_file: entry.ca_file.clone(),
        stream_usage: entry.stream_usage.unwrap_or_else(|| kind.tells_stream_usage()),
        enabled: entry.enabled,
    })
}

/// Whether a host is this machine.
pub(super) fn near(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
