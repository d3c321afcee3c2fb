//! Parsing of addresses of a single server, of Sentinels and of a cluster, in one notation.

use redis::cluster::ClusterClient;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{Client, ConnectionInfo, IntoConnectionInfo, TlsMode};

use super::Options;
use crate::store::StateError;

const FORM: StateError = StateError::Invalid(
    "an address is redis://HOST[:PORT][/DB], redis+sentinel://HOST[:PORT],…/SERVICE[/DB] or redis+cluster://HOST[:PORT],…, with rediss for TLS",
);

/// What to connect to.
pub(super) enum Target {
    /// One server.
    Single(Box<Client>),
    /// The master that the Sentinels name. The client keeps connections to the Sentinels and therefore needs a lock; it is
    /// taken only to connect.
    Sentinel(Box<tokio::sync::Mutex<SentinelClient>>),
    /// A cluster: the client for all of it, and clients for the nodes that the address names.
    Cluster(Box<ClusterClient>, Vec<Client>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Single,
    Sentinel,
    Cluster,
}

/// The parts of an address, borrowed from it. The address may hold a password and is never printed.
struct Parts<'a> {
    shape: Shape,
    tls: bool,
    credentials: &'a str,
    hosts: Vec<&'a str>,
    /// What follows the hosts, without the leading slash.
    path: &'a str,
}

/// Parses an address.
pub(super) fn parse(address: &str, options: &Options) -> Result<Target, StateError> {
    let address = address.trim();
    let parts = split(address)?;
    match parts.shape {
        Shape::Single => {
            let info = parts.node("redis", parts.hosts.first().copied().unwrap_or_default(), parts.path, 6379, address)?;
            Ok(Target::Single(Box::new(Client::open(info).map_err(|_| FORM)?)))
        }
        Shape::Sentinel => {
            let (service, db) = parts.path.split_once('/').unwrap_or((parts.path, ""));
            if service.is_empty() {
                return Err(FORM);
            }
            // The Sentinels are connected to without credentials: those of the address are for the servers that they watch.
            let plain = Parts { credentials: "", hosts: Vec::new(), ..parts };
            let sentinels: Vec<ConnectionInfo> =
                parts.hosts.iter().map(|host| plain.node("redis", host, "", 26379, address)).collect::<Result<_, _>>()?;
            let server = Parts { hosts: Vec::new(), ..parts }.node("redis", "service", db, 6379, address)?;
            let mut node =
                SentinelNodeConnectionInfo::default().set_redis_connection_info(server.redis_settings().clone()).set_tcp_settings(quick());
            if parts.tls {
                node = node.set_tls_mode(TlsMode::Secure);
            }
            let client = SentinelClient::build(sentinels, service, Some(node), SentinelServerType::Master).map_err(|_| FORM)?;
            Ok(Target::Sentinel(Box::new(tokio::sync::Mutex::new(client))))
        }
        Shape::Cluster => {
            if !parts.path.is_empty() {
                return Err(FORM); // a cluster has one database
            }
            let nodes: Vec<ConnectionInfo> =
                parts.hosts.iter().map(|host| parts.node("redis", host, "", 6379, address)).collect::<Result<_, _>>()?;
            let named = nodes.iter().cloned().map(Client::open).collect::<Result<_, _>>().map_err(|_| FORM)?;
            let client = ClusterClient::builder(nodes)
                .connection_timeout(options.connect_timeout)
                .response_timeout(options.timeout)
                .tcp_settings(quick())
                .retries(1)
                .build();
            Ok(Target::Cluster(Box::new(client.map_err(|_| FORM)?), named))
        }
    }
}

