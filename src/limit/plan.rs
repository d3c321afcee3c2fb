//! A policy with named counters, prepared when a configuration is loaded.

use std::net::IpAddr;
use std::time::Duration;

use super::full::Full;
use super::{Overlay, Policy};
use crate::store::{Limit, MAX_COUNT, StateKey};

/// The owner of a policy, in the order in which scopes are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The gateway.
    Global,
    /// The organisation.
    Organisation,
    /// The team, for keys of a team.
    Team,
    /// The key.
    ApiKey,
    /// The model, with one counter for all its callers.
    Model,
    /// The MCP server, with one counter for all its callers.
    McpServer,
}

impl Scope {
    /// The value of `scope` in denials, metrics and evidence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::ApiKey => "api_key",
            Self::Model => "model",
            Self::McpServer => "mcp_server",
        }
    }
}

/// A field of a policy that can refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// `ip.allowlist`, `ip.blocklist`.
    Network,
    /// `payload.max_request_bytes`.
    RequestBytes,
    /// `payload.max_tokens`.
    MaxTokens,
    /// `concurrency.max`.
    Concurrency,
    /// `requests.burst`.
    Burst,
    /// `requests.per_second`.
    PerSecond,
    /// `requests.per_minute`.
    PerMinute,
    /// `tokens.per_minute`.
    TokensPerMinute,
}

impl Field {
    /// All fields.
    pub const ALL: [Self; 8] = [
        Self::Network,
        Self::RequestBytes,
        Self::MaxTokens,
        Self::Concurrency,
        Self::Burst,
        Self::PerSecond,
        Self::PerMinute,
        Self::TokensPerMinute,
    ];

    /// The value of `limit` in denials and the name in `RateLimit-Policy`.
    pub const fn limit(self) -> &'static str {
        match self {
            Self::Network => "ip",
            Self::RequestBytes => "max_request_bytes",
            Self::MaxTokens => "max_tokens",
            Self::Concurrency => "concurrency",
            Self::Burst => "burst",
            Self::PerSecond => "requests_per_second",
            Self::PerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
        }
    }

    /// The value of `reason` in denials.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Network => "ip_not_allowed",
            Self::RequestBytes => "payload_too_large",
            Self::MaxTokens => "max_tokens_exceeded",
            Self::Concurrency => "concurrency_exceeded",
            Self::Burst => "burst_exceeded",
            Self::PerSecond => "rps_exceeded",
            Self::PerMinute => "rpm_exceeded",
            Self::TokensPerMinute => "tpm_exceeded",
        }
    }

    /// The value of the label `ratelimit_module`.
    pub const fn module(self) -> &'static str {
        match self {
            Self::Network => "ip",
            Self::RequestBytes => "payload",
            Self::MaxTokens => "max_tokens",
            Self::Concurrency => "concurrency",
            Self::Burst => "burst",
            Self::PerSecond => "rps",
            Self::PerMinute => "rpm",
            Self::TokensPerMinute => "tpm",
        }
    }
}

/// A counter of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// The field of the policy.
    pub field: Field,
    /// The name of the counter in the store.
    pub key: StateKey,
    /// The limit, without overlays.
    pub limit: Limit,
    /// Remembers that the counter had no room.
    pub(super) full: Full,
}

/// A policy with the names of its counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopePlan {
    /// The owner of the policy.
    pub scope: Scope,
    /// Whether the policy only counts and refuses nothing.
    pub shadow: bool,
    policy: Policy,
    requests: Vec<Counter>,
    tokens: Option<Counter>,
    /// Whether the policy has counters alone, and no checks of address or size.
    counts_only: bool,
    /// Whether any of the counters ever had no room.
    pub(super) noted: Full,
}

