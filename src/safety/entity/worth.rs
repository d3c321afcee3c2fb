//! Whether a value can be what its name says: a password, a secret, a key.

use super::gate::{Shape, is_stand_in, is_uuid};

/// The longest value with a name that has any characters.
pub const VALUE_BYTES: usize = 320;
/// The longest one that only a machine can have drawn.
pub const LONG_BYTES: usize = 2048;

/// Words that carry a number and speak of how secrets are made: `SHA-256`, `base64-encoded`, `RS256`.
const TECHNICAL: [&[u8]; 19] = [
    b"sha", b"md", b"base", b"oauth", b"argon", b"bcrypt", b"pbkdf", b"utf", b"aes", b"rsa", b"pkcs", b"x", b"ntlmv", b"ed", b"hs", b"rs",
    b"es", b"ipv", b"http",
];

/// How the text puts a value behind its name.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// In quotes.
    pub quoted: bool,
    /// Behind a `=` or `:`, or in a place that can hold nothing else.
    pub signed: bool,
    /// Behind the word secret itself.
    pub coined: bool,
    /// In a sentence, where the next word may as well describe the password.
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
    // Words of other scripts name the field in the language of its form.
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

/// Words joined by signs, as names and paths are.
pub fn only_words(text: &[u8]) -> bool {
    text.iter().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-' | b'.' | b'/' | b' ' | b':' | b'#'))
}

fn is_token_text(text: &[u8]) -> bool {
    text.iter().all(|b| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'_' | b'-' | b'.' | b'/' | b'+' | b'=' | b'~' | b':' | b'%' | b'!' | b'@' | b'#' | b'$' | b'^' | b'*' | b'|')
    })
}

/// A locator or a path, which names a thing and is none.
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

/// What was encrypted for a cluster so that it may lie open: two bytes of length, 256 or 512, the sealed key, the rest.
fn is_sealed(text: &[u8]) -> bool {
    text.len() > VALUE_BYTES && matches!(text, [b'A', b'g' | b'Q', b'A'..=b'D', ..])
}

/// A secret that a person chose, as passwords are: letters, digits, and a sign that names and paths do not have. `coined`:
/// its name is the word secret, so that digits need not be there.
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

/// Letters of both cases, digits and signs in a mix that is neither a pattern nor source text.
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

/// Key material that people type from paper (RFC 4648 base32): `JBSWY3DPEHPK3PXP`.
fn is_base32(text: &[u8], shape: &Shape) -> bool {
    shape.len >= 16
        && shape.len.is_multiple_of(8)
        && shape.digits >= 1
        && shape.distinct >= 8
        && text.iter().all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(b))
}

/// Groups of one length, as licence keys have them: `ZAQ4S-XC9ER-…`, and what has the form of a UUID with other letters.
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

/// A mail address, which is found as one.
fn is_address(text: &[u8]) -> bool {
    let Some(sign) = memchr::memchr(b'@', text) else { return false };
    let domain = text.get(sign + 1..).unwrap_or_default();
    domain.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')) && memchr::memchr(b'.', domain).is_some()
}

/// Letters and digits without a sign between, as sample keys are.
pub fn is_plain(shape: &Shape, least: usize) -> bool {
    shape.other == 0 && shape.len >= least && shape.digits >= 3 && shape.distinct >= 8
}

/// Words and a date or a version: `rotation-2024-05-11`.
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
