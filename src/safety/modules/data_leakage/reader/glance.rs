//! Skips text that shares nothing with the request, by looking only at the ends of its words.
//!
//! Where a stretch shares no four consecutive [gists](gist) with the request, in any reading, it shares no shingle either,
//! and need not be spelled. The reader's state is rebuilt from the last words: the glance ends that many words before
//! whatever stopped it. So a text gives the same result whether it is glanced at or not.

use super::super::island;
use super::{APART, BLANK, Look, Reader};
use crate::safety::fingerprint::gist::{Row, Said, Vocabulary, gist};
use crate::safety::fingerprint::reading::Window;
use crate::safety::fingerprint::skeleton::{BLOCK, Class, LETTERS, class, first_block, letters as letters_of, rot13, signs};
use crate::safety::fingerprint::table::Table;
use crate::safety::fingerprint::word::LONGEST;

/// Shorter pieces are read directly, since most of their words would be read twice.
pub const LEAST: usize = 160;
/// Number of words after which a fresh reader has the same state as one that has read the whole text: four strange words,
/// the three words of a window, and the current one.
const BACK: usize = 8;
/// Number of words back within which a place for the reader to begin is sought.
const RING: usize = 16;
/// More consecutive ignored characters are left to the reader.
const UNSEEN: u8 = 2;

/// The result of a glance.
pub struct Glance {
    /// Number of bytes that need not be read.
    pub pass: usize,
    /// The streak of single letters at that place.
    pub streak: u16,
    /// The reader should read up to here before the next glance.
    pub until: usize,
}

/// The class of each byte: one of the constants below, or the code of a letter.
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
/// A separator that cannot be part of an island.
const GAP: u8 = 1;
/// A separator that may be part of an island.
const JOINT: u8 = 2;
/// To be examined as a character.
const OTHER: u8 = 3;
/// Left to the reader. Greater values are letters.
const STOP: u8 = 4;

/// Which of the last words may be in one text, and whether the last four may.
struct Streak<'a> {
    vocabulary: Option<&'a Vocabulary>,
    /// One bit for each word, the last word in the lowest.
    words: u32,
}

impl Streak<'_> {
    /// Whether the four words ending with this one may be in the text.
    #[inline(always)]
    fn four(&mut self, gist: u64) -> bool {
        let may = self.vocabulary.is_some_and(|vocabulary| vocabulary.may_have(gist));
        self.words = self.words << 1 | u32::from(may);
        self.words & 0b1111 == 0b1111
    }
}

/// A place at which a reader may begin, and the streak before it, in one number.
#[inline]
const fn place(at: usize, streak: u16) -> u64 {
    (at as u64) << 16 | streak as u64
}

/// Not a place to begin.
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

/// The state of a glance over the words it passed.
struct Sight<'a> {
    own: &'a Table,
    plain: Streak<'a>,
    turned: Streak<'a>,
    said: Option<&'a Said>,
    row: Row,
    gists: Window,
    shifted: Window,
    /// The current streak of single letters.
    streak: u16,
    words: usize,
    /// Where the last words began, if a reader may begin there, and the streak before each.
    ring: [u64; RING],
}

impl Sight<'_> {
    /// Begins a word at this offset, spaced apart from the one before or not. `false` if it is left to the reader.
    #[inline(always)]
    fn begin(&mut self, at: usize, apart: bool) -> bool {
        if self.streak + 1 >= APART {
            return false;
        }
        self.ring[self.words % RING] = if apart { place(at, self.streak) } else { NOWHERE };
        true
    }

    /// Ends a word with this many letters and these outer ones, plain and after ROT13. `false` if it may be in the request.
    #[inline(always)]
    fn end(&mut self, letters: u16, first: (u32, u32), last: (u32, u32)) -> bool {
        let (now, moved) = (gist(letters, first.0, last.0), gist(letters, first.1, last.1));
        let own = |shingle| has(self.own, shingle);
        if self.plain.four(now) && self.gists.with(now).is_some_and(own)
            || self.turned.four(moved) && self.shifted.with(moved).is_some_and(own)
            || self.said.is_some_and(|said| self.row.push(now).is_some_and(|four| said.may_have(four)))
        {
            return false;
        }
        self.gists.push(now);
        self.shifted.push(moved);
        self.streak = if letters == 1 { self.streak + 1 } else { self.streak.saturating_sub(letters) };
        self.words += 1;
        true
    }

    /// Passes the ASCII words that end in the next block, as long as neither they nor their separators need a closer look.
    /// `run` is the length of the current run of base64 characters.
    #[inline(always)]
    fn block(&mut self, bytes: &[u8], at: usize, run: usize, ends: bool) -> Passed {
        let rest = bytes.get(at..).unwrap_or_default();
        let mut last = [b' '; BLOCK];
        let block = first_block(rest, &mut last);
        let signs = signs(block);
        let odd = signs.odd.trailing_zeros();
        // The end of a word must be seen, or be the end of the text.
        let most = match rest.len().min(BLOCK) as u32 {
            all if all < odd => all + u32::from(ends && all < BLOCK as u32),
            _ => odd,
        };
        // Runs long enough for an island are examined more closely.
        let encoded = signs.letters | signs.joints;
        let mut long = encoded & encoded >> 1;
        long &= long >> 2;
        long &= long >> 4;
        long &= long >> 8;
        if long != 0 || run + encoded.trailing_ones() as usize >= island::LEAST {
            return Passed { bytes: 0, run, stopped: None };
        }
        let (mut letters, mut passed, mut words) = (signs.letters, 0, 0);
        let mut stopped = None;
        while letters != 0 {
            let start = letters.trailing_zeros();
            let end = start + (letters >> start).trailing_ones();
            if end >= most || start - passed > u32::from(BLANK) {
                break;
            }
            let apart = start > 0 && signs.joints >> (start - 1) & 1 == 0;
            let letter = |n: u32| edge(block[n as usize % BLOCK]);
            if !self.begin(at + start as usize, apart) || !self.end((end - start) as u16, letter(start), letter(end - 1)) {
                stopped = Some(at + end as usize);
                break;
            }
            words += 1;
            passed = end;
            letters &= u64::MAX << end;
        }
        let run = match words {
            0 => run,
            // The base64 characters in a row before the end of the last word.
            _ => match (encoded << (BLOCK as u32 - passed)).leading_ones() as usize {
                all if all >= passed as usize => run + all,
                some => some,
            },
        };
        Passed { bytes: passed as usize, run, stopped }
    }
}

