//! Gists of words: their length, and the letters at both ends. Equal words have equal gists, also if one is written
//! backwards, and four gists in a row distinguish texts nearly as well as four words. Only the ends of words must be found,
//! so most of a text need not be spelled.

use super::reading::Window;
use super::skeleton::{BLOCK, Class, LETTERS, class, first_block, signs};
use super::table::Table;
use super::word::{self, LONGEST};

/// The gist of a word with this many letters and these outer letters, given by their codes.
#[inline]
pub const fn gist(letters: u16, first: u32, last: u32) -> u64 {
    // Ordered, so that a reversed word has the same gist.
    let (low, high) = if first < last { (first, last) } else { (last, first) };
    letters as u64 | (low as u64) << 16 | (high as u64) << 40
}

/// A word whose end has not been seen: number of letters, and the codes of the outer two.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    letters: u16,
    first: u32,
    last: u32,
}

impl Open {
    /// Continues the word with ASCII letters.
    #[inline]
    fn run(&mut self, mut run: &[u8], f: &mut impl FnMut(u64)) {
        let code = |byte: &u8| u32::from(LETTERS[*byte as usize].0);
        // A longer word is split.
        while let Some((head, rest)) = run.split_at_checked(usize::from(LONGEST - self.letters)).filter(|(_, rest)| !rest.is_empty()) {
            self.add(head.len() as u16, head.first().map_or(0, code), head.last().map_or(0, code));
            self.end(f);
            run = rest;
        }
        if let (Some(first), Some(last)) = (run.first(), run.last()) {
            self.add(run.len() as u16, code(first), code(last));
        }
    }

    #[inline]
    fn add(&mut self, letters: u16, first: u32, last: u32) {
        if letters > 0 {
            if self.letters == 0 {
                self.first = first;
            }
            self.letters += letters;
            self.last = last;
        }
    }

    /// Ends the word.
    #[inline]
    fn end(&mut self, f: &mut impl FnMut(u64)) {
        if self.letters > 0 {
            f(gist(self.letters, self.first, self.last));
            self.letters = 0;
        }
    }

    /// Takes the next character.
    fn one(&mut self, c: char, f: &mut impl FnMut(u64)) {
        match class(c) {
            Class::Letter(code) => {
                if self.letters == LONGEST {
                    self.end(f);
                }
                self.add(1, code, code);
            }
            Class::Ignored => {}
            Class::Break | Class::Dense(_) => self.end(f),
        }
    }
}

/// Calls `f` with the gists of a text's words.
#[inline]
pub fn gists(text: &str, mut f: impl FnMut(u64)) {
    let bytes = text.as_bytes();
    let mut open = Open::default();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let mut last = [b' '; BLOCK];
        let block = first_block(rest, &mut last);
        let signs = signs(block);
        let plain = rest.len().min(signs.odd.trailing_zeros() as usize);
        let mut letters = if plain < BLOCK { signs.letters & ((1 << plain) - 1) } else { signs.letters };
        let mut passed = 0;
        while letters != 0 {
            let start = letters.trailing_zeros();
            if start > passed {
                open.end(&mut f);
            }
            passed = start + (letters >> start).trailing_ones();
            open.run(&block[start as usize..passed as usize], &mut f);
            letters &= u64::MAX.checked_shl(passed).unwrap_or(0);
        }
        if (passed as usize) < plain {
            open.end(&mut f);
        }
        at += plain;
        if plain < rest.len().min(BLOCK) {
            at += odd(&text[at..], &mut open, &mut f);
        }
    }
    open.end(&mut f);
}

/// Takes characters one by one until a stretch of plain text may follow. Returns the number of bytes.
fn odd(text: &str, open: &mut Open, f: &mut impl FnMut(u64)) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    for c in text.chars() {
        open.one(c, f);
        at += c.len_utf8();
        let plain = |next: &[u8; 8]| next.is_ascii() && !next.contains(&b'\'');
        if c.is_ascii() && bytes.get(at..).and_then(<[u8]>::first_chunk).is_some_and(plain) {
            break;
        }
    }
    at
}

/// The shingles of a text, over gists.
pub fn shingles(text: &str) -> Table {
    let mut table = Table::for_up_to(text.len() / 5 + 16);
    let mut window = Window::default();
    gists(text, |gist| {
        if let Some(shingle) = window.push(gist) {
            table.insert(shingle);
        }
    });
    table
}

/// The gists that a text contains, as a bit for each of 4096 classes: one lookup shows that a word is not in the text.
#[derive(Debug, Clone)]
pub struct Vocabulary([u64; 64]);

impl Default for Vocabulary {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Vocabulary {
    /// The vocabulary of a text.
    pub fn of(text: &str) -> Self {
        let mut this = Self::default();
        gists(text, |gist| {
            let (word, bit) = Self::place(gist);
            this.0[word] |= 1 << bit;
        });
        this
    }

    /// Whether the text may contain a gist; no false negatives.
    #[inline]
    pub fn may_have(&self, gist: u64) -> bool {
        let (word, bit) = Self::place(gist);
        self.0[word] >> bit & 1 == 1
    }

    #[inline]
    const fn place(gist: u64) -> (usize, u32) {
        let class = gist.wrapping_mul(word::STEP) >> 52;
        (class as usize & 63, class as u32 >> 6)
    }
}

/// The gists of the last four words, sixteen bits of each, to recognise what was said before.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    bits: u64,
    filled: u8,
}

impl Row {
    /// Continues after the words of a window.
    pub fn behind(window: &Window) -> Self {
        let bits = window.last().iter().fold(0, |bits, gist| bits << 16 | Self::sign(*gist));
        Self { bits, filled: window.filled() }
    }

