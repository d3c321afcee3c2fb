//! Random-looking strings without a name or a known prefix.

use std::ops::Range;

use super::gate::{Shape, is_stand_in, is_uuid};
use super::naming::is_open;
use super::provider::is_denied;
use super::view::{View, ends_with, mentions};

/// Words after which a random-looking string is a digest, and not secret.
const DIGESTS: [&[u8]; 14] = [
    b"h1:",
    b"sha1",
    b"sha256",
    b"sha384",
    b"sha512",
    b"md5",
    b"integrity",
    b"checksum",
    b"digest",
    b"hash",
    b"commit",
    b"sha1-",
    b"etag",
    b"nonce-",
];

/// How much of the line above must be base64 for a line to continue it.
const WRAPPED_BYTES: usize = 40;

/// Names within a word that are followed by the value: `launchdarkly-secret-123e…`.
const NAMES: [&[u8]; 6] = [b"secret", b"token", b"key", b"private", b"access", b"password"];

/// Whether the word is a placeholder for a masked value, as `[[EMAIL_7f3a9c0d12be44a1]]`. If it were redacted as a secret,
/// the value could not be restored.
pub fn is_placeholder(view: &View<'_>, start: usize, end: usize) -> bool {
    let word = view.slice(start, end);
    let Some(cut) = word.iter().rposition(|b| *b == b'_') else { return false };
    let (label, digits) = (word.get(..cut).unwrap_or_default(), word.get(cut + 1..).unwrap_or_default());
    matches!(digits.len(), 16 | 32 | 64)
        && digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        && label.first().is_some_and(u8::is_ascii_uppercase)
        && label.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b'_')
        && view.left(start, 2) == b"[["
        && view.at(end) == b']'
        && view.at(end + 1) == b']'
}

/// The secret within the word from `start` to `end`.
pub fn find(view: &View<'_>, start: usize, end: usize) -> Option<Range<usize>> {
    let word = view.slice(start, end);
    // Its length or check characters show that it is no key.
    if word.starts_with(b"AGE-SECRET-KEY-") || is_denied(view, start, end) {
        return None;
    }
    if let Some(at) = inner_name(word) {
        return Some(start + at..end);
    }
    let (previous, next) = (view.before(start, 1), view.at(end));
    if dotted(view, start, end) {
        let middle = view.run(end + 1, 8, is_part);
        return Some(start..view.run(middle + 1, 80, is_part));
    }
    if next == b'~' {
        return entra(view, start, end);
    }
    if next == b'.' && word.len() == 14 && view.slice(end, end + 9) == b".atlasv1." {
        let stop = view.run(end + 9, 80, is_part);
        return (stop - end - 9 >= 60).then_some(start..stop);
    }
    if mailchimp(word) || mailgun(word) || signed_azure(word) || dropbox(word) || maxmind(word) {
        return Some(start..end);
    }
    // Lengths of digests; base64 of an object, which is found otherwise; public SSH keys.
    if !(20..=200).contains(&word.len())
        || matches!(word.len(), 64 | 76)
        || is_uuid(word)
        || word.starts_with(b"eyJ")
        || word.starts_with(b"AAAA")
    {
        return None;
    }
    // Paths, parts of larger base64, file names, addresses.
    if matches!(previous, b'/' | b'+' | b'.' | b'@' | b'#' | b'%' | b'=' | b'&' | b'?' | b'\\' | b'~')
        || matches!(next, b'/' | b'+' | b'.' | b'(' | b'%' | b'=' | b'@' | b'&' | b':' | b'[')
    {
        return None;
    }
    let before = view.left(start, 12);
    let trimmed = before
        .iter()
        .rposition(|b| !matches!(b, b' ' | b'"' | b':' | b'=' | b'-'))
        .map_or(before, |last| before.get(..=last).unwrap_or(before));
    if word.starts_with(b"sha") || DIGESTS.iter().any(|digest| ends_with(trimmed, digest) || ends_with(before, digest)) {
        return None;
    }
    // The boundary between MIME parts.
    if view.left(start, 2) == b"--" {
        return None;
    }
    // The last line of wrapped base64.
    let above = view.left(start, WRAPPED_BYTES + 2);
    if above.ends_with(b"\n")
        && above.len() > WRAPPED_BYTES
        && above.trim_ascii_end().iter().all(|b| is_part(*b) || matches!(b, b'+' | b'/'))
    {
        return None;
    }
    // Tokens against request forgery are useless after the page is gone.
    if [b"csrf".as_slice(), b"xsrf", b"authenticity", b"nonce"].iter().any(|name| mentions(view.left(start, 40), name)) {
        return None;
    }
    let shape = Shape::of(word);
    let drawn = shape.is_drawn() && shape.digits >= 3 && shape.entropy >= 3.9 && shape.other <= 3 && shape.word <= 5 && !is_spelt(word);
    (drawn && !is_stand_in(word) && !is_ledger(word) && !is_open(view, start)).then_some(start..end)
}

