//! The rate-limit headers of an answer: the IETF's `RateLimit` fields (draft-ietf-httpapi-ratelimit-headers-10) and those that
//! the SDKs of its dialect read.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::MaxSizeReached;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::receipt::RATES;
use super::{Field, Scope, Standing};
use crate::wire::Dialect;

/// The most bytes of all values that change from answer to answer.
const CHANGING: usize = 512;
/// The most bytes of the constant text before a number.
const PIECE: usize = 64;
/// The most digits of a number.
const DIGITS: usize = 20;
/// The most rate-limit headers of an answer.
const MOST: usize = 8;
/// For how many sets of limits a thread caches the constant parts.
const REMEMBERED: usize = 64;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// A list of header fields.
pub type Fields = Vec<(HeaderName, HeaderValue)>;

/// What identifies a limit: scope, field, amount, and window in seconds.
type Limit = (Scope, Field, u64, u64);

/// The parts that are the same in all answers under the same limits.
struct Constant {
    of: [Option<Limit>; RATES],
    /// The amounts of the tightest limit of requests and of the tightest of tokens.
    tightest: [Option<u64>; 2],
    policy: HeaderValue,
    totals: [Option<HeaderValue>; 2],
    /// The text before the numbers of each limit.
    names: [Piece; RATES],
}

thread_local! {
    /// The cache. Most answers of a thread are under the same few sets of limits.
    static CONSTANTS: RefCell<[Option<Constant>; REMEMBERED]> = const { RefCell::new([const { None }; REMEMBERED]) };
}

/// A short text in a buffer of fixed size, which is copied whole: that is faster than copying by length.
#[derive(Clone, Copy)]
struct Piece {
    bytes: [u8; PIECE],
    len: usize,
}

impl Piece {
    fn of(text: &[u8]) -> Self {
        let mut piece = Self { bytes: [0; PIECE], len: text.len().min(PIECE) };
        piece.bytes[..piece.len].copy_from_slice(&text[..piece.len]);
        piece
    }
}

/// The values that change, written one after the other: one allocation is cheaper than five.
struct Values {
    text: [u8; CHANGING],
    len: usize,
}

impl Values {
    fn piece(&mut self, piece: &Piece) {
        if let Some(place) = self.text.get_mut(self.len..self.len + PIECE) {
            place.copy_from_slice(&piece.bytes);
            self.len += piece.len;
        }
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        if let Some(place) = self.text.get_mut(self.len..self.len + bytes.len()) {
            place.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn decimal(&mut self, mut number: u64) {
        /// The numbers from 00 to 99.
        const PAIRS: [[u8; 2]; 100] = {
            let (mut pairs, mut n) = ([[b'0'; 2]; 100], 0);
            while n < 100 {
                pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
                n += 1;
            }
            pairs
        };
        // The digits are written from the end, and then copied as a block of fixed size, whatever follows them.
        let mut digits = [0; 2 * DIGITS];
        let mut at = DIGITS;
        while number >= 10 {
            at -= 2;
            [digits[at], digits[at + 1]] = PAIRS[(number % 100) as usize];
            number /= 100;
        }
        if number > 0 || at == DIGITS {
            at -= 1;
            digits[at] = b'0' + number as u8;
        }
        if let (Some(place), Some(digits)) = (self.text.get_mut(self.len..self.len + DIGITS), digits.get(at..at + DIGITS)) {
            place.copy_from_slice(digits);
            self.len += DIGITS - at;
        }
    }
}

/// The rate-limit headers for these limits. Empty without limits.
pub fn headers<'a>(standing: impl Iterator<Item = &'a Standing> + Clone, dialect: Dialect, now: impl FnOnce() -> SystemTime) -> Fields {
    let mut fields = Fields::new();
    told(standing, dialect, now, MOST, |more, name, value| {
        fields.reserve(more);
        fields.push((name, value));
    });
    fields
}

/// Writes the rate-limit headers for these limits into a head, replacing fields of the same name.
///
/// # Errors
/// There are too many fields.
pub fn insert_headers<'a>(
    head: &mut HeaderMap,
    standing: impl Iterator<Item = &'a Standing> + Clone,
    dialect: Dialect,
    now: impl FnOnce() -> SystemTime,
) -> Result<(), MaxSizeReached> {
    let mut done = Ok(());
    told(standing, dialect, now, MOST, |more, name, value| {
        if more > 0 && done.is_ok() {
            done = head.try_reserve(more);
        }
        if done.is_ok() {
            done = head.try_insert(name, value).map(drop);
        }
    });
    done
}

