//! Usage: one record for every accepted request.

use async_trait::async_trait;

use super::{RecordError, UsageBatch};

/// The usage of one request. It contains nothing of a prompt, an answer or a credential.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageRecord {
    /// 32 lowercase hex digits, the `x-request-id` of the answer. Unique.
    pub request_id: String,
    /// When the request ended.
    pub at: i64,
    /// Identifier of the organisation.
    pub organisation: String,
    /// Identifier of the key.
    pub key: String,
    /// Identifier of the team, for keys of a team.
    pub team: Option<String>,
    /// Identifier of the user, for keys of a user.
    pub user: Option<String>,
    /// The provider that answered; `mcp` for tools.
    pub provider: Option<String>,
    /// The model that answered, or the MCP server.
    pub model: Option<String>,
    /// The endpoint as routed.
    pub endpoint: String,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// The status sent to the caller.
    pub status: u16,
    /// How the request ended: `complete`, `caller_aborted`, …
    pub end: String,
    /// The code of the refusal, if it was refused.
    pub code: Option<String>,
    /// Where the token numbers come from: `provider`, `estimate`, …
    pub usage_source: String,
    /// From the first byte of the request to its end, milliseconds.
    pub latency_ms: u64,
    /// The gateway's own share of that time, microseconds.
    pub overhead_us: u64,
    /// Tokens read, cached ones included.
    pub input_tokens: u64,
    /// Tokens read from the provider's cache.
    pub cached_tokens: u64,
    /// Tokens written, reasoning included.
    pub output_tokens: u64,
    /// Output tokens for reasoning, which the caller does not see.
    pub reasoning_tokens: u64,
    /// All tokens billed.
    pub total_tokens: u64,
    /// Units that are not tokens: pages, images.
    pub units: u64,
    /// What it cost, nano-USD; `None` without a price.
    pub cost_nanos: Option<i64>,
    /// The provider's own id of the request.
    pub provider_request_id: Option<String>,
    /// W3C trace id, 32 hex digits.
    pub trace_id: Option<String>,
    /// Tokens by class, billing, the provider's usage, routing and metadata: a JSON object.
    pub details: String,
    /// Names of the plugins that ran.
    pub plugins: Vec<String>,
}

/// Which records to select. The default selects all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// Only of this organisation.
    pub organisation: Option<String>,
    /// Only of this key.
    pub key: Option<String>,
    /// Only of this team.
    pub team: Option<String>,
    /// Only of this user.
    pub user: Option<String>,
    /// Only of this provider.
    pub provider: Option<String>,
    /// Only of this model.
    pub model: Option<String>,
    /// Only requests in which this plugin ran.
    pub plugin: Option<String>,
    /// Only those that ended at this time or later.
    pub from: Option<i64>,
    /// Only those that ended before this time.
    pub until: Option<i64>,
    /// Only requests that were sent to a provider, and those whose process died when they may have been.
    pub accepted: bool,
    /// Only those with a status of 400 or more that did not come from a refusal by the gateway.
    pub failed: bool,
}

/// How sums are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageBy {
    /// One sum over everything.
    Nothing,
    /// By organisation.
    Organisation,
    /// By key.
    Key,
    /// By team; requests without one are under `None`.
    Team,
    /// By user; requests without one are under `None`.
    User,
    /// By provider.
    Provider,
    /// By model.
    Model,
    /// By plugin. A request counts for each plugin that ran.
    Plugin,
    /// By status.
    Status,
    /// By day in UTC, as `2026-11-21`.
    Day,
}

impl UsageBy {
    /// All that tell sums apart, as people write them.
    pub const NAMED: [(&'static str, Self); 9] = [
        ("organisation", Self::Organisation),
        ("key", Self::Key),
        ("team", Self::Team),
        ("user", Self::User),
        ("provider", Self::Provider),
        ("model", Self::Model),
        ("plugin", Self::Plugin),
        ("status", Self::Status),
        ("day", Self::Day),
    ];
}

/// A sum over records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageSum {
    /// The value of the grouping field that the records share.
    pub group: Option<String>,
    /// Number of records.
    pub requests: u64,
    /// Number of records with a status of 400 or more.
    pub errors: u64,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens read from caches.
    pub cached_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Output tokens for reasoning.
    pub reasoning_tokens: u64,
    /// All tokens billed.
    pub total_tokens: u64,
    /// Units.
    pub units: u64,
    /// Cost in nano-USD; records without a price add nothing.
    pub cost_nanos: i64,
    /// Sum of the latencies, milliseconds.
    pub latency_ms: u64,
}

/// A store of usage records.
#[async_trait]
pub trait UsageRecords: Send + Sync + 'static {
    /// Writes records, all or nothing. A record whose id exists already is left as it is. Returns how many were new.
    ///
    /// # Errors
    /// When the store does not answer; then repeat it.
    async fn append_usage(&self, records: &[UsageRecord]) -> Result<u64, RecordError>;
    /// [`Self::append_usage`] for packed records. Those in an unknown format are skipped.
    ///
    /// # Errors
    /// When the store does not answer; then repeat it.
    async fn append_packed(&self, batch: UsageBatch) -> Result<u64, RecordError>;
    /// Records, newest first, at most `limit`, beginning behind `after` (time and id of the last record of the previous
    /// page).
    ///
    /// # Errors
    /// When the store does not answer.
    async fn usage(&self, filter: &UsageFilter, after: Option<(i64, &str)>, limit: u32) -> Result<Vec<UsageRecord>, RecordError>;
    /// Sums, most expensive first, at most 10,000.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn sum_usage(&self, filter: &UsageFilter, by: UsageBy) -> Result<Vec<UsageSum>, RecordError>;
    /// Deletes records that ended before a time, at most `limit`. Returns how many.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn forget_usage(&self, before: i64, limit: u32) -> Result<u64, RecordError>;
}
