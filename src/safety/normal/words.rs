//! Which words only pretend to be in another script.
//!
//! A letter that looks Latin counts as Latin if its word also has a Latin letter, or if its word consists of look-alikes
//! only and is among Latin words. Anywhere else it stays what it is, so that Russian and Greek texts are unchanged.

use std::ops::Range;

use super::fold::next;
use super::letters::{Tag, fact};

/// What comes before the current word.
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

/// The ranges of a raw text in which letters that look Latin count as Latin, in order.
pub fn disguised(raw: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if !may_have_lookalikes(raw) {
        return found;
    }
    let mut words = Words { before: Before::Nothing, waiting: None, found: &mut found };
    let mut word: Option<Word> = None;
    let mut at = 0;
    while let Some(c) = raw.get(at..).and_then(|rest| rest.chars().next()) {
        if word.is_none() && words.is_settled() && c.is_ascii() {
            let ahead = skip(raw, at);
            if ahead > at {
                at = ahead;
                continue;
            }
        }
        let start = at;
        at += c.len_utf8();
        let tag = match c {
            'a'..='z' | 'A'..='Z' => Tag::Latin,
            '0'..='9' => Tag::Digit,
            '\0'..='\x7F' => Tag::Other,
            // Han and Hangul, without a lookup.
            '\u{5000}'..='\u{9FFF}' | '\u{B000}'..='\u{CFFF}' => Tag::Letter,
            _ => fact(c).tag,
        };
        match tag {
            Tag::Other | Tag::Control => {
                if let Some(word) = word.take() {
                    words.end(&word, start);
                }
                continue;
            }
            Tag::Mark | Tag::Joining | Tag::Invisible | Tag::Bidi | Tag::Selector | Tag::Tagged => continue,
            Tag::Digit if word.is_none() => continue,
            _ => {}
        }
        let word = word.get_or_insert_with(|| Word { start, ..Word::default() });
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

/// The start of the word with the next character beyond ASCII; the words before it are Latin.
fn skip(raw: &str, from: usize) -> usize {
    let mut at = from;
    next(raw, &mut at, |byte| byte >= 0x80);
    let between = raw.as_bytes().get(from..at).unwrap_or_default();
    at - between.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count()
}

/// Whether any character may look like a Latin one of another script; otherwise no second pass is needed.
fn may_have_lookalikes(raw: &str) -> bool {
    // Han and Hangul have other first bytes; Vietnamese, punctuation like `’`, and emoji have other second bytes.
    let lead = |byte: u8| (0xCD..=0xD6).contains(&byte) | (byte == 0xE1) | (byte == 0xE2) | (byte == 0xEA) | (byte == 0xF0);
    let mut at = 0;
    while let Some(byte) = next(raw, &mut at, lead) {
        let second = raw.as_bytes().get(at + 1).copied().unwrap_or_default();
        let may = match byte {
            0xE1 => matches!(second, 0x8E..=0x97 | 0xB2 | 0xB5 | 0xB6 | 0xBE),
            0xE2 => matches!(second, 0xB2 | 0xB3),
            0xEA => matches!(second, 0x93 | 0x99 | 0x9A | 0xAD | 0xAE),
            0xF0 => matches!(second, 0x90 | 0x91 | 0x9D | 0x9E),
            _ => true,
        };
        if may {
            return true;
        }
        at += 1;
    }
    false
}

struct Words<'f> {
    before: Before,
    /// Where words of look-alikes only began, on which the next word decides.
    waiting: Option<usize>,
    found: &'f mut Vec<Range<usize>>,
}

impl Words<'_> {
    /// Whether a purely Latin word would change nothing.
    fn is_settled(&self) -> bool {
        self.before == Before::Latin && self.waiting.is_none()
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lookalike_is_noticed() {
        for c in '\u{80}'..=char::MAX {
            let alike = matches!(fact(c).tag, Tag::Alike | Tag::Loose);
            // Signs of units (µ) and mathematics (ℽ) in blocks of their own are kept.
            let sign = matches!(c, '\u{B5}' | '\u{2100}'..='\u{214F}');
            assert!(!alike || sign || may_have_lookalikes(&format!("It’s {c}")), "{c:?}");
        }
    }

    #[test]
    fn han_and_hangul_are_letters() {
        for c in ('\u{5000}'..='\u{9FFF}').chain('\u{B000}'..='\u{CFFF}') {
            assert_eq!(fact(c).tag, Tag::Letter, "{c:?}");
        }
    }

    #[test]
    fn latin_words_are_passed_over_alike() {
        let words = ["plain", "42nd", "\u{430}", "p\u{430}st", "\u{436}\u{434}", "\u{1F600}", "’", "é", "\u{3BF}"];
        for first in words {
            for second in words {
                for third in words {
                    let near = format!("{first} {second} {third}");
                    let far = format!("{first} {} {second} {} {third}", "word ".repeat(9), "1 ".repeat(9));
                    let texts = |raw: &str| -> Vec<String> {
                        disguised(raw).into_iter().map(|range| raw.get(range).unwrap_or_default().trim().to_owned()).collect()
                    };
                    // Words between Latin ones are disguised if words next to one are.
                    let latin = |text: &str| text.bytes().any(|byte| byte.is_ascii_alphabetic());
                    if latin(first) && latin(second) {
                        assert_eq!(texts(&near), texts(&far), "{near}");
                    }
                }
            }
        }
    }
}
