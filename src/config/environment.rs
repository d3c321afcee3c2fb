//! The process environment: a source of secrets, and of the product's variables that override the file.

use std::collections::BTreeMap;
use std::fmt;

use super::Config;
use super::problems::Problems;
use super::sections::{RecordsKind, SecretRef, Size, Span, StateKind, Tls};
use crate::route::ProviderKind;
use crate::safety::Mode as SafetyMode;

/// A copy of the environment, so that loading a configuration is a function of its inputs.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

impl Environment {
    /// The environment of this process; variables that are not Unicode are left out.
    pub fn process() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    /// An environment with exactly these variables.
    pub fn of<K: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// The value of a variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Variables that the product documents and this build does not support, with the reason. Setting one gives a warning.
const NOT_APPLIED: [(&str, &str); 32] = [
    ("HTTP_WRITE_TIMEOUT", "answers may stream for as long as the provider's timeout allows"),
    ("HTTP_MAX_HEADER_BYTES", "the size of a request head is bounded by the server itself"),
    ("POSTGRES_MAX_OPEN", POOLS),
    ("POSTGRES_MAX_IDLE", POOLS),
    ("POSTGRES_MAX_LIFETIME", POOLS),
    ("POSTGRES_LOG_QUERIES", "statements are not logged"),
    ("REDIS_POOL_SIZE", POOLS),
    ("REDIS_DIAL_TIMEOUT", POOLS),
    ("PROVIDER_KEY_ENCRYPTION_KEY_ID", CREDENTIALS),
    ("PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY", CREDENTIALS),
    ("PROVIDER_KEY_DECRYPT_CACHE_TTL", CREDENTIALS),
    ("PROVIDER_HUGGINGFACE_ASYNC_MODE", "tasks of Hugging Face are not served"),
    ("OBSERVABILITY_PROMETHEUS_ENABLED", SCRAPED),
    ("OBSERVABILITY_OTEL_EXPORTER", SCRAPED),
    ("OBSERVABILITY_OTEL_TRACES_EXPORTER", SCRAPED),
    ("OBSERVABILITY_OTEL_METRICS_EXPORTER", SCRAPED),
    ("OBSERVABILITY_OTEL_ENDPOINT", SCRAPED),
    ("OBSERVABILITY_OTEL_TRACES_ENDPOINT", SCRAPED),
    ("OBSERVABILITY_OTEL_METRICS_ENDPOINT", SCRAPED),
    ("OBSERVABILITY_SERVICE_NAME", SCRAPED),
    ("OBSERVABILITY_DEPLOYMENT_ENVIRONMENT", RESOURCE),
    ("OBSERVABILITY_SAMPLE_RATE", "every request has its evidence; there are no samples"),
    ("AUTH_CACHE_TTL", NO_CACHE),
    ("AUTH_NEGATIVE_CACHE_TTL", NO_CACHE),
    ("RATELIMIT_POLICY_CACHE_TTL", NO_CACHE),
    ("MODEL_CACHE_TTL", NO_CACHE),
    ("MCP_CACHE_TTL", NO_CACHE),
    ("SMART_ROUTING_POLICY_CACHE_TTL", NO_CACHE),
    ("CACHE_INVALIDATION_CHANNEL", "replicas tell one another on a channel of their own"),
    ("LOGGER_OUTPUT", "the log goes to stderr"),
    ("ODOCK_SERVER_LOGS_PATH", "the log goes to stderr"),
    ("HUGGINGFACE_API_KEY", "the variable is HF_TOKEN"),
];
/// Prefixes of further such variables.
const NOT_APPLIED_AT_ALL: [(&str, &str); 5] = [
    ("PLUGINS_ENV_", "plugins have their settings in `config` and their secrets by `grant.secrets`"),
    ("OBSERVABILITY_SERVICE_NAMESPACE", RESOURCE),
    ("OBSERVABILITY_SERVICE_VERSION", RESOURCE),
    ("OBSERVABILITY_SERVICE_INSTANCE_ID", RESOURCE),
    ("OBSERVABILITY_K8S_", RESOURCE),
];
/// The suffixes of variables that configure a provider: `PROVIDER_{FAMILY}_…`.
const OF_PROVIDERS: [&str; 3] = ["BASE_URL", "API_KEY", "TIMEOUT"];
const RESOURCE: &str = "the scraper labels what it scrapes";
const POOLS: &str = "connections to stores are looked after by the gateway itself";
const CREDENTIALS: &str = "provider credentials are references to secrets here";
const SCRAPED: &str = "telemetry is scraped from the admin listener";
const NO_CACHE: &str = "configuration and keys are in memory, and changes are told";

/// Login and database of [`REDIS_ADDR`](apply), which the product configures apart from the address.
pub(super) const REDIS_LOGIN: [&str; 3] = ["REDIS_USERNAME", "REDIS_PASSWORD", "REDIS_DB"];

/// Overrides settings of the file by variables, and remembers which variable set which path.
pub(super) fn apply(config: &mut Config) -> Vec<super::Diagnostic> {
    let environment = config.environment.clone();
    let mut overrides = Overrides { environment: &environment, places: Vec::new(), wrong: Vec::new(), families: Vec::new() };
    overrides.server(config);
    overrides.plugins(config);
    overrides.safety(config);
    overrides.stores(config);
    overrides.governance(config);
    overrides.providers(config);
    let Overrides { places, wrong, families, .. } = overrides;
    for (path, variable) in places {
        config.from_environment.insert(path, variable);
    }
    let mut problems = Problems::new(config);
    for (variable, expected) in wrong {
        problems.error_in_environment(&variable, format!("expected {expected}"));
    }
    if environment.get("OBSERVABILITY_SAMPLE_RATE").is_some_and(|rate| !rate.parse().is_ok_and(|rate| (0.0..=1.0).contains(&rate))) {
        problems.error_in_environment("OBSERVABILITY_SAMPLE_RATE", "expected a number between 0 and 1".to_owned());
    }
    if environment.get("PLUGINS_ASYNC_POST_RESPONSE").is_some_and(|value| truth(value).is_none()) {
        problems.error_in_environment("PLUGINS_ASYNC_POST_RESPONSE", "expected true or false".to_owned());
    }
    let bare = environment.get("REDIS_ADDR").is_some_and(|address| !address.contains("://"));
    let stray = REDIS_LOGIN.into_iter().filter(|_| !bare).map(|variable| (variable, "it belongs to a REDIS_ADDR of the form host:port"));
    for (variable, why) in NOT_APPLIED.into_iter().chain(stray) {
        if environment.get(variable).is_some() {
            problems.warn_in_environment(variable, format!("set but not applied: {why}"));
        }
    }
    for variable in environment.0.keys().filter(|variable| environment.get(variable).is_some()) {
        if let Some((_, why)) = NOT_APPLIED_AT_ALL.iter().find(|(prefix, _)| variable.starts_with(prefix)) {
            problems.warn_in_environment(variable, format!("set but not applied: {why}"));
        }
        let of_provider = variable
            .strip_prefix("PROVIDER_")
            .and_then(|rest| OF_PROVIDERS.iter().find_map(|what| rest.strip_suffix(what)?.strip_suffix('_')));
        if of_provider.is_some_and(|family| !families.contains(&family)) {
            let why = "no provider of that type is without a `base_url` of its own";
            problems.warn_in_environment(variable, format!("set but not applied: {why}"));
        }
    }
    let pair = ["PROVIDER_KEY_ENCRYPTION_KEY_ID", "PROVIDER_KEY_ENCRYPTION_PRIVATE_KEY"];
    if let [Some(_), None] | [None, Some(_)] = pair.map(|variable| environment.get(variable)) {
        let (set, other) = if environment.get(pair[0]).is_some() { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
        problems.error_in_environment(set, format!("expected {other} beside it: they are set both or not at all"));
    }
    problems.into_found()
}

/// Applies `PLUGINS_ASYNC_POST_RESPONSE`, which needs the chains to be known.
pub(super) fn apply_to_chains(config: &mut Config) {
    let Some(background) = config.environment.get("PLUGINS_ASYNC_POST_RESPONSE").and_then(truth) else { return };
    for chain in config.root.chains.values_mut() {
        chain.post_response.background = background;
    }
}

struct Overrides<'e> {
    environment: &'e Environment,
    places: Vec<(String, String)>,
    wrong: Vec<(String, &'static str)>,
    /// Provider families for which there are variables.
    families: Vec<&'static str>,
}

impl Overrides<'_> {
    /// Parses a variable, and records that the value at `path` comes from it.
    fn take<T>(&mut self, variable: &str, path: &str, expected: &'static str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.environment.get(variable)?;
        let Some(value) = parse(text) else {
            self.wrong.push((variable.to_owned(), expected));
            return None;
        };
        self.places.push((path.to_owned(), variable.to_owned()));
        Some(value)
    }

    fn server(&mut self, config: &mut Config) {
        let server = &mut config.root.server;
        let first = server.listen.first().cloned().unwrap_or_default();
        let (old_host, old_port) = first.rsplit_once(':').unwrap_or(("127.0.0.1", "8080"));
        let host = self.take("HTTP_HOST", "server.listen", "an IP address", |t| t.parse::<std::net::IpAddr>().ok());
        let port = self.take("HTTP_PORT", "server.listen", "a port number", |t| t.parse::<u16>().ok().filter(|p| *p > 0));
        if host.is_some() || port.is_some() {
            if server.listen.len() > 1 {
                let variable = if host.is_some() { "HTTP_HOST" } else { "HTTP_PORT" };
                self.wrong.push((variable.into(), "one address in server.listen, which it is to replace: the file has several"));
            }
            let host = host.map_or_else(|| old_host.to_owned(), |ip| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() });
            let port = port.map_or_else(|| old_port.to_owned(), |p| p.to_string());
            server.listen = vec![format!("{host}:{port}")];
        }
        const TIME: &str = "a duration such as 15s";
        if let Some(time) = self.take("HTTP_READ_TIMEOUT", "server.body_timeout", TIME, Span::parse) {
            server.body_timeout = time;
        }
        if let Some(time) = self.take("HTTP_IDLE_TIMEOUT", "server.keepalive", TIME, Span::parse) {
            server.keepalive = time;
        }
        if let Some(cap) = self.take("HTTP_MAX_CONCURRENT_REQUESTS", "server.max_concurrent_requests", "a number", |t| t.parse().ok()) {
            server.max_concurrent_requests = cap;
        }
        if let Some(size) = self.take("HTTP_MAX_REQUEST_BODY", "server.max_request_body", "a size such as 16MiB", Size::parse) {
            server.max_request_body = size;
        }
        match self.take("HTTP_ENABLE_TLS", "server.tls", "true or false", truth) {
            Some(true) => {
                let path = |t: &str| Some(std::path::PathBuf::from(t));
                let cert = self.take("HTTP_TLS_CERT_FILE", "server.tls.cert", "a path", path);
                let key = self.take("HTTP_TLS_KEY_FILE", "server.tls.key", "a path", path);
                match (cert, key) {
                    (Some(cert), Some(key)) => server.tls = Some(Tls { cert, key }),
                    (None, None) if server.tls.is_some() => {}
                    _ => self.wrong.push(("HTTP_ENABLE_TLS".into(), "HTTP_TLS_CERT_FILE and HTTP_TLS_KEY_FILE beside it")),
                }
            }
            Some(false) => server.tls = None,
            None => {}
        }
        match self.take("HTTP_TRUST_PROXY_HEADERS", "server.trusted_proxies", "true or false", truth) {
            Some(true) => {
                let list = |t: &str| t.split(',').map(|net| net.trim().parse().ok()).collect::<Option<Vec<ipnet::IpNet>>>();
                if let Some(nets) = self.take("HTTP_TRUSTED_PROXY_CIDRS", "server.trusted_proxies", "networks such as 10.0.0.0/8", list) {
                    server.trusted_proxies = nets;
                }
            }
            Some(false) => server.trusted_proxies.clear(),
            None => {}
        }
    }