/// TCP settings without Nagle's delay, so that small packets leave at once.
fn quick() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn split(address: &str) -> Result<Parts<'_>, StateError> {
    let (scheme, rest) = match address.split_once("://") {
        Some(parts) => parts,
        None if is_plain(address) => ("redis", address),
        None => return Err(FORM),
    };
    let (tls, shape) = match scheme.strip_prefix("valkey").or_else(|| scheme.strip_prefix("redis")).ok_or(FORM)? {
        "" => (false, Shape::Single),
        "s" => (true, Shape::Single),
        "+unix" => return Ok(Parts { shape: Shape::Single, tls: false, credentials: "", hosts: Vec::new(), path: rest }),
        "+sentinel" => (false, Shape::Sentinel),
        "s+sentinel" => (true, Shape::Sentinel),
        "+cluster" => (false, Shape::Cluster),
        "s+cluster" => (true, Shape::Cluster),
        _ => return Err(FORM),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let hosts: Vec<&str> = hosts.split(',').map(str::trim).collect();
    if hosts.iter().any(|h| h.is_empty()) || (shape == Shape::Single && hosts.len() > 1) {
        return Err(FORM);
    }
    Ok(Parts { shape, tls, credentials, hosts, path: path.trim_end_matches('/') })
}

/// Whether an address is a plain `HOST:PORT`, the form of the product's variable `REDIS_ADDR`.
fn is_plain(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let named = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
    !host.is_empty() && host.bytes().all(named) && port.parse::<u16>().is_ok()
}

impl Parts<'_> {
    /// The connection settings of one node. The driver parses an address in its own notation, so that escapes in passwords
    /// and IPv6 addresses mean what they always mean.
    fn node(&self, scheme: &str, host: &str, path: &str, port: u16, whole: &str) -> Result<ConnectionInfo, StateError> {
        let text = if host.is_empty() {
            whole.replacen("valkey", "redis", 1)
        } else {
            let tls = if self.tls { "s" } else { "" };
            let at = if self.credentials.is_empty() { "" } else { "@" };
            let ends_with_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) && !host.ends_with(']');
            let port = if ends_with_port { String::new() } else { format!(":{port}") };
            format!("{scheme}{tls}://{}{at}{host}{port}/{path}", self.credentials)
        };
        Ok(text.into_connection_info().map_err(|_| FORM)?.set_tcp_settings(quick()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn shape(address: &str) -> Option<&'static str> {
        parse(address, &Options::default()).ok().map(|target| match target {
            Target::Single(_) => "single",
            Target::Sentinel(_) => "sentinel",
            Target::Cluster(..) => "cluster",
        })
    }

    #[test]
    fn every_form_is_understood() {
        for single in [
            "redis://localhost",
            "rediss://user:p%40ss@cache.example:6380/3",
            "valkey://[::1]:6379",
            "redis://[::1]",
            "redis+unix:///run/redis.sock",
            "localhost:6379",
            "[::1]:6379",
        ] {
            assert_eq!(shape(single), Some("single"), "{single}");
        }
        for sentinel in ["redis+sentinel://a,b:26380,[::1]/mymaster", "rediss+sentinel://:secret@a/mymaster/2", "valkey+sentinel://a/m"] {
            assert_eq!(shape(sentinel), Some("sentinel"), "{sentinel}");
        }
        for cluster in ["redis+cluster://a:7000,b:7001", "rediss+cluster://u:p@a,b", "valkeys+cluster://a/"] {
            assert_eq!(shape(cluster), Some("cluster"), "{cluster}");
        }
    }

    #[test]
    fn other_forms_are_refused_without_showing_them() {
        let wrong = [
            "",
            "localhost",
            "u:hunter2@a:6379",
            "http://a",
            "redis://",
            "redis://a,b",
            "redis://a/notadb",
            "redis+sentinel://a",
            "redis+cluster://a/1",
            "redis+cluster://,",
            "redis://u:hunter2@",
        ];
        for address in wrong {
            let error = parse(address, &Options::default()).err().unwrap_or_else(|| panic!("{address} was accepted"));
            assert!(matches!(error, StateError::Invalid(_)) && !error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn ports_databases_and_credentials_arrive() {
        let Ok(Target::Single(client)) = parse("rediss://ada:p%40ss@cache.example/3", &Options::default()) else { panic!() };
        let info = client.get_connection_info();
        assert_eq!(info.addr().to_string(), "cache.example:6379");
        let settings = info.redis_settings();
        assert_eq!((settings.db(), settings.username(), settings.password()), (3, Some("ada"), Some("p@ss")));
        assert!(info.tcp_settings().nodelay());
    }
}
