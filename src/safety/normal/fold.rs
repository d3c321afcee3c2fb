//! Folding: a text as it reads, whatever characters it is written with.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use unicode_normalization::char::compose;

use super::letters::{Fact, Tag, expand, fact};
use super::map::{LONGEST, Map};
use super::words;

/// Counts of unusual characters. Accents, typographic quotes, joiners in scripts that need them, and emoji selectors are
/// usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Odd {
    /// Invisible characters after a Latin letter, a digit or another one of them.
    pub invisible: u32,
    /// Controls of writing direction.
    pub bidi: u32,
    /// Variation selectors after a letter, a digit or another selector.
    pub selectors: u32,
    /// Tag characters, which are invisible copies of ASCII.
    pub tags: u32,
    /// Control characters other than whitespace.
    pub controls: u32,
    /// Combining marks piled on others.
    pub piled: u32,
    /// Styled Latin letters: full-width, mathematical, circled, small capitals.
    pub styled: u32,
    /// Letters of other scripts in place of Latin ones.
    pub lookalikes: u32,
}

impl Odd {
    /// The sum of all counts.
    pub fn total(&self) -> u32 {
        [self.invisible, self.bidi, self.selectors, self.tags, self.controls, self.piled, self.styled, self.lookalikes]
            .iter()
            .fold(0, |sum, &count| sum.saturating_add(count))
    }
}

/// A folded text: compatibility forms are replaced (NFKC), Latin letters lose their accents, look-alikes become the Latin
/// letters, and invisible characters are dropped. Offsets can be mapped back to the original text.
#[derive(Debug, Clone)]
pub struct Folded<'a> {
    cased: Cow<'a, str>,
    /// The lower-case text; `None` inside if there are no capitals.
    lower: OnceLock<Option<String>>,
    map: Map,
    odd: Odd,
}

impl Folded<'_> {
    /// The text in lower case, for phrases and models.
    pub fn text(&self) -> &str {
        self.lower.get_or_init(|| lower(&self.cased)).as_deref().unwrap_or(&self.cased)
    }

    /// The text in its original case, with the same offsets as [`Self::text`], for credentials and encodings.
    pub fn cased(&self) -> &str {
        &self.cased
    }

    /// The bytes of the raw text for a range of the folded one. Characters that were dropped within it and directly after
    /// it are included. On character boundaries if `range` is.
    pub fn original(&self, range: Range<usize>) -> Range<usize> {
        self.map.original(range)
    }

    /// The counts of unusual characters.
    pub fn odd(&self) -> &Odd {
        &self.odd
    }

    /// Whether folding changed nothing except, perhaps, capitals.
    pub fn is_plain(&self) -> bool {
        matches!(self.cased, Cow::Borrowed(_))
    }
}

/// Folds a text. Beyond 2 GiB it is cut off.
pub fn fold(raw: &str) -> Folded<'_> {
    let mut longest = raw.len().min(LONGEST);
    while !raw.is_char_boundary(longest) {
        longest -= 1;
    }
    let raw = raw.get(..longest).unwrap_or(raw);
    if is_plain_ascii(raw.as_bytes()) {
        return Folded { cased: Cow::Borrowed(raw), lower: OnceLock::new(), map: Map::same(raw.len()), odd: Odd::default() };
    }
    let disguised = words::disguised(raw);
    let mut fold =
        Fold { out: String::with_capacity(raw.len()), map: Map::default(), odd: Odd::default(), last: None, piled: 0, unseen: false };
    fold.run(raw, &disguised);
    fold.map.end(fold.out.len(), raw.len());
    if fold.out == raw {
        return Folded { cased: Cow::Borrowed(raw), lower: OnceLock::new(), map: Map::same(raw.len()), odd: fold.odd };
    }
    Folded { cased: Cow::Owned(fold.out), lower: OnceLock::new(), map: fold.map, odd: fold.odd }
}

