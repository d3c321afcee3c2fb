//! Values that the text itself names as secret: `password=…`, `"api_key": "…"`, `Authorization: Bearer …`,
//! `scheme://user:password@host`.

use std::ops::Range;

use super::Entity;
use super::gate::{Shape, is_stand_in};
use super::naming::{Joint, NAME_BYTES, Sort, declared, joined, sort_of};
use super::provider::is_denied;
use super::view::{View, ends_with};
use super::worth::{LONG_BYTES, Setting, VALUE_BYTES, is_chosen, is_key, is_password, is_plain, is_secret, is_strewn, only_words};

/// The result of examining a sign (`=` or `:`).
#[derive(Debug)]
pub enum Sign {
    /// It is followed by a secret value.
    Value(Range<usize>, Entity),
    /// It is followed by a value that is not secret; nothing before this index can be one.
    Skip(usize),
    /// It assigns nothing.
    Nothing,
}

/// Examines the value after the `=` or `:` at `sign`.
pub fn behind(view: &View<'_>, sign: usize) -> Sign {
    if view.before(sign, 1).is_ascii_alphabetic() && view.at(sign) == b':' && view.at(sign + 1) == b'/' && view.at(sign + 2) == b'/' {
        return userinfo(view, sign + 3);
    }
    // `Token::Begin` is a path in source code.
    if view.at(sign) == b':' && (view.at(sign + 1) == b':' || view.before(sign, 1) == b':') {
        return Sign::Nothing;
    }
    let mut name = sign;
    while sign - name < 6 && matches!(view.before(name, 1), b' ' | b'"' | b'\'' | b'\\' | b']' | b':' | b'*' | b'`' | b')') {
        name -= 1;
    }
    let Some(sort) = sort_of(view.left(name, NAME_BYTES)).or_else(|| declared(view, sign)) else { return user_option(view, sign) };
    // `arn:aws:secretsmanager:…:secret:name`
    if view.at(sign) == b':' && stands_in(view.left(sign, 80), b"arn:") {
        return Sign::Nothing;
    }
    if sort == Sort::Session && (view.at(sign) != b'=' || view.at(sign + 1) == b'=') {
        return Sign::Nothing;
    }
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
    let coined = ends_with(view.left(name, NAME_BYTES), b"secret");
    match value(view, at, sort, Setting { quoted: false, signed: true, told: false, coined }) {
        Some((span, Entity::Token)) if is_denied(view, span.start, span.end) => Sign::Nothing,
        Some((span, entity)) => match aws(view.left(name, NAME_BYTES)) {
            Aws::No => Sign::Value(span, entity),
            _ if span.len() == AWS_BYTES => Sign::Value(span, Entity::AwsKey),
            // Fewer characters, or only hexadecimal digits: not a key of Amazon.
            Aws::Sure if span.len() < AWS_BYTES || Shape::of(view.slice(span.start, span.end)).hex => Sign::Nothing,
            _ => Sign::Value(span, entity),
        },
        None => user_option(view, sign),
    }
}

/// Characters of base64 in a secret access key.
const AWS_BYTES: usize = 40;

/// Whether a name is that of an Amazon secret access key.
enum Aws {
    No,
    /// Services compatible with Amazon's protocol use the same name.
    Likely,
    Sure,
}

fn aws(name: &[u8]) -> Aws {
    let ours = |word: &[u8]| name.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word));
    let secret = ours(b"secret_access_key") || ours(b"secretaccesskey");
    let ends = [b"secret_key".as_slice(), b"secretkey", b"secret_access_key", b"secretaccesskey"].iter().any(|word| ends_with(name, word));
    if !secret && !ours(b"aws_secret") && !ours(b"awssecret") {
        Aws::No
    } else if ends && ours(b"aws") {
        Aws::Sure
    } else {
        Aws::Likely
    }
}

/// The index after an opening quote at `at`.
fn quote(view: &View<'_>, at: usize) -> usize {
    let at = at + usize::from(view.at(at) == b'\\');
    if view.at(at) == b'&' && view.slice(at, at + 6) == b"&quot;" {
        return at + 6;
    }
    at + usize::from(matches!(view.at(at), b'"' | b'\'' | b'`' | b'<'))
}

