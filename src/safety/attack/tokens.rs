//! Words, marks and characters of a folded text, in one pass over its bytes.
//!
//! Scripts that write words apart give one token a word; Chinese, Japanese, Thai, Lao, Khmer and Burmese, which do not, give
//! one a character. A run of punctuation is one token: delimiter tricks and machine-made suffixes live there.

/// How many characters of a word its stem keeps: enough to tell words apart, few enough to bridge their endings.
const STEM: usize = 5;

/// What a token is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Letters of a script with spaced words.
    Word,
    /// One character of a script without spaces.
    Sign,
    /// Digits.
    Number,
    /// A run of anything else that shows.
    Mark,
    /// One line end or more.
    Line,
}

/// One token.
#[derive(Debug, Clone, Copy)]
pub struct Token {
    /// Where it begins, in bytes of the folded text.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// What it is made of.
    pub sort: Sort,
    /// Of all its characters.
    pub hash: u64,
    /// Of its first [`STEM`] characters; equal to `hash` for shorter words.
    pub stem: u64,
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a, the next byte.
#[inline]
const fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(PRIME)
}

const LETTER: u8 = 0;
const DIGIT: u8 = 1;
const SPACE: u8 = 2;
const LINE: u8 = 3;
const MARK: u8 = 4;
const SIGN: u8 = 5;

const fn ascii_classes() -> [u8; 128] {
    let mut classes = [MARK; 128];
    let mut byte = 0usize;
    while byte < 128 {
        let b = byte as u8;
        if b.is_ascii_alphabetic() {
            classes[byte] = LETTER;
        } else if b.is_ascii_digit() {
            classes[byte] = DIGIT;
        } else if b == b'\n' {
            classes[byte] = LINE;
        } else if b <= b' ' || b == 127 {
            classes[byte] = SPACE;
        }
        byte += 1;
    }
    classes
}

const ASCII: [u8; 128] = ascii_classes();

/// The class of a character beyond ASCII.
fn class(c: char) -> u8 {
    match u32::from(c) {
        0x00A0 | 0x2000..=0x200F | 0x2028..=0x202F | 0x3000 | 0xFEFF => SPACE,
        // Thai, Lao, Burmese, Khmer, kana, Han and their extensions.
        0x0E00..=0x0EFF
        | 0x1000..=0x109F
        | 0x1780..=0x17FF
        | 0x3040..=0x30FF
        | 0x3400..=0x4DBF
        | 0x4E00..=0x9FFF
        | 0xF900..=0xFAFF
        | 0x2_0000..=0x3_FFFF => SIGN,
        // Signs of vowels and their killers belong to the word they stand in.
        0x0300..=0x036F | 0x0900..=0x0DFF => LETTER,
        _ if c.is_alphabetic() => LETTER,
        _ if c.is_numeric() => DIGIT,
        _ => MARK,
    }
}

/// The tokens of a folded text, in order.
#[derive(Debug)]
pub struct Tokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    /// From this byte on, which has to be a character boundary.
    pub fn new(text: &'a str, at: usize) -> Self {
        Self { text, at }
    }

    #[inline]
    fn look(&self, at: usize) -> Option<(u8, usize)> {
        let byte = *self.text.as_bytes().get(at)?;
        if byte < 128 {
            return Some((ASCII[usize::from(byte)], 1));
        }
        let c = self.text.get(at..)?.chars().next()?;
        Some((class(c), c.len_utf8()))
    }

    #[inline]
    fn run(&mut self, class: u8) -> (u64, u64) {
        let bytes = self.text.as_bytes();
        let (mut hash, mut stem, mut letters) = (SEED, SEED, 0usize);
        loop {
            match self.look(self.at) {
                Some((found, length)) if found == class => {
                    for &byte in bytes.get(self.at..self.at + length).unwrap_or_default() {
                        hash = step(hash, byte);
                    }
                    self.at += length;
                    letters += 1;
                    if letters <= STEM {
                        stem = hash;
                    }
                }
                // The apostrophe of `don't` does not part the word.
                Some((MARK, 1))
                    if class == LETTER && bytes.get(self.at) == Some(&b'\'') && matches!(self.look(self.at + 1), Some((LETTER, _))) =>
                {
                    self.at += 1;
                }
                _ => return (hash, stem),
            }
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let start = self.at;
            let (class, length) = self.look(start)?;
            let (sort, hash, stem) = match class {
                SPACE => {
                    self.at += length;
                    continue;
                }
                LETTER => {
                    let (hash, stem) = self.run(LETTER);
                    (Sort::Word, hash, stem)
                }
                DIGIT => {
                    self.run(DIGIT);
                    // Which number it is says nothing; how long it is, a little.
                    let hash = step(step(SEED, b'#'), (self.at - start).min(6) as u8);
                    (Sort::Number, hash, hash)
                }
                LINE => {
                    let mut lines = 0u8;
                    while let Some((LINE | SPACE, length)) = self.look(self.at) {
                        lines = lines.saturating_add(u8::from(self.text.as_bytes().get(self.at) == Some(&b'\n')));
                        self.at += length;
                    }
                    let hash = step(step(SEED, b'\n'), lines.min(2));
                    (Sort::Line, hash, hash)
                }
                SIGN => {
                    self.at += length;
                    let hash =
                        self.text.as_bytes().get(start..self.at).unwrap_or_default().iter().fold(SEED, |hash, &byte| step(hash, byte));
                    (Sort::Sign, hash, hash)
                }
                _ => {
                    let (hash, stem) = self.run(MARK);
                    (Sort::Mark, hash, stem)
                }
            };
            return Some(Token { start, end: self.at, sort, hash, stem });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<(Sort, &str)> {
        Tokens::new(text, 0).map(|token| (token.sort, &text[token.start..token.end])).collect()
    }

    #[test]
    fn scripts_with_and_without_spaces() {
        use Sort::{Line, Mark, Number, Sign, Word};
        assert_eq!(
            words("don't say 42!!\n\nok"),
            [(Word, "don't"), (Word, "say"), (Number, "42"), (Mark, "!!"), (Line, "\n\n"), (Word, "ok")]
        );
        assert_eq!(words("忽略 à l"), [(Sign, "忽"), (Sign, "略"), (Word, "à"), (Word, "l")]);
        assert_eq!(words("अनदेखा करें"), [(Word, "अनदेखा"), (Word, "करें")]);
    }

    #[test]
    fn endings_do_not_change_the_stem() {
        let stems: Vec<u64> = Tokens::new("instructions instruction instruct", 0).map(|token| token.stem).collect();
        assert_eq!(stems[0], stems[1]);
        assert_eq!(stems[1], stems[2]);
        let hashes: Vec<u64> = Tokens::new("dont don't", 0).map(|token| token.hash).collect();
        assert_eq!(hashes[0], hashes[1]);
    }

    proptest::proptest! {
        #[test]
        fn tokens_never_overlap_and_stay_on_boundaries(text in "\\PC{0,60}") {
            let mut at = 0;
            for token in Tokens::new(&text, 0) {
                proptest::prop_assert!(token.start >= at && token.end > token.start);
                proptest::prop_assert!(text.get(token.start..token.end).is_some());
                at = token.end;
            }
        }
    }
}
