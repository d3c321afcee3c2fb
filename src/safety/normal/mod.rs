//! What a text really says: folded to plain letters, and with encodings and disguises taken off.
//!
//! [`fold()`] undoes how characters are written (full-width, invisible, look-alike, piled-up ones) and leads every offset back
//! to the raw text. [`views`] takes off what changes whole stretches (encodings, ciphers, spacing) and says where each stood.
//! Both take time linear in the text and memory bounded by it; a plain ASCII text costs little more than reading it.

mod codes;
mod english;
mod escapes;
mod fold;
#[cfg(test)]
mod fold_test;
mod grain;
mod islands;
mod leet;
mod letters;
mod lookalikes;
mod map;
mod search;
#[cfg(test)]
mod search_test;
mod shifted;
mod spaced;
mod unseen;
mod view;
mod words;

pub use fold::{Folded, Odd, fold};
pub use search::views;
pub use view::{Veil, View, Views};

use std::sync::OnceLock;

/// The normal forms of one text, each worked out when it is first asked for.
#[derive(Debug, Clone)]
pub struct Normal<'a> {
    raw: &'a str,
    folded: OnceLock<Folded<'a>>,
    views: OnceLock<Views>,
}

impl<'a> Normal<'a> {
    /// Of a text as written; nothing is done yet.
    pub fn new(raw: &'a str) -> Self {
        Self { raw, folded: OnceLock::new(), views: OnceLock::new() }
    }

    /// The text as it reads.
    pub fn folded(&self) -> &Folded<'a> {
        self.folded.get_or_init(|| fold(self.raw))
    }

    /// What the text says under veils.
    pub fn views(&self) -> &Views {
        self.views.get_or_init(|| views(self.raw, self.folded()))
    }
}
