//! What an answer tells of the limits it passed: the IETF's `RateLimit` fields
//! (draft-ietf-httpapi-ratelimit-headers-10) and the fields that the dialect's SDKs read.

use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};

use super::plan::FIELDS;
use super::{Field, Standing};
use crate::wire::Dialect;

/// Bytes of one limit in a field, about.
const EACH: usize = 64;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
/// Limit, what remains and when all is there again: of requests, then of tokens.
const OPENAI: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];
const ANTHROPIC: [[HeaderName; 3]; 2] = [
    [
        HeaderName::from_static("anthropic-ratelimit-requests-limit"),
        HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
        HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    ],
    [
        HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
        HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
        HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    ],
];

/// The header fields for these limits. Of several scopes that limit the same field the one with the smallest share left is
/// told: it is the one that will refuse. Empty without limits.
pub fn headers<'a>(standing: impl Iterator<Item = &'a Standing>, dialect: Dialect, now: SystemTime) -> Vec<(HeaderName, HeaderValue)> {
    let mut tightest: [Option<&Standing>; FIELDS] = [None; FIELDS];
    for s in standing.filter(|s| !s.per.is_zero()) {
        let place = &mut tightest[s.field as usize];
        if place.is_none_or(|other| tighter(s, other)) {
            *place = Some(s);
        }
    }
    let told = || tightest.iter().flatten();
    let count = told().count();
    if count == 0 {
        return Vec::new();
    }
    // Every answer carries this: written by hand, it costs a tenth of what formatting does.
    let (mut policy, mut state) = (Vec::with_capacity(count * EACH), Vec::with_capacity(count * EACH));
    for s in told() {
        for field in [&mut policy, &mut state] {
            if !field.is_empty() {
                field.extend_from_slice(b", ");
            }
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
    }
    let mut headers = Vec::with_capacity(8);
    headers.extend(value(policy).map(|policy| (POLICY, policy)));
    headers.extend(value(state).map(|state| (STATE, state)));
    let names = match dialect {
        Dialect::OpenAi => &OPENAI,
        Dialect::Anthropic => &ANTHROPIC,
        Dialect::Gemini | Dialect::Mcp | Dialect::Plain => return headers,
    };
    for (tokens, names) in [false, true].into_iter().zip(names) {
        let of_kind = told().filter(|s| (s.field == Field::TokensPerMinute) == tokens);
        let Some(s) = of_kind.copied().reduce(|best, s| if tighter(s, best) { s } else { best }) else { continue };
        let reset = match dialect {
            Dialect::OpenAi => {
                let mut millis = Vec::with_capacity(12);
                decimal(&mut millis, u64::try_from(s.reset_after.as_millis()).unwrap_or(u64::MAX));
                millis.extend_from_slice(b"ms");
                value(millis)
            }
            _ => value(crate::telemetry::time::Rfc3339(now + s.reset_after).to_string().into_bytes()),
        };
        let [limit, remaining, resets] = names.clone();
        headers.extend([(limit, HeaderValue::from(s.limit)), (remaining, HeaderValue::from(s.remaining))]);
        headers.extend(reset.map(|reset| (resets, reset)));
    }
    headers
}

/// Whether a smaller share is left of one limit than of another.
fn tighter(one: &Standing, other: &Standing) -> bool {
    u128::from(one.remaining) * u128::from(other.limit) < u128::from(other.remaining) * u128::from(one.limit)
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
        let openai = headers(all.iter(), Dialect::OpenAi, at);
        let get = |name: &str| openai.iter().find(|(n, _)| *n == name).and_then(|(_, v)| v.to_str().ok());
        assert_eq!(get("ratelimit-policy"), Some(r#""api_key:requests_per_minute";q=60;w=60, "api_key:tokens_per_minute";q=9000;w=60"#));
        assert_eq!(get("ratelimit"), Some(r#""api_key:requests_per_minute";r=3;t=2, "api_key:tokens_per_minute";r=8000;t=2"#));
        assert_eq!((get("x-ratelimit-limit-requests"), get("x-ratelimit-remaining-requests")), (Some("60"), Some("3")));
        assert_eq!((get("x-ratelimit-reset-requests"), get("x-ratelimit-remaining-tokens")), (Some("1500ms"), Some("8000")));
        let anthropic = headers(all.iter(), Dialect::Anthropic, at);
        let reset = anthropic.iter().find(|(n, _)| *n == "anthropic-ratelimit-requests-reset").and_then(|(_, v)| v.to_str().ok());
        assert!(reset.is_some_and(|reset| reset.starts_with("1970-01-01T00:00:01.5")), "{reset:?}");
        assert_eq!(headers([].iter(), Dialect::OpenAi, at), Vec::new());
    }
}
