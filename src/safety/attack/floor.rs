//! The literal phrases that the product documents as a floor. Each one gives a signal, whatever else is found, but never
//! more than a signal by itself, since all of them occur in innocent text.

use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

use super::super::normal::fold;

/// The score of a literal phrase, well below the decision threshold.
pub const FLOOR: f32 = 0.2;

/// The phrases of the module `prompt_injection`.
pub const INJECTION: &[&str] =
    &["ignore previous", "system prompt", "developer message", "reveal hidden", "override", "jailbreak", "disregard", "bypass"];

/// The phrases of the module `jailbreak`.
pub const JAILBREAK: &[&str] = &["act as", "roleplay", "you are now", "do anything now", "dan mode", "override policy", "bypass safety"];

/// A module's phrases, compiled.
#[derive(Debug)]
pub struct Floor(AhoCorasick);

impl Floor {
    /// Compiles phrases, after folding them like texts.
    ///
    /// # Errors
    /// When there are more of them than an automaton can hold.
    pub fn new<'a>(phrases: impl IntoIterator<Item = &'a str>) -> Result<Self, aho_corasick::BuildError> {
        let folded = phrases.into_iter().map(|phrase| fold(phrase.trim()).text().to_owned()).filter(|phrase| !phrase.is_empty());
        AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(folded).map(Self)
    }

    /// The first of the phrases in a folded text, as whole words.
    pub fn find(&self, folded: &str) -> Option<Range<usize>> {
        let letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = folded.as_bytes();
        self.0
            .find_iter(folded)
            .map(|found| found.range())
            .find(|range| !letter(range.start.checked_sub(1).and_then(|before| bytes.get(before))) && !letter(bytes.get(range.end)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_phrase_is_found_as_whole_words() {
        for phrases in [INJECTION, JAILBREAK] {
            let floor = Floor::new(phrases.iter().copied()).expect("few phrases");
            for phrase in phrases {
                assert_eq!(floor.find(&format!("x, {phrase}.")), Some(3..3 + phrase.len()));
                assert_eq!(floor.find(&format!("x{phrase}y")), None);
            }
        }
    }
}