impl ScopePlan {
    /// The plan of a policy; `None` if the policy limits nothing. Plans that are asked together share a `tag`, which keeps their
    /// counters on one node of a cluster; `owner` distinguishes the counters of one scope.
    pub fn new(scope: Scope, tag: &str, owner: &str, policy: &Policy) -> Option<Self> {
        if *policy == (Policy { shadow: policy.shadow, overlays: policy.overlays.clone(), ..Policy::default() }) {
            return None;
        }
        let counter = |field: Field, limit| {
            let key = StateKey::new(tag, &format!("limit:{}:{owner}:{}", scope.as_str(), field.module()));
            Counter { field, key, limit: countable(limit), full: Full::default() }
        };
        let rate = &policy.ratelimit;
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let (per_second, per_minute, burst) = (rate.requests.per_second, rate.requests.per_minute, rate.requests.burst);
        let mut requests = Vec::new();
        if burst > 0 {
            // A burst comes on top of a sustained rate: the bucket refills at the rate that is configured.
            let (limit, per) = match (per_second, per_minute) {
                (0, 0) => (burst, second),
                (0, limit) => (limit, minute),
                (limit, _) => (limit, second),
            };
            requests.push(counter(Field::Burst, Limit::Rate { limit, per, burst }));
        } else if per_second > 0 {
            requests.push(counter(Field::PerSecond, Limit::Window { limit: per_second, per: second }));
        }
        if per_minute > 0 {
            requests.push(counter(Field::PerMinute, Limit::Window { limit: per_minute, per: minute }));
        }
        if rate.concurrency.max > 0 {
            let ttl = Duration::from_secs(rate.concurrency.lease_ttl_seconds.max(1));
            requests.push(counter(Field::Concurrency, Limit::Slots { max: rate.concurrency.max, ttl }));
        }
        let tpm = rate.tokens.per_minute;
        let tokens = (tpm > 0).then(|| counter(Field::TokensPerMinute, Limit::Window { limit: tpm, per: minute }));
        let counts_only = policy.ip == Default::default() && rate.payload == Default::default();
        Some(Self { scope, shadow: policy.shadow, policy: policy.clone(), requests, tokens, counts_only, noted: Full::default() })
    }

    /// The policy that it was made from.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The counters of requests.
    pub fn requests(&self) -> &[Counter] {
        &self.requests
    }

    /// The counter of tokens.
    pub fn tokens(&self) -> Option<&Counter> {
        self.tokens.as_ref()
    }

    /// Whether the policy has counters alone, and admits every address and every size of body and answer.
    pub fn counts_only(&self) -> bool {
        self.counts_only
    }

    /// Whether the policy admits an address. An unknown address is on no list.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        let ip = &self.policy.ip;
        let on = |list: &[super::Network]| address.is_some_and(|address| list.iter().any(|net| net.contains(address)));
        (ip.allowlist.is_empty() || on(&ip.allowlist)) && !on(&ip.blocklist)
    }

    /// The longest body, if limited (bytes).
    pub fn max_request_bytes(&self) -> Option<u64> {
        Some(self.policy.ratelimit.payload.max_request_bytes).filter(|max| *max > 0)
    }

    /// The most tokens of an answer, if limited.
    pub fn max_tokens(&self) -> Option<u64> {
        Some(self.policy.ratelimit.payload.max_tokens).filter(|max| *max > 0)
    }

    /// A counter's limit under the overlays in force at `now` (µs since the Unix epoch).
    pub fn limit(&self, counter: &Counter, now: i64) -> Limit {
        if self.policy.overlays.is_empty() {
            return counter.limit;
        }
        let holding = self.policy.overlays.iter().filter(|overlay| overlay.holds(now));
        holding.fold(counter.limit, scaled)
    }
}

/// A limit under an overlay: scaled by a percentage, rounded up, at least 1.
fn scaled(limit: Limit, overlay: &Overlay) -> Limit {
    let scale = |n: u64| (u128::from(n) * u128::from(overlay.scale_percent)).div_ceil(100).clamp(1, u128::from(u64::MAX >> 12)) as u64;
    countable(match limit {
        Limit::Rate { limit, per, burst } => Limit::Rate { limit: scale(limit), per, burst: scale(burst) },
        Limit::Window { limit, per } => Limit::Window { limit: scale(limit), per },
        Limit::Slots { max, ttl } => Limit::Slots { max: scale(max), ttl },
    })
}