/// Calls `tell` with each header; the first call includes how many there may be, for reserving space.
fn told<'a>(
    standing: impl Iterator<Item = &'a Standing> + Clone,
    dialect: Dialect,
    now: impl FnOnce() -> SystemTime,
    mut more: usize,
    mut tell: impl FnMut(usize, HeaderName, HeaderValue),
) {
    let mut of = [None; RATES];
    // The limit that will refuse first, of requests and of tokens.
    let mut tightest: [Option<&Standing>; 2] = [None; 2];
    for (place, s) in of.iter_mut().zip(standing.clone()) {
        *place = Some((s.scope, s.field, s.limit, s.per.as_secs()));
        let tightest = &mut tightest[usize::from(s.field == Field::TokensPerMinute)];
        if tightest.is_none_or(|best| s.tighter(best)) {
            *tightest = Some(s);
        }
    }
    if of[0].is_none() {
        return;
    }
    let mut values = Values { text: [0; CHANGING], len: 0 };
    let (policy, totals) = constant(&of, tightest.map(|s| s.map(|s| s.limit)), |names| {
        for (s, name) in standing.zip(names) {
            values.piece(name);
            values.decimal(s.remaining);
            values.bytes(b";t=");
            values.decimal(seconds(s.reset_after));
        }
    });
    let state = values.len;
    let has_own = matches!(dialect, Dialect::OpenAi | Dialect::Anthropic);
    let now = if dialect == Dialect::Anthropic { now() } else { SystemTime::UNIX_EPOCH };
    let mut ends = [(0, 0); 2];
    for (s, ends) in tightest.iter().zip(&mut ends) {
        let Some(s) = s.filter(|_| has_own) else { continue };
        values.decimal(s.remaining);
        let remaining = values.len;
        if dialect == Dialect::OpenAi {
            values.decimal(u64::try_from(s.reset_after.as_millis()).unwrap_or(u64::MAX));
            values.bytes(b"ms");
        } else {
            values.bytes(&crate::telemetry::time::Rfc3339(now + s.reset_after).digits());
        }
        *ends = (remaining, values.len);
    }
    let text = Bytes::copy_from_slice(&values.text[..values.len]);
    let mut from = 0;
    let mut value = |end: usize| {
        // All of it is ASCII, which makes a valid value.
        HeaderValue::from_maybe_shared(text.slice(std::mem::replace(&mut from, end)..end)).unwrap_or(HeaderValue::from_static(""))
    };
    tell(std::mem::take(&mut more), POLICY, policy);
    tell(0, STATE, value(state));
    for (kind, (total, (remaining, resets))) in totals.into_iter().zip(ends).enumerate() {
        if let Some(total) = total
            && let Some([limit, left, reset]) = names(dialect, kind)
        {
            tell(0, limit, total);
            tell(0, left, value(remaining));
            tell(0, reset, value(resets));
        }
    }
}

/// The names of limit, remaining and reset as a dialect's SDKs read them, for requests (0) and for tokens (1).
fn names(dialect: Dialect, kind: usize) -> Option<[HeaderName; 3]> {
    const fn name(name: &'static str) -> HeaderName {
        HeaderName::from_static(name)
    }
    const OPENAI_REQUESTS: [HeaderName; 3] =
        [name("x-ratelimit-limit-requests"), name("x-ratelimit-remaining-requests"), name("x-ratelimit-reset-requests")];
    const OPENAI_TOKENS: [HeaderName; 3] =
        [name("x-ratelimit-limit-tokens"), name("x-ratelimit-remaining-tokens"), name("x-ratelimit-reset-tokens")];
    const ANTHROPIC_REQUESTS: [HeaderName; 3] = [
        name("anthropic-ratelimit-requests-limit"),
        name("anthropic-ratelimit-requests-remaining"),
        name("anthropic-ratelimit-requests-reset"),
    ];
    const ANTHROPIC_TOKENS: [HeaderName; 3] =
        [name("anthropic-ratelimit-tokens-limit"), name("anthropic-ratelimit-tokens-remaining"), name("anthropic-ratelimit-tokens-reset")];
    Some(match (dialect, kind) {
        (Dialect::OpenAi, 0) => OPENAI_REQUESTS,
        (Dialect::OpenAi, _) => OPENAI_TOKENS,
        (Dialect::Anthropic, 0) => ANTHROPIC_REQUESTS,
        (Dialect::Anthropic, _) => ANTHROPIC_TOKENS,
        (Dialect::Gemini | Dialect::Mcp | Dialect::Plain, _) => return None,
    })
}

