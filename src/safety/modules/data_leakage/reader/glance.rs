//! The way past text that says nothing of the request's: only the ends of its words are looked at.
//!
//! Where a stretch shares no four [gists](gist) in a row with the request, in any reading, it shares no shingle either, and
//! need not be spelled. What a reader knows of the words before is worked out again from the last of them: the glance ends
//! that many words before whatever stopped it. So a text is read the same whether it is glanced at or not.

use super::super::island;
use super::{APART, BLANK, Look, Reader};
use crate::safety::fingerprint::gist::{Vocabulary, gist};
use crate::safety::fingerprint::reading::Window;
use crate::safety::fingerprint::skeleton::{Class, LETTERS, class, letters as letters_of, rot13};
use crate::safety::fingerprint::table::Table;
use crate::safety::fingerprint::word::LONGEST;

/// Shorter pieces are read at once: it would be the second time for most of their words.
pub const LEAST: usize = 160;
/// After so many words a reader that knew nothing knows what one knows that has read the whole text: four that are strange
/// to the system text, the three words of a window, and the one that stands next.
const BACK: usize = 8;
/// How many words back a place is sought at which a reader may begin.
const RING: usize = 16;
/// More signs in a row that do not count as written are left to the reader.
const UNSEEN: u8 = 2;

/// What is known after a glance.
pub struct Glance {
    /// So many bytes need not be read.
    pub pass: usize,
    /// How many single letters count as the last ones there.
    pub streak: u16,
    /// Up to here the reader should read before the next glance.
    pub until: usize,
}

/// What a byte is at a glance: one of the below, or else a letter's code.
const BYTES: [u8; 256] = {
    let mut table = [OTHER; 256];
    let mut c = 0;
    while c < 128 {
        table[c] = match c as u8 {
            b'%' | b'&' => STOP,
            b'\'' => OTHER,
            b'+' | b'-' | b'/' | b'_' => JOINT,
            _ if LETTERS[c].0 != 0 => LETTERS[c].0,
            _ => GAP,
        };
        c += 1;
    }
    table
};
/// Between words, and no part of an island.
const GAP: u8 = 1;
/// Between words, and perhaps inside of an island.
const JOINT: u8 = 2;
/// To be looked at as a character.
const OTHER: u8 = 3;
/// For the reader. What is more is a letter.
const STOP: u8 = 4;

/// Which of the last words may all be of one text, and whether the last four are.
struct Streak<'a> {
    vocabulary: Option<&'a Vocabulary>,
    /// A bit a word, the last one lowest.
    words: u32,
}

impl Streak<'_> {
    /// Whether four words in a row end with this one that may be of the text.
    #[inline(always)]
    fn four(&mut self, gist: u64) -> bool {
        let may = self.vocabulary.is_some_and(|vocabulary| vocabulary.may_have(gist));
        self.words = self.words << 1 | u32::from(may);
        self.words & 0b1111 == 0b1111
    }
}

/// Where a reader may begin, with the streak before, in one number.
#[inline]
const fn place(at: usize, streak: u16) -> u64 {
    (at as u64) << 16 | streak as u64
}

/// Where it may not.
const NOWHERE: u64 = u64::MAX;

#[inline]
fn edge(byte: u8) -> (u32, u32) {
    let (code, moved) = LETTERS[byte as usize];
    (u32::from(code), u32::from(moved))
}

#[inline]
fn has(table: &Table, shingle: u64) -> bool {
    table.may_contain(shingle) && table.contains(shingle)
}

