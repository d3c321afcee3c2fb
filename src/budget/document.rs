//! Budgets and quotas, as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Metric, NanoUsd, Period};
use crate::limit::Moment;

/// A limit on spend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BudgetEntry {
    /// For people; unique for its owner.
    pub name: String,
    /// Whose spend is bounded; the organisation's by default.
    #[serde(default)]
    pub owner: Owner,
    /// How long a window is.
    pub period: Period,
    /// USD a window.
    pub amount: NanoUsd,
    /// Only USD can be counted.
    #[serde(default)]
    pub currency: Currency,
    /// Percents of the amount whose crossing is told; they never change the limit.
    #[serde(default = "thresholds")]
    pub thresholds: Vec<u32>,
    /// When it counts.
    #[serde(default)]
    pub schedule: ScheduleEntry,
}

/// A limit on use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaEntry {
    /// For people; unique for its owner.
    pub name: String,
    /// Whose use is bounded; the organisation's by default.
    #[serde(default)]
    pub owner: Owner,
    /// How long a window is.
    pub period: Period,
    /// What is counted.
    pub metric: Metric,
    /// How much of it a window; COST in nano-USD.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_u64))]
    pub limit: u64,
    /// Percents of the limit whose crossing is told.
    #[serde(default = "thresholds")]
    pub thresholds: Vec<u32>,
    /// When it counts.
    #[serde(default)]
    pub schedule: ScheduleEntry,
}

/// When a budget or quota counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleEntry {
    /// The first window begins here, and all others at its clock time; by default windows are those of the calendar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Moment>,
    /// From here on it is inactive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_at: Option<Moment>,
    /// Time zone of the windows, a name of the IANA database.
    pub timezone: String,
    /// What a window left is added to the next one, once, and to no more than double.
    pub rollover: bool,
    /// Count it.
    pub active: bool,
}

impl Default for ScheduleEntry {
    fn default() -> Self {
        Self { start_at: None, end_at: None, timezone: "UTC".into(), rollover: false, active: true }
    }
}

/// Whose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// What sort of owner.
    #[serde(rename = "type")]
    pub kind: OwnerKind,
    /// Name or id of the team, user or key; the organisation needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What sort of owner. A key belongs to its organisation, to its team if it is a team's, to its user if it is a user's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OwnerKind {
    /// The organisation.
    #[default]
    #[serde(alias = "org", alias = "ORGANISATION", alias = "organisation")]
    Org,
    /// A team.
    #[serde(alias = "team")]
    Team,
    /// A user.
    #[serde(alias = "user")]
    User,
    /// A key.
    #[serde(rename = "APIKEY", alias = "apikey", alias = "api_key", alias = "API_KEY")]
    ApiKey,
}

impl OwnerKind {
    /// The spelling in configuration and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Org => "ORG",
            Self::Team => "TEAM",
            Self::User => "USER",
            Self::ApiKey => "APIKEY",
        }
    }

    /// The value of `scope` in denials and metrics.
    pub const fn scope(self) -> &'static str {
        match self {
            Self::Org => "organisation",
            Self::Team => "team",
            Self::User => "user",
            Self::ApiKey => "api_key",
        }
    }
}

/// What an amount is in. There is no rate of exchange that everybody would accept, so there is one currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Currency {
    /// US dollars.
    #[default]
    #[serde(rename = "USD")]
    Usd,
}

fn thresholds() -> Vec<u32> {
    vec![50, 80, 90, 100]
}
