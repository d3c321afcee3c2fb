//! Words whose letters are spaced out.

use std::ops::Range;

use super::english::likeness;
use super::search::Find;
use super::view::Veil;

/// Fewest consecutive single letters in a spaced-out word.
const LETTERS: usize = 4;
/// Fewest letters in total that make a message.
const FEWEST: usize = 6;
/// Longest gap between two letters of one word or of neighbouring words, in bytes.
const GAP: usize = 6;

/// Most single letters that are examined together.
const ROW: usize = 4096;

/// A single letter or digit, and the gap after it.
struct Single {
    at: usize,
    c: char,
    /// Ends at the next character.
    gap: Range<usize>,
}

/// Finds the text of a stretch with its letters joined.
pub fn find(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    let mut out = String::with_capacity(stretch.len());
    let (mut joined, mut letters) = (String::new(), 0usize);
    let mut row: Vec<Single> = Vec::new();
    let mut at = 0;
    while let Some(single) = single(stretch, at) {
        at = match single {
            Ok(single) => {
                let end = single.gap.end;
                let last = single.gap.is_empty() || single.gap.len() > GAP || row.len() >= ROW;
                row.push(single);
                if last {
                    letters += close(stretch, &mut row, &mut out, &mut joined);
                }
                end
            }
            Err(word) => {
                letters += close(stretch, &mut row, &mut out, &mut joined);
                out.push_str(stretch.get(word.clone()).unwrap_or_default());
                word.end
            }
        };
    }
    letters += close(stretch, &mut row, &mut out, &mut joined);
    if letters >= LETTERS && says_something(&joined) {
        found(Find { veil: Veil::Spaced, text: out, range });
    }
}

/// Whether joined letters are words, rather than formulas and lists.
fn says_something(joined: &str) -> bool {
    let of = |word: &str| word.chars().filter(|c| c.is_alphabetic()).count();
    let (all, long) =
        joined.split(' ').map(of).fold((0, 0), |(all, long), letters| (all + letters, if letters >= 3 { long + letters } else { long }));
    // Scripts without short words and without a table of pairs are accepted as they are.
    let foreign = joined.chars().filter(|c| c.is_alphabetic() && !c.is_ascii()).count();
    all >= FEWEST && long * 2 >= all && (foreign * 2 >= all || likeness(joined.bytes()).is_words())
}

/// The next single letter with its gap, or the range of text before the next place at which one may begin.
fn single(text: &str, at: usize) -> Option<Result<Single, Range<usize>>> {
    let rest = text.get(at..)?;
    let c = rest.chars().next()?;
    let end = at + c.len_utf8();
    let rest = text.get(end..)?;
    if c.is_alphanumeric() {
        let length: usize = rest.chars().take_while(|c| c.is_alphanumeric()).map(char::len_utf8).sum();
        let after = end + length;
        let gap: usize = text.get(after..)?.chars().take_while(|c| !c.is_alphanumeric()).map(char::len_utf8).sum();
        return Some(if length == 0 { Ok(Single { at, c, gap: end..end + gap }) } else { Err(at..after + gap) });
    }
    let gap: usize = rest.chars().take_while(|c| !c.is_alphanumeric()).map(char::len_utf8).sum();
    Some(Err(at..end + gap))
}

/// Writes a row of single letters as words. Returns how many letters were joined.
fn close(text: &str, row: &mut Vec<Single>, out: &mut String, joined: &mut String) -> usize {
    let (Some(first), Some(last)) = (row.first(), row.last()) else { return 0 };
    if row.len() < LETTERS {
        out.push_str(text.get(first.at..last.gap.end).unwrap_or_default());
        row.clear();
        return 0;
    }
    let gap = |single: &Single| text.get(single.gap.clone()).unwrap_or_default();
    let inner = || row.iter().take(row.len() - 1).map(gap);
    // The gap between letters is the shortest common one; longer gaps separate words.
    let shortest = inner().min_by_key(|gap| gap.len()).unwrap_or_default();
    let usual = inner().filter(|gap| gap.len() == shortest.len()).fold(("", 0usize), |(most, count), gap| {
        let here = if gap == most { return (most, count + 1) } else { gap };
        if count == 0 { (here, 1) } else { (most, count - 1) }
    });
    for (index, single) in row.iter().enumerate() {
        out.push(single.c);
        if !single.c.is_ascii_digit() {
            joined.push(single.c);
        }
        let between = gap(single);
        if index + 1 == row.len() {
            out.push_str(between);
        } else if between != usual.0 {
            let signs = between.trim();
            out.push_str(signs.strip_prefix(usual.0).unwrap_or(signs));
            out.push(' ');
            joined.push(' ');
        }
    }
    joined.push(' ');
    let letters = row.len();
    row.clear();
    letters
}

/// Fewest words that are split by hyphens.
const CUT: usize = 2;
/// Longest mean length of syllables, in letters; file names consist of whole words.
const SYLLABLE: usize = 5;

/// Finds the text of a stretch without hyphens, if most of these split words rather than join them.
pub fn hyphens(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    let mut out = String::with_capacity(stretch.len());
    let (mut cut, mut parts, mut letters, mut joined) = (0usize, 0usize, 0usize, String::new());
    for word in stretch.split_inclusive(char::is_whitespace) {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let syllables = || bare.split('-');
        if bare.contains('-') && syllables().all(|part| !part.is_empty() && part.chars().all(char::is_alphabetic)) {
            cut += 1;
            parts += syllables().count();
            letters += syllables().map(|part| part.chars().count()).sum::<usize>();
            joined.extend(syllables().chain([" "]));
            out.extend(word.chars().filter(|c| *c != '-'));
        } else {
            out.push_str(word);
        }
    }
    if cut >= CUT && letters <= parts * SYLLABLE && says_something(&joined) {
        found(Find { veil: Veil::Spaced, text: out, range });
    }
}

/// Longest mean length of lines that hold single words rather than sentences, in bytes.
const LINE: usize = 12;
/// Fewest lines that make a message.
const LINES: usize = 5;

/// Finds a text that puts each word on a line of its own.
pub fn lines(text: &str, found: &mut dyn FnMut(Find) -> bool) {
    let lines = memchr::memchr_iter(b'\n', text.as_bytes()).take(text.len() / LINE + 1).count();
    if lines >= LINES && lines * LINE >= text.len() {
        found(Find { veil: Veil::Lines, text: text.split_whitespace().collect::<Vec<_>>().join(" "), range: 0..text.len() });
    }
}