/// Caps a limit at what a store can count: a limit that high refuses no request, while an uncountable one would refuse every
/// request.
fn countable(limit: Limit) -> Limit {
    let most = MAX_COUNT.unsigned_abs() / 4;
    match limit {
        Limit::Rate { limit, per, burst } => {
            let fastest = u64::try_from(per.as_micros()).unwrap_or(u64::MAX).max(1);
            Limit::Rate { limit: limit.min(fastest), per, burst: burst.min((most / fastest).max(1)) }
        }
        Limit::Window { limit, per } => Limit::Window { limit: limit.min(most), per },
        Limit::Slots { max, ttl } => Limit::Slots { max: max.min(most), ttl },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plan(yaml: &str) -> Option<ScopePlan> {
        ScopePlan::new(Scope::ApiKey, "acme", "k1", &serde_yaml::from_str(yaml).unwrap())
    }

    #[test]
    fn zero_and_absent_are_no_limit() {
        assert_eq!(plan("{}"), None);
        assert_eq!(plan("{shadow: true, ratelimit: {requests: {per_minute: 0}}}"), None);
    }

    #[test]
    fn counters_are_named_by_scope_owner_and_field() {
        let plan = plan("ratelimit: {requests: {per_second: 5, per_minute: 60}, tokens: {per_minute: 9}, concurrency: {max: 2}}").unwrap();
        let names: Vec<_> = plan.requests().iter().chain(plan.tokens()).map(|c| c.key.as_str().to_owned()).collect();
        assert_eq!(names, ["rps", "rpm", "concurrency", "tpm"].map(|field| format!("odock:{{acme}}:limit:api_key:k1:{field}")));
    }

    #[test]
    fn a_burst_refills_at_the_rate_beside_it() {
        let limit = |yaml: &str| plan(&format!("ratelimit: {{requests: {yaml}}}")).unwrap().requests()[0].limit;
        let rate = |limit, secs| Limit::Rate { limit, per: Duration::from_secs(secs), burst: 50 };
        assert_eq!(limit("{burst: 50, per_second: 20, per_minute: 600}"), rate(20, 1));
        assert_eq!(limit("{burst: 50, per_minute: 600}"), rate(600, 60));
        assert_eq!(limit("{burst: 50}"), rate(50, 1));
    }

    #[test]
    fn addresses_are_on_the_allowlist_and_not_on_the_blocklist() {
        let plan = plan("ip: {allowlist: [10.0.0.0/8], blocklist: [10.9.0.0/16]}").unwrap();
        let admits = |ip: &str| plan.admits(Some(ip.parse().unwrap()));
        assert!(admits("10.1.1.1") && !admits("10.9.1.1") && !admits("192.0.2.1") && !plan.admits(None));
    }

    #[test]
    fn an_overlay_scales_and_leaves_one() {
        let plan = plan(
            "{ratelimit: {requests: {per_minute: 60}, concurrency: {max: 1}}, overlays: [{scale_percent: 10, until: \"2000-01-01T00:00:00Z\"}]}",
        )
        .unwrap();
        let before = plan.limit(&plan.requests()[0], 0);
        assert_eq!(before, Limit::Window { limit: 6, per: Duration::from_secs(60) });
        assert_eq!(plan.limit(&plan.requests()[1], 0), Limit::Slots { max: 1, ttl: Duration::from_secs(30) });
        assert_eq!(plan.limit(&plan.requests()[0], i64::MAX), plan.requests()[0].limit);
    }

    #[tokio::test]
    async fn no_limit_is_higher_than_a_store_can_count() {
        use crate::store::{Decisions, LeaseId, Question, Take, memory::MemoryState};
        let state = MemoryState::default();
        for yaml in [
            "{ratelimit: {requests: {burst: 1000, per_second: 900000}}, overlays: [{scale_percent: 1000, until: \"2999-01-01T00:00:00Z\"}]}",
            "ratelimit: {requests: {burst: 4000000000000, per_minute: 4000000000000}, concurrency: {max: 9000000000000000000}}",
            "ratelimit: {tokens: {per_minute: 9000000000000000000}}",
        ] {
            let plan = plan(yaml).unwrap();
            for counter in plan.requests().iter().chain(plan.tokens()) {
                let take = Take { key: &counter.key, limit: plan.limit(counter, 0), cost: 1, shadow: false };
                let asked = state.decide(LeaseId(1), &Question { limits: &[take], ..Question::default() }).await;
                assert!(asked.as_ref().is_ok_and(|answer| answer.limits[0].allowed), "{yaml}: {asked:?}");
            }
        }
    }
}
