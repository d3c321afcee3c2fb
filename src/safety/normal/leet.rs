//! Digits and signs in place of letters that they resemble.

use std::ops::Range;

use super::english::{class, likeness, pair};
use super::search::Find;
use super::view::Veil;

/// Fewest words that must become readable.
const WORDS: usize = 2;
/// Longer words are identifiers, digests or numbers.
const LONGEST: usize = 24;

/// The letters that a digit or sign may stand for, most likely first.
const fn letters(byte: u8) -> &'static [u8] {
    match byte {
        b'0' => b"o",
        b'1' => b"il",
        b'!' => b"i",
        b'2' => b"z",
        b'3' => b"e",
        b'4' | b'@' => b"a",
        b'5' | b'$' => b"s",
        b'6' => b"gb",
        b'7' | b'+' => b"t",
        b'8' => b"b",
        b'9' => b"gq",
        _ => b"",
    }
}

fn is_part(byte: u8) -> bool {
    byte.is_ascii_lowercase() || !letters(byte).is_empty()
}

/// The text of a stretch with its digits and signs replaced by letters, if that gives words.
pub fn find(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    let (mut readable, mut garbled) = (0usize, 0usize);
    let mut out = String::with_capacity(stretch.len());
    let mut rest = stretch;
    while !rest.is_empty() {
        let length = rest.bytes().take_while(|&byte| is_part(byte)).count();
        let (word, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        let bare = word.trim_end_matches(['!', '+']);
        match judge(bare) {
            Sort::Plain => out.push_str(word),
            sort => {
                let read = spell(bare.as_bytes());
                match sort {
                    Sort::Garbled if likeness(read.bytes()).is_words() => readable += 1,
                    Sort::Garbled => garbled += 1,
                    _ => {}
                }
                out.push_str(&read);
                out.push_str(word.get(bare.len()..).unwrap_or_default());
            }
        }
        let gap = after.bytes().take_while(|&byte| !is_part(byte)).count();
        let (between, next) = after.split_at_checked(gap).unwrap_or((after, ""));
        out.push_str(between);
        rest = next;
    }
    if readable >= WORDS && readable >= garbled {
        found(Find { veil: Veil::Leet, text: out, range });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// Nothing to replace.
    Plain,
    /// A digit after letters, or letters after digits: replaced, but no evidence of a disguise.
    Common,
    /// Digits or signs within letters.
    Garbled,
}

fn judge(word: &str) -> Sort {
    let bytes = word.as_bytes();
    let letters = bytes.iter().filter(|byte| byte.is_ascii_lowercase()).count();
    let signs = bytes.len() - letters;
    if signs == 0 || bytes.len() < 2 || bytes.len() > LONGEST {
        return Sort::Plain;
    }
    if letters == 0 {
        // Years and amounts stay numbers; "70" and "15" are words only next to other ones.
        return if bytes.len() <= 7 { Sort::Common } else { Sort::Plain };
    }
    let first = bytes.iter().position(u8::is_ascii_lowercase).unwrap_or(0);
    let last = bytes.iter().rposition(u8::is_ascii_lowercase).unwrap_or(0);
    let inside = bytes.get(first..last).unwrap_or_default();
    let odd = inside.iter().filter(|byte| !byte.is_ascii_lowercase()).count();
    // Addresses, sums and names like `word2vec` contain such signs, too.
    let usual = inside.contains(&b'+') || (odd == 1 && inside.iter().any(|byte| matches!(byte, b'2' | b'@')));
    if usual {
        return if signs == odd { Sort::Plain } else { Sort::Common };
    }
    if odd > 0 && bytes.len() >= 3 { Sort::Garbled } else { Sort::Common }
}

/// A word with its digits and signs replaced by letters; if two letters are possible, the one that goes better with its
/// neighbours.
fn spell(word: &[u8]) -> String {
    let mut out = String::with_capacity(word.len());
    let mut before = 0;
    for (index, &byte) in word.iter().enumerate() {
        let choices = letters(byte);
        let after = word.get(index + 1).map_or(0, |&next| class(letters(next).first().copied().unwrap_or(next)));
        let fit = |letter: u8| u32::from(pair(before, class(letter))) + u32::from(pair(class(letter), after));
        let letter = choices.iter().copied().reduce(|best, other| if fit(other) > fit(best) { other } else { best }).unwrap_or(byte);
        before = class(letter);
        out.push(char::from(letter));
    }
    out
}
