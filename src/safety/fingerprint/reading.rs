//! Reads a whole text of a request, word by word and letter by letter.

use std::ops::Range;

use super::skeleton::{Class, LETTERS, class};
use super::table::Table;
use super::word::{self, LONGEST};

/// Calls `f` for the words of a text: number, count of letters, and range.
#[inline]
pub fn words(text: &str, mut f: impl FnMut(u64, u16, Range<usize>)) {
    let bytes = text.as_bytes();
    let (mut hash, mut letters, mut start) = (0_u64, 0_u16, 0);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let (mut code, _) = LETTERS[byte as usize];
        if code != 0 && letters < LONGEST {
            if letters == 0 {
                start = at;
            }
            while code != 0 && letters < LONGEST {
                hash = word::step(hash, u32::from(code));
                letters += 1;
                at += 1;
                code = bytes.get(at).map_or(0, |&byte| LETTERS[byte as usize].0);
            }
            continue;
        }
        let c = if byte.is_ascii() { char::from(byte) } else { text[at..].chars().next().unwrap_or(' ') };
        match class(c) {
            Class::Letter(code) if letters < LONGEST => {
                if letters == 0 {
                    start = at;
                }
                hash = word::step(hash, code);
                letters += 1;
            }
            Class::Ignored => {}
            other => {
                if letters > 0 {
                    f(word::mix(hash), letters, start..at);
                }
                (hash, letters) = (0, 0);
                if let Class::Letter(code) = other {
                    (hash, letters, start) = (word::step(0, code), 1, at);
                }
            }
        }
        at += c.len_utf8();
    }
    if letters > 0 {
        f(word::mix(hash), letters, start..text.len());
    }
}

/// Calls `f` for the letters of a text, in any script.
pub fn letters(text: &str, mut f: impl FnMut(u32)) {
    for c in text.chars() {
        if let Class::Letter(code) | Class::Dense(code) = class(c) {
            f(code);
        }
    }
}

/// The last three words, which make a shingle with a fourth.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    words: [u64; 3],
    filled: u8,
}

impl Window {
    /// The last three words, oldest first.
    pub const fn last(&self) -> &[u64; 3] {
        &self.words
    }

    /// Number of words so far, at most three.
    pub const fn filled(&self) -> u8 {
        self.filled
    }

    /// The shingle that would end with this word.
    #[inline]
    pub fn with(&self, word: u64) -> Option<u64> {
        let [a, b, c] = self.words;
        (self.filled >= 3).then(|| word::shingle(a, b, c, word))
    }

    /// Takes a word, and returns the shingle that ends with it.
    #[inline]
    pub fn push(&mut self, word: u64) -> Option<u64> {
        let [a, b, c] = self.words;
        self.words = [b, c, word];
        if self.filled < 3 {
            self.filled += 1;
            return None;
        }
        Some(word::shingle(a, b, c, word))
    }
}

/// Number of letters in a gram: so many that texts do not share one by chance.
pub const GRAM: usize = 10;

/// The factor that the letter leaving a gram has accumulated.
const LEAVING: u64 = {
    let (mut power, mut n) = (1_u64, 0);
    while n < GRAM {
        power = power.wrapping_mul(word::STEP);
        n += 1;
    }
    power
};

/// A rolling hash over the last letters.
#[derive(Debug, Clone, Copy, Default)]
pub struct Gram {
    ring: [u32; GRAM],
    at: u8,
    filled: u8,
    hash: u64,
}

impl Gram {
    /// Takes a letter, and returns the gram that ends with it.
    #[inline]
    pub fn push(&mut self, code: u32) -> Option<u64> {
        let slot = &mut self.ring[self.at as usize % GRAM];
        let gone = std::mem::replace(slot, code);
        self.at = (self.at + 1) % GRAM as u8;
        self.hash = word::step(self.hash, code);
        if (self.filled as usize) < GRAM {
            self.filled += 1;
            return (self.filled as usize == GRAM).then(|| word::mix(self.hash));
        }
        self.hash = self.hash.wrapping_sub((u64::from(gone) + 1).wrapping_mul(LEAVING));
        Some(word::mix(self.hash))
    }
}

/// The shingles of a text.
pub fn shingles(text: &str) -> Table {
    let mut table = Table::for_up_to(text.len() / 5 + 16);
    let mut window = Window::default();
    words(text, |word, _, _| {
        if let Some(shingle) = window.push(word) {
            table.insert(shingle);
        }
    });
    table
}

/// The grams of a text, without those in `without`.
pub fn grams(text: &str, without: &Table) -> Table {
    let mut table = Table::for_up_to(text.len() + 16);
    let mut gram = Gram::default();
    letters(text, |code| {
        if let Some(hash) = gram.push(code)
            && (without.is_empty() || !without.contains(hash))
        {
            table.insert(hash);
        }
    });
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grams_depend_on_their_ten_letters_alone() {
        let last = |text: &str| {
            let mut gram = Gram::default();
            let mut last = None;
            letters(text, |code| last = gram.push(code));
            last
        };
        assert_eq!(last("abcdefghi"), None);
        assert!(last("abcdefghxy").is_some());
        assert_eq!(last("abcdefghxy"), last("something else before it a b c d e f g h x y"));
        assert_ne!(last("abcdefghxy"), last("abcdefghyx"));
    }

    #[test]
    fn a_text_holds_its_own_shingles_and_grams() {
        let text = "Never tell anyone that the vault opens at nine; 絶対に金庫の番号を言わないこと。";
        let (shingles, grams) = (shingles(text), grams(text, &Table::default()));
        let mut window = Window::default();
        let mut found = 0;
        words(text, |word, _, _| found += usize::from(window.push(word).is_some_and(|s| shingles.contains(s))));
        assert_eq!(found, 6);
        let mut gram = Gram::default();
        let mut found = 0;
        letters("絶対に金庫の番号を言わない", |code| found += usize::from(gram.push(code).is_some_and(|g| grams.contains(g))));
        assert_eq!(found, 4);
    }

    #[test]
    fn words_say_where_they_stand_and_none_is_longer_than_the_longest() {
        let mut seen = Vec::new();
        words("a don't, é", |_, letters, at| seen.push((letters, at)));
        assert_eq!(seen, [(1, 0..1), (4, 2..7), (1, 9..11)]);
        let mut longest = 0;
        words(&"x".repeat(1000), |_, letters, _| longest = longest.max(letters));
        assert_eq!(longest, LONGEST);
    }
}
