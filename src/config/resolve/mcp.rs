//! `organisations[].mcp_servers`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::organisations::Members;
use super::process::positive;
use super::{absent, governance, providers, secrets, unique};
use crate::config::Config;
use crate::config::problems::Problems;
use crate::config::sections::{McpAuth, McpServerEntry, OrganisationEntry};
use crate::identity::{Secret, is_minted_id};
use crate::limit::Scope;
use crate::route::{
    Audience, BaseUrl, ClientCredentials, McpCredential, McpServer, McpServers, PROVIDER, Provider, ProviderKind, ToolRules,
};

/// Resolves the servers of one organisation and adds them to all servers.
pub(super) fn resolve(
    entry: &OrganisationEntry,
    members: &Members,
    here: &str,
    config: &Config,
    all: &mut McpServers,
    problems: &mut Problems<'_>,
) {
    let (mut names, mut ids) = (HashSet::new(), HashSet::new());
    for (number, server) in entry.mcp_servers.iter().enumerate() {
        let at = format!("{here}.mcp_servers[{number}]");
        let mut fresh = unique(&mut names, &server.name, &format!("{at}.name"), "MCP server", problems) && ids.insert(server.name.clone());
        for (member, text) in [("name", Some(&server.name)), ("id", server.id.as_ref())] {
            // `.` and `..` have a meaning of their own in a path. Other characters are checked as in every name.
            if text.is_some_and(|text| text.bytes().all(|byte| byte == b'.')) {
                problems.error(&format!("{at}.{member}"), "stands in a path and cannot be made of dots alone");
            }
        }
        if let Some(id) = server.id.as_ref().filter(|id| **id != server.name) {
            fresh &= unique(&mut ids, id, &format!("{at}.id"), "MCP server of that name or id", problems);
        }
        for (position, key) in server.api_keys.iter().enumerate() {
            if !is_minted_id(key) {
                known_key(key, entry, &format!("{at}.api_keys[{position}]"), problems);
            }
        }
        if let Some(made) = one(server, entry, members, &at, config, problems)
            && fresh
            && server.enabled
        {
            all.insert(Arc::clone(&members.organisation.id), server.id.as_deref().map(Arc::from), Arc::new(made));
        }
    }
}

fn one(
    server: &McpServerEntry,
    entry: &OrganisationEntry,
    members: &Members,
    at: &str,
    config: &Config,
    problems: &mut Problems<'_>,
) -> Option<McpServer> {
    positive(&format!("{at}.timeout"), server.timeout, problems);
    positive(&format!("{at}.connect_timeout"), server.connect_timeout, problems);
    let rate = &server.policies.ratelimit;
    if rate.tokens.per_minute > 0 || rate.payload.max_tokens > 0 {
        problems.error(&format!("{at}.policies.ratelimit"), "tools have no tokens to limit").help("limit requests or bytes".to_owned());
    }
    for (member, list) in [("allowed_tools", &server.allowed_tools), ("blocked_tools", &server.blocked_tools)] {
        if let Some(place) = list.iter().position(String::is_empty) {
            problems.error(&format!("{at}.{member}[{place}]"), "is empty");
        }
    }
    if let Some(place) = server.blocked_keywords.iter().position(|word| word.trim().is_empty()) {
        problems.error(&format!("{at}.blocked_keywords[{place}]"), "is empty and stands in every request");
    }
    let audience = audience(server, entry, members, at, problems);
    let credential = credential(&server.auth, at, config, problems);
    let secret = !matches!(server.auth, McpAuth::None);
    let (base_url, path) = endpoint(&server.endpoint_url, secret, &format!("{at}.endpoint_url"), problems)?;
    let credential = credential?;
    let upstream = Provider {
        name: PROVIDER.into(),
        kind: ProviderKind::Custom,
        base_url,
        api_key: None,
        key_required: false,
        timeout: server.timeout.0,
        connect_timeout: server.connect_timeout.0,
        h2: server.http2,
        ca_file: server.ca_file.clone(),
        stream_usage: false,
        enabled: true,
    };
    let home = &members.organisation.id;
    Some(McpServer {
        name: server.name.as_str().into(),
        upstream: Arc::new(upstream),
        path,
        transport: server.transport,
        credential,
        audience,
        tools: ToolRules { allowed: server.allowed_tools.clone(), blocked: server.blocked_tools.clone() },
        blocked_keywords: server.blocked_keywords.iter().map(|word| word.to_lowercase()).collect(),
        pricing: server.pricing,
        limits: governance::plan(Scope::McpServer, home, &server.name, &server.policies, at, problems),
    })
}

