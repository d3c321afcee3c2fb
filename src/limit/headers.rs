//! What an answer tells of the limits it passed: the IETF's `RateLimit` fields
//! (draft-ietf-httpapi-ratelimit-headers-10) and the fields that the dialect's SDKs read.

use std::time::{Duration, SystemTime};

use http::HeaderValue;

use super::{Field, Standing};
use crate::wire::Dialect;

/// Bytes of one limit in a field, about.
const EACH: usize = 64;

/// The header fields for these limits, names in lower case. Of several limits of a kind the one with the smallest share
/// left is told under the dialect's name. Empty without limits.
pub fn headers<'a, I: Iterator<Item = &'a Standing>>(
    standing: impl Fn() -> I,
    dialect: Dialect,
    now: SystemTime,
) -> Vec<(&'static str, HeaderValue)> {
    let told = || standing().filter(|s| !s.per.is_zero());
    let count = told().count();
    if count == 0 {
        return Vec::new();
    }
    // Every answer tells this of a dozen limits: written by hand, it costs a tenth of what formatting does.
    let (mut policy, mut state) = (Vec::with_capacity(count * EACH), Vec::with_capacity(count * EACH));
    let (mut requests, mut tokens): (Option<&Standing>, Option<&Standing>) = (None, None);
    for s in told() {
        for field in [&mut policy, &mut state] {
            if !field.is_empty() {
                field.extend_from_slice(b", ");
            }
            // Two scopes may limit the same field: the name tells them apart.
            field.push(b'"');
            field.extend_from_slice(s.scope.as_str().as_bytes());
            field.push(b':');
            field.extend_from_slice(s.field.limit().as_bytes());
        }
        policy.extend_from_slice(b"\";q=");
        decimal(&mut policy, s.limit);
        policy.extend_from_slice(b";w=");
        decimal(&mut policy, s.per.as_secs());
        state.extend_from_slice(b"\";r=");
        decimal(&mut state, s.remaining);
        state.extend_from_slice(b";t=");
        decimal(&mut state, seconds(s.reset_after));
        let tightest = if s.field == Field::TokensPerMinute { &mut tokens } else { &mut requests };
        if tightest.is_none_or(|t| u128::from(s.remaining) * u128::from(t.limit) < u128::from(t.remaining) * u128::from(s.limit)) {
            *tightest = Some(s);
        }
    }
    let mut headers = Vec::with_capacity(8);
    headers.extend(value(policy).map(|policy| ("ratelimit-policy", policy)));
    headers.extend(value(state).map(|state| ("ratelimit", state)));
    for (tightest, openai, anthropic) in [
        (
            requests,
            ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"],
            ["anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"],
        ),
        (
            tokens,
            ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
            ["anthropic-ratelimit-tokens-limit", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"],
        ),
    ] {
        let Some(s) = tightest else { continue };
        let (names, reset) = match dialect {
            Dialect::OpenAi => {
                let mut millis = Vec::with_capacity(12);
                decimal(&mut millis, u64::try_from(s.reset_after.as_millis()).unwrap_or(u64::MAX));
                millis.extend_from_slice(b"ms");
                (openai, value(millis))
            }
            Dialect::Anthropic => (anthropic, value(crate::telemetry::time::Rfc3339(now + s.reset_after).to_string().into_bytes())),
            Dialect::Gemini | Dialect::Mcp | Dialect::Plain => continue,
        };
        let [limit, remaining, resets] = names;
        headers.extend([(limit, HeaderValue::from(s.limit)), (remaining, HeaderValue::from(s.remaining))]);
        headers.extend(reset.map(|reset| (resets, reset)));
    }
    headers
}

/// What was written here is ASCII, which is always a value.
fn value(text: Vec<u8>) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
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
        let openai = headers(|| all.iter(), Dialect::OpenAi, at);
        let get = |name: &str| openai.iter().find(|(n, _)| *n == name).and_then(|(_, v)| v.to_str().ok());
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
        let anthropic = headers(|| all.iter(), Dialect::Anthropic, at);
        let reset = anthropic.iter().find(|(n, _)| *n == "anthropic-ratelimit-requests-reset").and_then(|(_, v)| v.to_str().ok());
        assert!(reset.is_some_and(|reset| reset.starts_with("1970-01-01T00:00:01.5")), "{reset:?}");
        assert_eq!(headers(|| [].iter(), Dialect::OpenAi, at), Vec::new());
    }
}
