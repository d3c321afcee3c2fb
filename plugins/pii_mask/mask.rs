//! Replaces finds by tokens: in a text, in a whole JSON body, and in text that arrives in pieces.

use std::time::Instant;

use super::detect::{BUILT_IN, Detector, Find};
use super::json::{self, Edits, Inside};
use super::minted::Minted;
use super::token;
use super::vault::Vault;
use crate::plugin::prelude::*;

/// A match of a custom pattern that is longer is replaced in a stream before its end is known. In bytes.
const LONGEST_HELD: usize = 4096;
/// Number of released bytes that are kept to determine boundaries.
const CONTEXT: usize = 8;

/// The masking of one request or answer: the detector, the vault, and what was masked.
pub struct Masking {
    detector: Arc<Detector>,
    /// The vault in which values are stored.
    pub vault: Arc<Vault>,
    /// Whether the organisation's vault may keep values; otherwise they can be restored for this request only.
    keep: bool,
    /// For each kind, whether its tokens are ever restored.
    reversible: Arc<[bool]>,
    pub now: Instant,
    /// Tokens that can be restored in this request's answer.
    pub minted: Minted,
    hidden: Minted,
    counts: Vec<u32>,
    finds: Vec<Find>,
}

impl Masking {
    /// A masking without finds.
    pub fn new(detector: Arc<Detector>, vault: Arc<Vault>, keep: bool, reversible: Arc<[bool]>, now: Instant) -> Self {
        let (minted, hidden) = Default::default();
        Self { detector, vault, keep, reversible, now, minted, hidden, counts: Vec::new(), finds: Vec::new() }
    }

    /// The number of masked values by kind: `email=2 phone=1`.
    pub fn summary(&self) -> Option<String> {
        let mut summary = String::new();
        for (kind, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            if !summary.is_empty() {
                summary.push(' ');
            }
            summary.push_str(self.detector.name(kind));
            summary.push('=');
            summary.push_str(&count.to_string());
        }
        (!summary.is_empty()).then_some(summary)
    }

    fn token(&mut self, kind: usize, value: &str) -> Arc<str> {
        if self.counts.len() <= kind {
            self.counts.resize(self.detector.kinds(), 0);
        }
        if let Some(count) = self.counts.get_mut(kind) {
            *count += 1;
        }
        let reversible = self.reversible.get(kind).copied().unwrap_or(true);
        let minted = if reversible { &mut self.minted } else { &mut self.hidden };
        let (name, label) = (self.detector.name(kind), self.detector.label(kind));
        self.vault.token(name, label, value, self.keep && reversible, minted, self.now)
    }

    /// Whether a find is part of a token, since what is masked must not be masked again. A token that this organisation's
    /// vault has made is known for certain. If the vault has forgotten it, or another replica made it, its form and kind
    /// must suffice; but not for custom patterns, which may be meant to match exactly such text.
    fn in_token(&self, text: &str, find: &Find) -> bool {
        let bytes = text.as_bytes();
        let mut at = find.span.start.saturating_sub(token::TOKEN_BYTES);
        // A token that begins after the find is not searched for, since a text may have many finds.
        while let Some(open) = bytes.get(at..=find.span.start).and_then(|before| memchr::memchr(b'[', before)).map(|open| at + open) {
            at = open + 1;
            let Some(token::Reading::Token(length)) = bytes.get(open..).map(token::read) else { continue };
            let Some(token) = text.get(open..open + length).filter(|_| find.span.end <= open + length) else { continue };
            if self.is_minted(token) || find.kind < BUILT_IN.len() && self.has_label(token) {
                return true;
            }
        }
        false
    }

    fn is_minted(&self, token: &str) -> bool {
        self.minted.get(token).is_some() || self.hidden.get(token).is_some() || self.vault.value(token, self.now).is_some()
    }

    fn has_label(&self, token: &str) -> bool {
        token::label(token).is_some_and(|label| (0..self.detector.kinds()).any(|kind| self.detector.label(kind) == label))
    }

    /// Calls `each` with every find of a text and its token, ignoring finds within tokens.
    fn each(&mut self, text: &str, mut each: impl FnMut(std::ops::Range<usize>, &str)) {
        let mut finds = std::mem::take(&mut self.finds);
        finds.clear();
        self.detector.find(text, 0, &mut finds);
        for find in &finds {
            if self.in_token(text, find) {
                continue;
            }
            let token = self.token(find.kind, text.get(find.span.clone()).unwrap_or_default());
            each(find.span.clone(), &token);
        }
        self.finds = finds;
    }

    /// Adds the edits of a JSON string with the content `raw` at `offset` in the body.
    pub fn string(&mut self, raw: &str, offset: usize, nested: bool, edits: &mut Edits) {
        // A string is decoded only if it can contain a find.
        if !self.detector.may_find(raw.as_bytes()) {
            return;
        }
        let inside = Inside::of(raw);
        let mut put = |range: std::ops::Range<usize>, text: &str| {
            let range = inside.raw(&range);
            edits.push((offset + range.start..offset + range.end, json::escape(text).into_owned()));
        };
        if !(nested && json::looks_nested(&inside.text)) {
            self.each(&inside.text, put);
            return;
        }
        for (stretch, quoted) in json::stretches(&inside.text) {
            let source = inside.text.get(stretch.clone()).unwrap_or_default();
            if quoted {
                let inner = Inside::of(source);
                self.each(&inner.text, |range, token| {
                    let range = inner.raw(&range);
                    put(stretch.start + range.start..stretch.start + range.end, token);
                });
            } else {
                // A number becomes a string; otherwise the arguments would no longer be JSON.
                self.each(source, |range, token| {
                    put(stretch.start + range.start..stretch.start + range.end, &format!("\"{token}\""));
                });
            }
        }
    }

