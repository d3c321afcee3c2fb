//! Usage: one record for every accepted request.

use async_trait::async_trait;

use super::{RecordError, UsageBatch};

/// One request. Nothing of a prompt, an answer or a credential is in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UsageRecord {
    /// 32 lowercase hex digits, the `x-request-id` of the answer. One record an id.
    pub request_id: String,
    /// When it ended.
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
    /// The answer was a stream.
    pub stream: bool,
    /// The status the caller got.
    pub status: u16,
    /// How it ended: `complete`, `caller_aborted`, …
    pub end: String,
    /// The code of the refusal, if it was refused.
    pub code: Option<String>,
    /// Whence the numbers are: `provider`, `estimate`, …
    pub usage_source: String,
    /// From its first byte to its end, milliseconds.
    pub latency_ms: u64,
    /// What of it was ours, microseconds.
    pub overhead_us: u64,
    /// Tokens read, cached ones included.
    pub input_tokens: u64,
    /// Tokens read from the provider's cache.
    pub cached_tokens: u64,
    /// Tokens written, reasoning included.
    pub output_tokens: u64,
    /// Tokens written that nobody sees.
    pub reasoning_tokens: u64,
    /// All that is billed.
    pub total_tokens: u64,
    /// Units that are no tokens: pages, images.
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

/// Which records. Empty: all.
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
    /// Only those in which this plugin ran.
    pub plugin: Option<String>,
    /// Ended at this time or later.
    pub from: Option<i64>,
    /// Ended before this time.
    pub until: Option<i64>,
    /// Only requests that went on to a provider, and those whose process died when they might have.
    pub accepted: bool,
    /// Only those with a status of 400 or more that was not a refusal of the gateway's own.
    pub failed: bool,
}

/// By what sums are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageBy {
    /// Not at all: one sum.
    Nothing,
    /// Organisations.
    Organisation,
    /// Keys.
    Key,
    /// Teams; requests without one under `None`.
    Team,
    /// Users; requests without one under `None`.
    User,
    /// Providers.
    Provider,
    /// Models.
    Model,
    /// Plugins. A request counts for each that ran.
    Plugin,
    /// Statuses.
    Status,
    /// Days of UTC, as `2026-11-21`.
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
    /// What the records have in common.
    pub group: Option<String>,
    /// How many.
    pub requests: u64,
    /// Those with a status of 400 or more.
    pub errors: u64,
    /// Tokens read.
    pub input_tokens: u64,
    /// Tokens read from caches.
    pub cached_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// Tokens written that nobody sees.
    pub reasoning_tokens: u64,
    /// All tokens billed.
    pub total_tokens: u64,
    /// Units.
    pub units: u64,
    /// Cost, nano-USD; records without a price count nothing.
    pub cost_nanos: i64,
    /// Milliseconds of all together.
    pub latency_ms: u64,
}

/// Where usage is kept.
#[async_trait]
pub trait UsageRecords: Send + Sync + 'static {
    /// Writes a batch, all or nothing. Records of ids that are there already are left as they are. Says how many were new.
    ///
    /// # Errors
    /// When the store does not answer: repeat it then.
    async fn append_usage(&self, records: &[UsageRecord]) -> Result<u64, RecordError>;
    /// The same for packed records, without looking into them. Those of a form that is not known are left out.
    ///
    /// # Errors
    /// When the store does not answer: repeat it then.
    async fn append_packed(&self, batch: UsageBatch) -> Result<u64, RecordError>;
    /// Records, newest first, at most `limit`, after the one before (its time and id).
    ///
    /// # Errors
    /// When the store does not answer.
    async fn usage(&self, filter: &UsageFilter, after: Option<(i64, &str)>, limit: u32) -> Result<Vec<UsageRecord>, RecordError>;
    /// Sums, the dearest first, at most 10,000.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn sum_usage(&self, filter: &UsageFilter, by: UsageBy) -> Result<Vec<UsageSum>, RecordError>;
    /// Forgets records that ended before a time, at most `limit` at once. Says how many.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn forget_usage(&self, before: i64, limit: u32) -> Result<u64, RecordError>;
}