/// Whether a byte is neither printable ASCII nor whitespace.
#[inline]
const fn odd(byte: u8) -> bool {
    // Without branches, so that the compiler can vectorise it.
    (byte >= 0x7F) | ((byte < 0x20) & (byte != b'\n') & (byte != b'\t') & (byte != b'\r'))
}

/// Whether every byte is plain ASCII: one of the first checks on any text.
fn is_plain_ascii(bytes: &[u8]) -> bool {
    let plain = |bytes: &[u8]| !bytes.iter().fold(false, |all, &byte| all | odd(byte));
    let chunks = bytes.chunks_exact(128);
    plain(chunks.remainder()) && chunks.into_iter().all(plain)
}

fn lower(cased: &str) -> Option<String> {
    if cased.is_ascii() {
        return cased.bytes().any(|byte| byte.is_ascii_uppercase()).then(|| cased.to_ascii_lowercase());
    }
    let small = cased.to_ascii_lowercase();
    // Capitals beyond ASCII are rare: the text between them, from here, is copied in one piece.
    let (mut lower, mut from, mut at) = (String::new(), 0, 0);
    while let Some(lead) = next(&small, &mut at, |byte| byte >= 0x80) {
        if uncased(lead) {
            at += 3;
            continue;
        }
        let Some(c) = small.get(at..).and_then(|rest| rest.chars().next()) else { break };
        let written = fact(c).lower;
        if written != c {
            lower.push_str(small.get(from..at).unwrap_or_default());
            lower.push(written);
            from = at + c.len_utf8();
        }
        at += c.len_utf8();
    }
    if from == 0 {
        return Some(small);
    }
    lower.push_str(small.get(from..).unwrap_or_default());
    Some(lower)
}

/// Whether a three-byte character with this first byte belongs to a script without capitals.
#[inline]
const fn uncased(lead: u8) -> bool {
    matches!(lead, 0xE0 | 0xE3..=0xE9 | 0xEB..=0xEE)
}

/// Whether a three-byte character with this first byte is Han or Hangul, which folding keeps.
#[inline]
const fn whole(lead: u8) -> bool {
    matches!(lead, 0xE4..=0xE9 | 0xEB | 0xEC)
}

/// The next byte of a kind; `at` moves to it, or to the end.
#[inline]
pub fn next(text: &str, at: &mut usize, sort: impl Fn(u8) -> bool) -> Option<u8> {
    let bytes = text.as_bytes();
    let first = *bytes.get(*at)?;
    if sort(first) {
        return Some(first);
    }
    // Without branches within a chunk, so that the compiler can vectorise it.
    while let Some(chunk) = bytes.get(*at..).and_then(|rest| rest.first_chunk::<16>())
        && !chunk.iter().fold(false, |any, &byte| any | sort(byte))
    {
        *at += 16;
    }
    let rest = bytes.get(*at..)?;
    *at += rest.iter().position(|&byte| sort(byte)).unwrap_or(rest.len());
    bytes.get(*at).copied()
}

/// Whether characters with this tag are kept, unless they have a replacement.
const fn stays(tag: Tag) -> bool {
    matches!(tag, Tag::Other | Tag::Latin | Tag::Digit | Tag::Letter | Tag::Alike | Tag::Loose)
}

struct Fold {
    out: String,
    map: Map,
    odd: Odd,
    /// The last character written, as long as marks can combine with it.
    last: Option<char>,
    /// Number of marks on it.
    piled: u32,
    /// Whether the last character read was invisible.
    unseen: bool,
}

