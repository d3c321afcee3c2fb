//! Values that the text itself calls secret: `password=…`, `"api_key": "…"`, `Authorization: Bearer …`,
//! `scheme://user:password@host`.

use std::ops::Range;

use super::Entity;
use super::gate::{Shape, is_stand_in, is_uuid};
use super::view::View;

/// The longest value with a name.
const VALUE_BYTES: usize = 320;
/// How far back a name is read.
const NAME_BYTES: usize = 32;

/// How much a name says about its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A password: short, chosen by a person.
    Password,
    /// A token, secret or API key.
    Secret,
    /// A key of some sort, which may as well be one of a map.
    Key,
}

const PASSWORDS: &[&str] = &[
    "password",
    "passwd",
    "passwort",
    "passphrase",
    "passcode",
    "pwd",
    "psw",
    "pswd",
    "userpass",
    "dbpass",
    "rootpass",
    "sqlpass",
    "비번",
    "비밀번호",
    "패스워드",
    "암호",
    "contraseña",
    "contrasena",
    "senha",
    "motdepasse",
    "密码",
    "密碼",
    "パスワード",
    "пароль",
    "identifiedby",
    "userpwd",
    "kennwort",
    "passw",
    "passwordany",
    "passwords",
    "psword",
    "pasword",
];
/// Short words count only as words of their own.
const SHORT_PASSWORDS: &[&str] = &["pass", "pw"];
const SECRETS: &[&str] = &[
    "token",
    "tokens",
    "secret",
    "secrets",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "licensekey",
    "authkey",
    "credential",
    "credentials",
    "authorization",
    "encryptionkey",
    "signingkey",
    "accountkey",
    "sharedkey",
    "masterkey",
    "bearer",
    "apitoken",
    "secretaccesskey",
    "clientkey",
    "apisecret",
    "appsecret",
    "integrationkey",
    "sharedaccesskey",
    "servicekey",
    "consumerkey",
    "securitykey",
    "keysecret",
    "signaturekey",
];
const KEYS: &[&str] = &["key", "auth", "authentication", "api", "login", "access", "private", "appid", "license"];
/// Names of keys that lock nothing.
const OPEN_KEYS: &[&str] = &[
    "publickey",
    "primarykey",
    "foreignkey",
    "cachekey",
    "idempotencykey",
    "partitionkey",
    "sortkey",
    "objectkey",
    "bucketkey",
    "routekey",
    "hotkey",
    "monkey",
    "keyboardkey",
    "pubkey",
    "rowkey",
    "lookupkey",
    "hostkey",
    "nexttoken",
    "pagetoken",
    "maxtokens",
    "csrftoken",
    "authenticitytoken",
];

/// For each last byte of these words the letters before it, as bits: most names are dismissed by one look.
const ENDINGS: [u32; 256] = {
    let mut endings = [0u32; 256];
    let lists: [&[&str]; 4] = [PASSWORDS, SHORT_PASSWORDS, SECRETS, KEYS];
    let mut list = 0;
    while list < lists.len() {
        let mut i = 0;
        while i < lists[list].len() {
            let word = lists[list][i].as_bytes();
            endings[word[word.len() - 1] as usize] |= letter(word[word.len() - 2]);
            i += 1;
        }
        list += 1;
    }
    endings
};

/// One bit for each letter, one for everything else.
const fn letter(byte: u8) -> u32 {
    let byte = byte.to_ascii_lowercase();
    if byte.is_ascii_lowercase() { 1 << (byte - b'a') } else { 1 << 31 }
}

/// What the name that ends with `text` says.
pub fn sort_of(text: &[u8]) -> Option<Sort> {
    let [.., before, last] = text else { return None };
    let ending = last.to_ascii_lowercase();
    if ENDINGS.get(usize::from(ending)).is_none_or(|letters| letters & letter(*before) == 0) {
        return None;
    }
    let mut name = [0u8; NAME_BYTES];
    let mut from = name.len();
    let mut spaces = 0;
    for &byte in text.iter().rev() {
        let kept = byte.is_ascii_alphanumeric() || byte >= 0x80;
        let joins = matches!(byte, b'_' | b'-' | b'.' | b'/') || byte == b' ' && spaces == 0;
        if !(kept || joins) || from == 0 {
            break;
        }
        spaces += usize::from(byte == b' ');
        if kept {
            from -= 1;
            if let Some(slot) = name.get_mut(from) {
                *slot = byte.to_ascii_lowercase();
            }
        }
    }
    let name = name.get(from..).unwrap_or_default();
    let is = |words: &[&str]| words.iter().map(|word| word.as_bytes()).any(|word| word.last() == Some(&ending) && name.ends_with(word));
    if is(OPEN_KEYS) || [b"checksum".as_slice(), b"digest", b"sha256"].iter().any(|word| name.windows(word.len()).any(|w| w == *word)) {
        return None;
    }
    if is(PASSWORDS) || SHORT_PASSWORDS.iter().any(|word| own_word(text, word)) {
        return Some(Sort::Password);
    }
    if is(SECRETS) {
        return Some(Sort::Secret);
    }
    KEYS.iter().any(|word| own_word(text, word)).then_some(Sort::Key)
}

