//! How each character is folded; computed for a page of 256 characters when the first of them occurs.

use std::sync::OnceLock;

use unicode_normalization::UnicodeNormalization;

use super::lookalikes;

/// The kind of a character for folding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Not part of a word.
    Other,
    /// A Latin letter, with or without accents.
    Latin,
    /// A styled Latin letter: full-width, mathematical, circled, small capital, …
    Styled,
    /// A digit in any style.
    Digit,
    /// A letter of another script.
    Letter,
    /// A letter of another script that looks exactly like a Latin letter.
    Alike,
    /// A letter of another script that resembles a Latin letter.
    Loose,
    /// It folds to more than one character.
    Many,
    /// A combining mark that belongs to no particular script.
    Mark,
    /// A character that combines with the one before it, if the pair has a composed form.
    Joining,
    /// Invisible: zero-width characters, fillers, soft hyphens.
    Invisible,
    /// Changes the writing direction.
    Bidi,
    /// Selects the look of the character before it.
    Selector,
    /// An invisible copy of an ASCII character.
    Tagged,
    /// A control character other than whitespace.
    Control,
}

/// How a character is folded.
#[derive(Debug, Clone, Copy)]
pub struct Fact {
    /// Its kind.
    pub tag: Tag,
    /// The Latin letter that it looks like, for [`Tag::Alike`] and [`Tag::Loose`].
    pub alike: char,
    /// Its replacement in the original case, whose lower case has the same length in UTF-8.
    pub folded: char,
    /// Its replacement in lower case.
    pub lower: char,
}

enum Page {
    /// All characters are kept and have the same kind: Han, Hangul, unassigned and private planes.
    Uniform(Tag),
    Facts(Box<[Fact]>),
}

const PAGE: u32 = 256;
static PAGES: [OnceLock<Page>; 0x11_0000 / PAGE as usize] = [const { OnceLock::new() }; 0x11_0000 / PAGE as usize];

/// How a character is folded.
#[inline]
pub fn fact(c: char) -> Fact {
    let code = u32::from(c);
    let same = |tag| Fact { tag, alike: c, folded: c, lower: c };
    let Some(page) = PAGES.get((code / PAGE) as usize) else { return same(Tag::Other) };
    match page.get_or_init(|| page_of(code / PAGE)) {
        Page::Uniform(tag) => same(*tag),
        Page::Facts(facts) => facts.get((code % PAGE) as usize).copied().unwrap_or_else(|| same(Tag::Other)),
    }
}

fn page_of(number: u32) -> Page {
    let of = |index: u32| char::from_u32(number * PAGE + index);
    // Surrogates are not characters and never looked up.
    let facts: Box<[Fact]> = (0..PAGE).map(|index| work_out(of(index).unwrap_or('\0'))).collect();
    match facts.first() {
        Some(first)
            if (0..PAGE)
                .zip(&facts)
                .all(|(index, fact)| fact.tag == first.tag && of(index) == Some(fact.folded) && fact.lower == fact.folded) =>
        {
            Page::Uniform(first.tag)
        }
        _ => Page::Facts(facts),
    }
}

/// Whether a combining mark belongs to no script, so that it can be piled on any letter.
pub fn is_general_mark(c: char) -> bool {
    matches!(u32::from(c), 0x0300..=0x034E | 0x0350..=0x036F | 0x0483..=0x0489 | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF | 0x20D0..=0x20FF | 0xFE20..=0xFE2F)
}

fn work_out(c: char) -> Fact {
    let simple = |tag, folded: char| Fact { tag, alike: folded, folded, lower: folded };
    let tag = match u32::from(c) {
        0x09 | 0x0A | 0x0D => return simple(Tag::Other, c),
        0x0B | 0x0C | 0x2800 => return simple(Tag::Other, ' '),
        0x85 | 0x2028 | 0x2029 => return simple(Tag::Other, '\n'),
        0x00..=0x1F | 0x7F..=0x9F => Tag::Control,
        0xAD
        | 0x34F
        | 0x115F
        | 0x1160
        | 0x17B4
        | 0x17B5
        | 0x180E
        | 0x200B..=0x200D
        | 0x2060..=0x2065
        | 0x206A..=0x206F
        | 0x3164
        | 0xFEFF
        | 0xFFA0
        | 0xFFF0..=0xFFFB
        | 0x1_BCA0..=0x1_BCA3
        | 0x1_D173..=0x1_D17A => Tag::Invisible,
        0x061C | 0x200E | 0x200F | 0x202A..=0x202E | 0x2066..=0x2069 => Tag::Bidi,
        0x180B..=0x180D | 0x180F | 0xFE00..=0xFE0F | 0xE_0100..=0xE_01EF => Tag::Selector,
        0xE_0000..=0xE_007F => Tag::Tagged,
        0xE_0080..=0xE_0FFF => Tag::Invisible,
        // Quotation marks and dashes are reduced to a plain form.
        0x2018..=0x201B | 0x2032 | 0x02BC | 0x00B4 | 0x02B9 => return simple(Tag::Other, '\''),
        0x201C..=0x201F | 0x2033 => return simple(Tag::Other, '"'),
        0x2010..=0x2015 | 0x2212 => return simple(Tag::Other, '-'),
        0x2044 | 0x2215 => return simple(Tag::Other, '/'),
        // Letters in boxes and circles, and letters of flags, which have no decomposition.
        code @ 0x1_F150..=0x1_F169 => return dressed(b'A', code - 0x1_F150),
        code @ 0x1_F170..=0x1_F189 => return dressed(b'A', code - 0x1_F170),
        code @ 0x1_F1E6..=0x1_F1FF => return dressed(b'A', code - 0x1_F1E6),
        _ if is_general_mark(c) => Tag::Mark,
        0x1161..=0x11FF | 0x3099 | 0x309A | 0xFF9E | 0xFF9F => Tag::Joining,
        _ => return letter(c),
    };
    let folded = if tag == Tag::Joining { std::iter::once(c).nfkc().next().unwrap_or(c) } else { c };
    simple(tag, folded)
}

