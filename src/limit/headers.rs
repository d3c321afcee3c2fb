//! What an answer tells of the limits it passed: the IETF's `RateLimit` fields
//! (draft-ietf-httpapi-ratelimit-headers-10) and the fields that the dialect's SDKs read.

use std::fmt::Write;
use std::time::Duration;

use super::{Field, Standing};
use crate::wire::Dialect;

/// The header fields for these limits, names in lower case. Of several limits of a kind the one with the smallest share
/// left is told under the dialect's name. Empty without limits.
pub fn headers(standing: &[Standing], dialect: Dialect, now: std::time::SystemTime) -> Vec<(&'static str, String)> {
    let told: Vec<&Standing> = standing.iter().filter(|s| !s.per.is_zero()).collect();
    if told.is_empty() {
        return Vec::new();
    }
    let (mut policy, mut state) = (String::new(), String::new());
    for (at, s) in told.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        // Two scopes may limit the same field: the name tells them apart.
        let name = format_args!("\"{}:{}\"", s.scope.as_str(), s.field.limit());
        let _ = write!(policy, "{comma}{name};q={};w={}", s.limit, s.per.as_secs());
        let _ = write!(state, "{comma}{name};r={};t={}", s.remaining, seconds(s.reset_after));
    }
    let mut headers = vec![("ratelimit-policy", policy), ("ratelimit", state)];
    let tightest = |tokens: bool| {
        let of_kind = told.iter().filter(|s| (s.field == Field::TokensPerMinute) == tokens);
        of_kind.min_by(|a, b| (u128::from(a.remaining) * u128::from(b.limit)).cmp(&(u128::from(b.remaining) * u128::from(a.limit))))
    };
    for (tokens, openai, anthropic) in [
        (
            false,
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
            ["anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"],
        ),
        (
            true,
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
            ["anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"],
        ),
    ] {
        let Some(s) = tightest(tokens) else { continue };
        let (names, reset) = match dialect {
            Dialect::OpenAi => (openai, format!("{}ms", s.reset_after.as_millis())),
            Dialect::Anthropic => (anthropic, crate::telemetry::time::Rfc3339(now + s.reset_after).to_string()),
            Dialect::Gemini | Dialect::Mcp | Dialect::Plain => continue,
        };
        let [limit, remaining, resets] = names;
        headers.extend([(limit, s.limit.to_string()), (remaining, s.remaining.to_string()), (resets, reset)]);
    }
    headers
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Scope;

    fn standing(scope: Scope, field: Field, limit: u64, remaining: u64) -> Standing {
        Standing { scope, field, limit, per: Duration::from_secs(60), remaining, reset_after: Duration::from_millis(1500) }
    }

    #[test]
    fn the_fields_of_the_ietf_and_of_the_dialects() {
        let all = [
            standing(Scope::Organisation, Field::PerMinute, 600, 599),
            standing(Scope::ApiKey, Field::PerMinute, 60, 3),
            standing(Scope::ApiKey, Field::TokensPerMinute, 9000, 8000),
        ];
        let at = std::time::UNIX_EPOCH;
        let openai = headers(&all, Dialect::OpenAi, at);
        let get = |name: &str| openai.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        assert_eq!(
            get("ratelimit-policy"),
            Some(
                r#""organisation:requests_per_minute";q=600;w=60, "api_key:requests_per_minute";q=60;w=60, "api_key:tokens_per_minute";q=9000;w=60"#
            )
        );
        assert_eq!(
            get("ratelimit"),
            Some(
                r#""organisation:requests_per_minute";r=599;t=2, "api_key:requests_per_minute";r=3;t=2, "api_key:tokens_per_minute";r=8000;t=2"#
            )
        );
        assert_eq!((get("x-ratelimit-limit-requests"), get("x-ratelimit-remaining-requests")), (Some("60"), Some("3")));
        assert_eq!((get("x-ratelimit-reset-requests"), get("x-ratelimit-remaining-tokens")), (Some("1500ms"), Some("8000")));
        let anthropic = headers(&all, Dialect::Anthropic, at);
        let reset = anthropic.iter().find(|(n, _)| *n == "anthropic-ratelimit-requests-reset").map(|(_, v)| v.as_str());
        assert!(reset.is_some_and(|reset| reset.starts_with("1970-01-01T00:00:01.5")), "{reset:?}");
        assert_eq!(headers(&[], Dialect::OpenAi, at), Vec::new());
    }
}