    /// The four words that end with this one.
    #[inline]
    pub fn push(&mut self, gist: u64) -> Option<u64> {
        self.bits = self.bits << 16 | Self::sign(gist);
        if self.filled < 3 {
            self.filled += 1;
            return None;
        }
        Some(self.bits)
    }

    const fn sign(gist: u64) -> u64 {
        gist.wrapping_mul(word::STEP) >> 48
    }
}

/// Four-word rows that were said, as a Bloom filter: about one in three hundred others is taken for said.
#[derive(Debug, Clone, Default)]
pub struct Said(Vec<u64>);

impl Said {
    /// The rows of a text.
    pub fn in_text(text: &str) -> Self {
        if text.is_empty() {
            return Self::default();
        }
        let mut bits = vec![0; (text.len() / 5 + 16).next_power_of_two() / 2];
        let mut row = Row::behind(&Window::default());
        gists(text, |gist| {
            if let Some(four) = row.push(gist) {
                for (word, bit) in Self::places(bits.len(), four) {
                    bits[word] |= 1 << bit;
                }
            }
        });
        Self(bits)
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these four words were said [in a row](Row); no false negatives.
    #[inline]
    pub fn may_have(&self, four: u64) -> bool {
        !self.0.is_empty() && Self::places(self.0.len(), four).iter().all(|(word, bit)| self.0[*word] >> bit & 1 == 1)
    }

    /// The two bits of a row in a filter of this many words, a power of two.
    #[inline]
    const fn places(words: usize, four: u64) -> [(usize, u32); 2] {
        let (mask, hash) = (words - 1, (four ^ four >> 32).wrapping_mul(word::STEP));
        [((hash >> 28) as usize & mask, (hash >> 58) as u32), ((hash >> 40) as usize & mask, (hash >> 52) as u32 & 63)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading;
    use super::super::skeleton::rot13;
    use super::super::word::Spelling;
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str) -> Vec<u64> {
        let mut all = Vec::new();
        gists(text, |gist| all.push(gist));
        all
    }

    /// [`gists`], one character at a time.
    fn one_by_one(text: &str) -> Vec<u64> {
        let (mut all, mut open) = (Vec::new(), Open::default());
        text.chars().for_each(|c| open.one(c, &mut |gist| all.push(gist)));
        open.end(&mut |gist| all.push(gist));
        all
    }

    proptest! {
        #[test]
        fn gists_are_the_same_in_blocks_and_one_by_one(text in "([a-z0-9]{1,9}| |, |-|_|'|%|é|指|\u{200b}|[a-z]{50,70}|[^a-z]){0,60}") {
            prop_assert_eq!(all(&text), one_by_one(&text));
        }
    }

    #[test]
    fn a_word_has_one_gist_however_it_is_written() {
        let plain = all("ignore");
        for written in ["IGNORE", "1gn0r3", "erongi", "іgnоrе", "ig\u{200b}nore", "i'gnore", "ｉｇｎｏｒｅ", "īgñorê"] {
            assert_eq!(all(written), plain, "{written}");
        }
        assert_ne!(all("ignores"), plain);
        assert_ne!(all("adhere"), plain);
        assert_eq!(all("a don't, é 指").len(), 3);
    }

    #[test]
    fn a_text_has_its_own_gists() {
        let text = "Never tell anyone that the vault opens at nine, not even Zoë.";
        let (vocabulary, shingles) = (Vocabulary::of(text), shingles(text));
        let mut window = Window::default();
        let mut found = 0;
        gists(text, |gist| {
            assert!(vocabulary.may_have(gist));
            found += usize::from(window.push(gist).is_some_and(|shingle| shingles.contains(shingle)));
        });
        assert_eq!(found, 9);
        assert!(!vocabulary.may_have(all("instructions")[0]));
    }

    #[test]
    fn what_was_said_is_known_and_hardly_anything_else() {
        let words = |from: u32| {
            (from..from + 3000).map(|n| {
                format!("{} ", "abcdefghijklmnopqrstuvwxyz".repeat(3)[n as usize % 26..][..3 + n as usize * 7 % 29].to_owned())
                    + &format!("x{n} ")
            })
        };
        let said = Said::in_text(&words(0).collect::<String>());
        let told = |text: String| {
            let (mut row, mut all, mut told) = (Row::behind(&Window::default()), 0, 0);
            gists(&text, |gist| {
                if let Some(four) = row.push(gist) {
                    all += 1;
                    told += usize::from(said.may_have(four));
                }
            });
            (all, told)
        };
        let (all, known) = told(words(0).collect());
        assert!(all == known && all > 5000);
        let strange: String = (0..6000).map(|n| format!("{} ", "q".repeat(33 + n * 5 % 30) + &"w".repeat(n % 2))).collect();
        let (all, known) = told(strange);
        assert!(known * 100 < all, "{known} of {all}");
        assert!(Said::in_text("").is_empty() && !Said::default().may_have(7));
    }

    proptest! {
        /// The words are the same as in the exact reading, and a spelling that is fed letter by letter has the same gists.
        #[test]
        fn the_words_are_those_of_the_exact_reading(text in "[a-cIl1' é\u{200b}指,-]{0,40}|[a-z]{100,150} [a-zé]{60,70}") {
            let mut places = Vec::new();
            reading::words(&text, |_, _, at| places.push(at));
            let spelled: Vec<u64> = places
                .into_iter()
                .filter_map(|at| {
                    let mut spelling = Spelling::new();
                    for c in text[at].chars() {
                        if let Class::Letter(code) = class(c) {
                            spelling.edge(code, rot13(c, code));
                            spelling.push_plain(code);
                        }
                    }
                    spelling.take().map(|word| word.gist)
                })
                .collect();
            prop_assert_eq!(all(&text), spelled);
        }
    }
}