/// The value at `at`, if it can be what its name says.
fn value(view: &View<'_>, at: usize, sort: Sort, setting: Setting) -> Option<(Range<usize>, Entity)> {
    let closing = view.before(at, 1);
    let quoted = matches!(closing, b'"' | b'\'');
    let wide = quoted && sort == Sort::Password;
    let stops = |b: u8| b <= b' ' || b == 0x7f || matches!(b, b'"' | b'\'' | b'`' | b'<' | b'>') || quoted && b == closing;
    let parts = |b: u8| matches!(b, b',' | b';' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'|' | b'\\' | b'&');
    let takes = |b: u8| !stops(b) && (b < 0x80 || wide) && (quoted && b != b'\\' || !parts(b));
    // In a string of JSON an escaped quote is part of the value; where the quotes are escaped themselves it ends the value.
    let escapes = closing == b'"' && wide && view.before(at, 2) != b'\\';
    let reach = |from: usize, most: usize| {
        let mut end = from;
        while end - at <= most {
            if escapes && view.at(end) == b'\\' && matches!(view.at(end + 1), b'"' | b'\\') {
                end += 2;
                continue;
            }
            if !takes(view.at(end)) {
                break;
            }
            // Another name and its sign: this was no value.
            if !quoted && view.at(end) == b'=' && view.at(end + 1).is_ascii_alphanumeric() {
                break;
            }
            end += 1;
        }
        end
    };
    let mut end = reach(at, VALUE_BYTES);
    if end - at > VALUE_BYTES && sort == Sort::Secret && is_endless(&Shape::of(view.slice(at, end))) {
        end = reach(end, LONG_BYTES);
    }
    if quoted && matches!(sort, Sort::Password | Sort::Secret) && view.at(end) != closing {
        let whole = view.run(end, VALUE_BYTES, |b| b > b' ' && b < 0x7f && b != closing);
        if view.at(whole) == closing && is_strewn(view.slice(at, whole)) {
            return Some((at..whole, if sort == Sort::Password { Entity::Password } else { Entity::Token }));
        }
    }
    if end - at > LONG_BYTES || sort != Sort::Secret && end - at > VALUE_BYTES || matches!(view.at(end), b'(' | b'[' | b'{') {
        return None;
    }
    // `key: Kind = …`: this was a type.
    if !quoted && view.at(end) == b' ' && view.at(end + 1) == b'=' {
        return None;
    }
    while end > at && matches!(view.before(end, 1), b'.' | b':' | b'?' | b'*') && !quoted {
        end -= 1;
    }
    let text = view.slice(at, end);
    let shape = Shape::of(text);
    let entity = match sort {
        Sort::Password if is_password(text, &shape, Setting { quoted, ..setting }) => Entity::Password,
        Sort::Secret
            if is_secret(text, &shape, setting.signed) || quoted && (is_strewn(text) || is_chosen(text, &shape, setting.coined)) =>
        {
            Entity::Token
        }
        Sort::Key | Sort::Session if is_key(text, &shape) => Entity::Token,
        _ => return None,
    };
    Some((at..end, entity))
}

/// A string with this mix of characters is a random secret, whatever its length.
fn is_endless(shape: &Shape) -> bool {
    shape.lower.min(shape.upper) >= 20 && shape.digits >= 20 && shape.word <= 16 && shape.turns * 100 >= shape.len * 32
}

/// The value at `start` if the words before it name it without a sign between: `password Xy12…`, `my password is …`,
/// `IDENTIFIED BY '…'`, `--token …`, `setopt(PASSWORD, "…")`.
pub fn named(view: &View<'_>, start: usize) -> Option<(Range<usize>, Entity)> {
    let (at, joint) = joined(view, start)?;
    let left = view.left(at, NAME_BYTES);
    let sort = sort_of(left).filter(|sort| *sort != Sort::Session)?;
    if sort == Sort::Key && left.last().is_some_and(u8::is_ascii_lowercase) && !ends_with(left, b"key") {
        return None;
    }
    let quoted = matches!(view.before(start, 1), b'"' | b'\'');
    if joint == Joint::Comma && !quoted {
        return None;
    }
    // `machine … login … password …` in a .netrc file.
    let entry = || {
        joint == Joint::Space
            && sort == Sort::Password
            && [b"login ".as_slice(), b"machine "].iter().any(|word| stands_in(view.left(at, 64), word))
    };
    let told = joint == Joint::Verb;
    let signed = told || joint == Joint::Comma && sort == Sort::Password || entry();
    let (span, entity) = value(view, start, sort, Setting { quoted, signed, told, coined: false })?;
    let shape = Shape::of(view.slice(span.start, span.end));
    (sort == Sort::Password
        || shape.is_drawn()
        || shape.digits * 100 >= shape.len * 18 && shape.turns >= 3 && shape.word <= 8 && shape.len >= 14
        || is_plain(&shape, 20))
    .then_some((span, entity))
}