/// Whether `text` ends with `word` as a word of its own: `db_pass`, `userPass`, `MYSQLPASS`, not `compass`.
fn own_word(text: &[u8], word: &str) -> bool {
    if !super::view::ends_with(text, word.as_bytes()) {
        return false;
    }
    let at = text.len() - word.len();
    let first_upper = text.get(at).is_some_and(u8::is_ascii_uppercase);
    at.checked_sub(1).and_then(|i| text.get(i)).is_none_or(|before| !before.is_ascii_alphabetic() || first_upper)
}

/// What a sign was the sign of.
#[derive(Debug)]
pub enum Sign {
    /// A secret value.
    Value(Range<usize>, Entity),
    /// A place that holds none: what is before this index is nothing else either.
    Skip(usize),
    /// Nothing.
    Nothing,
}

/// The value behind the `=` or `:` at `sign`.
pub fn behind(view: &View<'_>, sign: usize) -> Sign {
    if view.before(sign, 1).is_ascii_alphabetic() && view.at(sign) == b':' && view.at(sign + 1) == b'/' && view.at(sign + 2) == b'/' {
        return userinfo(view, sign + 3);
    }
    let mut name = sign;
    while sign - name < 6 && matches!(view.before(name, 1), b' ' | b'"' | b'\'' | b'\\' | b']' | b':' | b'*' | b'`' | b')') {
        name -= 1;
    }
    let Some(sort) = sort_of(view.left(name, NAME_BYTES)) else { return user_option(view, sign) };
    let mut at = sign + 1;
    at += usize::from(matches!(view.at(at), b'=' | b'>'));
    at = view.run(at, 4, |b| matches!(b, b' ' | b'*' | b'\t'));
    at = quote(view, at);
    if sort != Sort::Password {
        for scheme in [b"bearer ".as_slice(), b"basic ", b"token ", b"apikey "] {
            if view.at(at).eq_ignore_ascii_case(scheme.first().unwrap_or(&0))
                && view.slice(at, at + scheme.len()).eq_ignore_ascii_case(scheme)
            {
                at += scheme.len();
            }
        }
    }
    match value(view, at, sort, true) {
        Some((span, _)) if is_aws(view.left(name, NAME_BYTES), &span) => Sign::Value(span, Entity::AwsKey),
        Some((span, entity)) => Sign::Value(span, entity),
        None => user_option(view, sign),
    }
}

/// A secret access key: 40 characters under the name that Amazon gives them.
fn is_aws(name: &[u8], span: &Range<usize>) -> bool {
    let ours = |word: &[u8]| name.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
    span.len() == 40 && (ours(b"aws_secret") || ours(b"awssecret") || ours(b"secret_access_key") || ours(b"secretaccesskey"))
}

/// The index behind an opening quote at `at`.
fn quote(view: &View<'_>, at: usize) -> usize {
    let at = at + usize::from(view.at(at) == b'\\');
    if view.at(at) == b'&' && view.slice(at, at + 6) == b"&quot;" {
        return at + 6;
    }
    at + usize::from(matches!(view.at(at), b'"' | b'\'' | b'`' | b'<'))
}

