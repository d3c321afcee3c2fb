//! Custom patterns of the operator, with an optional check. Matches have a bounded length and take linear time, so that a
//! text in pieces has the same matches as the whole.

use std::ops::Range;

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gate::{Shape, is_stand_in};
use super::{card, iban};

/// Largest `max_length` of a custom pattern, in bytes.
pub const MOST_LENGTH: usize = 1024;

/// Most memory of a compiled pattern, in bytes. Nested repetitions are refused here, before they are expanded.
const COMPILED_BYTES: usize = 1 << 20;

/// The reason why a pattern does not compile, in one line.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => {
            format!("it needs more than {COMPILED_BYTES} bytes of memory: a repetition is too large, or one repeats another")
        }
        // The error text begins with the pattern and a marker below it; the reason is its last line.
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// A pattern as it is written in configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// The category of what it finds: `[a-z][a-z0-9_]*`, at most 32 characters.
    pub name: String,
    /// A regular expression in the syntax of the Rust crate `regex`; it must not match the empty text.
    pub regex: String,
    /// A check that a match must pass.
    #[serde(default)]
    pub validator: Validator,
    /// Bytes of the shortest match that counts.
    #[serde(default)]
    pub min_length: usize,
    /// Bytes of the longest match, at most 1024. Of a streamed answer this much is held back at most.
    #[serde(default = "max_length")]
    pub max_length: usize,
}

fn max_length() -> usize {
    64
}

/// A check on what a pattern matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Validator {
    /// No check.
    #[default]
    None,
    /// The last digit checks the others, as on payment cards.
    Luhn,
    /// The check digits of an IBAN.
    Mod97,
    /// At least three bits of entropy per byte, and no placeholder.
    Entropy,
}

impl Validator {
    fn passes(self, text: &[u8]) -> bool {
        match self {
            Self::None => true,
            Self::Luhn => {
                let digits: Vec<u8> = text.iter().filter(|b| b.is_ascii_digit()).map(|b| b - b'0').collect();
                digits.len() > 1 && card::luhn(&digits)
            }
            Self::Mod97 => {
                let characters: Vec<u8> = text.iter().filter(|b| b.is_ascii_alphanumeric()).map(u8::to_ascii_uppercase).collect();
                characters.len() > 4 && iban::mod97(&characters)
            }
            Self::Entropy => Shape::of(text).entropy >= 3.0 && !is_stand_in(text),
        }
    }
}

/// A compiled pattern.
#[derive(Debug, Clone)]
pub struct Own {
    name: String,
    regex: Regex,
    validator: Validator,
    least: usize,
    most: usize,
}

impl Own {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// The wrong member, and the reason.
    pub fn new(pattern: &Pattern) -> Result<Self, (&'static str, String)> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        let shaped = pattern.name.starts_with(|c: char| c.is_ascii_lowercase()) && pattern.name.bytes().all(plain);
        if !shaped || pattern.name.len() > 32 {
            return Err(("name", "a name is [a-z][a-z0-9_]*, at most 32 characters".to_owned()));
        }
        if !(1..=MOST_LENGTH).contains(&pattern.max_length) || pattern.min_length > pattern.max_length {
            return Err(("max_length", format!("1 to {MOST_LENGTH} bytes, and not below min_length")));
        }
        let regex = RegexBuilder::new(&pattern.regex).size_limit(COMPILED_BYTES).build().map_err(|error| ("regex", reason(&error)))?;
        if regex.is_match("") {
            return Err(("regex", "it matches the empty text".to_owned()));
        }
        Ok(Self { name: pattern.name.clone(), regex, validator: pattern.validator, least: pattern.min_length, most: pattern.max_length })
    }

    /// The category of its matches.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Searches from `from` on, and returns where the next search must begin. `complete` says that the text ends here.
    ///
    /// A match at a place depends only on the `max_length` bytes behind it and the characters around them.
    pub fn sweep(&self, text: &str, from: usize, complete: bool, mut found: impl FnMut(Range<usize>)) -> usize {
        let mut at = ceil(text, from);
        // Up to here, all bytes on which a match depends are present.
        let decided = if complete { text.len() } else { text.len().saturating_sub(self.most + 4) };
        while at < decided {
            let block = ceil(text, at.saturating_add(self.most * 2 + 4));
            let Some(start) = text.get(..block).and_then(|hay| self.regex.find_at(hay, at)).map(|m| m.start()) else {
                at = ceil(text, (at + self.most).min(decided));
                continue;
            };
            if start >= decided {
                return start.min(ceil(text, decided));
            }
            let window = text.get(..ceil(text, start + self.most + 1)).unwrap_or(text);
            let span = self.regex.find_at(window, start).map(|m| m.range());
            match span.filter(|span| span.start == start && !span.is_empty() && span.len() <= self.most) {
                Some(span) => {
                    let value = text.as_bytes().get(span.clone()).unwrap_or_default();
                    at = span.end;
                    if value.len() >= self.least && self.validator.passes(value) {
                        found(span);
                    }
                }
                None => at = ceil(text, start + 1),
            }
        }
        at
    }
}

fn ceil(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}
