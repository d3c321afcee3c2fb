//! Providers and the models they serve.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::ByName;
use crate::identity::Secret;
use crate::limit::ScopePlan;
use crate::usage::Pricing;

/// The API that a provider has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProviderKind {
    /// api.openai.com.
    OpenAi,
    /// Azure OpenAI; the credential goes into `api-key`.
    AzureOpenAi,
    /// Anthropic's Messages API; the credential goes into `x-api-key`.
    Anthropic,
    /// Google's Gemini API; the credential goes into `x-goog-api-key`.
    Gemini,
    /// vLLM's OpenAI-compatible server; a credential is optional.
    Vllm,
    /// Mistral's API, OpenAI-compatible.
    Mistral,
    /// Hugging Face's router, OpenAI-compatible.
    HuggingFace,
    /// Anything else that speaks the OpenAI dialect.
    Custom,
}

impl ProviderKind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 8] =
        [Self::OpenAi, Self::AzureOpenAi, Self::Anthropic, Self::Gemini, Self::Vllm, Self::Mistral, Self::HuggingFace, Self::Custom];

    /// The name in configuration and evidence.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::AzureOpenAi => "azure_openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Vllm => "vllm",
            Self::Mistral => "mistral",
            Self::HuggingFace => "huggingface",
            Self::Custom => "custom",
        }
    }

    /// Whether it knows `stream_options.include_usage`. Mistral does not, but reports usage without being asked; Anthropic and Gemini
    /// have other APIs.
    pub fn tells_stream_usage(self) -> bool {
        matches!(self, Self::OpenAi | Self::AzureOpenAi | Self::Vllm | Self::HuggingFace | Self::Custom)
    }

    /// The address unless `base_url` names another; `None` if there is no public one.
    pub fn default_base_url(self) -> Option<&'static str> {
        match self {
            Self::OpenAi => Some("https://api.openai.com"),
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com"),
            Self::Mistral => Some("https://api.mistral.ai"),
            Self::HuggingFace => Some("https://router.huggingface.co"),
            Self::AzureOpenAi | Self::Vllm | Self::Custom => None,
        }
    }
}

/// A provider's address, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// The host name in lower case, or the address, IPv6 without brackets; also used as SNI.
    pub host: String,
    /// The port, explicit or the scheme's default.
    pub port: u16,
    /// The path before the endpoint's own, without a trailing slash and without a final `/v1`; usually empty.
    pub base_path: String,
}

/// Why a base URL is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// It does not parse, or has no host.
    #[error("is not a URL such as \"https://api.openai.com\"")]
    Malformed,
    /// The scheme is neither http nor https.
    #[error("must begin with http:// or https://")]
    Scheme,
    /// The URL contains a user name or password.
    #[error("must not contain a user name or password; give them by reference")]
    Credentials,
    /// The URL has a `?query` or `#fragment`.
    #[error("must not have a query or fragment")]
    Query,
}

impl BaseUrl {
    /// Parses `scheme://host[:port][/path]`. A final `/v1` is dropped because endpoints carry their own version, so
    /// `https://api.openai.com` and `https://api.openai.com/v1/` are the same provider.
    ///
    /// # Errors
    /// The text is not such a URL.
    pub fn parse(text: &str) -> Result<Self, BaseUrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(BaseUrlError::Malformed)?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(BaseUrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(BaseUrlError::Query);
        }
        if rest.split('/').next().unwrap_or_default().contains('@') {
            return Err(BaseUrlError::Credentials);
        }
        let uri: http::Uri = text.parse().map_err(|_| BaseUrlError::Malformed)?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let port = match uri.authority() {
            Some(a) if a.as_str().ends_with(':') => return Err(BaseUrlError::Malformed),
            _ => uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        };
        if host.is_empty() || port == 0 {
            return Err(BaseUrlError::Malformed);
        }
        let path = uri.path().trim_end_matches('/');
        let path = path.strip_suffix("/v1").unwrap_or(path).trim_end_matches('/');
        Ok(Self { tls, host, port, base_path: path.to_owned() })
    }

    /// `host:port` to connect to, IPv6 in brackets.
    pub fn address(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// The value of `Host`, with the port only if it is not the scheme's default.
    pub fn authority(&self) -> String {
        let default = if self.tls { 443 } else { 80 };
        match (self.host.contains(':'), self.port == default) {
            (true, true) => format!("[{}]", self.host),
            (false, true) => self.host.clone(),
            _ => self.address(),
        }
    }
}

