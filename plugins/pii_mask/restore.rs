//! Replaces tokens by their values.

use std::borrow::Cow;
use std::ops::Range;
use std::time::Instant;

use super::json::{self, Edits, Inside};
use super::minted::Minted;
use super::token;
use super::vault::Vault;
use crate::plugin::prelude::*;

/// The values for the tokens of one answer: those of its own request, then those of the organisation's vault.
pub struct Restoring {
    minted: Minted,
    vault: Option<Arc<Vault>>,
    now: Instant,
    /// Number of tokens that were replaced.
    pub restored: u32,
    /// Number of tokens that are unknown in this organisation.
    pub unknown: u32,
}

impl Restoring {
    /// `vault` is `None` for a caller without an organisation.
    pub fn new(minted: Minted, vault: Option<Arc<Vault>>, now: Instant) -> Self {
        Self { minted, vault, now, restored: 0, unknown: 0 }
    }

    fn value(&mut self, token: &str) -> Option<Arc<str>> {
        let value = self.known(token);
        match value {
            Some(_) => self.restored += 1,
            None => self.unknown += 1,
        }
        value
    }

    fn known(&self, token: &str) -> Option<Arc<str>> {
        self.minted.get(token).cloned().or_else(|| self.vault.as_ref().and_then(|vault| vault.value(token, self.now)))
    }

    /// The edits of a whole JSON body without walking over it, as long as every value needs no escapes, however deeply it
    /// is quoted; otherwise `None`. Two brackets followed by a letter occur in JSON only within strings, so a match is
    /// always a token in a string.
    pub fn directly(&mut self, body: &str) -> Option<Edits> {
        let mut edits = Edits::new();
        let (mut at, mut unknown) = (0, 0);
        while let Some(range) = token::next(body, at) {
            at = range.end;
            match self.known(body.get(range.clone()).unwrap_or_default()) {
                Some(value) if matches!(json::escape(&value), Cow::Borrowed(_)) => edits.push((range, value.as_ref().to_owned())),
                Some(_) => return None,
                None => unknown += 1,
            }
        }
        self.restored += u32::try_from(edits.len()).unwrap_or(u32::MAX);
        self.unknown += unknown;
        Some(edits)
    }

    /// Calls `put` for every known token of a text with its value; within nested JSON the value is escaped once more.
    fn each(&mut self, text: &str, nested: bool, mut put: impl FnMut(Range<usize>, &str)) {
        let mut at = 0;
        while let Some(range) = token::next(text, at) {
            at = range.end;
            if let Some(value) = self.value(text.get(range.clone()).unwrap_or_default()) {
                if nested { put(range, &json::escape(&value)) } else { put(range, &value) }
            }
        }
    }

    /// Adds the edits of a JSON string with the content `raw` at `offset` in the body.
    pub fn string(&mut self, raw: &str, offset: usize, nested: bool, edits: &mut Edits) {
        let inside = Inside::of(raw);
        let nested = nested && json::looks_nested(&inside.text);
        self.each(&inside.text, nested, |range, value| {
            let range = inside.raw(&range);
            edits.push((offset + range.start..offset + range.end, json::escape(value).into_owned()));
        });
    }

    /// A text outside of JSON with its tokens replaced; `None` if there are none.
    pub fn plain(&mut self, text: &str, nested: bool) -> Option<String> {
        let mut edits = Edits::new();
        self.each(text, nested, |range, value| edits.push((range, value.to_owned())));
        if edits.is_empty() {
            return None;
        }
        wire::patch(text.as_bytes(), &edits).and_then(|bytes| String::from_utf8(bytes).ok())
    }
}

/// Restores a text that arrives in pieces. Only the possible beginning of a token is held back.
#[derive(Debug, Default)]
pub struct Pieces {
    held: String,
}

impl Pieces {
    /// Adds a piece, and appends to `out` what can be released. `last` releases everything.
    pub fn push(&mut self, piece: &str, last: bool, nested: bool, restoring: &mut Restoring, out: &mut String) {
        self.held.push_str(piece);
        let open = if last { self.held.len() } else { token::open_from(&self.held) };
        let waits = self.held.split_off(open);
        let leaves = std::mem::replace(&mut self.held, waits);
        match restoring.plain(&leaves, nested) {
            Some(restored) => out.push_str(&restored),
            None => out.push_str(&leaves),
        }
    }

    /// Whether anything is held back.
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }
}
