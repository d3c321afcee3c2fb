//! `routes`.

use std::collections::{HashMap, HashSet};

use http::{HeaderName, HeaderValue, Method};

use super::process::positive;
use super::{RoutePart, absent, unique};
use crate::config::Config;
use crate::config::plugins_file::CHAIN;
use crate::config::problems::Problems;
use crate::config::sections::{Auth, MatchEntry, OverflowEntry, RouteEntry, Unparsed, UpstreamEntry};
use crate::route::{Address, Check, HealthCheck, Matcher, Overflow, Upstream};
use crate::wire::endpoint::FAMILIES;

/// Most attempts after the first one.
const MAX_RETRIES: u32 = 5;

pub(super) fn resolve(config: &Config, problems: &mut Problems<'_>) -> Vec<RoutePart> {
    if config.root.routes.is_empty() {
        unused(config, problems);
        return vec![standard()];
    }
    let mut seen = HashSet::new();
    let mut conditions: HashMap<String, String> = HashMap::new();
    let mut routes = Vec::new();
    for (index, entry) in config.root.routes.iter().enumerate() {
        let here = format!("routes[{index}]");
        unique(&mut seen, &entry.name, &format!("{here}.name"), "route", problems);
        let condition = serde_json::to_string(&entry.matcher).unwrap_or_default();
        if let Some(first) = conditions.get(&condition) {
            problems.error(&here, format!("can never be taken: route `{first}` takes the same requests"));
        } else {
            conditions.insert(condition, entry.name.clone());
        }
        routes.push(one(entry, &here, config, problems));
    }
    unused(config, problems);
    unreachable_servers(config, &routes, problems);
    escapes(&routes, problems);
    routes
}

/// Warns of routes that can be bypassed. Endpoints below `/v1` are also served under provider families:
/// `/v1/vllm/chat/completions` is a chat completion. A route that matches only the plain path does not see such calls, and
/// the chain of the route that does may guard less.
fn escapes(routes: &[RoutePart], problems: &mut Problems<'_>) {
    let models = |route: &&RoutePart| route.upstream.is_none();
    for (index, route) in routes.iter().enumerate().filter(|(_, route)| models(route)) {
        let Some(plain) = route.matcher.path.as_ref().or(route.matcher.path_prefix.as_ref()) else { continue };
        let Some(rest) = plain.strip_prefix("/v1/").filter(|rest| !rest.is_empty() && !rest.starts_with("mcp")) else { continue };
        if FAMILIES.iter().any(|family| plain.starts_with(&format!("/v1{family}"))) {
            continue;
        }
        let same_host = |other: &&RoutePart| other.matcher.host.is_none() || other.matcher.host == route.matcher.host;
        let taken_by = FAMILIES.iter().find_map(|family| {
            let alias = format!("/v1{family}/{rest}");
            let fitting = routes.iter().filter(models).filter(same_host).filter(|other| other.matcher.path_fits(&alias));
            let taker = fitting.max_by_key(|other| (other.matcher.host.is_some(), other.matcher.rank()))?;
            (taker.chain != route.chain).then_some((alias, taker))
        });
        if let Some((alias, taker)) = taken_by {
            let message = format!("does not take `{alias}`: route `{}` does, with chain `{}`", taker.name, taker.chain);
            problems
                .warn(&format!("routes[{index}].match"), message)
                .help(format!("routes for the family paths with chain `{}` close the way around it", route.chain));
        }
    }
}

/// Warns of MCP servers that no route leads to: they cannot be called.
fn unreachable_servers(config: &Config, routes: &[RoutePart], problems: &mut Problems<'_>) {
    for (index, organisation) in config.root.organisations.iter().enumerate() {
        for (number, server) in organisation.mcp_servers.iter().enumerate() {
            let path = format!("/v1/mcp/{}", server.name);
            if !routes.iter().any(|route| route.upstream.is_none() && route.matcher.path_fits(&path)) {
                let finding =
                    problems.warn(&format!("organisations[{index}].mcp_servers[{number}].name"), format!("no route takes `{path}`"));
                finding.help("add a route with `match: {path_prefix: /v1/mcp/}` and no `upstream`".to_owned());
            }
        }
    }
}

/// Warns of chains that no route uses: they guard nothing, which is hardly intended.
fn unused(config: &Config, problems: &mut Problems<'_>) {
    let standard = config.root.routes.is_empty();
    for name in config.root.chains.keys() {
        let taken = config.root.routes.iter().any(|r| r.chain == *name) || standard && name == CHAIN;
        if !taken {
            problems.warn(&format!("chains.{name}"), "no route takes this chain").help("name it as `chain` of a route".to_owned());
        }
    }
}

/// The route of a file without routes: everything under `/v1/`, through the chain `default`.
fn standard() -> RoutePart {
    RoutePart {
        name: "default".into(),
        matcher: Matcher { path_prefix: Some("/v1/".into()), ..Matcher::default() },
        chain: CHAIN.into(),
        upstream: None,
        auth: true,
        held_overflow: Overflow::Deny,
        guard_unparsed: true,
        receipt: false,
        server_timing: false,
        retries: 0,
        timeout: None,
    }
}

