//! Signals of a conversation: counts and names, never content.

use super::config::Rules;
use crate::plugin::prelude::*;
use wire::Parts;

/// The signals of one request.
pub struct Signals {
    /// For each configured word, its occurrences in the user's last message.
    pub words: Vec<u32>,
    /// Number of the user's messages.
    pub turns: u64,
    /// Number of characters in the user's last message.
    pub characters: u64,
    /// The language that the client prefers, such as `de`.
    pub language: Option<String>,
}

impl Signals {
    /// Reads the signals of a request.
    pub fn of(parts: &Parts, rules: &Rules, language: Option<String>) -> Self {
        let said = parts.said();
        let mut words = vec![0u32; rules.words.as_ref().map_or(0, |words| words.len())];
        let last = said.last().map(Vec::as_slice).unwrap_or_default();
        if let Some(known) = &rules.words {
            for part in last {
                known.count(&part.text, |word| {
                    if let Some(count) = words.get_mut(word) {
                        *count = count.saturating_add(1);
                    }
                });
            }
        }
        let characters = last.iter().map(|part| part.text.chars().count() as u64).sum();
        Self { words, turns: said.len() as u64, characters, language }
    }

    /// The signals for the external system: numbers only.
    pub fn told(&self) -> Value {
        json!({
            "turns": self.turns,
            "characters": self.characters,
            "words": self.words.iter().map(|count| u64::from(*count)).sum::<u64>(),
            "language": self.language,
        })
    }
}

/// The primary subtag of the most preferred language (RFC 9110 §12.5.4).
pub fn language(header: &str) -> Option<String> {
    let choice = |item: &str| {
        let mut parts = item.split(';');
        let tag = parts.next()?.trim();
        let weight = parts.find_map(|part| part.trim().strip_prefix("q=")).map_or(Some(1.0), |q| q.trim().parse::<f32>().ok())?;
        let primary = tag.split('-').next()?.to_ascii_lowercase();
        let plain = (2..=3).contains(&primary.len()) && primary.bytes().all(|b| b.is_ascii_lowercase());
        (plain && weight > 0.0).then_some((weight, primary))
    };
    let mut best: Option<(f32, String)> = None;
    for (weight, tag) in header.split(',').take(16).filter_map(choice) {
        if best.as_ref().is_none_or(|(known, _)| weight > *known) {
            best = Some((weight, tag));
        }
    }
    best.map(|(_, tag)| tag)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_language_preferred_most() {
        for (header, expected) in [
            ("de-CH, en;q=0.9", Some("de")),
            ("en;q=0.8, fr;q=0.9", Some("fr")),
            ("*, de;q=0", None),
            ("x;q=huh, pt-BR", Some("pt")),
            ("", None),
        ] {
            assert_eq!(language(header).as_deref(), expected, "{header}");
        }
    }
}
