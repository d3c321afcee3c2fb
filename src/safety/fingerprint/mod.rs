//! What a request said, in a form that its answer can be compared with.
//!
//! Only texts are copied when a request is read; the sets of shingles are made when a response-side module first asks for
//! them, each at most once, and cost about 2 µs a KiB. Shingles are of four words after [`skeleton`], so that case, marks,
//! look-alike letters, leetspeak and the order of reading make no difference.

pub mod codes;
pub mod reading;
pub mod skeleton;
pub mod table;
pub mod word;

use std::sync::OnceLock;

use super::{Passage, Side};
use crate::wire::{Kind, Role};
use codes::{Code, Collector};
use reading::Window;
use table::Table;

/// System text beyond this is not compared with answers.
const MOST_SYSTEM: usize = 256 << 10;
/// What the caller is known to know: beyond this the oldest is forgotten, which can only make a finding more likely.
const MOST_KNOWN: usize = 1 << 20;
/// How much of the caller's last words an answer is searched for.
const MOST_RECENT: usize = 16 << 10;

/// The system text of a request, and what its caller knows anyway.
#[derive(Debug, Default)]
pub struct Fingerprints {
    system: String,
    known: String,
    own: OnceLock<Own>,
    own_grams: OnceLock<Table>,
    known_shingles: OnceLock<Table>,
    known_grams: OnceLock<Table>,
    recent: OnceLock<Table>,
}

#[derive(Debug, Default)]
struct Own {
    shingles: Table,
    codes: Vec<Code>,
}

impl Fingerprints {
    /// Of all passages of a request, in their order. Passages of answers are left out.
    pub fn of<'p, 'a: 'p>(passages: impl IntoIterator<Item = &'p Passage<'a>>) -> Self {
        let mut this = Self::default();
        for passage in passages {
            this.add(passage);
        }
        this
    }

    /// One more passage of the request.
    pub fn add(&mut self, passage: &Passage<'_>) {
        if passage.side != Side::Request {
            return;
        }
        match (passage.kind, passage.role) {
            (Kind::Structural | Kind::ToolDefinition, _) => {}
            (Kind::Instruction, _) | (_, Role::System) => append(&mut self.system, passage.text, MOST_SYSTEM),
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

    /// What the caller said, was told and got from tools, in order.
    pub fn known(&self) -> &str {
        &self.known
    }

    /// System and developer text.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// Shingles of the system text.
    pub fn shingles(&self) -> &Table {
        &self.own().shingles
    }

    /// Secret strings of the system text.
    pub fn codes(&self) -> &[Code] {
        &self.own().codes
    }

    /// Grams of letters of the system text: for scripts without spaces and for letters standing apart.
    pub fn grams(&self) -> &Table {
        self.own_grams.get_or_init(|| reading::grams(&self.system))
    }

    /// Whether the caller knows these four words already.
    pub fn known_shingle(&self, shingle: u64) -> bool {
        !self.known.is_empty() && self.known_shingles.get_or_init(|| reading::shingles(&self.known)).contains(shingle)
    }

    /// Whether the caller knows these letters already.
    pub fn known_gram(&self, gram: u64) -> bool {
        !self.known.is_empty() && self.known_grams.get_or_init(|| reading::grams(&self.known)).contains(gram)
    }

    /// Shingles of the caller's last words.
    pub fn recent(&self) -> &Table {
        self.recent.get_or_init(|| reading::shingles(latest(&self.known, MOST_RECENT)))
    }

    fn own(&self) -> &Own {
        self.own.get_or_init(|| {
            if self.system.is_empty() {
                return Own::default();
            }
            let text = self.system.as_str();
            let mut shingles = Table::for_up_to(text.len() / 5 + 16);
            let mut window = Window::default();
            let mut codes = Collector::default();
            reading::words(text, |word, letters, at| {
                if let Some(shingle) = window.push(word) {
                    shingles.insert(shingle);
                }
                codes.word(text, word, letters, &at);
            });
            Own { shingles, codes: codes.finish(text) }
        })
    }
}

/// Appends what fits below `most`, apart from what is there.
fn append(to: &mut String, text: &str, most: usize) {
    let room = most.saturating_sub(to.len() + 1);
    let end = (0..=room.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    if end > 0 {
        to.push('\n');
        to.push_str(&text[..end]);
    }
}

/// The last bytes of a text, at most this many.
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
    fn what_is_kept_of_a_huge_request_is_bounded() {
        let (system, user) = ("é ".repeat(1 << 20), "ü ".repeat(1 << 20));
        let prints = Fingerprints::of(&[said(Role::System, &system), said(Role::User, &user), said(Role::User, "the last words")]);
        assert!(prints.system().len() <= MOST_SYSTEM && prints.known().len() <= MOST_KNOWN + 16);
        assert!(prints.known().ends_with("the last words"));
    }
}
