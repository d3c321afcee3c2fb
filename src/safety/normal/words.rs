//! Which words only pretend to be of another script.
//!
//! A letter that looks Latin counts as Latin where the word has a Latin letter too, and where a word made of look-alikes alone
//! stands among Latin words. Anywhere else it is what it is: Russian and Greek texts stay as they are.

use std::ops::Range;

use super::letters::{Tag, fact};

/// What stands before the present word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Latin,
    Foreign,
}

#[derive(Default)]
struct Word {
    start: usize,
    latin: bool,
    alike: bool,
    loose: bool,
    foreign: bool,
}

/// The ranges of a raw text in which letters that look Latin are Latin, in order.
pub fn disguised(raw: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if !may_have_lookalikes(raw.as_bytes()) {
        return found;
    }
    let mut words = Words { before: Before::Nothing, waiting: None, found: &mut found };
    let mut word: Option<Word> = None;
    for (at, c) in raw.char_indices() {
        let tag = match c {
            'a'..='z' | 'A'..='Z' => Tag::Latin,
            '0'..='9' => Tag::Digit,
            '\0'..='\x7F' => Tag::Other,
            _ => fact(c).tag,
        };
        match tag {
            Tag::Other | Tag::Control => {
                if let Some(word) = word.take() {
                    words.end(&word, at);
                }
                continue;
            }
            Tag::Mark | Tag::Joining | Tag::Invisible | Tag::Bidi | Tag::Selector | Tag::Tagged => continue,
            Tag::Digit if word.is_none() => continue,
            _ => {}
        }
        let word = word.get_or_insert_with(|| Word { start: at, ..Word::default() });
        match tag {
            Tag::Latin | Tag::Styled | Tag::Many => word.latin = true,
            Tag::Alike => word.alike = true,
            Tag::Loose => word.loose = true,
            Tag::Letter => word.foreign = true,
            _ => {}
        }
    }
    if let Some(word) = word {
        words.end(&word, raw.len());
    }
    words.finish(raw.len());
    found
}

/// The leading bytes of the scripts that have look-alikes; everything else needs no second pass.
fn may_have_lookalikes(bytes: &[u8]) -> bool {
    let alone = |byte: u8| matches!(byte, 0xCD..=0xD6 | 0xE1 | 0xEA | 0xF0);
    let coptic = |pair: &[u8]| matches!(pair, [0xE2, 0xB2 | 0xB3]);
    bytes.iter().any(|&byte| alone(byte)) || bytes.windows(2).any(coptic)
}

struct Words<'f> {
    before: Before,
    /// Where words made of look-alikes alone began, of which the next word decides.
    waiting: Option<usize>,
    found: &'f mut Vec<Range<usize>>,
}

impl Words<'_> {
    fn end(&mut self, word: &Word, end: usize) {
        let mixed = word.latin && (word.alike || word.loose);
        if word.latin {
            if let Some(start) = self.waiting.take() {
                self.push(start..word.start);
            }
            if mixed {
                self.push(word.start..end);
            }
            self.before = Before::Latin;
        } else if word.foreign || word.loose {
            self.waiting = None;
            self.before = Before::Foreign;
        } else if word.alike && self.before != Before::Foreign {
            self.waiting.get_or_insert(word.start);
        }
    }

    fn finish(&mut self, end: usize) {
        if let Some(start) = self.waiting.take()
            && self.before == Before::Latin
        {
            self.push(start..end);
        }
    }

    fn push(&mut self, range: Range<usize>) {
        match self.found.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.found.push(range),
        }
    }
}
