//! The fast path for text that shares nothing with the request, which is nearly all text.
//!
//! ASCII words are read and dismissed with all state in registers. Anything else – a shingle that may be in the request, an
//! escape, a letter of another script, a run that may be an island – ends the lane before the word, which the reader then
//! takes by its usual steps. So the lane never finds a leak; it only follows the repetition of the caller's own words.
//!
//! Longer stretches are [glanced at](super::glance) first: what contains no gists of the request is skipped without being
//! read.

use super::super::escape::Escape;
use super::super::island;
use super::super::trail::{Hit, Unit};
use super::glance::LEAST;
use super::{APART, BLANK, ECHO, Look, Reader, STRANGE};
use crate::safety::fingerprint::gist::{Row, gist};
use crate::safety::fingerprint::reading::Window;
use crate::safety::fingerprint::skeleton::LETTERS;
use crate::safety::fingerprint::table::Table;
use crate::safety::fingerprint::word::{self, STEP, Word};

/// Left to the reader.
const OTHER: u8 = 0;
/// A separator that cannot be part of an island.
const GAP: u8 = 1;
/// A separator that may be part of an island.
const JOINT: u8 = 2;
/// Ignored.
const APOSTROPHE: u8 = 3;

/// The class of each byte: one of the above, or the code of a letter.
const BYTES: [u8; 256] = {
    let mut table = [OTHER; 256];
    let mut c = 0;
    while c < 128 {
        table[c] = match c as u8 {
            b'%' | b'&' => OTHER,
            b'\'' => APOSTROPHE,
            b'+' | b'-' | b'/' | b'_' => JOINT,
            _ if LETTERS[c].0 != 0 => LETTERS[c].0,
            _ => GAP,
        };
        c += 1;
    }
    table
};

/// A word that the lane has read.
struct Spelled {
    word: Word,
    end: usize,
    /// Length of the run of base64 characters.
    run: usize,
}

/// Reads the word at `at`, in all readings or in the plain one. `None` if it is left to the reader.
#[inline(always)]
fn spelled<const ALL: bool>(bytes: &[u8], mut at: usize, mut run: usize) -> Option<Spelled> {
    let (mut plain, mut moved, mut mirrored, mut power) = (0_u64, 0_u64, 0_u64, 1_u64);
    let mut letters = 0_u16;
    let first = LETTERS[usize::from(*bytes.get(at)?)];
    let mut last = first;
    loop {
        let &byte = bytes.get(at)?;
        let code = BYTES[byte as usize];
        if code > APOSTROPHE {
            last = LETTERS[byte as usize];
            plain = word::step(plain, u32::from(code));
            if ALL {
                moved = word::step(moved, u32::from(LETTERS[byte as usize].1));
                mirrored = mirrored.wrapping_add((u64::from(code) + 1).wrapping_mul(power));
                power = power.wrapping_mul(STEP);
            }
            letters += 1;
            run += 1;
            at += 1;
            if run >= island::LEAST {
                return None;
            }
            continue;
        }
        match code {
            GAP => run = 0,
            JOINT if run + 1 < island::LEAST => run += 1,
            APOSTROPHE if bytes.get(at + 1).is_some_and(|next| BYTES[*next as usize] > APOSTROPHE) && letters < 32 => {
                run = 0;
                at += 1;
                continue;
            }
            _ => return None,
        }
        let ends = |first: u8, last: u8| gist(letters, u32::from(first), u32::from(last));
        let word = Word {
            plain: word::mix(plain),
            rot13: word::mix(moved),
            mirrored: word::mix(mirrored),
            letters,
            gist: ends(first.0, last.0),
            moved: ends(first.1, last.1),
        };
        return Some(Spelled { word, end: at, run });
    }
}

#[inline(always)]
fn may(table: &Table, shingle: Option<u64>) -> bool {
    shingle.is_some_and(|shingle| table.may_contain(shingle))
}

