//! The configuration under `config:`, and its compiled form.

use std::collections::BTreeMap;

use crate::plugin::prelude::*;
use wire::Pointer;

/// Configuration of `request_enrichment`. Texts may hold placeholders such as `{organisation.metadata.cost_center|'none'}`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Tags for evidence and usage.
    tags: BTreeMap<String, String>,
    /// Fields of the head towards the provider.
    headers: BTreeMap<String, String>,
    /// Fields of the head towards the caller.
    response_headers: BTreeMap<String, String>,
    /// Members of `metadata` in bodies of OpenAI's dialect: at most 16.
    metadata: BTreeMap<String, String>,
    /// Who the end user is for the provider: `user` in OpenAI's dialect, `metadata.user_id` in Anthropic's.
    end_user: Option<String>,
    /// What is done where something stands already.
    existing: Existing,
}

/// What is done where something stands already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Existing {
    /// It stays.
    #[default]
    Keep,
    /// It is replaced, so that callers cannot say it.
    Replace,
}

/// Header fields that tell browsers and clients what is safe: metadata must not be written to these, in either direction.
const SECURITY: [&str; 17] = [
    "set-cookie",
    "www-authenticate",
    "proxy-authenticate",
    "strict-transport-security",
    "content-security-policy",
    "content-security-policy-report-only",
    "permissions-policy",
    "referrer-policy",
    "x-content-type-options",
    "x-frame-options",
    "x-xss-protection",
    "content-type",
    "cache-control",
    "vary",
    "location",
    "retry-after",
    "origin",
];

/// Prefixes of such fields.
const SECURITY_FAMILIES: [&str; 5] = ["access-control-", "cross-origin-", "sec-", "proxy-", "x-forwarded-"];

/// Most members of `metadata` that OpenAI accepts.
const MOST_MEMBERS: usize = 16;

/// A member of a body.
pub struct Member {
    pub name: String,
    pub pointer: Pointer,
    pub template: Template,
}

/// The compiled configuration.
pub struct Rules {
    pub tags: Vec<(String, Template)>,
    pub headers: Vec<(String, Template)>,
    pub response_headers: Vec<(String, Template)>,
    pub existing: Existing,
    openai: Vec<Member>,
    anthropic: Vec<Member>,
}

impl Config {
    /// Compiles all templates; `host` says which metadata may be read.
    pub fn compile(self, host: &Host) -> Result<Rules, BuildError> {
        let template = |path: String, text: &str| Template::compile(text, host).map_err(|error| BuildError::at(path, error));
        let headers = |section: &str, from: &BTreeMap<String, String>| {
            let mut out = Vec::with_capacity(from.len());
            for (name, text) in from {
                let path = format!("{section}.{name}");
                if HeaderName::from_bytes(name.as_bytes()).is_err() {
                    return Err(BuildError::at(path, "not a header name"));
                }
                let lower = name.to_ascii_lowercase();
                if is_the_gateways(&lower) {
                    return Err(BuildError::at(path, "credentials and framing are the gateway's own"));
                }
                if SECURITY.contains(&lower.as_str()) || SECURITY_FAMILIES.iter().any(|family| lower.starts_with(family)) {
                    return Err(BuildError::at(path, "this header tells clients what is safe; metadata goes elsewhere"));
                }
                let value = template(path.clone(), text)?;
                if value.literal().is_some_and(|text| HeaderValue::from_str(text).is_err()) {
                    return Err(BuildError::at(path, "not a header value"));
                }
                out.push((name.clone(), value));
            }
            Ok(out)
        };
        let mut tags = Vec::with_capacity(self.tags.len());
        for (key, text) in &self.tags {
            let path = format!("tags.{key}");
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            if key.is_empty() || key.len() > 64 || !key.bytes().all(plain) {
                return Err(BuildError::at(path, "a tag's key is 1-64 characters of [A-Za-z0-9_.-]"));
            }
            tags.push((key.clone(), template(path, text)?));
        }
        let member = |name: String, pointer: &str, path: String, text: &str| {
            let pointer = Pointer::parse(pointer).ok_or_else(|| BuildError::at(path.clone(), "not a name of a member"))?;
            Ok::<_, BuildError>(Member { name, pointer, template: template(path, text)? })
        };
        if self.metadata.len() > MOST_MEMBERS {
            return Err(BuildError::at("metadata", "providers take at most 16 members"));
        }
        let (mut openai, mut anthropic) = (Vec::new(), Vec::new());
        for (key, text) in &self.metadata {
            let path = format!("metadata.{key}");
            if key.is_empty() || key.len() > 64 {
                return Err(BuildError::at(path, "a member's name has 1 to 64 bytes"));
            }
            let pointer = format!("/metadata/{}", key.replace('~', "~0").replace('/', "~1"));
            openai.push(member(path.clone(), &pointer, path, text)?);
        }
        if let Some(text) = &self.end_user {
            openai.push(member("end_user".to_owned(), "/user", "end_user".to_owned(), text)?);
            anthropic.push(member("end_user".to_owned(), "/metadata/user_id", "end_user".to_owned(), text)?);
        }
        Ok(Rules {
            tags,
            headers: headers("headers", &self.headers)?,
            response_headers: headers("response_headers", &self.response_headers)?,
            existing: self.existing,
            openai,
            anthropic,
        })
    }
}

impl Rules {
    /// The members for a body of this API.
    pub fn members(&self, dialect: Dialect, endpoint: &Endpoint) -> &[Member] {
        match (dialect, endpoint) {
            (Dialect::OpenAi, Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::UnifiedChat) => &self.openai,
            (Dialect::Anthropic, Endpoint::Messages) => &self.anthropic,
            _ => &[],
        }
    }
}
