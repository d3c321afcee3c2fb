//! `state`, `records` and `governance`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, Span};

/// Where counters and leases live.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// In this process, or shared.
    pub kind: StateKind,
    /// Address of the shared store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretRef>,
}

impl Default for State {
    fn default() -> Self {
        Self { kind: StateKind::Embedded, url: None }
    }
}

/// Kind of the state store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateKind {
    /// In the memory of this process.
    Embedded,
    /// Redis or Valkey.
    Redis,
}

/// Where records live.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Records {
    /// A file, or a server.
    pub kind: RecordsKind,
    /// File of the embedded store.
    pub path: PathBuf,
    /// Address of the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<SecretRef>,
}

impl Default for Records {
    fn default() -> Self {
        Self { kind: RecordsKind::Embedded, path: "./var/odock.db".into(), url: None }
    }
}

/// Kind of the record store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RecordsKind {
    /// A file of this process.
    Embedded,
    /// PostgreSQL.
    Postgres,
}

/// How limits, budgets and usage behave where nothing is certain.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Governance {
    /// A limit or budget cannot be asked: `deny` answers 503 `store_unavailable`, `allow` lets the request through
    /// uncounted, and the metrics say so.
    pub on_store_error: OnStoreError,
    /// A budget counts money and the model has no price: `deny` refuses, `allow` counts nothing. There is nothing to
    /// estimate a price from.
    pub unknown_price: Certainty,
    /// An answer came without token counts: `deny` counts the worst case that was reserved, `estimate` counts what its
    /// text suggests, `allow` counts nothing.
    pub missing_usage: Certainty,
    /// After how long without a sign of life the reservation of a request is released.
    pub reservation_ttl: Span,
    /// Keep usage records, one for each request whose key is known.
    pub usage: bool,
    /// How long usage records are kept: at least for the longest window of a budget or quota, twice that with rollover.
    pub usage_retention: Span,
    /// Where usage waits on its way to the record store.
    pub usage_spool: PathBuf,
    /// Know keys that are made at run time, and keep them in the record store.
    pub virtual_keys: bool,
    /// At least 32 bytes under which the secrets of such keys are hashed; the same on every replica. Without it an embedded
    /// store has a file beside it, made at the first use; with a server these keys are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_hash_secret: Option<SecretRef>,
    /// How long such keys are served from memory, or at a start from a file, after the record store answered last.
    pub key_grace: Span,
    /// What `POST /v1/internal/cache/invalidate` asks for; without it there is no such endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalidation_secret: Option<SecretRef>,
    /// Write a usage record of requests that were refused after their key was known.
    pub record_denials: bool,
}

impl Default for Governance {
    fn default() -> Self {
        Self {
            on_store_error: OnStoreError::Deny,
            unknown_price: Certainty::Allow,
            missing_usage: Certainty::Estimate,
            reservation_ttl: Span::seconds(120),
            usage: true,
            usage_retention: Span::seconds(190 * 86_400),
            usage_spool: "./var/usage".into(),
            virtual_keys: true,
            key_hash_secret: None,
            key_grace: Span::seconds(15 * 60),
            invalidation_secret: None,
            record_denials: true,
        }
    }
}

/// What happens to a request whose limits cannot be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreError {
    /// It is refused.
    Deny,
    /// It goes on uncounted.
    Allow,
}

/// What is done without a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Refuse, or count the worst.
    Deny,
    /// Estimate.
    Estimate,
    /// Count nothing.
    Allow,
}