fn dressed(first: u8, offset: u32) -> Fact {
    let folded = char::from(first.wrapping_add(offset as u8));
    Fact { tag: Tag::Styled, alike: folded, folded, lower: folded.to_ascii_lowercase() }
}

/// Folds a character that is neither dropped nor combined with its neighbours.
fn letter(c: char) -> Fact {
    let mut parts = std::iter::once(c).nfkd();
    let first = parts.next().unwrap_or(c);
    let accents_only = parts.all(is_general_mark);
    let plain = lookalikes::plain(lookalikes::LATIN, first).unwrap_or(first);
    if accents_only && plain.is_ascii() {
        let tag = match (plain.is_ascii_alphabetic(), plain.is_ascii_digit()) {
            (true, _) if c.is_ascii() || std::iter::once(c).nfd().next() == Some(plain) || is_orthographic(c) => Tag::Latin,
            (true, _) => Tag::Styled,
            (_, true) => Tag::Digit,
            _ => Tag::Other,
        };
        return Fact { tag, alike: plain, folded: plain, lower: plain.to_ascii_lowercase() };
    }
    let mut composed = std::iter::once(c).nfkc();
    let folded = composed.next().unwrap_or(c);
    if composed.next().is_some() || matches!(c, 'æ' | 'Æ' | 'œ' | 'Œ') {
        return Fact { tag: Tag::Many, alike: c, folded: c, lower: c };
    }
    if folded != c {
        // It is a variant of another character, which may have a rule of its own.
        return work_out(folded);
    }
    if let Some(alike) = lookalikes::plain(lookalikes::FOREIGN, folded) {
        return other_script(Tag::Alike, alike, folded);
    }
    if let Some(alike) = lookalikes::plain(lookalikes::LOOSE, folded) {
        return other_script(Tag::Loose, alike, folded);
    }
    let tag = match () {
        () if folded.is_alphabetic() => Tag::Letter,
        () if folded.is_numeric() => Tag::Digit,
        () => Tag::Other,
    };
    other_script(tag, folded, folded)
}

fn other_script(tag: Tag, alike: char, folded: char) -> Fact {
    let mut lower = folded.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(small), None) if small.len_utf8() == folded.len_utf8() => Fact { tag, alike, folded, lower: small },
        // Kept in lower case only, so that one map of offsets serves both cases.
        (Some(small), None) => Fact { tag, alike, folded: small, lower: small },
        _ => Fact { tag, alike, folded, lower: folded },
    }
}

/// Letters with bars and strokes that belong to orthographies.
fn is_orthographic(c: char) -> bool {
    "đĐħĦıłŁøØŧŦəŋƙɓɗƴ".contains(c)
}

/// Most characters that one is expanded to. A few ligatures are whole sentences, and a text of these would grow elevenfold.
const LONGEST: usize = 6;

/// The letters that a character of [`Tag::Many`] is expanded to.
pub fn expand(c: char, emit: &mut dyn FnMut(char)) {
    match c {
        'æ' => "ae".chars().for_each(emit),
        'Æ' => "AE".chars().for_each(emit),
        'œ' => "oe".chars().for_each(emit),
        'Œ' => "OE".chars().for_each(emit),
        _ => std::iter::once(c).nfkc().take(LONGEST).for_each(|part| match fact(part) {
            Fact { tag: Tag::Many | Tag::Mark, .. } => emit(part),
            Fact { tag: Tag::Invisible | Tag::Bidi | Tag::Selector | Tag::Tagged | Tag::Control, .. } => {}
            Fact { folded, .. } => emit(folded),
        }),
    }
}