    fn plugins(&mut self, config: &mut Config) {
        let runtime = &mut config.root.plugin_runtime;
        let number = |t: &str| t.parse().ok();
        if let Some(n) = self.take("PLUGINS_MAX_PARALLEL", "plugin_runtime.max_parallel", "a number", number) {
            runtime.max_parallel = n;
        }
        if let Some(n) = self.take("PLUGINS_ASYNC_QUEUE_SIZE", "plugin_runtime.async_queue_size", "a number", number) {
            runtime.async_queue_size = n;
        }
        if let Some(n) = self.take("PLUGINS_ASYNC_WORKERS", "plugin_runtime.async_workers", "a number", number) {
            runtime.async_workers = n;
        }
        if let Some(path) = self.take("PLUGINS_CONFIG_PATH", "plugins_file", "a path", |t| Some(t.into())) {
            config.root.plugins_file = Some(path);
        }
    }

    fn safety(&mut self, config: &mut Config) {
        let safety = &mut config.root.safety;
        let mode = |t: &str| match t {
            "noop" => Some(SafetyMode::Noop),
            "observe" => Some(SafetyMode::Observe),
            "security" => Some(SafetyMode::Security),
            _ => None,
        };
        if let Some(mode) = self.take("SAFETY_ENGINE_MODE", "safety.mode", "noop, observe or security", mode) {
            safety.mode = mode;
        }
        if let Some(ttl) = self.take("SAFETY_SESSION_TTL", "safety.session.ttl", "a duration such as 24h", Span::parse) {
            safety.session.ttl = ttl;
        }
        let share = |t: &str| t.parse::<f64>().ok();
        if let Some(share) = self.take("SAFETY_BLOCK_THRESHOLD", "safety.session.block_threshold", "a number", share) {
            safety.session.block_threshold = share;
        }
    }