impl Constant {
    fn of(of: [Option<Limit>; RATES], tightest: [Option<u64>; 2]) -> Self {
        let mut values = Values { text: [0; CHANGING], len: 0 };
        let mut names = [Piece::of(b""); RATES];
        for ((at, limit), name) in of.iter().enumerate().zip(&mut names) {
            let Some((scope, field, limit, per)) = limit else { continue };
            let named = format!("{}\"{}:{}\"", if at == 0 { "" } else { ", " }, scope.as_str(), field.limit());
            *name = Piece::of(format!("{named};r=").as_bytes());
            values.bytes(named.as_bytes());
            values.bytes(b";q=");
            values.decimal(*limit);
            values.bytes(b";w=");
            values.decimal(*per);
        }
        let policy = HeaderValue::from_bytes(&values.text[..values.len]).unwrap_or(HeaderValue::from_static(""));
        Self { of, tightest, policy, totals: tightest.map(|total| total.map(HeaderValue::from)), names }
    }
}

/// The constant parts for these limits, from the cache if possible: the value of `RateLimit-Policy` and the tightest amounts.
/// `read` gets the texts before the numbers.
fn constant(
    of: &[Option<Limit>; RATES],
    tightest: [Option<u64>; 2],
    read: impl FnOnce(&[Piece; RATES]),
) -> (HeaderValue, [Option<HeaderValue>; 2]) {
    let mix = |hash: u64, n: u64| (hash ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let each = |hash, limit: &Limit| {
        let (scope, field, limit, per) = *limit;
        mix(hash, limit ^ per << 40 ^ (scope as u64) << 56 ^ (field as u64) << 60)
    };
    let hash = of.iter().flatten().fold(0, each);
    CONSTANTS.with_borrow_mut(|constants| {
        let place = &mut constants[hash as usize % REMEMBERED];
        let known = match place {
            Some(known) if known.of == *of && known.tightest == tightest => known,
            other => other.insert(Constant::of(*of, tightest)),
        };
        read(&known.names);
        (known.policy.clone(), known.totals.clone())
    })
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Standings;

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
        let mut standings = Standings::default();
        all.into_iter().for_each(|standing| standings.stands(standing));
        let openai = headers(standings.iter(), Dialect::OpenAi, at);
        let get = |name: &str| openai.iter().find(|(n, _)| *n == name).and_then(|(_, v)| v.to_str().ok());
        assert_eq!(get("ratelimit-policy"), Some(r#""api_key:requests_per_minute";q=60;w=60, "api_key:tokens_per_minute";q=9000;w=60"#));
        assert_eq!(get("ratelimit"), Some(r#""api_key:requests_per_minute";r=3;t=2, "api_key:tokens_per_minute";r=8000;t=2"#));
        assert_eq!((get("x-ratelimit-limit-requests"), get("x-ratelimit-remaining-requests")), (Some("60"), Some("3")));
        assert_eq!((get("x-ratelimit-reset-requests"), get("x-ratelimit-remaining-tokens")), (Some("1500ms"), Some("8000")));
        let anthropic = headers(standings.iter(), Dialect::Anthropic, at);
        let reset = anthropic.iter().find(|(n, _)| *n == "anthropic-ratelimit-requests-reset").and_then(|(_, v)| v.to_str().ok());
        assert!(reset.is_some_and(|reset| reset.starts_with("1970-01-01T00:00:01.5")), "{reset:?}");
        assert_eq!(headers(standings.iter(), Dialect::OpenAi, at), openai, "what is remembered is what was written");
        assert_eq!(headers([].iter(), Dialect::OpenAi, at), Vec::new());
        assert_eq!(headers(standings.iter(), Dialect::Gemini, at).len(), 2);
        let mut head = HeaderMap::from_iter([(STATE, HeaderValue::from_static("theirs"))]);
        assert!(insert_headers(&mut head, standings.iter(), Dialect::OpenAi, at).is_ok());
        assert_eq!(head, HeaderMap::from_iter(openai));
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in [0, 7, 10, 42, 99, 100, 101, 999, 1000, 123_456_789, u64::MAX - 1, u64::MAX] {
            let mut out = Values { text: [b'x'; CHANGING], len: 3 };
            out.decimal(number);
            assert_eq!(String::from_utf8_lossy(&out.text[3..out.len]), number.to_string());
        }
    }
}
