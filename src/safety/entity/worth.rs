//! Whether a value can be what its name says: a password, a secret, a key.

use super::gate::{Shape, is_stand_in, is_uuid};

/// Longest named value with arbitrary characters, in bytes.
pub const VALUE_BYTES: usize = 320;
/// Longest random-looking value, in bytes.
pub const LONG_BYTES: usize = 2048;

/// Technical terms with a number that occur near secrets: `SHA-256`, `base64-encoded`, `RS256`.
const TECHNICAL: [&[u8]; 19] = [
    b"sha", b"md", b"base", b"oauth", b"argon", b"bcrypt", b"pbkdf", b"utf", b"aes", b"rsa", b"pkcs", b"x", b"ntlmv", b"ed", b"hs", b"rs",
    b"es", b"ipv", b"http",
];

/// How a value follows its name.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// It is in quotes.
    pub quoted: bool,
    /// It follows a `=` or `:`, or is in a place that holds nothing else.
    pub signed: bool,
    /// It follows the word "secret" itself.
    pub coined: bool,
    /// It is in a sentence, where the next word may just describe the password.
    pub told: bool,
}

pub fn is_password(text: &[u8], shape: &Shape, setting: Setting) -> bool {
    let Setting { quoted, signed, told, .. } = setting;
    let letters = shape.lower + shape.upper;
    let opens = text.first().copied().unwrap_or(0);
    let code =
        !quoted && text.iter().any(|b| matches!(b, b'.')) && shape.digits < 3 && shape.other == 1 || text.windows(3).any(|w| w == b"://");
    let sorts = [shape.lower, shape.upper, shape.digits, shape.other].iter().filter(|n| **n > 0).count();
    let chosen = shape.digits > 0 && (letters > 0 || shape.len >= 6 && signed)
        || sorts >= 3 && !only_words(text)
        || shape.other > 0 && sorts >= 2 && quoted && shape.len >= 8 && !only_words(text);
    // Words in other scripts are labels of a form field.
    let foreign = !text.is_ascii() && shape.digits == 0;
    (if signed { 5 } else { 7 }..=160).contains(&shape.len)
        && chosen
        && !foreign
        && (signed || sorts >= 3 && !only_words(text))
        && !(told && (shape.digits == 0 || shape.len < 6 || is_measure(text)) || is_technical(text))
        && shape.distinct >= 4
        && !matches!(opens, b'$' | b'%' | b'{' | b'<' | b'*' | b'/' | b'-' | b',' | b')' | b';' | b':')
        && (quoted || opens != b'_')
        && !code
        && !is_stand_in(text)
}

/// `SHA-256`, `base64-encoded`, `2FA`.
fn is_technical(text: &[u8]) -> bool {
    let first = text.split(|b| matches!(b, b'-' | b'_')).next().unwrap_or_default();
    let digits = first.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let stem = first.get(..first.len() - digits).unwrap_or_default();
    let is = |word: &[u8], list: &[&[u8]]| list.iter().any(|known| word.eq_ignore_ascii_case(known));
    digits <= 5 && is(stem, &TECHNICAL) || is(first, &[b"2fa", b"k8s", b"argon2i", b"argon2id"])
}

/// `8-character`, `90-day`.
fn is_measure(text: &[u8]) -> bool {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let rest = text.get(digits..).unwrap_or_default();
    digits > 0 && rest.iter().all(|b| b.is_ascii_lowercase() || *b == b'-')
}

/// Words joined by separators, as in names and paths.
pub fn only_words(text: &[u8]) -> bool {
    text.iter().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-' | b'.' | b'/' | b' ' | b':' | b'#'))
}

fn is_token_text(text: &[u8]) -> bool {
    text.iter().all(|b| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'_' | b'-' | b'.' | b'/' | b'+' | b'=' | b'~' | b':' | b'%' | b'!' | b'@' | b'#' | b'$' | b'^' | b'*' | b'|')
    })
}

/// A URL or a path.
fn is_locator(text: &[u8]) -> bool {
    text.windows(3).any(|w| w == b"://")
        || matches!(text.first(), Some(b'/' | b'$' | b'%' | b'.' | b'#' | b'@'))
        || text.starts_with(b"sha")
        || text.starts_with(b"arn:")
}

pub fn is_secret(text: &[u8], shape: &Shape, signed: bool) -> bool {
    // `Name.Builtin.Pseudo`
    let spelt = shape.other > 0 && only_words(text);
    (if signed { 10 } else { 14 }..=LONG_BYTES).contains(&shape.len)
        && (is_plain(shape, if signed { 16 } else { 20 })
            || shape.is_mixed() && (shape.word <= 12 || shape.digits >= 6)
            || shape.is_drawn()
            || shape.upper >= 3 && shape.lower >= 3 && shape.turns >= 6 && shape.entropy > 3.2 && shape.word <= 6 && !spelt
            || is_base32(text, shape))
        && is_token_text(text)
        && !is_address(text)
        && !is_locator(text)
        && !is_sealed(text)
        && !is_stand_in(text)
        && !is_dated(text, shape)
}