    /// Addresses of shared stores. They may contain a password, so only a reference to the variable is stored.
    fn stores(&mut self, config: &mut Config) {
        let (state, records) = (&mut config.root.state, &mut config.root.records);
        if self.take("REDIS_ADDR", "state.url", "an address", |_| Some(())).is_some() {
            (state.kind, state.url) = (StateKind::Redis, Some(SecretRef::Env("REDIS_ADDR".into())));
        }
        if self.take("POSTGRES_DSN", "records.url", "an address", |_| Some(())).is_some() {
            (records.kind, records.url) = (RecordsKind::Postgres, Some(SecretRef::Env("POSTGRES_DSN".into())));
        }
    }

    fn governance(&mut self, config: &mut Config) {
        let policy = |text: &str| serde_json::from_str(text).ok();
        if let Some(policy) = self.take("RATELIMIT_GLOBAL_POLICY", "policies", "a policy as JSON", policy) {
            config.root.policies = policy;
        }
        if self.take("CACHE_INVALIDATION_SECRET", "governance.invalidation_secret", "a secret", |_| Some(())).is_some() {
            config.root.governance.invalidation_secret = Some(SecretRef::Env("CACHE_INVALIDATION_SECRET".into()));
        }
    }

    /// Fills in what a provider leaves open. The well-known credential variables apply only to providers without a
    /// `base_url` of their own, so that a real credential is never sent to a stand-in.
    fn providers(&mut self, config: &mut Config) {
        for (index, provider) in config.root.providers.iter_mut().enumerate() {
            let kind = ProviderKind::from(provider.kind);
            let family = match kind {
                ProviderKind::OpenAi => "OPENAI",
                ProviderKind::Anthropic => "ANTHROPIC",
                ProviderKind::Gemini => "GEMINI",
                ProviderKind::Vllm => "VLLM",
                ProviderKind::HuggingFace => "HUGGINGFACE",
                ProviderKind::Mistral => "MISTRAL",
                ProviderKind::AzureOpenAi => "AZURE_OPENAI",
                ProviderKind::Custom => "CUSTOM",
            };
            if provider.base_url.is_some() {
                continue;
            }
            self.families.push(family);
            if let Some(time) = self.take(
                &format!("PROVIDER_{family}_TIMEOUT"),
                &format!("providers[{index}].timeout"),
                "a duration such as 120s",
                Span::parse,
            ) {
                provider.timeout = time;
            }
            let variable = format!("PROVIDER_{family}_BASE_URL");
            provider.base_url = self.take(&variable, &format!("providers[{index}].base_url"), "a URL", |t| Some(t.to_owned()));
            if provider.api_key.is_none() {
                let bare = if family == "HUGGINGFACE" { "HF_TOKEN".to_owned() } else { format!("{family}_API_KEY") };
                let name = [format!("PROVIDER_{family}_API_KEY"), bare].into_iter().find(|n| self.environment.get(n).is_some());
                provider.api_key = name.map(SecretRef::Env);
            }
        }
    }
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