impl Reader {
    /// Whether nothing is open that the next character could continue.
    #[inline]
    pub(super) fn calm(&self) -> bool {
        self.spelling.letters() == 0
            && self.escape == Escape::None
            && self.apart.streak + 1 < APART
            && self.islands.calm()
            && !(self.trails.iter().any(|trail| trail.open()) || self.apart.trail.open())
    }

    /// Skips the part of a text continuing at `base` that contains no find. Returns the number of bytes, possibly 0. `ends`
    /// says that the text ends with it.
    pub fn dismiss(&mut self, text: &str, base: usize, ends: bool, look: &Look<'_>) -> usize {
        if !self.calm() {
            return 0;
        }
        let mut bytes = text.as_bytes();
        if bytes.len() >= LEAST || ends {
            let glance = self.glance(text, ends, look);
            if glance.pass > 0 {
                self.resume(&bytes[..glance.pass], glance.streak);
                return glance.pass;
            }
            // Word by word up to the one that stopped the glance; then the glance continues.
            bytes = bytes.get(..glance.until).unwrap_or(bytes);
        }
        let (own, vocabulary) = (look.asked.shingles(), look.asked.words());
        let compared = !own.is_empty();
        let said = self.echo.is_some().then(|| look.asked.recent()).filter(|said| !said.is_empty());
        let (mut at, mut blank, mut run) = (0, self.blank, self.islands.run());
        let mut streak = self.apart.streak;
        let [mut plain, mut moved, mut mirrored] = self.windows;
        let [mut gists, mut shifted] = self.gists;
        let mut row = Row::behind(&gists);
        let mut strange = self.strange;
        'text: loop {
            loop {
                let Some(&byte) = bytes.get(at) else { break 'text };
                let longer = match BYTES[byte as usize] {
                    GAP => 0,
                    JOINT if run + 1 < island::LEAST => run + 1,
                    OTHER | JOINT | APOSTROPHE => break 'text,
                    _ => break,
                };
                if blank + 1 >= BLANK {
                    break 'text;
                }
                (run, blank) = (longer, blank + 1);
                at += 1;
            }
            if streak + 1 >= APART {
                break;
            }
            let readings = strange >= STRANGE;
            let read = if readings { spelled::<true>(bytes, at, run) } else { spelled::<false>(bytes, at, run) };
            let Some(Spelled { word, end, run: longer }) = read else { break };
            let mut next = plain;
            let shingle = next.push(word.plain);
            if may(own, shingle) {
                break;
            }
            if compared {
                let known = vocabulary.contains(word.plain);
                if readings {
                    let (mut rot, mut back) = (moved, mirrored);
                    if may(own, rot.push(word.rot13)) || may(own, back.push(word.mirrored)) {
                        break;
                    }
                    (moved, mirrored) = (rot, back);
                    if known {
                        (strange, moved, mirrored) = (0, Window::default(), Window::default());
                    }
                } else {
                    strange = if known { 0 } else { strange + 1 };
                }
            }
            plain = next;
            gists.push(word.gist);
            shifted.push(word.moved);
            streak = if word.letters == 1 { streak + 1 } else { streak.saturating_sub(word.letters) };
            self.units.push(Unit { weight: word.weight() * 10, start: base + at });
            if let (Some(said), Some(trail), Some(four)) = (said, &mut self.echo, row.push(word.gist)) {
                let hit = if said.may_have(four) { Hit::New } else { Hit::None };
                if (trail.open() || hit == Hit::New) && trail.step(&self.units, base + end, hit, &ECHO).is_some() {
                    (self.echo, self.echoed) = (None, Some(base + end));
                }
            }
            (at, run, blank, self.invisible) = (end + 1, longer, 0, 0);
        }
        (self.windows, self.gists) = ([plain, moved, mirrored], [gists, shifted]);
        (self.strange, self.blank) = (strange, blank);
        self.apart.streak = streak;
        self.islands.passed(&bytes[..at], run);
        at
    }
}