/// A configured provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Unique name, also the label in metrics.
    pub name: Arc<str>,
    /// The API that it has.
    pub kind: ProviderKind,
    /// Its address.
    pub base_url: BaseUrl,
    /// The credential that it is called with.
    pub api_key: Option<Secret>,
    /// Whether a credential was configured. If so and `api_key` is `None`, its reference could not be resolved, and requests must
    /// end in `provider_api_key_not_configured` instead of going out without a credential.
    pub key_required: bool,
    /// The longest silence within an attempt: until the response head, and between two reads of the body.
    pub timeout: Duration,
    /// The longest time for connecting, including TLS.
    pub connect_timeout: Duration,
    /// Whether to use HTTP/2 (by ALPN with TLS, by prior knowledge without).
    pub h2: bool,
    /// A PEM file with the authorities for its certificate, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether streams of (chat) completions are asked for their usage when the gateway counts it.
    pub stream_usage: bool,
    /// Whether it is enabled. Otherwise requests for its models end in `provider_disabled`.
    pub enabled: bool,
}

/// A model of an organisation.
#[derive(Debug, Clone)]
pub struct Model {
    /// The name that callers send, unique in the organisation.
    pub name: Arc<str>,
    /// The name that the provider is sent.
    pub slug: Arc<str>,
    /// The provider that serves it.
    pub provider: Arc<Provider>,
    /// The price, if one is configured.
    pub pricing: Option<Arc<Pricing>>,
    /// The tokens of its longest answer.
    pub max_output_tokens: u64,
    /// Its own policy, if that limits anything, with one counter for all callers.
    pub limits: Option<Arc<ScopePlan>>,
}

/// All models, by organisation (id) and name. A lookup allocates nothing.
#[derive(Debug, Clone, Default)]
pub struct Models(ByName<ByName<Arc<Model>>>);

impl Models {
    /// Adds a model; a second one of the same name replaces the first.
    pub fn insert(&mut self, organisation: Arc<str>, model: Arc<Model>) {
        self.0.entry(organisation).or_default().insert(Arc::clone(&model.name), model);
    }

    /// The model of this name within the organisation; models of other organisations are never found.
    pub fn get(&self, organisation: &str, name: &str) -> Option<&Arc<Model>> {
        self.0.get(organisation)?.get(name)
    }

    /// All models of all organisations.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.0.values().flat_map(ByName::values)
    }

    /// The models of an organisation in no particular order.
    pub fn of<'a>(&'a self, organisation: &str) -> impl Iterator<Item = &'a Arc<Model>> + use<'a> {
        self.0.get(organisation).into_iter().flat_map(ByName::values)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_taken_apart() {
        let parse = |text| BaseUrl::parse(text).unwrap();
        let openai = parse("https://API.openai.com/v1/");
        assert_eq!((openai.host.as_str(), openai.port, openai.tls, openai.base_path.as_str()), ("api.openai.com", 443, true, ""));
        assert_eq!((openai.address().as_str(), openai.authority().as_str()), ("api.openai.com:443", "api.openai.com"));
        assert_eq!(parse("https://api.openai.com"), openai);
        let deep = parse("http://[::1]:9091/proxy/openai/v1");
        assert_eq!((deep.address().as_str(), deep.base_path.as_str()), ("[::1]:9091", "/proxy/openai"));
        assert_eq!(parse("http://10.0.0.5:8000").authority(), "10.0.0.5:8000");
    }

    #[test]
    fn unusable_base_urls_say_why() {
        let why = |text| BaseUrl::parse(text).unwrap_err();
        assert_eq!(why("api.openai.com"), BaseUrlError::Malformed);
        assert_eq!(why("ftp://x"), BaseUrlError::Scheme);
        assert_eq!(why("https://u:p@x"), BaseUrlError::Credentials);
        assert_eq!(why("https://x/?a"), BaseUrlError::Query);
        assert_eq!(why("https://x:/"), BaseUrlError::Malformed);
        assert_eq!(why("https://x:0"), BaseUrlError::Malformed);
        assert_eq!(why("https://"), BaseUrlError::Malformed);
    }
}
