//! Finds personal data in text: one pass over the bytes that stops only at `@`, `:`, `+`, `(` and digits, followed by the
//! operator's patterns. A text without personal data costs no allocation.

use std::ops::Range;

use super::number;
use crate::plugin::prelude::*;

/// The built-in kinds, in the order of their bits.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("email", "EMAIL"),
    ("phone", "PHONE"),
    ("credit_card", "CREDIT_CARD"),
    ("iban", "IBAN"),
    ("us_ssn", "US_SSN"),
    ("ip_address", "IP_ADDRESS"),
];
const EMAIL: usize = 0;
const PHONE: usize = 1;
const CREDIT_CARD: usize = 2;
const IBAN: usize = 3;
const US_SSN: usize = 4;
const IP_ADDRESS: usize = 5;

/// Most bytes before the `@` of an address (RFC 5321 §4.5.3.1.1).
const LOCAL_BYTES: usize = 64;
/// Most bytes of a domain (RFC 5321 §4.5.3.1.2).
const DOMAIN_BYTES: usize = 253;
/// How far back a word that may still become personal data can begin, in bytes.
const WORD_BYTES: usize = LOCAL_BYTES + 1 + DOMAIN_BYTES;
/// How far back a number with separators that may still become personal data can begin, in bytes.
const NUMBER_BYTES: usize = 64;

/// A find: a byte range of the text, and the index of its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Find {
    /// Its range in bytes of the text, on character boundaries.
    pub span: Range<usize>,
    /// Index for [`Detector::label`] and [`Detector::name`].
    pub kind: usize,
}

/// A custom kind of the operator.
#[derive(Debug)]
pub struct Own {
    /// Its name, as configured: `[a-z][a-z0-9_]*`.
    pub name: String,
    /// The pattern.
    pub regex: regex::Regex,
    /// Most bytes of a match, which is also how much of a stream is held back.
    pub max_length: usize,
}

/// What to look for, compiled once per configuration.
#[derive(Debug)]
pub struct Detector {
    enabled: [bool; BUILT_IN.len()],
    own: Vec<Own>,
    labels: Vec<String>,
    /// Whether any custom pattern matches: one scan for all of them.
    any_own: Option<regex::Regex>,
}

/// Classes of the bytes at which the scan stops; 0 is any other byte.
const CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut digit = b'0';
    while digit <= b'9' {
        table[digit as usize] = 1;
        digit += 1;
    }
    table[b'@' as usize] = 2;
    table[b':' as usize] = 3;
    table[b'+' as usize] = 4;
    table[b'(' as usize] = 4;
    table
};

/// Number of bytes that are checked in one go.
const STRETCH: usize = 32;

fn is_digit_or_colon(byte: u8) -> bool {
    // In ASCII the colon follows the nine.
    byte.wrapping_sub(b'0') <= b':' - b'0'
}

/// Checks every byte without stopping early, which the compiler vectorises.
fn has_digit_or_colon(text: &[u8]) -> bool {
    text.iter().fold(false, |any, byte| any | is_digit_or_colon(*byte))
}

/// The next byte with a class, at or after `from`. Prose has few of them: stretches without one are skipped with vector
/// instructions.
fn next_stop(text: &[u8], mut from: usize) -> Option<usize> {
    let stops = |b: u8| is_digit_or_colon(b) | (b == b'@') | (b == b'+') | (b == b'(');
    while let Some(stretch) = text.get(from..from + STRETCH) {
        if stretch.iter().fold(false, |any, b| any | stops(*b)) {
            break;
        }
        from += STRETCH;
    }
    text.get(from..)?.iter().position(|b| CLASS[usize::from(*b)] != 0).map(|skip| from + skip)
}

impl Detector {
    /// Compiles a choice of built-in kinds (in the order of [`BUILT_IN`]) and custom patterns.
    pub fn new(enabled: [bool; BUILT_IN.len()], own: Vec<Own>) -> Result<Self, String> {
        let labels = BUILT_IN.iter().map(|(_, label)| (*label).to_owned()).chain(own.iter().map(|o| o.name.to_ascii_uppercase())).collect();
        let all: Vec<String> = own.iter().map(|o| format!("(?:{})", o.regex.as_str())).collect();
        let any_own = if all.is_empty() { None } else { Some(regex::Regex::new(&all.join("|")).map_err(|e| e.to_string())?) };
        Ok(Self { enabled, own, labels, any_own })
    }

