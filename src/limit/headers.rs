//! What an answer tells of the limits it passed: the IETF's `RateLimit` fields
//! (draft-ietf-httpapi-ratelimit-headers-10) and the fields that the dialect's SDKs read.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::{Field, Standing};
use crate::wire::Dialect;

/// Bytes of all fields, mostly.
const ALL: usize = 512;

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

/// Header fields.
pub type Fields = Vec<(HeaderName, HeaderValue)>;

/// Values, written one behind the other: every answer carries them, and one piece of memory is cheaper than eight.
struct Values {
    text: Vec<u8>,
    /// Where each ends, under its name.
    ends: Vec<(HeaderName, usize)>,
}

impl Values {
    fn end(&mut self, name: HeaderName) {
        self.ends.push((name, self.text.len()));
    }

    fn number(&mut self, name: HeaderName, number: u64) {
        decimal(&mut self.text, number);
        self.end(name);
    }

    fn fields(self) -> Fields {
        let text = Bytes::from(self.text);
        let mut from = 0;
        // What was written here is ASCII, which is always a value.
        let field = |(name, end)| {
            let value = text.slice(std::mem::replace(&mut from, end)..end);
            HeaderValue::from_maybe_shared(value).ok().map(|value| (name, value))
        };
        self.ends.into_iter().filter_map(field).collect()
    }
}

/// The header fields for these limits, one of each field. Empty without limits.
pub fn headers<'a>(standing: impl Iterator<Item = &'a Standing> + Clone, dialect: Dialect, now: SystemTime) -> Fields {
    if standing.clone().next().is_none() {
        return Fields::new();
    }
    let mut values = Values { text: Vec::with_capacity(ALL), ends: Vec::with_capacity(8) };
    for s in standing.clone() {
        values.named(0, s);
        values.text.extend_from_slice(b"\";q=");
        decimal(&mut values.text, s.limit);
        values.text.extend_from_slice(b";w=");
        decimal(&mut values.text, s.per.as_secs());
    }
    values.end(POLICY);
    let from = values.text.len();
    for s in standing.clone() {
        values.named(from, s);
        values.text.extend_from_slice(b"\";r=");
        decimal(&mut values.text, s.remaining);
        values.text.extend_from_slice(b";t=");
        decimal(&mut values.text, seconds(s.reset_after));
    }
    values.end(STATE);
    let names = match dialect {
        Dialect::OpenAi => OPENAI,
        Dialect::Anthropic => ANTHROPIC,
        Dialect::Gemini | Dialect::Mcp | Dialect::Plain => return values.fields(),
    };
    for (tokens, [limit, remaining, resets]) in [false, true].into_iter().zip(names) {
        let of_kind = standing.clone().filter(|s| (s.field == Field::TokensPerMinute) == tokens);
        let Some(s) = of_kind.reduce(|best, s| if s.tighter(best) { s } else { best }) else { continue };
        values.number(limit, s.limit);
        values.number(remaining, s.remaining);
        match dialect {
            Dialect::OpenAi => {
                decimal(&mut values.text, u64::try_from(s.reset_after.as_millis()).unwrap_or(u64::MAX));
                values.text.extend_from_slice(b"ms");
            }
            _ => values.text.extend_from_slice(crate::telemetry::time::Rfc3339(now + s.reset_after).to_string().as_bytes()),
        }
        values.end(resets);
    }
    values.fields()
}

impl Values {
    /// Whose limit it is, in a list that begins here.
    fn named(&mut self, from: usize, standing: &Standing) {
        let text = &mut self.text;
        text.extend_from_slice(if text.len() == from { b"\"" } else { b", \"" });
        text.extend_from_slice(standing.scope.as_str().as_bytes());
        text.push(b':');
        text.extend_from_slice(standing.field.limit().as_bytes());
    }
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    /// The numbers below a hundred, two digits each.
    const PAIRS: [[u8; 2]; 100] = {
        let (mut pairs, mut n) = ([[b'0'; 2]; 100], 0);
        while n < 100 {
            pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
            n += 1;
        }
        pairs
    };
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while number >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    if number > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + number as u8;
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
    use crate::limit::{Receipt, Scope};

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
        let mut receipt = Receipt::default();
        all.into_iter().for_each(|standing| receipt.stands(standing));
        let openai = headers(receipt.standing(), Dialect::OpenAi, at);
        let get = |name: &str| openai.iter().find(|(n, _)| *n == name).and_then(|(_, v)| v.to_str().ok());
        assert_eq!(get("ratelimit-policy"), Some(r#""api_key:requests_per_minute";q=60;w=60, "api_key:tokens_per_minute";q=9000;w=60"#));
        assert_eq!(get("ratelimit"), Some(r#""api_key:requests_per_minute";r=3;t=2, "api_key:tokens_per_minute";r=8000;t=2"#));
        assert_eq!((get("x-ratelimit-limit-requests"), get("x-ratelimit-remaining-requests")), (Some("60"), Some("3")));
        assert_eq!((get("x-ratelimit-reset-requests"), get("x-ratelimit-remaining-tokens")), (Some("1500ms"), Some("8000")));
        let anthropic = headers(receipt.standing(), Dialect::Anthropic, at);
        let reset = anthropic.iter().find(|(n, _)| *n == "anthropic-ratelimit-requests-reset").and_then(|(_, v)| v.to_str().ok());
        assert!(reset.is_some_and(|reset| reset.starts_with("1970-01-01T00:00:01.5")), "{reset:?}");
        assert_eq!(headers([].iter(), Dialect::OpenAi, at), Vec::new());
        assert_eq!(headers(receipt.standing(), Dialect::Gemini, at).len(), 2);
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in [0, 7, 10, 42, 99, 100, 101, 999, 1000, 123_456_789, u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(String::from_utf8_lossy(&out), number.to_string());
        }
    }
}
