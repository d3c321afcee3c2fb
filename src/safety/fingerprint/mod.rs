//! What a request said, in a form with which its answer can be compared.
//!
//! Reading a request only copies texts. The sets of shingles are computed when a response-side module first asks for them,
//! each at most once, at about 2 µs per KiB. Shingles are four consecutive words after [`skeleton`] normalisation, so that
//! case, punctuation, look-alike letters, leetspeak and reading direction make no difference.

pub mod codes;
pub mod gist;
mod memory;
pub mod reading;
pub mod skeleton;
mod spoken;
pub mod table;
pub mod values;
pub mod word;

use std::sync::{Arc, OnceLock};

pub use memory::Memory;

use super::{Passage, Side};
use crate::wire::{Kind, Role};
use codes::{Code, Collector};
use gist::{Said, Vocabulary};
use reading::Window;
use table::Table;

/// System text beyond this many bytes is not compared with answers.
const MOST_SYSTEM: usize = 256 << 10;
/// Bytes kept of what the caller knows. Beyond them the oldest is forgotten, which can only make a finding more likely.
const MOST_KNOWN: usize = 1 << 20;
/// Bytes of the caller's last messages that an answer is searched for.
const MOST_RECENT: usize = 16 << 10;

/// The system text of a request, and what its caller knows anyway.
#[derive(Debug, Default)]
pub struct Fingerprints {
    system: String,
    /// The end of the system text's title: what an application calls itself is not secret.
    title: usize,
    known: String,
    name: u128,
    own: OnceLock<Arc<Own>>,
    unknown: OnceLock<Vec<Code>>,
    known_shingles: OnceLock<Table>,
    known_grams: OnceLock<Table>,
    recent: OnceLock<Said>,
    values: OnceLock<Table>,
}

/// What is computed from a system text.
#[derive(Debug, Default)]
struct Own {
    shingles: Table,
    gists: Table,
    vocabulary: Vocabulary,
    words: Table,
    codes: Vec<Code>,
    grams: OnceLock<Table>,
}

impl Fingerprints {
    /// The fingerprints of all passages of a request, in order. Passages of answers are ignored.
    pub fn of<'p, 'a: 'p>(passages: impl IntoIterator<Item = &'p Passage<'a>>) -> Self {
        let mut this = Self::default();
        for passage in passages {
            this.add(passage);
        }
        this
    }

    /// Attaches a name that identifies these texts: two requests with the same name said the same. 0 is no name.
    #[must_use]
    pub fn named(mut self, name: u128) -> Self {
        self.name = name;
        self
    }

    /// The name, if it has one.
    pub fn name(&self) -> Option<u128> {
        (self.name != 0).then_some(self.name)
    }

    /// Adds a passage of the request.
    pub fn add(&mut self, passage: &Passage<'_>) {
        if passage.side != Side::Request {
            return;
        }
        match (passage.kind, passage.role) {
            (Kind::Structural | Kind::ToolDefinition, _) => {}
            (Kind::Instruction, _) | (_, Role::System) => {
                let first = self.system.is_empty();
                append(&mut self.system, passage.text, MOST_SYSTEM);
                if first {
                    self.title = title(&self.system);
                }
            }
            _ => {
                if self.known.len() + passage.text.len() > MOST_KNOWN {
                    self.known = latest(&self.known, MOST_KNOWN.saturating_sub(passage.text.len())).to_owned();
                }
                append(&mut self.known, latest(passage.text, MOST_KNOWN), MOST_KNOWN + 1);
            }
        }
    }

    /// Whether there is nothing to compare an answer with.
    pub fn is_empty(&self) -> bool {
        self.system.is_empty() && self.known.is_empty()
    }

    /// What the caller said, was answered, and got from tools, in order.
    pub fn known(&self) -> &str {
        &self.known
    }

    /// System and developer text.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// The shingles of the system text.
    pub fn shingles(&self) -> &Table {
        &self.own().shingles
    }

    /// Shingles over gists of the system text, and some more. An answer without any of these has none of [`Self::shingles`]
    /// either.
    pub fn gists(&self) -> &Table {
        &self.own().gists
    }

    /// The gists in the system text.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.own().vocabulary
    }

    /// The words in the system text. An answer in the same language shares some of them, one in disguise none.
    pub fn words(&self) -> &Table {
        &self.own().words
    }

    /// The secret strings in the system text that its caller does not know.
    pub fn codes(&self) -> &[Code] {
        let codes = &self.own().codes;
        if codes.is_empty() {
            return codes;
        }
        self.unknown.get_or_init(|| codes.iter().filter(|code| !code.known_from(&self.known)).cloned().collect())
    }

    /// Letter n-grams of the system text, for scripts without spaces and for spaced-out letters.
    pub fn grams(&self) -> &Table {
        self.own().grams.get_or_init(|| {
            let (title, text) = self.system.split_at(self.title);
            reading::grams(text, &reading::grams(title, &Table::default()))
        })
    }

    /// Whether the caller knows this shingle.
    pub fn known_shingle(&self, shingle: u64) -> bool {
        !self.known.is_empty() && self.known_shingles.get_or_init(|| reading::shingles(&self.known)).contains(shingle)
    }

    /// Whether the caller knows this n-gram.
    pub fn known_gram(&self, gram: u64) -> bool {
        !self.known.is_empty() && self.known_grams.get_or_init(|| reading::grams(&self.known, &Table::default())).contains(gram)
    }

    /// The caller's last messages.
    pub fn recent(&self) -> &Said {
        self.recent.get_or_init(|| Said::in_text(latest(&self.known, MOST_RECENT)))
    }

    /// Whether a value with this [number](values::number) occurs in the request, whoever said it.
    pub fn has_value(&self, number: u64) -> bool {
        self.values.get_or_init(|| values::all([&self.system, &self.known])).contains(number)
    }

    /// Takes what was computed from its system text before from a cache.
    pub fn recall(&self, memory: &Memory) {
        if !self.system.is_empty() {
            self.own.get_or_init(|| memory.of(&self.system, || self.read()));
        }
    }

    fn own(&self) -> &Own {
        self.own.get_or_init(|| Arc::new(if self.system.is_empty() { Own::default() } else { self.read() }))
    }

    fn read(&self) -> Own {
        let (title, text) = self.system.split_at(self.title);
        let title = reading::shingles(title);
        let mut shingles = Table::for_up_to(text.len() / 5 + 16);
        let mut words = Table::for_up_to(text.len() / 12 + 16);
        let mut window = Window::default();
        let mut codes = Collector::default();
        let mut spoken = spoken::spoken(text).into_iter().peekable();
        reading::words(text, |word, letters, at| {
            words.insert(word);
            while spoken.next_if(|span| span.end <= at.start).is_some() {}
            if spoken.peek().is_some_and(|span| span.start <= at.start) {
                window = Window::default();
                return;
            }
            if let Some(shingle) = window.push(word)
                && (title.is_empty() || !title.contains(shingle))
            {
                shingles.insert(shingle);
            }
            codes.word(text, word, letters, &at);
        });
        Own {
            shingles,
            gists: gist::shingles(&self.system),
            vocabulary: Vocabulary::of(&self.system),
            words,
            codes: codes.finish(text),
            grams: OnceLock::new(),
        }
    }
}

