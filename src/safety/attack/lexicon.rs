//! The vocabulary of attacks: the patterns of each idea in many languages.
//!
//! An idea (`ignore`, `reveal`, `persona`, …) is the same in every language, so what the model learns about the order of
//! ideas in one language applies to all. The vocabulary is in `lexicon/*.txt`, one file for each language, with lines of
//! `idea: pattern; pattern; …`. A pattern matches whole words; with a trailing `*` it matches prefixes of words, and in
//! scripts without spaces it matches anywhere. Text is read once, token by token: a filter tells with one lookup whether
//! any pattern may begin with a token, and only then are patterns compared.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::super::normal::fold;
use super::tokens::{STEMS, Sort, Token, Tokens};

macro_rules! ideas {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// An idea that attacks are made of.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Idea { $($(#[$doc])* $variant,)+ }

        impl Idea {
            /// Every idea, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in the vocabulary files and in explanations.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

ideas! {
    /// Ignore, disregard, forget.
    Ignore = "ignore",
    /// Previous, above, so far.
    Previous = "previous",
    /// Instructions, orders.
    Instructions = "instructions",
    /// Rules, guidelines, policies.
    Rules = "rules",
    /// New, instead, from now on.
    Instead = "instead",
    /// Show, print, repeat, reveal.
    Reveal = "reveal",
    /// The system prompt.
    Prompt = "prompt",
    /// Password, secret key, code.
    Secret = "secret",
    /// Act as, pretend, play the role of.
    Persona = "persona",
    /// You are now.
    Become = "become",
    /// Without restrictions, uncensored, unfiltered.
    Unbound = "unbound",
    /// Limits, filters, censorship.
    Limits = "limits",
    /// Do not refuse, no warnings, never say that you cannot.
    NoRefusal = "no_refusal",
    /// Refuse, apologise, disclaimer.
    Refusal = "refusal",
    /// Developer mode, DAN, god mode.
    Mode = "mode",
    /// Names of known personas.
    Alias = "alias",
    /// Bypass, override, disable, jailbreak.
    Bypass = "bypass",
    /// Base64, ROT13, reversed.
    Encode = "encode",
    /// Hypothetically, in a story.
    Fiction = "fiction",
    /// For research, with permission.
    Excuse = "excuse",
    /// Administrator, developer, the company.
    Authority = "authority",
    /// Assistant, model, chatbot.
    Machine = "machine",
    /// Role markers and templates of prompts.
    Tag = "tag",
    /// Send to an address.
    Send = "send",
    /// Just, only, exactly, begin with.
    Only = "only",
    /// Say, write, answer.
    Say = "say",
    /// Ethics, morals, law.
    Ethics = "ethics",
    /// Illegal, harmful, dangerous.
    Harm = "harm",
    /// You, your.
    You = "you",
    /// Important, attention, stop.
    Urgent = "urgent",
    /// Hidden, internal, confidential.
    Hidden = "hidden",
    /// Stay in character.
    Character = "character",
    /// Names of attacks, used by those who write about them.
    Talk = "talk",
}

/// A pattern, listed under the key of its first tokens.
#[derive(Debug)]
struct Pattern {
    idea: Idea,
    /// The folded text; a space matches any amount of whitespace.
    text: String,
    /// Whether it contains a space.
    spaced: bool,
    /// Whether no letter may follow.
    closes: bool,
}

/// The compiled vocabulary. Patterns are listed under the beginning of their only token, or under their first two tokens.
#[derive(Debug, Default)]
pub struct Lexicon {
    /// A bit for every key, so that most words cost one lookup.
    filter: Vec<u64>,
    keys: HashMap<u64, Vec<Pattern>, BuildHasherDefault<Already>>,
}

/// A hasher for keys that are hashes already.
#[derive(Debug, Default)]
struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ self.0.rotate_left(7);
    }
}

/// Number of bits in the filter, as a power of two.
const FILTER: u32 = 16;

/// The key of two tokens, respecting their order.
#[inline]
const fn pair(first: u64, second: u64) -> u64 {
    first.rotate_left(17).wrapping_mul(0xA076_1D64_78BD_642F) ^ second
}

/// Why the vocabulary is malformed.
#[derive(Debug, thiserror::Error)]
#[error("vocabulary, {0}")]
pub struct LexiconError(String);

const FILES: &[&str] = &[include_str!("lexicon/en.txt"), include_str!("lexicon/latin.txt"), include_str!("lexicon/scripts.txt")];

impl Lexicon {
    /// The vocabulary that is shipped with the gateway.
    ///
    /// # Errors
    /// When a line names an unknown idea.
    pub fn shipped() -> Result<Self, LexiconError> {
        Self::parse(FILES)
    }

    fn parse(files: &[&str]) -> Result<Self, LexiconError> {
        let mut lexicon = Self { filter: vec![0; 1 << (FILTER - 6)], ..Self::default() };
        for line in files.iter().flat_map(|file| file.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('%') {
                continue;
            }
            let (name, words) = line.split_once(':').ok_or_else(|| LexiconError(format!("no idea: {line}")))?;
            let idea = Idea::ALL
                .iter()
                .copied()
                .find(|idea| idea.as_str() == name.trim())
                .ok_or_else(|| LexiconError(format!("unknown idea: {name}")))?;
            for pattern in words.split(';').map(str::trim).filter(|pattern| !pattern.is_empty()) {
                lexicon.add(idea, pattern)?;
            }
        }
        Ok(lexicon)
    }

