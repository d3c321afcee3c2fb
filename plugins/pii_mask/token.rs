//! Tokens: placeholders for values, as `[[EMAIL_7f3a9c0d12be44a1]]`.
//!
//! The digits are a keyed hash: twelve of the normalised value, so that two spellings of one address look alike to the
//! model, and four of the spelling, so that exactly what was written is restored. If two values still have the same token,
//! the later one gets more digits of its spelling (32, then 64).

use crate::plugin::prelude::*;

/// Possible numbers of hex digits in a token; the longer ones after a collision.
const DIGITS: [usize; 3] = [16, 32, 64];
/// Number of hex digits from the normalised value.
const OF_VALUE: usize = 12;
/// The longest label a kind may have.
pub const LABEL_BYTES: usize = 32;
/// The longest token: brackets, label, underscore, digits.
pub const TOKEN_BYTES: usize = 2 + LABEL_BYTES + 1 + 64 + 2;

/// Whether a text that starts with `[` starts with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// It starts with a token of this many bytes.
    Token(usize),
    /// It may be a token once more text arrives.
    Open,
    /// It does not.
    No,
}

/// Tries to read a token at the start of `text`.
pub fn read(text: &[u8]) -> Reading {
    for (index, bracket) in [b'[', b'['].iter().enumerate() {
        match text.get(index) {
            None => return Reading::Open,
            Some(b) if b == bracket => {}
            Some(_) => return Reading::No,
        }
    }
    let body = &text[2..];
    // Upper case letters, digits and underscores; only hex digits from the first lower case letter on.
    let (mut length, mut line, mut lower, mut hex) = (0, 0, false, false);
    for byte in body.iter().take(LABEL_BYTES + 66) {
        match byte {
            b'A'..=b'Z' if !lower => hex = false,
            _ if length == 0 && is_name(*byte) => return Reading::No,
            b'0'..=b'9' => {}
            b'a'..=b'f' => lower = true,
            b'_' if !lower => (line, hex) = (length, true),
            _ if is_name(*byte) => return Reading::No,
            _ => break,
        }
        length += 1;
    }
    if length > LABEL_BYTES + 65 {
        return Reading::No;
    }
    let Some(close) = body.get(length) else { return Reading::Open };
    let whole = *close == b']' && hex && line <= LABEL_BYTES && DIGITS.contains(&(length - line - 1));
    match (whole, body.get(length + 1)) {
        (false, _) => Reading::No,
        (true, None) => Reading::Open,
        (true, Some(b']')) => Reading::Token(length + 4),
        (true, Some(_)) => Reading::No,
    }
}

/// The label in a token.
pub fn label(token: &str) -> Option<&str> {
    token.strip_prefix("[[")?.rsplit_once('_').map(|(label, _)| label)
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The first two consecutive opening brackets at or after `from`. Brackets are rare, so a search for one byte suffices; a
/// search for two would have to be set up for every string.
pub fn opens(text: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'[', text.get(from..)?).map(|at| from + at).find(|at| text.get(at + 1) == Some(&b'['))
}

/// The first token in `text` at or after `from`, as a byte range.
pub fn next(text: &str, from: usize) -> Option<std::ops::Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = from;
    while let Some(start) = opens(bytes, at) {
        if let Reading::Token(length) = read(&bytes[start..]) {
            return Some(start..start + length);
        }
        at = start + 1;
    }
    None
}

/// The start of an unfinished token at the end of `text`, or its length.
pub fn open_from(text: &str) -> usize {
    let bytes = text.as_bytes();
    let window = bytes.len().saturating_sub(TOKEN_BYTES);
    let mut at = window;
    while let Some(found) = memchr::memchr(b'[', &bytes[at..]) {
        let start = at + found;
        if read(&bytes[start..]) == Reading::Open {
            return start;
        }
        at = start + 1;
    }
    bytes.len()
}

/// Makes the tokens of one key.
pub struct Mint {
    key: ring::hmac::Key,
}

impl Mint {
    /// The key of an organisation, derived from the secret so that its tokens reveal nothing about another's.
    pub fn for_organisation(secret: &[u8], organisation: &str) -> Self {
        use ring::hmac;
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let mut context = hmac::Context::with_key(&root);
        context.update(b"odock pii_mask 1\0");
        context.update(organisation.as_bytes());
        Self { key: ring::hmac::Key::new(hmac::HMAC_SHA256, context.sign().as_ref()) }
    }

    fn digest(&self, domain: u8, label: &str, value: &[u8]) -> ring::hmac::Tag {
        let mut context = ring::hmac::Context::with_key(&self.key);
        context.update(&[domain]);
        context.update(label.as_bytes());
        context.update(&[0]);
        context.update(value);
        context.sign()
    }

    /// The possible tokens of `value`, shortest first. `normalised` is the same for all spellings of the value.
    pub fn candidates<'l>(&self, label: &'l str, normalised: &str, value: &str) -> impl Iterator<Item = String> + use<'l> {
        let digits = hex(self.digest(1, label, normalised.as_bytes()).as_ref(), OF_VALUE)
            + &hex(self.digest(2, label, value.as_bytes()).as_ref(), 64);
        DIGITS.iter().map(move |length| format!("[[{label}_{}]]", digits.get(..*length).unwrap_or(&digits)))
    }
}

fn hex(bytes: &[u8], digits: usize) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).take(digits).map(|nibble| char::from(HEX[usize::from(nibble)])).collect()
}

/// The normalised value: an address in lower case, a number without separators.
pub fn normalised(kind: &str, value: &str) -> String {
    match kind {
        "email" | "ip_address" => value.to_ascii_lowercase(),
        "phone" => value.chars().filter(|c| c.is_ascii_digit() || *c == '+').collect(),
        "credit_card" | "iban" | "us_ssn" => value.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect(),
        _ => value.to_owned(),
    }
}
