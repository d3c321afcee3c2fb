//! The metrics that a quota can count.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a quota counts. Of each the reservation takes the worst case that is known before a request leaves; of errors
/// and time nothing is known then, so that they only ask whether anything is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Metric {
    /// Accepted requests: those that went on to a provider. What a gate refused before is none.
    #[serde(alias = "requests")]
    Requests,
    /// Tokens of prompts and answers.
    #[serde(alias = "tokens")]
    Tokens,
    /// Tokens of prompts.
    #[serde(alias = "tokens_in")]
    TokensIn,
    /// Tokens of answers.
    #[serde(alias = "tokens_out")]
    TokensOut,
    /// Accepted requests whose answer was 400 or above, except the gateway's own refusals: an answer that a gate withheld is
    /// no error of the provider. A caller that went away before it was answered counts as 499.
    #[serde(alias = "errors")]
    Errors,
    /// Milliseconds from the request's head to its last byte.
    #[serde(alias = "latency_ms")]
    LatencyMs,
    /// Nano-USD.
    #[serde(alias = "cost")]
    Cost,
}

impl Metric {
    /// All metrics, in the order of the documentation.
    pub const ALL: [Self; 7] = [Self::Requests, Self::Tokens, Self::TokensIn, Self::TokensOut, Self::Errors, Self::LatencyMs, Self::Cost];

    /// The spelling in configuration, records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "REQUESTS",
            Self::Tokens => "TOKENS",
            Self::TokensIn => "TOKENS_IN",
            Self::TokensOut => "TOKENS_OUT",
            Self::Errors => "ERRORS",
            Self::LatencyMs => "LATENCY_MS",
            Self::Cost => "COST",
        }
    }
}
