//! Tokenises a folded text into words, punctuation and characters, in one pass over its bytes.
//!
//! Scripts that separate words give one token for each word; Chinese, Japanese, Thai, Lao, Khmer and Burmese give one for
//! each character. A run of punctuation is one token: delimiter tricks and machine-generated suffixes consist of such runs.

/// The numbers of characters that the stems of a word keep. The longest tells most words apart and still bridges their
/// endings; the others match the short prefixes in the vocabulary.
pub const STEMS: [usize; 4] = [2, 3, 4, 5];

/// The sort of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// Letters of a script with spaced words.
    Word,
    /// One character of a script without spaces.
    Sign,
    /// Digits.
    Number,
    /// A run of any other visible characters.
    Mark,
    /// One or more line ends.
    Line,
}

/// One token.
#[derive(Debug, Clone, Copy)]
pub struct Token {
    /// Its start, in bytes of the folded text.
    pub start: usize,
    /// Its end.
    pub end: usize,
    /// Its sort.
    pub sort: Sort,
    /// Hash of all its characters.
    pub hash: u64,
    /// Hashes of its first characters, as many as [`STEMS`] lists; equal to `hash` where the word is shorter.
    pub stems: [u64; STEMS.len()],
}

impl Token {
    /// Whether a sentence may end with this token.
    #[inline]
    pub fn ends(&self, text: &str) -> bool {
        match self.sort {
            Sort::Line => true,
            Sort::Mark => {
                text.get(self.start..self.end).is_some_and(|mark| mark.starts_with(['.', '!', '?', '。', '！', '？', '؟', '।', '…']))
            }
            // The full stops of scripts without spaces are signs, too.
            Sort::Sign => text.get(self.start..self.end) == Some("。"),
            Sort::Word | Sort::Number => false,
        }
    }

    /// Hash of its first five characters.
    #[inline]
    pub fn stem(&self) -> u64 {
        self.stems[STEMS.len() - 1]
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// One step of FNV-1a.
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
        // Vowel signs and viramas belong to the word they are in. The remaining ranges are letters anyway; listing them
        // saves a table search.
        0x0300..=0x036F | 0x0900..=0x0DFF | 0x00DF..=0x00F6 | 0x00F8..=0x024F | 0x0430..=0x0481 | 0x0620..=0x064A | 0xAC00..=0xD7A3 => {
            LETTER
        }
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
    /// Tokens from this byte on, which must be a character boundary.
    pub fn new(text: &'a str, at: usize) -> Self {
        Self { text, at }
    }

    /// The class of the character at a byte, and its length.
    #[inline]
    fn look(&self, at: usize) -> Option<(u8, usize)> {
        let byte = *self.text.as_bytes().get(at)?;
        if byte < 128 {
            return Some((ASCII[usize::from(byte)], 1));
        }
        let c = self.text.get(at..)?.chars().next()?;
        Some((class(c), c.len_utf8()))
    }

    /// Reads a word from the current byte on. Nearly all words are short and ASCII: they are read eight letters at a time.
    #[inline]
    fn word(&mut self) -> Hashes {
        let bytes = self.text.as_bytes();
        let start = self.at;
        let first = eight(bytes, start);
        let mut length = letters(first);
        let mut hash = mix(first & LOW[length]);
        let mut at = start + length;
        let [two, three, four, five] = STEMS;
        let mut stems = [mix(first & LOW[two.min(length)]), mix(first & LOW[three.min(length)]), hash, hash];
        if length >= four {
            stems[2] = mix(first & LOW[four]);
        }
        if length >= five {
            stems[3] = mix(first & LOW[five]);
        }
        while length == 8 {
            // A word of exactly eight letters is complete; in longer ones every eight letters are mixed in.
            let next = eight(bytes, at);
            length = letters(next);
            if length > 0 {
                hash = mix(hash.rotate_left(29) ^ (next & LOW[length]));
            }
            at += length;
        }
        match bytes.get(at) {
            Some(b'\'') if matches!(self.look(at + 1), Some((LETTER, _))) => self.spelled(),
            Some(byte) if *byte >= 128 && matches!(self.look(at), Some((LETTER, _))) => self.spelled(),
            _ => {
                self.at = at;
                (hash, stems)
            }
        }
    }

    /// Reads a word that contains an apostrophe (`don't` is one word) or letters beyond ASCII.
    fn spelled(&mut self) -> Hashes {
        let start = self.at;
        let (mut hash, mut stems, mut count, mut ascii) = (SEED, [0; STEMS.len()], 0usize, true);
        let mut plain = [0u8; 64];
        loop {
            let (class, length) = self.look(self.at).unwrap_or((SPACE, 0));
            if class != LETTER {
                if self.text.as_bytes().get(self.at) == Some(&b'\'') && matches!(self.look(self.at + 1), Some((LETTER, _))) {
                    self.at += 1;
                    continue;
                }
                break;
            }
            for &byte in self.text.as_bytes().get(self.at..self.at + length).unwrap_or_default() {
                hash = step(hash, byte);
                ascii &= byte < 128;
                if let Some(place) = plain.get_mut(count) {
                    *place = byte;
                }
            }
            self.at += length;
            count += 1;
            if let Some(stem) = stems.get_mut(count.wrapping_sub(STEMS[0])) {
                // Words that begin with the same letters get the same stems, however they continue.
                *stem = if ascii { mix(eight(&plain, 0) & LOW[count]) } else { hash };
            }
        }
        if ascii && let Some(word) = plain.get(..count) {
            let mut word = Tokens { text: std::str::from_utf8(word).unwrap_or_default(), at: 0 };
            return word.word();
        }
        debug_assert!(self.at > start);
        for (stem, length) in stems.iter_mut().zip(STEMS) {
            if count < length {
                *stem = hash;
            }
        }
        (hash, stems)
    }

    /// Reads a run of punctuation from the current byte on.
    #[inline]
    fn marks(&mut self, first: usize) -> Hashes {
        let bytes = self.text.as_bytes();
        if first == 1
            && bytes.get(self.at + 1).is_none_or(|&next| next < 128 && ASCII[usize::from(next)] != MARK)
            && let Some(&mark) = bytes.get(self.at)
        {
            self.at += 1;
            return whole(step(SEED, mark));
        }
        let (mut hash, mut stems, mut count) = (SEED, [0; STEMS.len()], 0usize);
        while let Some((MARK, length)) = self.look(self.at) {
            for &byte in self.text.as_bytes().get(self.at..self.at + length).unwrap_or_default() {
                hash = step(hash, byte);
            }
            self.at += length;
            count += 1;
            if let Some(stem) = stems.get_mut(count.wrapping_sub(STEMS[0])) {
                *stem = hash;
            }
        }
        for (stem, length) in stems.iter_mut().zip(STEMS) {
            if count < length {
                *stem = hash;
            }
        }
        (hash, stems)
    }
}

/// The hash of a token, and those of its stems.
type Hashes = (u64, [u64; STEMS.len()]);

/// Masks that keep the first n bytes of a word in memory order.
pub(super) const LOW: [u64; 9] = {
    let mut masks = [u64::MAX; 9];
    let mut length = 0;
    while length < 8 {
        masks[length] = (1 << (8 * length)) - 1;
        length += 1;
    }
    masks
};

/// The eight bytes at an offset, padded with zeros behind the end of the text.
#[inline]
pub(super) fn eight(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => bytes.get(at..).unwrap_or_default().iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    }
}

