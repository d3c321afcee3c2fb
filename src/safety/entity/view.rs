//! The text as detectors read it: bytes, and whether more may follow.

use std::cell::Cell;

/// The text so far. If a detector reads beyond its end while more may follow, this is recorded and the decision is made
/// again with more text. So every decision is the one that the whole text would give.
#[derive(Debug)]
pub struct View<'a> {
    bytes: &'a [u8],
    complete: bool,
    starved: Cell<bool>,
}

impl<'a> View<'a> {
    /// A view of a text; `complete` if nothing follows.
    pub fn new(bytes: &'a [u8], complete: bool) -> Self {
        Self { bytes, complete, starved: Cell::new(false) }
    }

    /// The bytes that are present.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The byte at `index`; 0 beyond the end.
    pub fn at(&self, index: usize) -> u8 {
        match self.bytes.get(index) {
            Some(byte) => *byte,
            None => {
                self.starve();
                0
            }
        }
    }

    /// The byte `back` positions before `index`; 0 before the beginning.
    pub fn before(&self, index: usize, back: usize) -> u8 {
        index.checked_sub(back).and_then(|i| self.bytes.get(i)).copied().unwrap_or(0)
    }

    /// The bytes from `start` to `end`, as far as they are present.
    pub fn slice(&self, start: usize, end: usize) -> &'a [u8] {
        if end > self.bytes.len() {
            self.starve();
        }
        self.bytes.get(start..end.min(self.bytes.len())).unwrap_or_default()
    }

    /// At most `most` bytes before `index`.
    pub fn left(&self, index: usize, most: usize) -> &'a [u8] {
        self.bytes.get(index.saturating_sub(most)..index).unwrap_or_default()
    }

    /// The end of the longest run of accepted bytes from `start`, at most `most` bytes.
    pub fn run(&self, start: usize, most: usize, takes: impl Fn(u8) -> bool) -> usize {
        let mut end = start;
        while end - start < most && takes(self.at(end)) {
            end += 1;
        }
        end
    }

    /// Whether a detector has read beyond the end since [`Self::fresh`] although more may follow.
    pub fn starved(&self) -> bool {
        self.starved.get()
    }

    /// Resets [`Self::starved`].
    pub fn fresh(&self) {
        self.starved.set(false);
    }

    fn starve(&self) {
        if !self.complete {
            self.starved.set(true);
        }
    }
}

/// Whether a byte continues a word, so that its neighbours are part of an identifier. ASCII only: letters of other scripts
/// are attached to numbers by grammar (Korean particles) and still end them.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Whether `start` is within a word. The letter of an escape in quoted text (`\n4111 …`) does not count.
pub fn in_word(view: &View<'_>, start: usize) -> bool {
    let previous = view.before(start, 1);
    is_word(previous) && !is_escape(view, start)
}

/// Whether the byte before `start` is the letter of an escape.
pub fn is_escape(view: &View<'_>, start: usize) -> bool {
    matches!(view.before(start, 1), b'n' | b'r' | b't' | b'b' | b'f') && view.before(start, 2) == b'\\'
}

/// Whether `text` ends with `word`, ignoring case.
pub fn ends_with(text: &[u8], word: &[u8]) -> bool {
    text.len() >= word.len() && text.get(text.len() - word.len()..).is_some_and(|end| end.eq_ignore_ascii_case(word))
}

/// Whether a word of `text` begins with one of these (lower case).
pub fn mentions_any(text: &[u8], words: &[&str]) -> bool {
    let begins = |at: usize| !at.checked_sub(1).and_then(|b| text.get(b)).is_some_and(u8::is_ascii_lowercase);
    (0..text.len()).filter(|at| begins(*at)).any(|at| {
        let rest = text.get(at..).unwrap_or_default();
        let Some(first) = rest.first().map(u8::to_ascii_lowercase).filter(|b| !b.is_ascii_digit() && *b > b' ') else { return false };
        words
            .iter()
            .map(|word| word.as_bytes())
            .any(|word| word.first() == Some(&first) && rest.get(..word.len()).is_some_and(|w| w.eq_ignore_ascii_case(word)))
    })
}

/// Whether `word` (lower case) occurs in `text`, ignoring case and not after another letter.
pub fn mentions(text: &[u8], word: &[u8]) -> bool {
    let Some(first) = word.first() else { return false };
    text.windows(word.len()).enumerate().any(|(at, window)| {
        window.first().is_some_and(|b| b.eq_ignore_ascii_case(first))
            && window.eq_ignore_ascii_case(word)
            && !(first.is_ascii() && at.checked_sub(1).and_then(|b| text.get(b)).is_some_and(u8::is_ascii_lowercase))
    })
}
