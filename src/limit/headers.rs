//! What an answer tells of the limits it passed: the IETF's `RateLimit` fields
//! (draft-ietf-httpapi-ratelimit-headers-10) and the fields that the dialect's SDKs read.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::receipt::RATES;
use super::{Field, Scope, Standing};
use crate::wire::Dialect;

/// Bytes of what changes from answer to answer, mostly.
const CHANGING: usize = 256;
/// Fields of an answer at most.
const MOST: usize = 8;
/// For how many sets of limits a thread remembers what never changes about them.
const REMEMBERED: usize = 64;

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

/// What tells one limit from another: whose, which field, how much, in how many seconds.
type Limit = (Scope, Field, u64, u64);

/// What all answers under the same limits say.
struct Constant {
    of: [Option<Limit>; RATES],
    /// The tightest of requests and of tokens.
    tightest: [Option<u64>; 2],
    policy: HeaderValue,
    totals: [Option<HeaderValue>; 2],
}

thread_local! {
    /// Most answers of a thread are under limits that others were under a moment ago.
    static CONSTANTS: RefCell<[Option<Constant>; REMEMBERED]> = const { RefCell::new([const { None }; REMEMBERED]) };
}

/// Values that change, written one behind the other: one piece of memory is cheaper than five.
struct Values {
    text: Vec<u8>,
    /// Where each ends, under its name.
    ends: [Option<(HeaderName, usize)>; 5],
    len: usize,
}

impl Values {
    fn end(&mut self, name: HeaderName) {
        if let Some(end) = self.ends.get_mut(self.len) {
            *end = Some((name, self.text.len()));
            self.len += 1;
        }
    }

    fn fields(self, fields: &mut Fields) {
        let text = Bytes::from(self.text);
        let mut from = 0;
        for (name, end) in self.ends.into_iter().flatten() {
            // What was written here is ASCII, which is always a value.
            if let Ok(value) = HeaderValue::from_maybe_shared(text.slice(std::mem::replace(&mut from, end)..end)) {
                fields.push((name, value));
            }
        }
    }
}

/// The header fields for these limits, one of each field. Empty without limits.
pub fn headers<'a>(standing: impl Iterator<Item = &'a Standing> + Clone, dialect: Dialect, now: impl FnOnce() -> SystemTime) -> Fields {
    let mut of = [None; RATES];
    // Of requests and of tokens the limit that will refuse.
    let mut tightest: [Option<&Standing>; 2] = [None; 2];
    for (place, s) in of.iter_mut().zip(standing.clone()) {
        *place = Some((s.scope, s.field, s.limit, s.per.as_secs()));
        let tightest = &mut tightest[usize::from(s.field == Field::TokensPerMinute)];
        if tightest.is_none_or(|best| s.tighter(best)) {
            *tightest = Some(s);
        }
    }
    if of[0].is_none() {
        return Fields::new();
    }
    let mut fields = Fields::with_capacity(MOST);
    let (policy, totals) = constant(&of, tightest.map(|s| s.map(|s| s.limit)));
    fields.push((POLICY, policy));
    let mut values = Values { text: Vec::with_capacity(CHANGING), ends: [const { None }; 5], len: 0 };
    for s in standing {
        let text = &mut values.text;
        named(text, s.scope, s.field);
        text.extend_from_slice(b"\";r=");
        decimal(text, s.remaining);
        text.extend_from_slice(b";t=");
        decimal(text, seconds(s.reset_after));
    }
    values.end(STATE);
    let names = match dialect {
        Dialect::OpenAi => OPENAI,
        Dialect::Anthropic => ANTHROPIC,
        Dialect::Gemini | Dialect::Mcp | Dialect::Plain => {
            values.fields(&mut fields);
            return fields;
        }
    };
    let now = if dialect == Dialect::Anthropic { now() } else { SystemTime::UNIX_EPOCH };
    for ((s, total), [limit, remaining, resets]) in tightest.into_iter().zip(totals).zip(names) {
        let (Some(s), Some(total)) = (s, total) else { continue };
        fields.push((limit, total));
        decimal(&mut values.text, s.remaining);
        values.end(remaining);
        match dialect {
            Dialect::OpenAi => {
                decimal(&mut values.text, u64::try_from(s.reset_after.as_millis()).unwrap_or(u64::MAX));
                values.text.extend_from_slice(b"ms");
            }
            _ => values.text.extend_from_slice(crate::telemetry::time::Rfc3339(now + s.reset_after).to_string().as_bytes()),
        }
        values.end(resets);
    }
    values.fields(&mut fields);
    fields
}

impl Constant {
    fn of(of: [Option<Limit>; RATES], tightest: [Option<u64>; 2]) -> Self {
        let mut text = Vec::with_capacity(CHANGING);
        for (scope, field, limit, per) in of.iter().flatten() {
            named(&mut text, *scope, *field);
            text.extend_from_slice(b"\";q=");
            decimal(&mut text, *limit);
            text.extend_from_slice(b";w=");
            decimal(&mut text, *per);
        }
        let policy = HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static(""));
        Self { of, tightest, policy, totals: tightest.map(|total| total.map(HeaderValue::from)) }
    }
}

/// What never changes about these limits: the policy's value, and how much the tightest allow.
fn constant(of: &[Option<Limit>; RATES], tightest: [Option<u64>; 2]) -> (HeaderValue, [Option<HeaderValue>; 2]) {
    let mix = |hash: u64, n: u64| (hash ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let each = |hash, limit: &Limit| {
        let (scope, field, limit, per) = *limit;
        mix(hash, limit ^ per << 40 ^ (scope as u64) << 56 ^ (field as u64) << 60)
    };
    let hash = tightest.iter().flatten().fold(of.iter().flatten().fold(0, each), |hash, total| mix(hash, *total));
    CONSTANTS.with_borrow_mut(|constants| {
        let place = &mut constants[hash as usize % REMEMBERED];
        let known = match place {
            Some(known) if known.of == *of && known.tightest == tightest => known,
            other => other.insert(Constant::of(*of, tightest)),
        };
        (known.policy.clone(), known.totals.clone())
    })
}

/// Whose limit it is, in a list.
fn named(text: &mut Vec<u8>, scope: Scope, field: Field) {
    text.extend_from_slice(if text.is_empty() { b"\"" } else { b", \"" });
    text.extend_from_slice(scope.as_str().as_bytes());
    text.push(b':');
    text.extend_from_slice(field.limit().as_bytes());
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
    use crate::limit::Receipt;

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
        let at = || std::time::UNIX_EPOCH;
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
        assert_eq!(headers(receipt.standing(), Dialect::OpenAi, at), openai, "what is remembered is what was written");
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