fn stands_in(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// Placeholder passwords in addresses.
const OPEN_PASSWORDS: [&[u8]; 7] = [b"pass", b"pwd", b"secret", b"token", b"user", b"admin", b"guest"];

/// Hosts of examples, and names that do not resolve on the public Internet.
const PRIVATE_HOSTS: [&[u8]; 6] = [b"example", b".local", b".internal", b".svc", b".test", b".invalid"];

/// The password of `scheme://user:password@host`, given the index after the slashes.
fn userinfo(view: &View<'_>, start: usize) -> Sign {
    let end = view.run(start, 256, |b| b > b' ' && b < 0x80 && !matches!(b, b'/' | b'"' | b'\'' | b'<' | b'>' | b'`' | b'?' | b'#'));
    let authority = view.slice(start, end);
    let Some(sign) = memchr::memrchr(b'@', authority) else { return Sign::Nothing };
    let Some(colon) = memchr::memchr(b':', authority.get(..sign).unwrap_or_default()) else { return Sign::Nothing };
    let value = authority.get(colon + 1..sign).unwrap_or_default();
    let stand_in =
        matches!(value.first(), None | Some(b'$' | b'{' | b'<' | b'%' | b'*' | b'[')) || value.ends_with(b"]") || is_stand_in(value);
    let word = [b"password".as_slice(), b"pass", b"pwd", b"secret", b"token", b"passwd"].iter().any(|w| value.eq_ignore_ascii_case(w));
    let lower = value.iter().all(|b| b.is_ascii_lowercase() || matches!(b, b'-' | b'_'));
    // A lower-case word counts if the host is a real name and the word is not the user's name again.
    let host = authority.get(sign + 1..).unwrap_or_default();
    let named = host.contains(&b'.')
        && host.first().is_some_and(u8::is_ascii_alphabetic)
        && !PRIVATE_HOSTS.iter().any(|word| stands_in(host, word))
        && authority.get(..colon) != Some(value)
        && value.len() >= 6
        && !OPEN_PASSWORDS.iter().any(|word| stands_in(value, word));
    if stand_in || word || value.len() < 3 || lower && !named {
        return Sign::Skip(start + sign + 1);
    }
    Sign::Value(start + colon + 1..start + sign, Entity::Password)
}

/// The password of the command-line option `-u user:password`, given its colon.
fn user_option(view: &View<'_>, sign: usize) -> Sign {
    if view.at(sign) != b':' {
        return Sign::Nothing;
    }
    let left = view.left(sign, 40);
    let user = left.iter().rev().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@')).count();
    let before = left.get(..left.len() - user).unwrap_or_default();
    let before = before.trim_ascii_end();
    let before = before.strip_suffix(b"'").or(before.strip_suffix(b"\"")).unwrap_or(before).trim_ascii_end();
    let curl = before.strip_suffix(b",").is_some_and(|option| option.ends_with(b"USERPWD"));
    if !(curl || before.ends_with(b"-u") || before.ends_with(b"--user") || before.ends_with(b"--proxy-user")) {
        return Sign::Nothing;
    }
    let at = sign + 1 + usize::from(matches!(view.at(sign + 1), b'"' | b'\''));
    let end = view.run(at, 128, |b| b > b' ' && b < 0x80 && !matches!(b, b'"' | b'\''));
    let text = view.slice(at, end);
    let shape = Shape::of(text);
    let mixed = shape.lower.min(shape.upper) >= 3 && shape.turns >= 5;
    let chosen =
        shape.len >= 6 && (mixed || !only_words(text)) && !matches!(text.first(), Some(b'$' | b'{' | b'<' | b'%')) && !is_stand_in(text);
    if chosen && [shape.lower, shape.upper, shape.digits, shape.other].iter().filter(|n| **n > 0).count() >= 2 {
        Sign::Value(at..end, Entity::Password)
    } else {
        Sign::Nothing
    }
}
