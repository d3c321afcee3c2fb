//! `organisations`: tenants with their teams, users, models and virtual keys.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Instant, McpServerEntry};
use crate::budget::{BudgetEntry, QuotaEntry};
use crate::limit::Policy;
use crate::usage::Pricing;

/// A tenant.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganisationEntry {
    /// Unique name.
    pub name: String,
    /// Stable identifier; the name by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Free text, visible to plugins that were granted `organisations`.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Groups of people or applications.
    #[serde(default)]
    pub teams: Vec<TeamEntry>,
    /// People and service accounts.
    #[serde(default)]
    pub users: Vec<UserEntry>,
    /// What callers may ask for.
    #[serde(default)]
    pub models: Vec<ModelEntry>,
    /// Virtual keys.
    #[serde(default)]
    pub api_keys: Vec<ApiKeyEntry>,
    /// Tools behind the gateway, called at `/v1/mcp/NAME`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<McpServerEntry>,
    /// Network and rate-limit policies.
    #[serde(default, skip_serializing_if = "Policy::is_default")]
    pub policies: Policy,
    /// Limits on spend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<BudgetEntry>,
    /// Limits on use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quotas: Vec<QuotaEntry>,
}

/// A group within an organisation.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeamEntry {
    /// Unique in the organisation.
    pub name: String,
    /// Stable identifier; the name by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Free text.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Network and rate-limit policies.
    #[serde(default, skip_serializing_if = "Policy::is_default")]
    pub policies: Policy,
}

/// A person or service account within an organisation.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserEntry {
    /// Unique in the organisation.
    pub name: String,
    /// Stable identifier; the name by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Free text.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// A model of an organisation.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// What callers send, unique in the organisation.
    pub name: String,
    /// Name of the provider that serves it.
    pub provider: String,
    /// What the provider is sent; the name by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// Names of keys that may use it, beside those that name it themselves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub api_keys: Vec<String>,
    /// What it costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pricing: Option<Pricing>,
    /// Tokens of its longest answer: what a request that names no number may cost at worst.
    #[serde(default = "max_output_tokens")]
    #[schemars(range(min = 1))]
    pub max_output_tokens: u64,
    /// Network and rate-limit policies.
    #[serde(default, skip_serializing_if = "Policy::is_default")]
    pub policies: Policy,
}

fn max_output_tokens() -> u64 {
    4096
}

/// A virtual key, known by the SHA-256 of its secret.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyEntry {
    /// Unique in the organisation, for people.
    pub name: String,
    /// Stable identifier, unique in the file; `ORGANISATION/NAME` by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// SHA-256 of the secret in 64 hex digits, as `printf %s "$KEY" | sha256sum` prints it.
    pub sha256: String,
    /// On whose behalf it acts.
    #[serde(rename = "type", default)]
    pub kind: KeyType,
    /// The team, for type team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The user, for type user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The instant from which it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry: Option<Instant>,
    /// Refuse it.
    #[serde(default)]
    pub revoked: bool,
    /// Names of the models it may use, or `'*'` for all of the organisation.
    #[serde(default)]
    pub models: ModelGrant,
    /// Names of the MCP servers it may use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mcp_servers: Vec<String>,
    /// Network and rate-limit policies.
    #[serde(default, skip_serializing_if = "Policy::is_default")]
    pub policies: Policy,
}

/// On whose behalf a key acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    /// The organisation.
    #[default]
    #[serde(alias = "ORGANISATION", alias = "ORGANIZATION", alias = "organization")]
    Organisation,
    /// One team.
    #[serde(alias = "TEAM")]
    Team,
    /// One user.
    #[serde(alias = "USER")]
    User,
}

/// The models granted to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelGrant {
    /// `'*'`: all models of the organisation.
    All,
    /// The models with these names.
    Names(Vec<String>),
}

impl Default for ModelGrant {
    fn default() -> Self {
        Self::Names(Vec::new())
    }
}

struct Grant;

impl<'de> Visitor<'de> for Grant {
    type Value = ModelGrant;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of model names, or '*' for all")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ModelGrant, E> {
        if text == "*" { Ok(ModelGrant::All) } else { Err(E::custom("expected a list of model names, or '*' for all")) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ModelGrant, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = list.next_element::<String>()? {
            names.push(name);
        }
        Ok(if names == ["*"] { ModelGrant::All } else { ModelGrant::Names(names) })
    }
}

impl<'de> Deserialize<'de> for ModelGrant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Grant)
    }
}

impl Serialize for ModelGrant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("*"),
            Self::Names(names) => serializer.collect_seq(names),
        }
    }
}

impl JsonSchema for ModelGrant {
    fn schema_name() -> Cow<'static, str> {
        "ModelGrant".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Names of models, or '*' for all of the organisation.",
            "oneOf": [{ "const": "*" }, { "type": "array", "items": { "type": "string" } }]
        })
    }
}