fn one(entry: &RouteEntry, here: &str, config: &Config, problems: &mut Problems<'_>) -> RoutePart {
    let chains = &config.root.chains;
    // In a file without chains `default` means the empty chain. In a file with chains an unknown name is an error.
    if !(chains.contains_key(&entry.chain) || chains.is_empty() && entry.chain == CHAIN) {
        absent(&format!("{here}.chain"), "chain", &entry.chain, chains.keys().map(String::as_str), problems);
    }
    if entry.auth == Auth::None && entry.upstream.is_none() {
        problems
            .error(&format!("{here}.auth"), "a route to models needs a key: models belong to organisations")
            .help("write `auth: required`, or give the route an `upstream`".to_owned());
    }
    if entry.retries > MAX_RETRIES {
        problems.error(&format!("{here}.retries"), format!("at most {MAX_RETRIES}"));
    }
    if let Some(timeout) = entry.timeout {
        positive(&format!("{here}.timeout"), timeout, problems);
    }
    RoutePart {
        name: entry.name.as_str().into(),
        matcher: matcher(&entry.matcher, &format!("{here}.match"), problems),
        chain: entry.chain.clone(),
        upstream: entry.upstream.as_ref().map(|u| upstream(u, &format!("{here}.upstream"), problems)),
        auth: entry.auth == Auth::Required,
        held_overflow: match entry.held_response.overflow {
            OverflowEntry::Deny => Overflow::Deny,
            OverflowEntry::Allow => Overflow::Allow,
        },
        guard_unparsed: entry.on_unparsed == Unparsed::Deny,
        receipt: entry.receipt,
        server_timing: entry.server_timing,
        retries: entry.retries,
        timeout: entry.timeout.map(|t| t.0),
    }
}

fn matcher(entry: &MatchEntry, here: &str, problems: &mut Problems<'_>) -> Matcher {
    if entry.path.is_some() && entry.path_prefix.is_some() {
        problems.key_error(&format!("{here}.path_prefix"), "`path` and `path_prefix` exclude each other").help("keep one".to_owned());
    }
    for (member, path) in [("path", &entry.path), ("path_prefix", &entry.path_prefix)] {
        let Some(path) = path else { continue };
        let at = format!("{here}.{member}");
        if !path.starts_with('/') {
            problems.error(&at, "a path begins with `/`").help(format!("write `/{path}`"));
        } else if path.contains(['?', '#', '*', ' ']) || path.contains("//") || path.split('/').any(|s| s == "." || s == "..") {
            problems.error(&at, "a path has no query, wildcard, space, `//`, `.` or `..`");
        }
    }
    let host = entry.host.as_ref().map(|host| {
        let name = host.to_ascii_lowercase();
        let bare = name.strip_prefix('[').map_or(name.as_str(), |v6| v6.strip_suffix(']').unwrap_or("/"));
        let v6 = bare.len() < name.len();
        if bare.is_empty() || bare.contains(['/', '*', ' ', '[', ']']) || (bare.contains(':') && !v6) {
            problems.error(&format!("{here}.host"), "expected an exact host name without port");
        }
        name.strip_suffix('.').map(str::to_owned).unwrap_or(name)
    });
    let mut methods = Vec::new();
    for (number, text) in entry.methods.iter().enumerate() {
        match Method::from_bytes(text.as_bytes()) {
            Ok(method) if !text.bytes().any(|b| b.is_ascii_lowercase()) => methods.push(method),
            _ => {
                problems.error(&format!("{here}.methods[{number}]"), "expected a method such as GET or POST, in capitals");
            }
        }
    }
    let mut headers = Vec::new();
    for (name, value) in &entry.headers {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            _ => {
                problems.key_error(&format!("{here}.headers.{name}"), "is not a header field");
            }
        }
    }
    Matcher { host, path: entry.path.clone(), path_prefix: entry.path_prefix.clone(), methods, headers }
}

fn upstream(entry: &UpstreamEntry, here: &str, problems: &mut Problems<'_>) -> Upstream {
    if entry.addresses.is_empty() {
        problems.error(&format!("{here}.addresses"), "at least one address is needed");
    }
    if !entry.weights.is_empty() && entry.weights.len() != entry.addresses.len() {
        let (weights, addresses) = (entry.weights.len(), entry.addresses.len());
        problems.error(&format!("{here}.weights"), format!("{weights} weights for {addresses} addresses"));
    }
    let mut addresses = Vec::new();
    let mut seen = HashSet::new();
    for (number, text) in entry.addresses.iter().enumerate() {
        let at = format!("{here}.addresses[{number}]");
        let weight = entry.weights.get(number).copied().unwrap_or(1);
        if !(1..=1000).contains(&weight) {
            problems.error(&format!("{here}.weights[{number}]"), "a weight is 1 to 1000");
        }
        let well = text.parse::<http::uri::Authority>().is_ok_and(|a| a.port_u16().is_some_and(|p| p > 0) && !text.contains('@'));
        if !well {
            problems.error(&at, "expected `host:port`, without a scheme or path");
        } else if !seen.insert(text.to_ascii_lowercase()) {
            problems.error(&at, format!("{text} is listed twice"));
        }
        addresses.push(Address { address: text.clone(), weight });
    }
    if let Some(host) = &entry.host
        && (host.is_empty() || host.parse::<http::uri::Authority>().is_err())
    {
        problems.error(&format!("{here}.host"), "expected a host name");
    }
    let health_check = entry.health_check.as_ref().map(|check| {
        positive(&format!("{here}.health_check.interval"), check.interval, problems);
        if check.path.as_ref().is_some_and(|p| !p.starts_with('/')) {
            problems.error(&format!("{here}.health_check.path"), "a path begins with `/`");
        }
        HealthCheck { check: check.path.clone().map_or(Check::Tcp, Check::Http), interval: check.interval.0 }
    });
    Upstream { addresses, tls: entry.tls, host: entry.host.as_deref().map(Into::into), health_check, h2: entry.http2 }
}