/// Words with numbers like names in source text: `kCFISO8601DateFormatWithDay`, `GostR3410-2012-256-PublicKey`. In a random
/// string digits are scattered, and three lower case letters in a row are rare.
fn is_spelt(word: &[u8]) -> bool {
    let (mut numbers, mut spelt, mut run, mut digit) = (0, 0, 0, false);
    for byte in word.iter().chain(b"-") {
        numbers += usize::from(byte.is_ascii_digit() && !digit);
        digit = byte.is_ascii_digit();
        if byte.is_ascii_lowercase() {
            run += 1;
        } else {
            spelt += if run >= 3 { run } else { 0 };
            run = 0;
        }
    }
    let part = |part: &[u8]| part.iter().skip_while(|b| b.is_ascii_alphabetic()).all(u8::is_ascii_digit);
    let named = word.split(|b| matches!(b, b'-' | b'_')).count() >= 3 && word.split(|b| matches!(b, b'-' | b'_')).all(part);
    named || numbers <= 2 && spelt * 100 >= word.len() * 22
}

/// An address of IPFS or a cryptocurrency, which is public: base58 with a typical beginning and length.
fn is_ledger(word: &[u8]) -> bool {
    let content = word.len() == 46 && word.starts_with(b"Qm");
    let coin = (25..=35).contains(&word.len()) && matches!(word.first(), Some(b'1' | b'3'));
    (content || coin) && word.iter().all(|b| b.is_ascii_alphanumeric() && !matches!(b, b'0' | b'O' | b'I' | b'l'))
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Where the value after a name within the word begins.
fn inner_name(word: &[u8]) -> Option<usize> {
    let head = word.get(..word.len().min(48))?;
    let mut best = None;
    for name in NAMES {
        for (at, window) in head.windows(name.len()).enumerate() {
            let end = at + name.len();
            if window.eq_ignore_ascii_case(name) && matches!(word.get(end), Some(b'-' | b'_')) {
                best = best.max(Some(end + 1));
            }
        }
    }
    let at = best?;
    let value = word.get(at..)?;
    let shape = Shape::of(value);
    let drawn = is_uuid(value)
        || shape.is_drawn()
        || shape.hex && shape.digits >= 4 && shape.distinct >= 8
        || shape.digits >= 6 && shape.turns >= 8 && shape.word <= 5 && shape.other <= 2
        || shape.other == 0 && shape.digits >= 6 && shape.distinct >= 8;
    (value.len() >= 16 && drawn && !is_stand_in(value)).then_some(at)
}

/// A bot token: an account id in base64, six characters of time, a signature, separated by dots.
fn dotted(view: &View<'_>, start: usize, end: usize) -> bool {
    if !(23..=28).contains(&(end - start)) || !matches!(view.at(start), b'M' | b'N' | b'O') || view.at(end) != b'.' {
        return false;
    }
    let middle = view.run(end + 1, 8, is_part);
    let last = view.run(middle + 1, 80, is_part);
    matches!(middle - end - 1, 6 | 7) && view.at(middle) == b'.' && (27..=64).contains(&(last - middle - 1))
}

/// A Mailchimp key: 32 hexadecimal digits and a data centre.
fn mailchimp(word: &[u8]) -> bool {
    word.len() >= 36
        && word.len() <= 37
        && word.get(32..35) == Some(b"-us")
        && word.iter().take(32).all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
        && word.iter().skip(35).all(u8::is_ascii_digit)
}

/// A Mailgun key: 32 hexadecimal digits, then eight and eight.
fn mailgun(word: &[u8]) -> bool {
    let groups = || word.split(|b| *b == b'-');
    word.len() == 50
        && groups().count() == 3
        && groups().zip([32, 8, 8]).all(|(group, size)| group.len() == size && group.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

/// An Azure key with a signature: 52 random characters, the signature, and its origin; 84 characters in all.
fn signed_azure(word: &[u8]) -> bool {
    word.len() == 84 && word.get(52..56) == Some(b"JQQJ") && word.iter().all(u8::is_ascii_alphanumeric)
}

/// A Dropbox token: 64 characters, with ten `A` after the eleventh.
fn dropbox(word: &[u8]) -> bool {
    word.len() == 64 && word.get(11..21) == Some(b"AAAAAAAAAA") && Shape::of(word.get(21..).unwrap_or_default()).is_drawn()
}

/// A MaxMind key: six characters, 29, and the suffix `_mmk`.
fn maxmind(word: &[u8]) -> bool {
    word.len() == 40 && word.get(6) == Some(&b'_') && word.ends_with(b"_mmk") && word.iter().filter(|b| b.is_ascii_digit()).count() >= 3
}

/// A client secret of Entra: three characters, a digit, `Q~`, 31 to 34 more. The first three may be signs that are not part
/// of the word.
fn entra(view: &View<'_>, start: usize, end: usize) -> Option<Range<usize>> {
    let word = view.slice(start, end);
    let [.., digit, b'Q'] = word else { return None };
    let whole = word.len() == 5 || word.len() < 5 && matches!(view.before(start, 1), b'~' | b'.');
    if !whole || !digit.is_ascii_digit() {
        return None;
    }
    let stop = view.run(end + 1, 40, |b| is_part(b) || matches!(b, b'~' | b'.'));
    ((30..=35).contains(&(stop - end - 1)) && !is_stand_in(view.slice(start, stop))).then_some(start..stop)
}

/// A Telegram-style bot token, given its colon: an account number, then `AA` and 33 characters.
pub fn numbered(view: &View<'_>, colon: usize, floor: usize) -> Option<Range<usize>> {
    let digits = view.left(colon, 11).iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let start = colon - digits;
    if !(8..=10).contains(&digits) || start < floor || view.at(colon + 1) != b'A' || view.at(colon + 2) != b'A' {
        return None;
    }
    let end = view.run(colon + 1, 40, is_part);
    (end - colon - 1 == 35).then_some(start..end)
}

/// A webhook URL with a secret part, given the index after `https://`. The span begins at the host.
pub fn webhook(view: &View<'_>, host: usize) -> Option<Range<usize>> {
    const TEAMS: &[u8] = b".webhook.office.com/webhookb2/";
    const HOSTS: [&[u8]; 6] = [
        b"outlook.office.com/webhook/",
        b"hooks.slack.com/services/",
        b"discord.com/api/webhooks/",
        b"discordapp.com/api/webhooks/",
        b"hooks.slack.com/workflows/",
        b"hooks.slack.com/triggers/",
    ];
    let known = HOSTS.iter().find(|known| view.at(host) == known[0] && view.slice(host, host + known.len()) == **known);
    let start = match known {
        Some(known) => host + known.len(),
        None => {
            let tenant = view.run(host, 40, is_part);
            let ours = view.at(tenant) == b'.' && view.at(tenant + 1) == b'w' && view.slice(tenant, tenant + TEAMS.len()) == TEAMS;
            ours.then_some(tenant + TEAMS.len())?
        }
    };
    let end = view.run(start, 200, |b| is_part(b) || matches!(b, b'/' | b'@'));
    (end - start >= 24 && !is_stand_in(view.slice(start, end))).then_some(host..end)
}