/// The value at `at`, if it can be what its name says. `signed`: an `=` or `:` stands between them.
fn value(view: &View<'_>, at: usize, sort: Sort, signed: bool) -> Option<(Range<usize>, Entity)> {
    let quoted = matches!(view.before(at, 1), b'"' | b'\'');
    let closing = view.before(at, 1);
    let stops = |b: u8| b <= b' ' || b == 0x7f || matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>') || quoted && b == closing;
    let parts = |b: u8| matches!(b, b',' | b';' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'|' | b'\\' | b'&');
    let takes = |b: u8| !stops(b) && b < 0x80 && (quoted && b != b'\\' || !parts(b));
    let mut end = at;
    while end - at <= VALUE_BYTES && takes(view.at(end)) {
        // Another name and its sign: this was no value.
        if !quoted && view.at(end) == b'=' && view.at(end + 1).is_ascii_alphanumeric() {
            break;
        }
        end += 1;
    }
    if quoted && sort != Sort::Key && view.at(end) != closing {
        let whole = view.run(end, VALUE_BYTES, |b| b > b' ' && b < 0x7f && b != closing);
        if view.at(whole) == closing && is_strewn(view.slice(at, whole)) {
            return Some((at..whole, if sort == Sort::Password { Entity::Password } else { Entity::Token }));
        }
    }
    if end - at > VALUE_BYTES || matches!(view.at(end), b'(' | b'[' | b'{') {
        return None;
    }
    while end > at && matches!(view.before(end, 1), b'.' | b':' | b'?' | b'*') && !quoted {
        end -= 1;
    }
    let text = view.slice(at, end);
    let shape = Shape::of(text);
    let entity = match sort {
        Sort::Password if is_password(text, &shape, quoted, signed) => Entity::Password,
        Sort::Secret if is_secret(text, &shape, signed) || quoted && (is_strewn(text) || is_chosen(text, &shape)) => Entity::Token,
        Sort::Key if is_key(text, &shape) => Entity::Token,
        _ => return None,
    };
    Some((at..end, entity))
}

fn is_password(text: &[u8], shape: &Shape, quoted: bool, signed: bool) -> bool {
    let letters = shape.lower + shape.upper;
    let opens = text.first().copied().unwrap_or(0);
    let code =
        !quoted && text.iter().any(|b| matches!(b, b'.')) && shape.digits < 3 && shape.other == 1 || text.windows(3).any(|w| w == b"://");
    let sorts = [shape.lower, shape.upper, shape.digits, shape.other].iter().filter(|n| **n > 0).count();
    let chosen = shape.digits > 0 && (letters > 0 || shape.len >= 6 && signed)
        || sorts >= 3 && !only_words(text)
        || shape.other > 0 && sorts >= 2 && quoted && shape.len >= 8 && !only_words(text);
    (if signed { 5 } else { 7 }..=160).contains(&shape.len)
        && chosen
        && (signed || sorts >= 3 && !only_words(text))
        && shape.distinct >= 4
        && !matches!(opens, b'$' | b'%' | b'{' | b'<' | b'*' | b'/' | b'-')
        && !code
        && !is_stand_in(text)
}