    /// The name of a kind in tokens, in upper case.
    pub fn label(&self, kind: usize) -> &str {
        self.labels.get(kind).map_or("PII", String::as_str)
    }

    /// The name of a kind in configuration and evidence.
    pub fn name(&self, kind: usize) -> &str {
        match BUILT_IN.get(kind) {
            Some((name, _)) => name,
            None => self.own.get(kind - BUILT_IN.len()).map_or("pii", |o| o.name.as_str()),
        }
    }

    /// Number of kinds, built-in and custom.
    pub fn kinds(&self) -> usize {
        self.labels.len()
    }

    fn on(&self, kind: usize) -> bool {
        self.enabled.get(kind).copied().unwrap_or(false)
    }

    /// Whether raw JSON (a body, or the content of a string) can contain anything to mask. `false` is certain; `true` only
    /// means that it must be scanned. Most traffic contains nothing to mask and only pays for this check, so it skips whole
    /// stretches with vector instructions and examines single bytes only where there is one of interest.
    pub fn may_find(&self, json: &[u8]) -> bool {
        if self.any_own.is_some() || memchr::memchr(b'@', json).is_some() {
            return true;
        }
        // An escape can stand for any character.
        if memchr::memchr_iter(b'\\', json).any(|at| json.get(at + 1) == Some(&b'u')) {
            return true;
        }
        let (mut digits, mut last) = (0usize, 0usize);
        for (stretch, bytes) in json.chunks(STRETCH).enumerate() {
            if !has_digit_or_colon(bytes) {
                continue;
            }
            for (at, byte) in bytes.iter().enumerate().filter(|(_, b)| is_digit_or_colon(**b)) {
                let index = stretch * STRETCH + at;
                if *byte == b':' {
                    let hex = json.iter().skip(index + 1).take(5).take_while(|b| b.is_ascii_hexdigit()).count();
                    if json.get(index + 1 + hex) == Some(&b':') {
                        return true;
                    }
                    continue;
                }
                // Every kind of number has at least seven digits, at most five bytes apart, including escaped separators.
                digits = if index - last <= 5 { digits + 1 } else { 1 };
                last = index;
                let dotted = json.get(index + 1) == Some(&b'.') && json.get(index + 2).is_some_and(u8::is_ascii_digit);
                if digits >= 7 || dotted && digits >= 2 {
                    return true;
                }
            }
        }
        false
    }

    /// Appends all finds in `text` to `out`, in order and without overlaps. Bytes before `from` are context: already
    /// processed, and read only for boundaries. `from > 0` also means that the text began before its first byte.
    pub fn find(&self, text: &str, from: usize, out: &mut Vec<Find>) {
        let first = out.len();
        self.find_built_in(text.as_bytes(), from, out);
        if self.any_own.as_ref().is_some_and(|any| any.is_match_at(text, from)) {
            self.find_own(text, from, first, out);
        }
    }

    fn find_built_in(&self, text: &[u8], from: usize, out: &mut Vec<Find>) {
        // All kinds except mail addresses contain a digit or a colon, and most texts contain neither.
        if !has_digit_or_colon(text.get(from..).unwrap_or_default()) {
            return self.find_addresses(text, from, out);
        }
        let mut index = from;
        let mut floor = from;
        while index < text.len() {
            let Some(stop) = next_stop(text, index) else { return };
            index = stop;
            let found = match CLASS[usize::from(text[index])] {
                1 => self.at_digit(text, index, floor),
                2 if self.on(EMAIL) => email(text, index, floor).map(|span| Find { span, kind: EMAIL }),
                3 if self.on(IP_ADDRESS) => number::ipv6(text, index, floor).map(|(s, e)| Find { span: s..e, kind: IP_ADDRESS }),
                4 if self.on(PHONE) => number::phone(text, index).map(|end| Find { span: index..end, kind: PHONE }),
                _ => None,
            };
            match found {
                Some(find) => {
                    index = find.span.end;
                    floor = index;
                    out.push(find);
                }
                // After a digit that begins nothing, the rest of its group begins nothing either.
                None if text[index].is_ascii_digit() => {
                    while index < text.len() && text[index].is_ascii_digit() {
                        index += 1;
                    }
                }
                None => index += 1,
            }
        }
    }