    fn add(&mut self, idea: Idea, pattern: &str) -> Result<(), LexiconError> {
        let (pattern, open_ended) = match pattern.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (pattern, false),
        };
        let text = fold(pattern).text().trim().to_owned();
        let mut tokens = Tokens::new(&text, 0);
        let first = tokens.next().ok_or_else(|| LexiconError(format!("nothing to find: {pattern}")))?;
        let closes = !open_ended && text.chars().next_back().is_some_and(is_spaced_letter);
        // In a text the last token may be longer, unless the pattern is closed or ends with a single sign.
        let certain = |token: &Token| {
            token.end < text.len() || closes || token.sort == Sort::Sign || text[token.start..].chars().count() >= STEMS[STEMS.len() - 1]
        };
        let key = match tokens.next() {
            Some(second) if certain(&second) => pair(first.stem(), second.stem()),
            Some(_) => first.stem(),
            None if certain(&first) => first.stem(),
            None => first.stems[STEMS.iter().rposition(|&stem| stem <= text.chars().count()).unwrap_or_default()],
        };
        let bit = slot(key);
        self.filter[bit / 64] |= 1 << (bit % 64);
        self.keys.entry(key).or_default().push(Pattern { idea, spaced: text.contains(' '), text, closes });
        Ok(())
    }

    /// Calls `found` for every idea whose pattern begins with this token, or with the one before and continues with this;
    /// in the order of ideas, each idea once.
    #[inline]
    pub fn find(&self, text: &str, before: Option<&Token>, token: &Token, found: &mut impl FnMut(Idea)) {
        let mut ideas = 0u64;
        if let Some(before) = before {
            self.look(pair(before.stem(), token.stem()), text, before.start, &mut ideas);
        }
        let [two, three, four, stem] = token.stems;
        self.look(stem, text, token.start, &mut ideas);
        if four != stem {
            self.look(four, text, token.start, &mut ideas);
        }
        if three != four {
            self.look(three, text, token.start, &mut ideas);
        }
        if two != three {
            self.look(two, text, token.start, &mut ideas);
        }
        while ideas != 0 {
            let idea = ideas.trailing_zeros() as usize;
            ideas &= ideas - 1;
            found(Idea::ALL[idea]);
        }
    }

    #[inline]
    fn look(&self, key: u64, text: &str, start: usize, ideas: &mut u64) {
        let bit = slot(key);
        if self.filter[bit / 64] >> (bit % 64) & 1 == 1 {
            self.compare(key, text.get(start..).unwrap_or_default(), ideas);
        }
    }

    fn compare(&self, key: u64, text: &str, ideas: &mut u64) {
        for pattern in self.keys.get(&key).into_iter().flatten() {
            if *ideas >> pattern.idea as u64 & 1 == 0 && pattern.stands(text) {
                *ideas |= 1 << pattern.idea as u64;
            }
        }
    }
}

impl Pattern {
    /// Whether the pattern matches at the beginning of the text.
    fn stands(&self, text: &str) -> bool {
        let mut rest = match text.strip_prefix(self.text.as_str()) {
            Some(rest) => return !self.closes || !rest.chars().next().is_some_and(is_spaced_letter),
            None if self.spaced => text,
            None => return false,
        };
        for (index, part) in self.text.split(' ').enumerate() {
            if index > 0 {
                let trimmed = rest.trim_start();
                if trimmed.len() == rest.len() {
                    return false;
                }
                rest = trimmed;
            }
            match rest.strip_prefix(part) {
                Some(after) => rest = after,
                None => return false,
            }
        }
        !self.closes || !rest.chars().next().is_some_and(is_spaced_letter)
    }
}

/// The filter bit for a key.
#[inline]
const fn slot(key: u64) -> usize {
    (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - FILTER)) as usize
}

/// Whether the character's script separates words by spaces, so that an adjacent letter makes a different word.
fn is_spaced_letter(c: char) -> bool {
    c.is_alphanumeric()
        && !matches!(u32::from(c), 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x9FFF | 0xAC00..=0xD7AF | 0xF900..=0xFAFF | 0x2_0000..=0x3_FFFF)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&'static str, usize)> {
        let lexicon = Lexicon::parse(&["% a comment\nignore: ignor*; 忽略; 무시; to*\nprevious: previous; so far; <|im_end|>"])
            .expect("a good vocabulary");
        let mut found = Vec::new();
        let mut before = None;
        for token in Tokens::new(text, 0) {
            lexicon.find(text, before.as_ref(), &token, &mut |idea| found.push((idea.as_str(), token.start)));
            if token.sort != Sort::Line {
                before = Some(token);
            }
        }
        found
    }

    #[test]
    fn whole_words_beginnings_and_scripts_without_spaces() {
        assert_eq!(found("ignoring the previous text"), [("ignore", 0), ("previous", 13)]);
        assert_eq!(found("signore, previously so farther"), []);
        assert_eq!(found("so\n far, ignor"), [("previous", 4), ("ignore", 9)]);
        assert_eq!(found("请忽略它 무시하고 <|im_end|>"), [("ignore", 6), ("ignore", 13), ("previous", 28)]);
        assert_eq!(found("today to"), [("ignore", 0), ("ignore", 6)]);
    }

    #[test]
    fn the_shipped_vocabulary_is_well_formed_and_names_every_idea() {
        let lexicon = Lexicon::shipped().expect("the shipped vocabulary");
        for idea in Idea::ALL {
            assert!(lexicon.keys.values().flatten().any(|pattern| pattern.idea == *idea), "{} has no words", idea.as_str());
        }
        assert!(Idea::ALL.len() <= 64);
    }

    #[test]
    fn an_unknown_idea_is_an_error() {
        assert!(Lexicon::parse(&["nothing: word"]).is_err());
    }
}