/// A sealed secret, encrypted for a cluster and safe to publish: a key length of 256 or 512, the sealed key, the data.
fn is_sealed(text: &[u8]) -> bool {
    text.len() > VALUE_BYTES && matches!(text, [b'A', b'g' | b'Q', b'A'..=b'D', ..])
}

/// A secret chosen by a person, like a password: letters, digits, and a sign that names and paths do not contain. `coined`:
/// it follows the word "secret", so that digits are not required.
pub fn is_chosen(text: &[u8], shape: &Shape, coined: bool) -> bool {
    (if coined { 12 } else { 10 }..=64).contains(&shape.len)
        && (shape.digits >= 2 || coined)
        && shape.lower + shape.upper >= 4
        && shape.distinct >= 8
        && text.iter().any(|b| matches!(b, b'!' | b'#' | b'$' | b'%' | b'^' | b'*' | b'?'))
        && text.first().is_some_and(u8::is_ascii_alphanumeric)
        && !text.iter().any(|b| matches!(b, b'{' | b'[' | b'(' | b'\\' | b'/'))
        && !is_stand_in(text)
}

/// Letters of both cases, digits and signs, mixed as neither a pattern nor source text is.
pub fn is_strewn(text: &[u8]) -> bool {
    let shape = Shape::of(text);
    let pattern = [b"a-z".as_slice(), b"A-Z", b"0-9", b"\\d", b"\\w", b"\\s", b"%s", b"://", b"=>", b"&&", b"||"];
    (12..=VALUE_BYTES).contains(&shape.len)
        && shape.lower.min(shape.upper) >= 2
        && shape.digits >= 1
        && shape.other >= 3
        && shape.distinct >= 10
        && shape.turns * 100 >= shape.len * 45
        && shape.word <= 5
        && !pattern.iter().any(|part| text.windows(part.len()).any(|w| w == *part))
        && !is_stand_in(text)
}

pub fn is_key(text: &[u8], shape: &Shape) -> bool {
    let drawn = shape.is_drawn() || is_uuid(text) || shape.hex && shape.len >= 20 && shape.distinct >= 8;
    let plain = shape.digits >= 4 && shape.turns >= 5 && shape.word <= 6 && shape.other <= 1;
    let cases = shape.upper >= 4 && shape.lower >= 4 && shape.digits >= 1 && shape.turns >= 8 && shape.word <= 4;
    (16..=256).contains(&shape.len)
        && (drawn || plain || cases || is_plain(shape, 20) || is_grouped(text) || is_base32(text, shape))
        && is_token_text(text)
        && !is_address(text)
        && !is_locator(text)
        && !is_stand_in(text)
        && !is_dated(text, shape)
}

/// Base32 key material that people type (RFC 4648): `JBSWY3DPEHPK3PXP`.
fn is_base32(text: &[u8], shape: &Shape) -> bool {
    shape.len >= 16
        && shape.len.is_multiple_of(8)
        && shape.digits >= 1
        && shape.distinct >= 8
        && text.iter().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(b))
}

/// Groups of equal length, as in licence keys: `ZAQ4S-XC9ER-…`; or the form of a UUID with other letters.
fn is_grouped(text: &[u8]) -> bool {
    let groups = || text.split(|b| *b == b'-');
    let size = groups().next().map_or(0, <[u8]>::len);
    let licence = (4..=6).contains(&size)
        && groups().count() >= 4
        && groups().all(|group| group.len() == size && group.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
    let digits = text.iter().filter(|b| b.is_ascii_digit()).count();
    let sizes = [8, 4, 4, 4, 12];
    let like_uuid = groups().count() == 5 && groups().zip(sizes).all(|(group, size)| group.len() == size) && digits >= 6;
    licence || like_uuid
}

/// A mail address, which is found as such.
fn is_address(text: &[u8]) -> bool {
    let Some(sign) = memchr::memchr(b'@', text) else { return false };
    let domain = text.get(sign + 1..).unwrap_or_default();
    domain.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')) && memchr::memchr(b'.', domain).is_some()
}

/// Letters and digits without separators, as in sample keys.
pub fn is_plain(shape: &Shape, least: usize) -> bool {
    shape.other == 0 && shape.len >= least && shape.digits >= 3 && shape.distinct >= 8
}

/// Words with a date or a version: `rotation-2024-05-11`.
fn is_dated(text: &[u8], shape: &Shape) -> bool {
    shape.other >= 1
        && shape.word >= 5
        && shape.upper == 0
        && !shape.hex
        && shape.digits * 3 < shape.len
        && text
            .split(|b| !b.is_ascii_alphanumeric())
            .all(|part| part.iter().all(u8::is_ascii_digit) || part.iter().all(u8::is_ascii_alphabetic))
}
