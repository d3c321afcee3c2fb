//! Words at a glance: how long a word is and which letters it begins and ends with. Two words that are the same have the
//! same gist, also when one of them is written backwards, and four gists in a row tell texts apart nearly as well as four
//! words do. Only the ends of words have to be found for it, so most of a text need not be spelled.

use super::reading::Window;
use super::skeleton::{Class, LETTERS, class, letters as letters_of};
use super::table::Table;
use super::word::{self, LONGEST};

/// The gist of a word of this many letters between these two, given by their codes.
#[inline]
pub const fn gist(letters: u16, first: u32, last: u32) -> u64 {
    // Either letter may be the first one.
    let (low, high) = if first < last { (first, last) } else { (last, first) };
    letters as u64 | (low as u64) << 16 | (high as u64) << 40
}

/// Visits the gists of a text's words.
#[inline]
pub fn gists(text: &str, mut f: impl FnMut(u64)) {
    let bytes = text.as_bytes();
    let code = |byte: u8| u32::from(LETTERS[byte as usize].0);
    let (mut at, mut letters, mut first, mut last) = (0, 0_u16, 0, 0);
    while let Some(&byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        // The letters in a row: only the outer two count.
        let most = usize::from(LONGEST - letters);
        let run = letters_of(rest.get(..most).unwrap_or(rest));
        if let Some(tail) = run.checked_sub(1).and_then(|tail| rest.get(tail)) {
            if letters == 0 {
                first = code(byte);
            }
            last = code(*tail);
            letters += run as u16;
            at += run;
            if rest.get(run) == Some(&b' ') {
                f(gist(letters, first, last));
                letters = 0;
                at += 1;
            }
            continue;
        }
        let c = if byte.is_ascii() { char::from(byte) } else { text[at..].chars().next().unwrap_or(' ') };
        match class(c) {
            Class::Letter(code) if letters < LONGEST => {
                if letters == 0 {
                    first = code;
                }
                (letters, last) = (letters + 1, code);
            }
            Class::Ignored => {}
            other => {
                if letters > 0 {
                    f(gist(letters, first, last));
                }
                letters = 0;
                if let Class::Letter(code) = other {
                    (letters, first, last) = (1, code, code);
                }
            }
        }
        at += c.len_utf8();
    }
    if letters > 0 {
        f(gist(letters, first, last));
    }
}

/// The shingles of a text's gists.
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

/// Which gists a text has, a bit for each of 4096 classes of them: one look tells that a word is not of the text.
#[derive(Debug, Clone)]
pub struct Vocabulary([u64; 64]);

impl Default for Vocabulary {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl Vocabulary {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        let mut this = Self::default();
        gists(text, |gist| {
            let (word, bit) = Self::place(gist);
            this.0[word] |= 1 << bit;
        });
        this
    }

    /// Whether the text may have a gist: never false for one that it has.
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

/// What was said, as shingles of gists, a few bits for each: in three hundred shingles that were not said, one may be told to
/// have been.
#[derive(Debug, Clone, Default)]
pub struct Said(Vec<u64>);

impl Said {
    /// In a text.
    pub fn in_text(text: &str) -> Self {
        if text.is_empty() {
            return Self::default();
        }
        let mut bits = vec![0; (text.len() / 5 + 16).next_power_of_two() / 2];
        let mut window = Window::default();
        gists(text, |gist| {
            if let Some(shingle) = window.push(gist) {
                for (word, bit) in Self::places(bits.len(), shingle) {
                    bits[word] |= 1 << bit;
                }
            }
        });
        Self(bits)
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether four words were said in a row: never false for any that were.
    #[inline]
    pub fn may_have(&self, shingle: u64) -> bool {
        !self.0.is_empty() && Self::places(self.0.len(), shingle).iter().all(|(word, bit)| self.0[*word] >> bit & 1 == 1)
    }

    /// Two bits of as many words as there are, a power of two.
    #[inline]
    const fn places(words: usize, shingle: u64) -> [(usize, u32); 2] {
        let mask = words - 1;
        [((shingle >> 6) as usize & mask, shingle as u32 & 63), ((shingle >> 38) as usize & mask, (shingle >> 32) as u32 & 63)]
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
            let (mut window, mut all, mut told) = (Window::default(), 0, 0);
            gists(&text, |gist| {
                if let Some(shingle) = window.push(gist) {
                    all += 1;
                    told += usize::from(said.may_have(shingle));
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
        /// Words are the same here and in the exact reading, and a spelling that is taken letter by letter has their gists.
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
