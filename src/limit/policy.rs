//! The policy document as configured; zero and absent mean no limit.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Network;

/// What one scope asks of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// From where.
    pub ip: IpPolicy,
    /// How often and how much.
    pub ratelimit: RatePolicy,
    /// Count and record what would be refused, and refuse nothing.
    pub shadow: bool,
    /// Changes for a time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overlays: Vec<Overlay>,
}

impl Policy {
    /// Whether nothing is configured.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every number is one that is kept as it is written.
    ///
    /// # Errors
    /// Which is not, in words.
    pub fn check(&self) -> Result<(), String> {
        let RatePolicy { requests, tokens, concurrency, .. } = &self.ratelimit;
        let bounds = [
            ("requests.per_second", requests.per_second, 1_000_000),
            ("requests.per_minute", requests.per_minute, 60_000_000),
            ("requests.burst", requests.burst, 1_000_000),
            ("tokens.per_minute", tokens.per_minute, 1_000_000_000_000),
            ("concurrency.max", concurrency.max, 1_000_000),
            ("concurrency.lease_ttl_seconds", concurrency.lease_ttl_seconds, 86_400),
        ];
        match bounds.into_iter().find(|(_, written, most)| written > most) {
            Some((name, _, most)) => Err(format!("ratelimit.{name} is at most {most}")),
            None => Ok(()),
        }
    }
}

/// From where calls may come. A blocked address is refused even if it is on the allowlist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IpPolicy {
    /// Addresses and networks; everything else is refused. Empty: everybody.
    pub allowlist: Vec<Network>,
    /// Addresses and networks that are refused.
    pub blocklist: Vec<Network>,
}

/// Rates and sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RatePolicy {
    /// Requests.
    pub requests: RequestPolicy,
    /// Tokens.
    pub tokens: TokenPolicy,
    /// Requests at the same time.
    pub concurrency: ConcurrencyPolicy,
    /// Single requests.
    pub payload: PayloadPolicy,
}

/// Requests over time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestPolicy {
    /// At most so many in any second. With `burst` the rate at which the burst refills.
    #[schemars(range(max = 1_000_000))]
    pub per_second: u64,
    /// At most so many in any minute.
    #[schemars(range(max = 60_000_000))]
    pub per_minute: u64,
    /// At most so many at once after a pause; it refills at `per_second`, else at `per_minute`, else in a second.
    #[schemars(range(max = 1_000_000))]
    pub burst: u64,
}

/// Tokens over time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenPolicy {
    /// At most so many in any minute: what the prompt is estimated to have plus what the answer may have; corrected when
    /// the provider told the truth.
    #[schemars(range(max = 1_000_000_000_000_u64))]
    pub per_minute: u64,
}

/// Requests at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConcurrencyPolicy {
    /// At most so many.
    #[schemars(range(max = 1_000_000))]
    pub max: u64,
    /// After how many seconds the place of a gateway that died is free again. Long answers renew theirs.
    #[schemars(range(max = 86_400))]
    pub lease_ttl_seconds: u64,
}

impl Default for ConcurrencyPolicy {
    fn default() -> Self {
        Self { max: 0, lease_ttl_seconds: 30 }
    }
}

/// Single requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PayloadPolicy {
    /// Bytes of the body. A body whose length is not told beforehand is counted as it is read.
    pub max_request_bytes: u64,
    /// Tokens of the answer that a request may ask for; one that asks for no number is held to the model's own.
    pub max_tokens: u64,
}

/// A change of one scope's rates for a time: half the rate during an incident, twice the rate on a launch day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// The rates in percent of what they are; at least one request remains.
    #[schemars(range(min = 1, max = 10_000))]
    pub scale_percent: u32,
    /// From when; at once by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Moment>,
    /// Until when.
    pub until: Moment,
}

impl Overlay {
    /// Whether the overlay is in force at this moment (µs since the Unix epoch).
    pub fn holds(&self, micros: i64) -> bool {
        self.from.is_none_or(|from| from.0 <= micros) && micros < self.until.0
    }
}

/// A moment in microseconds since the Unix epoch, written as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let at: jiff::Timestamp =
            text.parse().map_err(|_| D::Error::custom(format!("`{text}` is no moment; an example is 2027-01-31T12:00:00Z")))?;
        Ok(Self(at.as_microsecond()))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => serializer.collect_str(&at),
            Err(error) => Err(serde::ser::Error::custom(error)),
        }
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time", "description": "A moment: 2027-01-31T12:00:00Z." })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_products_paths() {
        let policy: Policy = serde_yaml::from_str(
            "ip: {allowlist: [10.0.0.0/8], blocklist: [10.9.9.9]}\n\
             ratelimit:\n  requests: {per_second: 20, per_minute: 600, burst: 50}\n  tokens: {per_minute: 60000}\n  \
             concurrency: {max: 20, lease_ttl_seconds: 30}\n  payload: {max_request_bytes: 1048576, max_tokens: 4096}",
        )
        .unwrap();
        assert_eq!(policy.ratelimit.requests, RequestPolicy { per_second: 20, per_minute: 600, burst: 50 });
        assert_eq!((policy.ratelimit.tokens.per_minute, policy.ratelimit.concurrency.max), (60_000, 20));
        assert_eq!(policy.ratelimit.payload, PayloadPolicy { max_request_bytes: 1_048_576, max_tokens: 4096 });
    }

    #[test]
    fn negative_and_unknown_members_are_refused() {
        for bad in ["ratelimit: {requests: {per_second: -1}}", "ratelimit: {requests: {per_hour: 1}}", "ip: {allowlist: [nonsense]}"] {
            assert!(serde_yaml::from_str::<Policy>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_overlay_has_a_beginning_and_an_end() {
        let overlay: Overlay =
            serde_yaml::from_str("{scale_percent: 50, from: \"2026-01-01T00:00:00Z\", until: \"2026-01-02T00:00:00+01:00\"}").unwrap();
        let day = 86_400_000_000;
        let from = overlay.from.unwrap().0;
        assert!(!overlay.holds(from - 1) && overlay.holds(from) && overlay.holds(from + day - 3_600_000_001) && !overlay.holds(from + day));
    }
}
