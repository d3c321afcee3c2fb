//! What attacks are made of: the vocabulary of each idea in many languages, found by one automaton.
//!
//! An idea (`ignore`, `reveal`, `persona`, …) is the same in every language, so what the model learns about the order of
//! ideas in one language holds in the others. The vocabulary is in `lexicon/*.txt`, one file a language: lines of
//! `idea: pattern; pattern; …`. A pattern matches whole words; with `*` at its end it matches their beginning too, and in
//! scripts without spaces it matches anywhere.

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind, StartKind};

use super::super::normal::fold;

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

/// One find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Where, in bytes of the folded text.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Which idea.
    pub idea: Idea,
}

/// How a pattern has to end.
#[derive(Debug, Clone, Copy)]
struct Shape {
    idea: Idea,
    /// Letters must not precede.
    opens: bool,
    /// Letters must not follow.
    closes: bool,
}

/// The vocabulary, compiled.
pub struct Lexicon {
    automaton: AhoCorasick,
    shapes: Vec<Shape>,
}

impl std::fmt::Debug for Lexicon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lexicon").field("patterns", &self.shapes.len()).finish()
    }
}

/// The vocabulary is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("vocabulary, {0}")]
pub struct LexiconError(String);

const FILES: &[&str] = &[include_str!("lexicon/en.txt"), include_str!("lexicon/latin.txt"), include_str!("lexicon/scripts.txt")];

impl Lexicon {
    /// The vocabulary that comes with the gateway.
    ///
    /// # Errors
    /// A line names an unknown idea.
    pub fn shipped() -> Result<Self, LexiconError> {
        Self::parse(FILES)
    }

    fn parse(files: &[&str]) -> Result<Self, LexiconError> {
        let (mut patterns, mut shapes) = (Vec::<String>::new(), Vec::new());
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
                let (pattern, open_ended) = match pattern.strip_suffix('*') {
                    Some(stem) => (stem, true),
                    None => (pattern, false),
                };
                let first = pattern.chars().next().is_some_and(is_spaced_letter);
                let last = pattern.chars().next_back().is_some_and(is_spaced_letter);
                patterns.push(fold(pattern).text().to_owned());
                shapes.push(Shape { idea, opens: first, closes: last && !open_ended });
            }
        }
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::DFA))
            .match_kind(MatchKind::Standard)
            .start_kind(StartKind::Unanchored)
            .build(&patterns)
            .map_err(|error| LexiconError(error.to_string()))?;
        Ok(Self { automaton, shapes })
    }

    /// Every find, ordered by where it begins, into `marks`.
    pub fn marks(&self, text: &str, marks: &mut Vec<Mark>) {
        marks.clear();
        for found in self.automaton.find_overlapping_iter(Input::new(text)) {
            let shape = self.shapes[found.pattern().as_usize()];
            let (start, end) = (found.start(), found.end());
            if shape.opens && text.get(..start).and_then(|before| before.chars().next_back()).is_some_and(is_spaced_letter) {
                continue;
            }
            if shape.closes && text.get(end..).and_then(|after| after.chars().next()).is_some_and(is_spaced_letter) {
                continue;
            }
            marks.push(Mark { start, end, idea: shape.idea });
        }
        marks.sort_unstable_by_key(|mark| (mark.start, mark.idea, std::cmp::Reverse(mark.end)));
        marks.dedup_by_key(|mark| (mark.start, mark.idea));
    }
}

/// Whether words of the character's script are written apart, so that a letter beside a pattern makes another word of it.
fn is_spaced_letter(c: char) -> bool {
    c.is_alphanumeric()
        && !matches!(u32::from(c), 0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x3400..=0x9FFF | 0xAC00..=0xD7AF | 0xF900..=0xFAFF | 0x2_0000..=0x3_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&'static str, String)> {
        let lexicon = Lexicon::parse(&["% a comment\nignore: ignor*; 忽略\nprevious: previous; so far"]).expect("a good vocabulary");
        let mut marks = Vec::new();
        lexicon.marks(text, &mut marks);
        marks.iter().map(|mark| (mark.idea.as_str(), text[mark.start..mark.end].to_owned())).collect()
    }

    #[test]
    fn whole_words_beginnings_and_scripts_without_spaces() {
        assert_eq!(found("ignoring the previous text"), [("ignore", "ignor".to_owned()), ("previous", "previous".to_owned())]);
        assert_eq!(found("signore, previously so farther"), []);
        assert_eq!(found("请忽略它"), [("ignore", "忽略".to_owned())]);
    }

    #[test]
    fn the_shipped_vocabulary_is_well_formed_and_names_every_idea() {
        let lexicon = Lexicon::shipped().expect("the shipped vocabulary");
        for idea in Idea::ALL {
            assert!(lexicon.shapes.iter().any(|shape| shape.idea == *idea), "{} has no words", idea.as_str());
        }
    }

    #[test]
    fn an_unknown_idea_is_an_error() {
        assert!(Lexicon::parse(&["nothing: word"]).is_err());
    }
}