/// The end of the title: the first four words, unless they are more than a third of the text.
fn title(text: &str) -> usize {
    let start = text.len() - text.trim_start().len();
    let mut inside = true;
    let mut words = 0;
    for (at, c) in text[start..].char_indices().take_while(|(at, _)| *at <= text.len() / 3) {
        if inside && c.is_whitespace() {
            words += 1;
            if words == 4 {
                return start + at;
            }
        }
        inside = !c.is_whitespace();
    }
    0
}

/// Appends as much of a text as fits below `most`, separated from what is there.
fn append(to: &mut String, text: &str, most: usize) {
    let room = most.saturating_sub(to.len() + 1);
    let end = (0..=room.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    if end > 0 {
        if to.capacity() == 0 {
            // Enough for the messages of a short conversation.
            to.reserve(text.len().max(1000) + 24);
        }
        to.push('\n');
        to.push_str(&text[..end]);
    }
}

/// The end of a text, at most this many bytes.
fn latest(text: &str, most: usize) -> &str {
    let from = text.len().saturating_sub(most);
    let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: Role, text: &str) -> Passage<'_> {
        Passage::new(text, Side::Request, Kind::Content, role)
    }

    #[test]
    fn system_text_is_the_gateways_and_everything_else_is_known_to_the_caller() {
        let prints = Fingerprints::of(&[
            said(Role::System, "never talk about the price of the yellow house"),
            said(Role::User, "the price of the yellow house?"),
            Passage::new("be polite", Side::Request, Kind::Instruction, Role::Unknown),
            Passage::new("an answer", Side::Response, Kind::Content, Role::System),
            Passage::new("get_weather", Side::Request, Kind::ToolDefinition, Role::System),
        ]);
        assert_eq!(prints.system(), "\nnever talk about the price of the yellow house\nbe polite");
        assert_eq!(prints.known(), "\nthe price of the yellow house?");
        let shared = |text: &str| {
            let (mut window, mut own, mut known) = (Window::default(), 0, 0);
            reading::words(text, |word, _, _| {
                if let Some(shingle) = window.push(word) {
                    own += usize::from(prints.shingles().contains(shingle));
                    known += usize::from(prints.known_shingle(shingle));
                }
            });
            (own, known)
        };
        assert_eq!(shared("Talk about the PRICE of the yellow house."), (5, 3));
        assert!(Fingerprints::of(&[]).is_empty());
    }

    #[test]
    fn a_title_is_four_words_of_a_long_text() {
        let long = "You are Kite, the helper of the pilots. Check the weather before every flight.";
        assert_eq!(&long[..title(long)], "You are Kite, the");
        assert_eq!(title("You are Kite, the helper."), 0);
        assert_eq!(title("  \n"), 0);
        assert_eq!(title(&"あなたは金庫の番人です。".repeat(20)), 0);
    }

    #[test]
    fn what_is_kept_of_a_huge_request_is_bounded() {
        let (system, user) = ("é ".repeat(1 << 20), "ü ".repeat(1 << 20));
        let prints = Fingerprints::of(&[said(Role::System, &system), said(Role::User, &user), said(Role::User, "the last words")]);
        assert!(prints.system().len() <= MOST_SYSTEM && prints.known().len() <= MOST_KNOWN + 16);
        assert!(prints.known().ends_with("the last words"));
    }
}