    /// Finds mail addresses only.
    fn find_addresses(&self, text: &[u8], from: usize, out: &mut Vec<Find>) {
        if !self.on(EMAIL) {
            return;
        }
        let (mut index, mut floor) = (from, from);
        while let Some(at) = text.get(index..).and_then(|rest| memchr::memchr(b'@', rest)).map(|at| index + at) {
            index = at + 1;
            if let Some(span) = email(text, at, floor) {
                (index, floor) = (span.end, span.end);
                out.push(Find { span, kind: EMAIL });
            }
        }
    }

    /// Checks the kinds made of digits at the first digit of a group, the most specific first.
    fn at_digit(&self, text: &[u8], index: usize, floor: usize) -> Option<Find> {
        let previous = index.checked_sub(1).and_then(|i| text.get(i)).copied().unwrap_or(0);
        if previous.is_ascii_digit() {
            return None;
        }
        let here = |end: usize, kind: usize| Find { span: index..end, kind };
        if self.on(IBAN)
            && previous.is_ascii_alphabetic()
            && let Some((start, end)) = number::iban(text, index, floor)
        {
            return Some(Find { span: start..end, kind: IBAN });
        }
        if number::in_word(text, index) {
            return None;
        }
        if self.on(IP_ADDRESS)
            && let Some(end) = number::ipv4(text, index)
        {
            return Some(here(end, IP_ADDRESS));
        }
        if self.on(US_SSN)
            && let Some(end) = number::us_ssn(text, index)
        {
            return Some(here(end, US_SSN));
        }
        if self.on(CREDIT_CARD)
            && let Some(end) = number::credit_card(text, index)
        {
            return Some(here(end, CREDIT_CARD));
        }
        if self.on(PHONE)
            && let Some(end) = number::phone(text, index)
        {
            return Some(here(end, PHONE));
        }
        None
    }

    /// Finds matches of custom patterns. Overlapping finds are merged, with the kind of the one that begins first: dropping
    /// one would leave a part of it unmasked.
    fn find_own(&self, text: &str, from: usize, first: usize, out: &mut Vec<Find>) {
        for (place, own) in self.own.iter().enumerate() {
            let mut at = from;
            // Beyond the end there is no offset to continue from, and no character boundary.
            while at <= text.len()
                && let Some(found) = own.regex.find_at(text, at)
            {
                at = found.end().max(at + 1);
                while at < text.len() && !text.is_char_boundary(at) {
                    at += 1;
                }
                if !found.is_empty() {
                    out.push(Find { span: found.range(), kind: BUILT_IN.len() + place });
                }
            }
        }
        if let Some(finds) = out.get_mut(first..) {
            finds.sort_by(|a, b| a.span.start.cmp(&b.span.start).then(a.kind.cmp(&b.kind)));
        }
        let mut place = 0;
        out.dedup_by(|find, before| {
            place += 1;
            let overlaps = place > first && find.span.start < before.span.end;
            if overlaps {
                before.span.end = before.span.end.max(find.span.end);
            }
            overlaps
        });
    }