/// The result for a block.
struct Passed {
    /// The end of the last word that was passed.
    bytes: usize,
    /// Length of the run of base64 characters at that place.
    run: usize,
    /// The end of the word that may be in the request.
    stopped: Option<usize>,
}

/// Number of words that are read one by one after a block that needed a closer look.
const ODD: u8 = 6;

impl Reader {
    /// How far the following text need not be read. Only for a [calm](Self::calm) reader. `ends` says that the text ends
    /// with it.
    pub fn glance(&self, text: &str, ends: bool, look: &Look<'_>) -> Glance {
        let bytes = text.as_bytes();
        if self.echo.as_ref().is_some_and(|trail| trail.open()) {
            // On a trail, every word outside of it counts.
            return Glance { pass: 0, streak: 0, until: LEAST };
        }
        let asked = look.asked;
        let own = (!asked.shingles().is_empty()).then(|| asked.vocabulary());
        // The three words before the first one may be in the text.
        let of = |vocabulary| Streak { vocabulary, words: 0b111 };
        let mut sight = Sight {
            own: asked.gists(),
            plain: of(own),
            turned: of(own),
            said: self.echo.is_some().then(|| asked.recent()).filter(|said| !said.is_empty()),
            row: Row::behind(&self.gists[0]),
            gists: self.gists[0],
            shifted: self.gists[1],
            streak: self.apart.streak,
            words: 0,
            ring: [NOWHERE; RING],
        };
        let (mut at, mut run) = (0, self.islands.run());
        let mut apart = false;
        let mut odd = 0;
        // Whether a text that ends here was passed completely.
        let mut passed = false;
        'text: loop {
            if odd == 0 {
                let block = sight.block(bytes, at, run, ends);
                (at, run, apart) = (at + block.bytes, block.run, apart && block.bytes == 0);
                if let Some(end) = block.stopped {
                    at = end;
                    break;
                }
                if block.bytes > 0 {
                    continue;
                }
                odd = ODD;
            }
            odd -= 1;
            let (mut unseen, mut gap) = (0, 0);
            // Move to the next word.
            loop {
                let Some(&byte) = bytes.get(at).filter(|_| gap <= BLANK) else {
                    passed = ends && at >= bytes.len();
                    break 'text;
                };
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
            }
            if !sight.begin(at, apart) {
                break;
            }
            apart = false;
            let mut letters = 0;
            let (mut first, mut last) = ((0, 0), (0, 0));
            unseen = 0;
            // The word, whose end must be seen.
            loop {
                let rest = bytes.get(at..).unwrap_or_default();
                // A longer word may be an island.
                let len = letters_of(rest.first_chunk::<{ island::LEAST }>().map_or(rest, |most| most));
                let next = rest.get(len).map(|&byte| BYTES[byte as usize]).or(ends.then_some(GAP));
                let Some(class) = next.filter(|_| len < island::LEAST) else { break 'text };
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
            if !sight.end(letters as u16, first, last) {
                break;
            }
        }
        if passed {
            return Glance { pass: bytes.len(), streak: sight.streak, until: bytes.len() };
        }
        let (ring, words) = (sight.ring, sight.words);
        // The following character ends the word for the reader, too.
        let until = bytes.len().min(at + 1);
        let known = words.min(RING - 1);
        let begin = (words.saturating_sub(known)..=words.saturating_sub(BACK)).rev().map(|word| ring[word % RING]);
        let begin = begin.filter(|_| words >= BACK).find(|place| *place != NOWHERE && ((place >> 16) as usize) < bytes.len());
        let begin = begin.unwrap_or(place(0, 0));
        Glance { pass: (begin >> 16) as usize, streak: begin as u16, until }
    }

    /// Rebuilds the state after a stretch that was skipped.
    pub(super) fn resume(&mut self, passed: &[u8], streak: u16) {
        (self.windows, self.gists) = ([Window::default(); 3], [Window::default(); 2]);
        (self.strange, self.blank, self.invisible) = (0, 0, 0);
        self.apart.streak = streak;
        self.islands.passed(passed, 0);
    }
}