/// Words joined by signs, as names and paths are.
fn only_words(text: &[u8]) -> bool {
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

fn is_secret(text: &[u8], shape: &Shape, signed: bool) -> bool {
    (if signed { 10 } else { 14 }..=VALUE_BYTES).contains(&shape.len)
        && (is_plain(shape, if signed { 16 } else { 20 })
            || shape.is_mixed() && (shape.word <= 12 || shape.digits >= 6)
            || shape.is_drawn()
            || shape.upper >= 3 && shape.lower >= 3 && shape.turns >= 6 && shape.entropy > 3.2 && shape.word <= 6)
        && is_token_text(text)
        && !is_locator(text)
        && !is_stand_in(text)
        && !is_dated(text, shape)
}

/// A secret that a person chose, as passwords are: letters, digits, and a sign that names and paths do not have.
fn is_chosen(text: &[u8], shape: &Shape) -> bool {
    (10..=64).contains(&shape.len)
        && shape.digits >= 2
        && shape.lower + shape.upper >= 4
        && shape.distinct >= 8
        && text.iter().any(|b| matches!(b, b'!' | b'#' | b'$' | b'%' | b'^' | b'*' | b'?'))
        && text.first().is_some_and(u8::is_ascii_alphanumeric)
        && !text.iter().any(|b| matches!(b, b'{' | b'[' | b'(' | b'\\' | b'/'))
        && !is_stand_in(text)
}

/// Letters of both cases, digits and signs in a mix that is neither a pattern nor source text.
fn is_strewn(text: &[u8]) -> bool {
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

fn is_key(text: &[u8], shape: &Shape) -> bool {
    let drawn = shape.is_drawn() || is_uuid(text) || shape.hex && shape.len >= 20 && shape.distinct >= 8;
    let plain = shape.digits >= 4 && shape.turns >= 5 && shape.word <= 6 && shape.other <= 1;
    (16..=256).contains(&shape.len)
        && (drawn || plain || is_plain(shape, 20))
        && is_token_text(text)
        && !is_locator(text)
        && !is_stand_in(text)
        && !is_dated(text, shape)
}

/// Letters and digits without a sign between, as sample keys are.
fn is_plain(shape: &Shape, least: usize) -> bool {
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

/// The value that begins at `start` when the word before it, with no sign between, names it: `password Xy12…`,
/// `api key: …`, `IDENTIFIED BY '…'`, `--token …`.
pub fn named(view: &View<'_>, start: usize) -> Option<(Range<usize>, Entity)> {
    let mut at = start;
    let mut gap = 0;
    while gap < 3 && matches!(view.before(at, 1), b' ' | b'"' | b'\'' | b'`') {
        at -= 1;
        gap += 1;
    }
    if gap == 0 {
        return None;
    }
    let left = view.left(at, NAME_BYTES);
    let sort = sort_of(left)?;
    if sort == Sort::Key && left.last().is_some_and(u8::is_ascii_lowercase) && !super::view::ends_with(left, b"key") {
        return None;
    }
    let (span, entity) = value(view, start, sort, false)?;
    let shape = Shape::of(view.slice(span.start, span.end));
    (sort == Sort::Password
        || shape.is_drawn()
        || shape.digits * 100 >= shape.len * 18 && shape.turns >= 3 && shape.word <= 8 && shape.len >= 14
        || is_plain(&shape, 20))
    .then_some((span, entity))
}

/// `scheme://user:password@host`, from behind the slashes.
fn userinfo(view: &View<'_>, start: usize) -> Sign {
    let end = view.run(start, 256, |b| b > b' ' && b < 0x80 && !matches!(b, b'/' | b'"' | b'\'' | b'<' | b'>' | b'`' | b'?' | b'#'));
    let authority = view.slice(start, end);
    let Some(sign) = memchr::memrchr(b'@', authority) else { return Sign::Nothing };
    let Some(colon) = memchr::memchr(b':', authority.get(..sign).unwrap_or_default()) else { return Sign::Nothing };
    let value = authority.get(colon + 1..sign).unwrap_or_default();
    let stand_in = matches!(value.first(), None | Some(b'$' | b'{' | b'<' | b'%' | b'*' | b'[')) || is_stand_in(value);
    let word = [b"password".as_slice(), b"pass", b"pwd", b"secret", b"token", b"passwd"].iter().any(|w| value.eq_ignore_ascii_case(w));
    if stand_in || word || value.len() < 3 || value.iter().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_')) {
        return Sign::Skip(start + sign + 1);
    }
    Sign::Value(start + colon + 1..start + sign, Entity::Password)
}

/// `-u user:password` of a command line, at its colon.
fn user_option(view: &View<'_>, sign: usize) -> Sign {
    if view.at(sign) != b':' {
        return Sign::Nothing;
    }
    let left = view.left(sign, 40);
    let user = left.iter().rev().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@')).count();
    let before = left.get(..left.len() - user).unwrap_or_default();
    let before = before.trim_ascii_end();
    let before = before.strip_suffix(b"'").or(before.strip_suffix(b"\"")).unwrap_or(before).trim_ascii_end();
    if !(before.ends_with(b"-u") || before.ends_with(b"--user") || before.ends_with(b"--proxy-user")) {
        return Sign::Nothing;
    }
    let at = sign + 1 + usize::from(matches!(view.at(sign + 1), b'"' | b'\''));
    let end = view.run(at, 128, |b| b > b' ' && b < 0x80 && !matches!(b, b'"' | b'\''));
    let text = view.slice(at, end);
    let shape = Shape::of(text);
    let chosen = shape.len >= 6 && !only_words(text) && !matches!(text.first(), Some(b'$' | b'{' | b'<' | b'%')) && !is_stand_in(text);
    if chosen && [shape.lower, shape.upper, shape.digits, shape.other].iter().filter(|n| **n > 0).count() >= 2 {
        Sign::Value(at..end, Entity::Password)
    } else {
        Sign::Nothing
    }
}