impl Fold {
    fn run(&mut self, raw: &str, disguised: &[Range<usize>]) {
        let mut disguised = disguised.iter().peekable();
        // Unchanged text, from here, is copied in one piece.
        let mut from = 0;
        let mut at = 0;
        while let Some(lead) = next(raw, &mut at, odd) {
            if whole(lead) {
                at += 3;
                continue;
            }
            let Some(c) = raw.get(at..).and_then(|rest| rest.chars().next()) else { break };
            let fact = fact(c);
            let inside = matches!(fact.tag, Tag::Alike | Tag::Loose) && {
                while disguised.next_if(|range| range.end <= at).is_some() {}
                disguised.peek().is_some_and(|range| range.start <= at)
            };
            if fact.folded == c && !inside && stays(fact.tag) {
                at += c.len_utf8();
                continue;
            }
            self.copy(raw, from..at);
            self.take(c, &fact, at, inside);
            at += c.len_utf8();
            from = at;
        }
        self.copy(raw, from..at);
    }

    fn copy(&mut self, raw: &str, range: Range<usize>) {
        let Some(piece) = raw.get(range.clone()).filter(|piece| !piece.is_empty()) else { return };
        self.map.copied(self.out.len(), range.start);
        self.out.push_str(piece);
        self.wrote(piece.chars().next_back());
    }

    fn wrote(&mut self, last: Option<char>) {
        (self.last, self.piled, self.unseen) = (last, 0, false);
    }

    fn write(&mut self, c: char, written: char, at: usize) {
        if c == written {
            self.map.copied(self.out.len(), at);
        } else {
            self.map.replaced(self.out.len(), at);
        }
        self.out.push(written);
        self.wrote(Some(written));
    }

    fn take(&mut self, c: char, fact: &Fact, at: usize, disguised: bool) {
        let behind_latin = self.last.is_some_and(|last| last.is_ascii_alphanumeric());
        match fact.tag {
            Tag::Other | Tag::Latin | Tag::Digit | Tag::Letter => self.write(c, fact.folded, at),
            Tag::Styled => {
                self.odd.styled += 1;
                self.write(c, fact.folded, at);
            }
            Tag::Alike | Tag::Loose => {
                self.odd.lookalikes += u32::from(disguised);
                self.write(c, if disguised { fact.alike } else { fact.folded }, at);
            }
            Tag::Many => {
                self.map.replaced(self.out.len(), at);
                expand(c, &mut |part| self.out.push(part));
                let last = self.out.chars().next_back();
                self.wrote(last);
            }
            Tag::Mark | Tag::Joining => self.mark(c, fact.tag, fact.folded, at),
            Tag::Invisible => {
                self.odd.invisible += u32::from(behind_latin || self.unseen);
                self.unseen = true;
            }
            Tag::Selector => {
                self.odd.selectors += u32::from(behind_latin || self.unseen);
                self.unseen = true;
            }
            Tag::Bidi => self.odd.bidi += 1,
            Tag::Tagged => self.odd.tags += 1,
            Tag::Control => self.odd.controls += 1,
        }
    }

    fn mark(&mut self, c: char, tag: Tag, folded: char, at: usize) {
        self.piled += 1;
        if tag == Tag::Mark && self.piled > 1 {
            self.odd.piled += 1;
        }
        let Some(last) = self.last else {
            if tag == Tag::Joining {
                self.write(c, folded, at);
            }
            return;
        };
        let both = if last.is_ascii() { None } else { compose(last, folded) };
        match both {
            Some(both) => {
                let before = self.out.len() - last.len_utf8();
                let began = self.map.cut(before);
                self.out.truncate(before);
                self.map.replaced(before, began);
                self.out.push(both);
                self.last = Some(both);
            }
            None if tag == Tag::Joining => self.write(c, folded, at),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_over_by_its_first_byte_would_not_change() {
        for c in '\u{80}'..=char::MAX {
            let (lead, fact) = (c.encode_utf8(&mut [0; 4]).as_bytes()[0], fact(c));
            assert!(!whole(lead) || fact.folded == c && matches!(fact.tag, Tag::Other | Tag::Letter), "{c:?}");
            // Only folded text is put into lower case.
            assert!(!uncased(lead) || fact.lower == fact.folded, "{c:?}");
            assert!(!uncased(lead) && !whole(lead) || c.len_utf8() == 3, "{c:?}");
        }
    }
}
