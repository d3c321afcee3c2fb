//! What folding does with each character, worked out a page of 256 characters at a time when the first of them is met.

use std::sync::OnceLock;

use unicode_normalization::UnicodeNormalization;

use super::lookalikes;

/// What a character is to the fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// Part of no word.
    Other,
    /// A Latin letter, with or without accents.
    Latin,
    /// A Latin letter in disguise: full-width, mathematical, circled, small capital, …
    Styled,
    /// A digit, in whatever dress.
    Digit,
    /// A letter of another script.
    Letter,
    /// A letter of another script that looks exactly like a Latin one.
    Alike,
    /// A letter of another script that looks a little like a Latin one.
    Loose,
    /// It becomes more than one character.
    Many,
    /// A combining mark of no script in particular.
    Mark,
    /// Part of the character before it if both make one.
    Joining,
    /// Shows nothing: zero-width characters, fillers, soft hyphens.
    Invisible,
    /// Changes the direction of what follows.
    Bidi,
    /// Chooses the look of the character before it.
    Selector,
    /// An invisible copy of an ASCII character.
    Tagged,
    /// A control character that is not white space.
    Control,
}

/// How one character is folded.
#[derive(Debug, Clone, Copy)]
pub struct Fact {
    /// What it is.
    pub tag: Tag,
    /// The Latin letter it looks like; only for [`Tag::Alike`] and [`Tag::Loose`].
    pub alike: char,
    /// What is written for it, in its own case. Its lower case is as long in UTF-8.
    pub folded: char,
    /// What is written for it in lower case.
    pub lower: char,
}

enum Page {
    /// Every character stays and is the same sort: Han, Hangul, unassigned and private planes.
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
    // Surrogates are no characters and are never asked for.
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

/// Whether a combining mark belongs to no script, so that any letter can be buried under it.
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
        // Quotation marks and dashes: what matters is that they are there.
        0x2018..=0x201B | 0x2032 | 0x02BC | 0x00B4 | 0x02B9 => return simple(Tag::Other, '\''),
        0x201C..=0x201F | 0x2033 => return simple(Tag::Other, '"'),
        0x2010..=0x2015 | 0x2212 => return simple(Tag::Other, '-'),
        0x2044 | 0x2215 => return simple(Tag::Other, '/'),
        // Letters in boxes and circles, and those of flags, which no decomposition knows.
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

/// Everything that is neither dropped nor joined to its neighbours.
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
        // It is another character in disguise, which may have a rule of its own.
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
        // Kept in lower case alone, so that one map serves both cases.
        (Some(small), None) => Fact { tag, alike, folded: small, lower: small },
        _ => Fact { tag, alike, folded, lower: folded },
    }
}

/// Letters with bars and strokes that languages are really written in.
fn is_orthographic(c: char) -> bool {
    "đĐħĦıłŁøØŧŦəŋƙɓɗƴ".contains(c)
}

/// The most that is written for one character. A few ligatures are whole sentences, and a text of them would grow elevenfold.
const LONGEST: usize = 6;

/// What a character of [`Tag::Many`] becomes, letter by letter.
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
