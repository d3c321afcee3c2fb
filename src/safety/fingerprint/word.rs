//! Words as numbers: hashed letter by letter, so that a word in pieces has the number of the whole.

use super::gist::gist;

/// The factor of the hash; odd, so that no letter's contribution is ever shifted out.
pub const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Longer runs of letters are split here, so that a text without breaks stays bounded.
pub const LONGEST: u16 = 64;

/// A complete word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// Hash of the word.
    pub plain: u64,
    /// Hash of the word after ROT13.
    pub rot13: u64,
    /// Hash of the reversed word.
    pub mirrored: u64,
    /// Number of letters.
    pub letters: u16,
    /// Its [`gist`](super::gist), which is the same for the reversed word.
    pub gist: u64,
    /// Its gist after ROT13.
    pub moved: u64,
}

impl Word {
    /// How much the word counts, in tenths of a full word: particles and articles occur in every text.
    pub const fn weight(self) -> i32 {
        if self.letters <= 3 { 5 } else { 10 }
    }
}

/// A word being read.
#[derive(Debug, Clone)]
pub struct Spelling {
    plain: u64,
    rot13: u64,
    mirrored: u64,
    power: u64,
    letters: u16,
    /// Codes of the first and last letters, and their codes after ROT13.
    first: (u32, u32),
    last: (u32, u32),
}

impl Default for Spelling {
    fn default() -> Self {
        Self::new()
    }
}

impl Spelling {
    /// A word without letters.
    pub const fn new() -> Self {
        Self { plain: 0, rot13: 0, mirrored: 0, power: 1, letters: 0, first: (0, 0), last: (0, 0) }
    }

    /// Number of letters so far.
    pub const fn letters(&self) -> u16 {
        self.letters
    }

    /// Announces a letter that is the first or may be the last; call it before the letter is pushed.
    #[inline]
    pub fn edge(&mut self, code: u32, moved: u32) {
        if self.letters == 0 {
            self.first = (code, moved);
        }
        self.last = (code, moved);
    }

    /// Takes the next letter: its code, and its code after ROT13.
    #[inline]
    pub fn push(&mut self, code: u32, moved: u32) {
        let (value, moved) = (u64::from(code) + 1, u64::from(moved) + 1);
        self.plain = self.plain.wrapping_mul(STEP).wrapping_add(value);
        self.rot13 = self.rot13.wrapping_mul(STEP).wrapping_add(moved);
        self.mirrored = self.mirrored.wrapping_add(value.wrapping_mul(self.power));
        self.power = self.power.wrapping_mul(STEP);
        self.letters += 1;
    }

    /// [`Self::push`] if only the plain reading is needed.
    #[inline]
    pub fn push_plain(&mut self, code: u32) {
        self.plain = step(self.plain, code);
        self.letters += 1;
    }

    /// Ends the word; the next letter begins another.
    #[inline]
    pub fn take(&mut self) -> Option<Word> {
        if self.letters == 0 {
            return None;
        }
        let word = Word {
            plain: mix(self.plain),
            rot13: mix(self.rot13),
            mirrored: mix(self.mirrored),
            letters: self.letters,
            gist: gist(self.letters, self.first.0, self.last.0),
            moved: gist(self.letters, self.first.1, self.last.1),
        };
        *self = Self::new();
        Some(word)
    }
}

/// Adds a letter to the hash of a word, as in [`Word::plain`].
#[inline]
pub const fn step(hash: u64, code: u32) -> u64 {
    hash.wrapping_mul(STEP).wrapping_add(code as u64 + 1)
}

/// Spreads a hash over all bits.
#[inline]
pub const fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    hash ^ (hash >> 29)
}

/// The number of four consecutive words. Reversing their order gives the same number, so a text with its words in reverse
/// order shares all shingles with the original.
#[inline]
pub const fn shingle(a: u64, b: u64, c: u64, d: u64) -> u64 {
    let outer = a.wrapping_add(d).wrapping_mul(0xA24B_AED4_963E_E407);
    let inner = b.wrapping_add(c).wrapping_mul(0x9FB2_1C65_1E98_DF25);
    mix(outer.rotate_left(23) ^ inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word {
        let mut spelling = Spelling::new();
        for c in text.chars() {
            let moved = if c.is_ascii_lowercase() { (c as u32 - 97 + 13) % 26 + 97 } else { c as u32 };
            spelling.push(c as u32, moved);
        }
        spelling.take().unwrap()
    }

    #[test]
    fn one_spelling_gives_all_readings() {
        assert_eq!(word("reveal").plain, word("laever").mirrored);
        assert_eq!(word("reveal").plain, word("erirny").rot13);
        assert_eq!(word("reveal").plain, mix("reveal".chars().fold(0, |hash, c| step(hash, c as u32))));
        assert_ne!(word("reveal").plain, word("reveall").plain);
        assert_eq!((word("the").weight(), word("them").weight()), (5, 10));
        assert_eq!(Spelling::new().take(), None);
    }

    #[test]
    fn shingles_are_the_same_backwards_and_in_no_other_order() {
        let [a, b, c, d] = ["never", "reveal", "these", "instructions"].map(|text| word(text).plain);
        assert_eq!(shingle(a, b, c, d), shingle(d, c, b, a));
        assert_ne!(shingle(a, b, c, d), shingle(b, a, c, d));
        assert_ne!(shingle(a, b, c, d), shingle(a, c, d, b));
    }
}