fn audience(server: &McpServerEntry, entry: &OrganisationEntry, members: &Members, at: &str, problems: &mut Problems<'_>) -> Audience {
    let team = server.only_team.as_deref().map(|name| {
        let found = members.teams.get(name);
        if found.is_none() {
            absent(&format!("{at}.only_team"), "team", name, members.teams.keys().map(String::as_str), problems);
        }
        found.map_or_else(|| Arc::from(name), |team| Arc::clone(&team.id))
    });
    let key = server.only_api_key.as_deref().map(|name| match known_key(name, entry, &format!("{at}.only_api_key"), problems) {
        Some(key) => governance::key_id(key, members).into(),
        None => Arc::from(name),
    });
    Audience { team, key }
}

/// The key with this name or id. A key made at run time is known by its id only.
fn known_key<'e>(
    name: &str,
    entry: &'e OrganisationEntry,
    at: &str,
    problems: &mut Problems<'_>,
) -> Option<&'e crate::config::sections::ApiKeyEntry> {
    let found = entry.api_keys.iter().find(|key| key.name == name || key.id.as_deref() == Some(name));
    if found.is_none() && !is_minted_id(name) {
        absent(at, "key", name, entry.api_keys.iter().map(|key| key.name.as_str()), problems);
    }
    found
}

/// The credential that the gateway presents to the server; `None`, with an error, if it is incomplete.
fn credential(auth: &McpAuth, at: &str, config: &Config, problems: &mut Problems<'_>) -> Option<McpCredential> {
    let mut secret = |reference, member: &str| secrets::resolve(reference, &format!("{at}.auth.{member}"), config, problems);
    Some(match auth {
        McpAuth::None => McpCredential::None,
        McpAuth::Bearer { token } => {
            McpCredential::Fixed(secret(token, "token").map(|token| Secret::new(format!("Bearer {}", token.expose()))))
        }
        McpAuth::Basic { username, password } => {
            let pair = secret(password, "password").map(|password| format!("{username}:{}", password.expose()));
            McpCredential::Fixed(pair.map(|pair| Secret::new(format!("Basic {}", STANDARD.encode(pair)))))
        }
        McpAuth::Oauth2 { token_url, client_id, client_secret, scope, audience } => {
            let client_secret = secret(client_secret, "client_secret");
            let (token_url, path) = endpoint(token_url, true, &format!("{at}.auth.token_url"), problems)?;
            McpCredential::Fetched(ClientCredentials {
                token_url,
                path,
                client_id: client_id.clone(),
                client_secret,
                scope: scope.clone(),
                audience: audience.clone(),
            })
        }
    })
}

/// The base address and the path of a URL.
fn endpoint(text: &str, secret: bool, at: &str, problems: &mut Problems<'_>) -> Option<(BaseUrl, String)> {
    let address = BaseUrl::parse(text).map_err(|why| problems.error(at, why.to_string())).ok()?;
    if !address.tls && secret && !providers::near(&address.host) {
        problems.warn(at, "the credential is sent in clear text").help("use https".to_owned());
    }
    let path = text.parse::<http::Uri>().map_or_else(|_| "/".to_owned(), |uri| uri.path().to_owned());
    Some((address, path))
}

/// The servers granted to a key: those that it names, and those that name it.
pub(super) fn granted(
    named: &[String],
    names_it: impl Fn(&String) -> bool,
    organisation: &OrganisationEntry,
    at: &str,
    problems: &mut Problems<'_>,
) -> HashSet<String> {
    let servers = &organisation.mcp_servers;
    for (number, name) in named.iter().enumerate() {
        if !servers.iter().any(|server| server.name == *name) {
            absent(&format!("{at}[{number}]"), "MCP server", name, servers.iter().map(|server| server.name.as_str()), problems);
        }
    }
    let from_servers = servers.iter().filter(|server| server.api_keys.iter().any(&names_it)).map(|server| server.name.clone());
    named.iter().cloned().chain(from_servers).collect()
}

/// The servers that name keys made at run time, by key id.
pub(super) fn granted_at_run_time(organisation: &OrganisationEntry) -> BTreeMap<String, Vec<String>> {
    let mut granted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for server in &organisation.mcp_servers {
        for key in server.api_keys.iter().filter(|key| is_minted_id(key)) {
            granted.entry(key.clone()).or_default().push(server.name.clone());
        }
    }
    granted
}
