//! Counts words and phrases in texts, whole or in fragments, without keeping the text.
//!
//! Case is folded and every run of white space counts as one space, in the words as in the texts. Words that are part of other
//! words are counted as well.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};

/// The longest word (bytes).
const LONGEST: usize = 256;
/// The most words in one set.
const MOST: usize = 10_000;

/// A set of words to look for.
#[derive(Debug)]
pub struct Words {
    search: AhoCorasick,
    /// For each word, whether letters or digits beside it make it another word.
    whole: Vec<bool>,
    longest: usize,
}

impl Words {
    /// Compiles words, each with whether it must stand alone: then letters or digits beside it make it another word.
    ///
    /// # Errors
    /// The index of a word that is empty, over 256 bytes or beyond the limit of words, with a message for the operator.
    pub fn compile<'w>(words: impl IntoIterator<Item = (&'w str, bool)>) -> Result<Arc<Self>, (usize, String)> {
        let (mut patterns, mut whole) = (Vec::new(), Vec::new());
        for (place, (word, by_itself)) in words.into_iter().enumerate() {
            let mut folded = String::new();
            fold(word.trim(), &mut folded);
            if folded.is_empty() || folded.len() > LONGEST {
                return Err((place, format!("a word has 1 to {LONGEST} bytes")));
            }
            if place >= MOST {
                return Err((place, format!("more than {MOST} words")));
            }
            patterns.push(folded);
            whole.push(by_itself);
        }
        let longest = patterns.iter().map(String::len).max().unwrap_or(0);
        let search = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&patterns);
        Ok(Arc::new(Self { search: search.map_err(|error| (0, error.to_string()))?, whole, longest }))
    }

    /// The number of words.
    pub fn len(&self) -> usize {
        self.whole.len()
    }

    /// Whether there are no words.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty()
    }

    /// Counts the words of one whole text: calls `seen` with the index of a word for each of its occurrences.
    pub fn count(&self, text: &str, mut seen: impl FnMut(usize)) {
        let mut tail = Tail::default();
        tail.push(self, text, &mut seen);
        tail.finish(self, &mut seen);
    }
}

/// The end of a text that comes in fragments, as long as the longest word may need.
#[derive(Debug, Default)]
pub struct Tail {
    text: String,
    /// Words that end before this offset have been counted.
    counted: usize,
}

impl Tail {
    /// Counts the words of the next fragment.
    pub fn push(&mut self, words: &Words, piece: &str, seen: &mut impl FnMut(usize)) {
        fold(piece, &mut self.text);
        self.scan(words, false, seen);
        // The character before a word decides whether it stands alone, so a little more is kept.
        let keep = words.longest + 8;
        if self.text.len() > keep * 2 {
            let cut = (self.text.len() - keep..self.text.len()).find(|at| self.text.is_char_boundary(*at)).unwrap_or(self.text.len());
            self.text.drain(..cut);
            self.counted = self.counted.saturating_sub(cut);
        }
    }

    /// The end of the text: counts words at its very end.
    pub fn finish(&mut self, words: &Words, seen: &mut impl FnMut(usize)) {
        self.scan(words, true, seen);
        self.text.clear();
        self.counted = 0;
    }

    /// Counts the words that end in the new part. A word at the very end waits for the character after it, unless `last`.
    fn scan(&mut self, words: &Words, last: bool, seen: &mut impl FnMut(usize)) {
        if self.text.is_empty() {
            return;
        }
        let from = self.counted.saturating_sub(words.longest);
        let from = (0..=from).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        for found in words.search.find_overlapping_iter(self.text.get(from..).unwrap_or_default()) {
            let (start, end) = (from + found.start(), from + found.end());
            if end < self.counted.max(1) || (end == self.text.len() && !last) {
                continue;
            }
            let whole = words.whole.get(found.pattern().as_usize()).copied().unwrap_or(true);
            let before = self.text.get(..start).and_then(|text| text.chars().next_back());
            let after = self.text.get(end..).and_then(|text| text.chars().next());
            let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            if !whole || !(letter(before) || letter(after)) {
                seen(found.pattern().as_usize());
            }
        }
        self.counted = self.text.len();
    }
}

/// Appends a text in lower case, with every run of white space as one space.
fn fold(text: &str, out: &mut String) {
    for c in text.chars() {
        if c.is_whitespace() {
            if !out.ends_with(' ') {
                out.push(' ');
            }
        } else {
            out.extend(c.to_lowercase());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::{prop, proptest};

    fn counts(words: &Words, pieces: &[&str]) -> Vec<usize> {
        let mut counts = vec![0; words.len()];
        let mut tail = Tail::default();
        for piece in pieces {
            tail.push(words, piece, &mut |word| counts[word] += 1);
        }
        tail.finish(words, &mut |word| counts[word] += 1);
        counts
    }

    #[test]
    fn whole_words_in_any_case_and_spacing() {
        let words = Words::compile([("Cancel my  subscription", true), ("cancel", true), ("Straße", true), ("解約", false)]).unwrap();
        let text = "CANCEL my\n subscription! cancelled uncancel cancel_x (cancel) STRAßE straßen 来月解約します";
        assert_eq!(counts(&words, &[text]), [1, 2, 1, 1]);
        assert_eq!(counts(&words, &[""]), [0, 0, 0, 0]);
        assert!(Words::compile([(" ", true)]).is_err() && Words::compile([(&*"x".repeat(257), true)]).is_err());
    }

    proptest! {
        /// However a text is cut, the counts are the same, and equal to those of a plain search.
        #[test]
        fn cuts_make_no_difference(pieces in prop::collection::vec("[abÉ \n]{0,5}", 0..12)) {
            let words = Words::compile([("ab", false), ("b", true), ("é a", true), ("aba", false)]).unwrap();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let whole = pieces.concat();
            assert_eq!(counts(&words, &pieces), counts(&words, &[&whole]));
            let mut folded = String::new();
            fold(&whole, &mut folded);
            let plain = (0..folded.len()).filter(|at| folded.get(*at..).is_some_and(|rest| rest.starts_with("ab"))).count();
            assert_eq!(counts(&words, &[&whole])[0], plain);
        }

        #[test]
        fn a_long_stream_keeps_little(pieces in prop::collection::vec("[a-c ]{0,40}", 0..60)) {
            let words = Words::compile([("abc", true)]).unwrap();
            let mut tail = Tail::default();
            for piece in &pieces {
                tail.push(&words, piece, &mut |_| {});
                assert!(tail.text.len() <= 2 * (3 + 8) + 40);
            }
        }
    }
}