    /// The start of the part of `text` that may become personal data, or a longer find, with more text; everything before
    /// is final. Bytes before `from` are context.
    pub fn open_from(&self, text: &str, from: usize) -> usize {
        let bytes = text.as_bytes();
        let back = |most: usize, run: fn(u8) -> bool| {
            let start = bytes.len().saturating_sub(most).max(from);
            start + bytes[start..].iter().rposition(|b| !run(*b)).map_or(0, |i| i + 1)
        };
        let word = back(WORD_BYTES, |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'%' | b'+' | b'-' | b'@' | b':' | b'\\'));
        let mut open = word;
        let number = back(NUMBER_BYTES, |b| b.is_ascii_digit() || matches!(b, b' ' | b'(' | b')' | b'.' | b'+' | b'-' | b'/'));
        let number = number + bytes[number..].iter().take_while(|b| **b == b' ').count();
        if bytes[number..].iter().any(|b| b.is_ascii_digit() || matches!(b, b'+' | b'(')) {
            open = open.min(number);
        }
        if self.on(IBAN) {
            open = open.min(open_iban(bytes, from));
        }
        for own in &self.own {
            let mut start = bytes.len().saturating_sub(own.max_length).max(from);
            while !text.is_char_boundary(start) {
                start -= 1;
            }
            open = open.min(start);
        }
        while open > from && !text.is_char_boundary(open) {
            open -= 1;
        }
        open
    }
}

/// The start of an unfinished IBAN at the end of the text: its beginning, followed only by letters, digits and single
/// spaces.
fn open_iban(bytes: &[u8], from: usize) -> usize {
    let window = bytes.len().saturating_sub(44).max(from);
    let mut start = window;
    while start + 4 <= bytes.len() {
        let head = &bytes[start..start + 4];
        let shaped = head[..2].iter().all(u8::is_ascii_alphabetic) && head[2..].iter().all(u8::is_ascii_digit);
        let apart = start == 0 || !number::is_word(bytes[start - 1]);
        if shaped && apart && bytes[start..].iter().all(|b| b.is_ascii_alphanumeric() || *b == b' ') {
            return start;
        }
        start += 1;
    }
    bytes.len()
}

/// The address around the `@` at `at`; it never begins before `floor`.
fn email(text: &[u8], at: usize, floor: usize) -> Option<Range<usize>> {
    let is_local = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'%' | b'+' | b'-');
    let least = at.saturating_sub(LOCAL_BYTES).max(floor);
    let mut start = at;
    while start > least && is_local(text[start - 1]) {
        start -= 1;
    }
    start += escape_before(text, start);
    while start < at && matches!(text[start], b'.' | b'-' | b'%') {
        start += 1;
    }
    if start >= at {
        return None;
    }
    let run = text[at + 1..].iter().take(DOMAIN_BYTES).take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')).count();
    let run = &text[at + 1..at + 1 + run];
    // The longest prefix of dotted labels that ends in a possible top-level domain.
    let mut end = None;
    let mut label = 0;
    let mut dots = 0;
    for index in 0..=run.len() {
        if index < run.len() && run[index] != b'.' {
            continue;
        }
        let whole = &run[label..index];
        let dashes = whole.iter().rev().take_while(|b| **b == b'-').count();
        let part = &whole[..whole.len() - dashes];
        if part.is_empty() || part.len() > 63 || part[0] == b'-' {
            break;
        }
        if dots > 0 && top_level(part) {
            end = Some(label + part.len());
        }
        if part.len() < whole.len() {
            break;
        }
        dots += 1;
        label = index + 1;
    }
    end.map(|length| start..at + 1 + length)
}

/// Whether a label can be a top-level domain: alphabetic or punycode, and not an image suffix (`logo@2x.png`).
fn top_level(label: &[u8]) -> bool {
    let image = [&b"png"[..], b"jpg", b"jpeg", b"gif", b"svg", b"webp"].iter().any(|i| label.eq_ignore_ascii_case(i));
    let alphabetic = label.len() >= 2 && label.iter().all(u8::is_ascii_alphabetic);
    (alphabetic || label.len() > 4 && label[..4].eq_ignore_ascii_case(b"xn--")) && !image
}

/// Number of bytes at `start` that belong to a JSON escape in text quoted within text (`\nbob@example.com`).
fn escape_before(text: &[u8], start: usize) -> usize {
    let slashes = text[..start].iter().rev().take_while(|b| **b == b'\\').count();
    if slashes % 2 == 0 {
        return 0;
    }
    match text.get(start) {
        Some(b'n' | b'r' | b't' | b'b' | b'f') => 1,
        Some(b'u') if text[start + 1..].iter().take(4).filter(|b| b.is_ascii_hexdigit()).count() == 4 => 5,
        _ => 0,
    }
}
