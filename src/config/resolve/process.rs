//! `server`, `admin`, `log`, `evidence`, `plugin_runtime`.

use std::net::SocketAddr;
use std::time::Duration;

use super::secrets;
use crate::config::Config;
use crate::config::problems::Problems;
use crate::config::sections::{LogForm, Span};
use crate::config::settings::{
    AdminSettings, EvidenceSettings, LogFormat, LogSettings, PluginSettings, ServerSettings, SigningKey, TlsFiles,
};

const ADDRESS: &str = "expected an address with a port, such as 127.0.0.1:8080 or [::]:8080";

pub(super) fn server(config: &Config, problems: &mut Problems<'_>) -> ServerSettings {
    let written = &config.root.server;
    let mut listen: Vec<SocketAddr> = Vec::new();
    for (index, text) in written.listen.iter().enumerate() {
        let path = format!("server.listen[{index}]");
        match text.parse::<SocketAddr>() {
            Ok(address) if listen.contains(&address) => {
                problems.error(&path, format!("{address} is listed twice"));
            }
            Ok(address) => listen.push(address),
            Err(_) => {
                problems.error(&path, ADDRESS);
            }
        }
    }
    if written.listen.is_empty() {
        problems.error("server.listen", "at least one address is needed");
    }
    for (path, size) in [("max_request_body", written.max_request_body), ("max_held_response", written.max_held_response)] {
        if size.0 == 0 {
            problems.error(&format!("server.{path}"), "must be more than 0");
        }
    }
    positive("server.body_timeout", written.body_timeout, problems);
    for (index, net) in written.trusted_proxies.iter().enumerate() {
        if net.prefix_len() == 0 {
            let path = format!("server.trusted_proxies[{index}]");
            problems.warn(&path, "every peer may claim any client address").help("list the networks of your own proxies".to_owned());
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    ServerSettings {
        listen,
        tls: written.tls.as_ref().map(|tls| TlsFiles { cert: tls.cert.clone(), key: tls.key.clone() }),
        max_request_body: written.max_request_body.as_len(),
        max_held_response: written.max_held_response.as_len(),
        body_timeout: written.body_timeout.0,
        max_concurrent_requests: written.max_concurrent_requests,
        drain: written.drain.0,
        trusted_proxies: written.trusted_proxies.clone(),
        keepalive: written.keepalive.0,
        threads: if written.threads == 0 { cores } else { written.threads },
        upgrade_sock: written.upgrade_sock.clone(),
    }
}

pub(super) fn admin(config: &Config, server: &ServerSettings, problems: &mut Problems<'_>) -> AdminSettings {
    let text = config.root.admin.listen.as_str();
    if text == "off" {
        return AdminSettings { token: None, listen: None };
    }
    let listen = match text.parse::<SocketAddr>() {
        Ok(address) => Some(address),
        Err(_) => {
            problems.error("admin.listen", format!("{ADDRESS}, or `off`"));
            None
        }
    };
    if let Some(address) = listen {
        if server.listen.contains(&address) {
            problems.error("admin.listen", format!("{address} is the callers' listener")).help("give it another port".to_owned());
        }
        if !address.ip().is_loopback() {
            let finding = problems.warn("admin.listen", "operators' endpoints are open to the network and ask for no key");
            finding.help("listen on 127.0.0.1, or fence it off".to_owned());
        }
    }
    let token = config.root.admin.token.as_ref().and_then(|reference| secrets::require(reference, "admin.token", config, problems));
    if token.as_ref().is_some_and(|token| token.expose().len() < 16) {
        problems.error("admin.token", "is shorter than 16 bytes").help("make one: openssl rand -hex 32".to_owned());
    }
    AdminSettings { token, listen }
}

pub(in crate::config) fn log(config: &Config, problems: &mut Problems<'_>) -> LogSettings {
    let written = &config.root.log;
    let known = ["off", "error", "warn", "info", "debug", "trace"];
    let well = written.level.split(',').all(|part| {
        let level = part.rsplit('=').next().unwrap_or_default().trim();
        known.contains(&level.to_ascii_lowercase().as_str())
    });
    if !well {
        problems.error("log.level", "expected error, warn, info, debug, trace or a filter such as info,pingora=warn");
    }
    let format = match written.format {
        LogForm::Json => LogFormat::Json,
        LogForm::Text => LogFormat::Text,
    };
    LogSettings { format, level: written.level.clone() }
}

pub(super) fn evidence(config: &Config, problems: &mut Problems<'_>) -> EvidenceSettings {
    let written = &config.root.evidence;
    if written.rotate.0 < 4096 {
        problems.error("evidence.rotate", "must be at least 4KiB");
    }
    if written.checkpoint.every == 0 {
        problems.error("evidence.checkpoint.every", "must be at least 1");
    }
    positive("evidence.checkpoint.interval", written.checkpoint.interval, problems);
    at_least_one("evidence.queue", written.queue, problems);
    let given = written.signing_key.as_ref().and_then(|r| secrets::require(r, "evidence.signing_key", config, problems));
    EvidenceSettings {
        enabled: written.enabled,
        path: written.path.clone(),
        rotate: written.rotate.0,
        checkpoint_every: written.checkpoint.every,
        checkpoint_interval: written.checkpoint.interval.0,
        queue: written.queue,
        signing_key: given.map_or_else(|| SigningKey::File(written.path.join("signing.key")), SigningKey::Given),
    }
}

pub(in crate::config) fn plugins(config: &Config, problems: &mut Problems<'_>) -> PluginSettings {
    let written = &config.root.plugin_runtime;
    at_least_one("plugin_runtime.max_parallel", written.max_parallel, problems);
    at_least_one("plugin_runtime.async_queue_size", written.async_queue_size, problems);
    at_least_one("plugin_runtime.async_workers", written.async_workers, problems);
    PluginSettings { max_parallel: written.max_parallel, async_queue: written.async_queue_size, async_workers: written.async_workers }
}

pub(super) fn at_least_one(path: &str, number: usize, problems: &mut Problems<'_>) {
    if number == 0 {
        problems.error(path, "must be at least 1");
    }
}

/// Refuses a timeout of zero, which would fail every request.
pub(super) fn positive(path: &str, span: Span, problems: &mut Problems<'_>) {
    if span.0 == Duration::ZERO {
        problems.error(path, "must be more than 0");
    }
}