    /// The edits of a text outside of JSON.
    pub fn finds_of(&mut self, text: &str) -> Edits {
        let mut edits = Edits::new();
        self.each(text, |range, token| edits.push((range, token.to_owned())));
        edits
    }

    /// A text outside of JSON with its finds replaced; `None` if there are none.
    pub fn plain(&mut self, text: &str) -> Option<String> {
        let edits = self.finds_of(text);
        if edits.is_empty() {
            return None;
        }
        wire::patch(text.as_bytes(), &edits).and_then(|bytes| String::from_utf8(bytes).ok())
    }
}

/// Masks a text that arrives in pieces. Nothing is released while it may become part of a find; what is held back is
/// bounded by the longest find.
#[derive(Debug, Default)]
pub struct Pieces {
    /// Context that was released, followed by what is held back.
    buffer: String,
    context: usize,
}

impl Pieces {
    /// Adds a piece, and appends to `out` what can be released. `last` releases everything.
    pub fn push(&mut self, piece: &str, last: bool, masking: &mut Masking, out: &mut String) {
        self.buffer.push_str(piece);
        let detector = masking.detector.clone();
        let mut open = if last { self.buffer.len() } else { detector.open_from(&self.buffer, self.context) };
        let mut finds = std::mem::take(&mut masking.finds);
        finds.clear();
        detector.find(&self.buffer, self.context, &mut finds);
        let mut at = self.context;
        for find in &finds {
            if find.span.start >= open {
                break;
            }
            if masking.in_token(&self.buffer, find) {
                continue;
            }
            if find.span.end > open {
                if self.buffer.len() - find.span.start <= LONGEST_HELD {
                    open = find.span.start;
                    break;
                }
                open = find.span.end;
            }
            out.push_str(self.buffer.get(at..find.span.start).unwrap_or_default());
            let value = self.buffer.get(find.span.clone()).unwrap_or_default();
            out.push_str(&masking.token(find.kind, value));
            at = find.span.end;
        }
        masking.finds = finds;
        out.push_str(self.buffer.get(at..open).unwrap_or_default());
        let mut keep = open.saturating_sub(CONTEXT);
        while !self.buffer.is_char_boundary(keep) {
            keep -= 1;
        }
        self.buffer.drain(..keep);
        self.context = open - keep;
        if last {
            self.buffer.clear();
            self.context = 0;
        }
    }

    /// Whether anything is held back.
    pub fn holds(&self) -> bool {
        self.buffer.len() > self.context
    }
}

/// Masks JSON text that arrives in pieces, such as the arguments of a tool call: within strings, after decoding their
/// escapes; and numbers, by turning them into strings.
#[derive(Debug, Default)]
pub struct NestedPieces {
    text: Pieces,
    inside: bool,
    /// An incomplete escape, or an incomplete word outside of strings.
    partial: String,
}

impl NestedPieces {
    /// As [`Pieces::push`].
    pub fn push(&mut self, piece: &str, last: bool, masking: &mut Masking, out: &mut String) {
        let mut decoded = String::new();
        for character in piece.chars() {
            if !self.inside {
                self.bare(character, masking, out);
            } else if !self.partial.is_empty() || character == '\\' {
                self.partial.push(character);
                if escape_is_whole(&self.partial) {
                    decoded.push_str(&Inside::of(&self.partial).text);
                    self.partial.clear();
                }
            } else if character == '"' {
                self.leave(&mut decoded, true, masking, out);
                self.inside = false;
                out.push('"');
            } else {
                decoded.push(character);
            }
        }
        if self.inside {
            if last {
                decoded.push_str(&std::mem::take(&mut self.partial));
            }
            self.leave(&mut decoded, last, masking, out);
        } else if last {
            self.word(masking, out);
        }
    }

    fn bare(&mut self, character: char, masking: &mut Masking, out: &mut String) {
        if character.is_ascii_alphanumeric() || matches!(character, '+' | '-' | '.') && self.partial.len() < 64 {
            self.partial.push(character);
            return;
        }
        self.word(masking, out);
        out.push(character);
        self.inside = character == '"';
    }

    /// Ends a word outside of strings: a number that is a find becomes a string.
    fn word(&mut self, masking: &mut Masking, out: &mut String) {
        let word = std::mem::take(&mut self.partial);
        match masking.plain(&word) {
            Some(masked) => {
                out.push('"');
                out.push_str(&masked);
                out.push('"');
            }
            None => out.push_str(&word),
        }
    }

    fn leave(&mut self, decoded: &mut String, last: bool, masking: &mut Masking, out: &mut String) {
        let mut masked = String::new();
        self.text.push(decoded, last, masking, &mut masked);
        decoded.clear();
        out.push_str(&json::escape(&masked));
    }

    /// Whether anything is held back.
    pub fn holds(&self) -> bool {
        self.text.holds() || !self.partial.is_empty()
    }
}

/// Whether an escape is complete. A high surrogate waits for its other half.
fn escape_is_whole(escape: &str) -> bool {
    let bytes = escape.as_bytes();
    match bytes.get(1) {
        None => false,
        Some(b'u') => {
            let high = bytes.get(2).is_some_and(|b| b.eq_ignore_ascii_case(&b'd'))
                && bytes.get(3).is_some_and(|b| matches!(b.to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'));
            let other = bytes.get(6).is_some_and(|b| *b != b'\\') || bytes.get(7).is_some_and(|b| *b != b'u');
            bytes.len() >= 6 && !high || bytes.len() >= 12 || high && other
        }
        Some(_) => true,
    }
}