/// The number of ASCII letters before the first other byte among eight bytes, computed in parallel.
#[inline]
pub(super) const fn letters(eight: u64) -> usize {
    ((letter(eight) ^ TOP).trailing_zeros() / 8) as usize
}

/// The lowest bit of every byte.
pub(super) const ONES: u64 = 0x0101_0101_0101_0101;
/// The top bit of every byte.
pub(super) const TOP: u64 = 0x80 * ONES;

/// Marks the ASCII letters among eight bytes with the top bit of their byte.
#[inline]
pub(super) const fn letter(eight: u64) -> u64 {
    let small = (eight | (0x20 * ONES)) & !TOP;
    // The sum sets a byte's top bit if the byte is at least `a`, or greater than `z`; no sum carries into the next byte.
    let from_a = small + (0x80 - b'a' as u64) * ONES;
    let after_z = small + (0x7F - b'z' as u64) * ONES;
    from_a & !after_z & !eight & TOP
}

/// Mixes eight letters into a hash.
#[inline]
pub(super) const fn mix(word: u64) -> u64 {
    let word = (word ^ SEED).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (word ^ word >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

/// A token that is hashed only as a whole.
#[inline]
const fn whole(hash: u64) -> Hashes {
    (hash, [hash; STEMS.len()])
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    #[inline]
    fn next(&mut self) -> Option<Token> {
        loop {
            let start = self.at;
            let (class, length) = self.look(start)?;
            let (sort, (hash, stems)) = match class {
                SPACE => {
                    self.at += length;
                    continue;
                }
                LETTER => (Sort::Word, self.word()),
                DIGIT => {
                    while let Some((DIGIT, length)) = self.look(self.at) {
                        self.at += length;
                    }
                    // The value of a number says nothing, its length a little.
                    (Sort::Number, whole(step(step(SEED, b'#'), (self.at - start).min(6) as u8)))
                }
                LINE => {
                    let mut lines = 0u8;
                    while let Some((LINE | SPACE, length)) = self.look(self.at) {
                        lines = lines.saturating_add(u8::from(self.text.as_bytes().get(self.at) == Some(&b'\n')));
                        self.at += length;
                    }
                    (Sort::Line, whole(step(step(SEED, b'\n'), lines.min(2))))
                }
                SIGN => {
                    self.at += length;
                    (Sort::Sign, whole(hash(self.text.as_bytes().get(start..self.at).unwrap_or_default())))
                }
                _ => (Sort::Mark, self.marks(length)),
            };
            return Some(Token { start, end: self.at, sort, hash, stems });
        }
    }
}

/// The hash of these bytes, computed as for tokens.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(SEED, |hash, &byte| step(hash, byte))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
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
        let stems: Vec<u64> = Tokens::new("instructions instruction instruct", 0).map(|token| token.stem()).collect();
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
