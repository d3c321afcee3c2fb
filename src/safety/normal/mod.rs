//! Normal forms of a text: folded to plain letters, and with encodings and disguises removed.
//!
//! [`fold()`] undoes unusual characters (full-width, invisible, look-alike, piled-up ones) and maps every offset back to
//! the raw text. [`views`] undoes what changes whole stretches (encodings, ciphers, spacing), with the place of each
//! stretch. Both take time linear in the text and bounded memory; plain ASCII text costs little more than reading it.

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

/// The normal forms of a text, each computed when it is first needed.
#[derive(Debug, Clone)]
pub struct Normal<'a> {
    raw: &'a str,
    folded: OnceLock<Folded<'a>>,
    views: OnceLock<Views>,
}

impl<'a> Normal<'a> {
    /// The forms of a text as written; nothing is computed yet.
    pub fn new(raw: &'a str) -> Self {
        Self { raw, folded: OnceLock::new(), views: OnceLock::new() }
    }

    /// The folded text.
    pub fn folded(&self) -> &Folded<'a> {
        self.folded.get_or_init(|| fold(self.raw))
    }

    /// The texts found under encodings and disguises.
    pub fn views(&self) -> &Views {
        self.views.get_or_init(|| views(self.raw, self.folded()))
    }
}