impl Reader {
    /// Looks how far a text that comes next need not be read. Only for a [calm](Self::calm) reader.
    pub fn glance(&self, text: &str, look: &Look<'_>) -> Glance {
        let bytes = text.as_bytes();
        if self.echo.as_ref().is_some_and(|trail| trail.open()) {
            // Every word outside of it counts.
            return Glance { pass: 0, streak: 0, until: LEAST };
        }
        let asked = look.asked;
        let own = (!asked.shingles().is_empty()).then(|| asked.vocabulary());
        // The three words before the first may be of it.
        let of = |vocabulary| Streak { vocabulary, words: 0b111 };
        let (mut plain, mut turned) = (of(own), of(own));
        let said = self.echo.is_some().then(|| asked.recent()).filter(|said| !said.is_empty());
        let [mut gists, mut shifted] = self.gists;
        let (mut at, mut run, mut streak) = (0, self.islands.run(), self.apart.streak);
        // Where the last words began, if a reader may begin there, and the streak before.
        let mut ring = [NOWHERE; RING];
        let mut words = 0_usize;
        let mut apart = false;
        'text: loop {
            let (mut unseen, mut gap) = (0, 0);
            // Up to the next word, which mostly is one sign away.
            match bytes.get(at..).and_then(<[u8]>::first_chunk) {
                Some([sign, next]) if BYTES[*sign as usize] == GAP && BYTES[*next as usize] > STOP => (at, run, apart) = (at + 1, 0, true),
                _ => loop {
                    let Some(&byte) = bytes.get(at).filter(|_| gap <= BLANK) else { break 'text };
                    gap += 1;
                    match BYTES[byte as usize] {
                        GAP => (run, apart, unseen) = (0, true, 0),
                        JOINT if run + 1 < island::LEAST => (run, apart, unseen) = (run + 1, false, 0),
                        OTHER => {
                            let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) else { break 'text };
                            (run, apart) = (0, true);
                            match class(c) {
                                Class::Break => unseen = 0,
                                Class::Letter(_) => break,
                                Class::Ignored if unseen < UNSEEN => unseen += 1,
                                Class::Ignored | Class::Dense(_) => break 'text,
                            }
                            at += c.len_utf8() - 1;
                        }
                        JOINT | STOP => break 'text,
                        _ => break,
                    }
                    at += 1;
                },
            }
            if streak + 1 >= APART {
                break;
            }
            ring[words % RING] = if apart { place(at, streak) } else { NOWHERE };
            apart = false;
            let mut letters = 0;
            let (mut first, mut last) = ((0, 0), (0, 0));
            unseen = 0;
            // The word, which must be seen to end.
            loop {
                let rest = bytes.get(at..).unwrap_or_default();
                // A longer one may be an island.
                let len = letters_of(rest.first_chunk::<{ island::LEAST }>().map_or(rest, |most| most));
                let Some(class) = rest.get(len).filter(|_| len < island::LEAST).map(|&byte| BYTES[byte as usize]) else { break 'text };
                if let Some((head, tail)) = rest.first().zip(len.checked_sub(1).and_then(|tail| rest.get(tail))) {
                    if letters == 0 {
                        first = edge(*head);
                    }
                    last = edge(*tail);
                    (letters, run, at, unseen) = (letters + len, run + len, at + len, 0);
                    if run >= island::LEAST || letters >= usize::from(LONGEST) {
                        break 'text;
                    }
                }
                match class {
                    OTHER => {}
                    STOP => break 'text,
                    _ => break,
                }
                let Some(c) = text.get(at..).and_then(|rest| rest.chars().next()) else { break 'text };
                run = 0;
                match self::class(c) {
                    Class::Break => break,
                    Class::Letter(code) => {
                        last = (code, rot13(c, code));
                        if letters == 0 {
                            first = last;
                        }
                        (letters, unseen) = (letters + 1, 0);
                        if letters >= usize::from(LONGEST) {
                            break 'text;
                        }
                    }
                    Class::Ignored if unseen < UNSEEN => unseen += 1,
                    Class::Ignored | Class::Dense(_) => break 'text,
                }
                at += c.len_utf8();
            }
            let letters = letters as u16;
            let (now, moved) = (gist(letters, first.0, last.0), gist(letters, first.1, last.1));
            let own = |shingle| has(asked.gists(), shingle);
            if plain.four(now) && gists.with(now).is_some_and(own)
                || turned.four(moved) && shifted.with(moved).is_some_and(own)
                || said.is_some_and(|said| gists.with(now).is_some_and(|shingle| said.may_have(shingle)))
            {
                break;
            }
            gists.push(now);
            shifted.push(moved);
            streak = if letters == 1 { streak + 1 } else { streak.saturating_sub(letters) };
            words += 1;
        }
        // The character that follows ends the word for the reader too.
        let until = bytes.len().min(at + 1);
        let known = words.min(RING - 1);
        let begin = (words.saturating_sub(known)..=words.saturating_sub(BACK)).rev().map(|word| ring[word % RING]);
        let begin = begin.filter(|_| words >= BACK).find(|place| *place != NOWHERE && ((place >> 16) as usize) < bytes.len());
        let begin = begin.unwrap_or(place(0, 0));
        Glance { pass: (begin >> 16) as usize, streak: begin as u16, until }
    }

    /// Begins anew behind a stretch that was passed.
    pub(super) fn resume(&mut self, passed: &[u8], streak: u16) {
        (self.windows, self.gists) = ([Window::default(); 3], [Window::default(); 2]);
        (self.strange, self.blank, self.invisible) = (0, 0, 0);
        self.apart.streak = streak;
        self.islands.passed(passed, 0);
    }
}
