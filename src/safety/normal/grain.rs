//! One pass over a folded text that tells which stretches may be disguised, from which letters follow which.
//!
//! Every pair of bytes looks up one number in which eight counters lie side by side; summed up over 64 bytes they say how much
//! the window looks like language read forwards, read backwards and after ROT13, how ragged it is, and what it is made of.

use std::ops::Range;

use super::english::{class, pair};

const FORWARD: u32 = 0;
const BACKWARD: u32 = 10;
const ROTATED: u32 = 20;
const LEET: u32 = 30;
const TURNS: u32 = 37;
const DIGITS: u32 = 44;
const LETTERS: u32 = 51;
/// The topmost counter, of six bits: no more than half of a window can be dashes behind letters.
const HYPHENS: u32 = 58;

/// Half a window: windows overlap, so that no disguise hides on the border of two.
const HALF: usize = 32;
const WINDOW: u64 = 2 * HALF as u64;
/// How much better a window has to read after undoing a cipher. English never comes near: over the benign development rows
/// the best of 13,000 windows gains 28 backwards, and only one in ten thousand more than that after ROT13.
const GAIN: u64 = 26;

/// How often a window of single letters goes from letter to gap and back; English has one turn in three bytes.
const RAGGED: u64 = 36;
/// Longer stretches are looked at piece by piece, so that no look needs much room, in bytes.
const PIECE: usize = 16 * 1024;

/// Letters whose pairs score less on average are no English; most other languages of Europe score more too.
const STRANGE: u64 = 8;

/// A window of hyphenated syllables has as many hyphens at least; three in a row are hardly ever written, but in names of files.
const HYPHENATED: u64 = 4;

const DIGIT: usize = 27;
const SIGN: usize = 28;
const DASH: usize = 29;

const fn class_of(byte: u8) -> usize {
    match byte {
        b'0'..=b'9' => DIGIT,
        b'@' | b'$' | b'!' | b'+' => SIGN,
        b'-' => DASH,
        _ => class(byte),
    }
}

const fn classes() -> [u8; 256] {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = class_of(byte as u8) as u8;
        byte += 1;
    }
    classes
}

const fn rotated(class: usize) -> usize {
    match class {
        1..=13 => class + 13,
        14..=26 => class - 13,
        other => other,
    }
}

const fn gap(class: usize) -> usize {
    if class >= DIGIT { 0 } else { class }
}

const fn pairs() -> [u64; 1024] {
    let mut pairs = [0; 1024];
    let mut first = 0;
    while first < 32 {
        let mut second = 0;
        while second < 32 {
            let (a, b) = (gap(first), gap(second));
            let (is_a, is_b) = (a != 0, b != 0);
            // A dash is a gap to everything but the hyphens.
            let (of_leet, follows_leet) = (matches!(first, DIGIT | SIGN), matches!(second, DIGIT | SIGN));
            let leet = (of_leet && is_b) || (follows_leet && is_a);
            let turn = matches!(first, 0 | DASH) != matches!(second, 0 | DASH);
            let hyphen = is_a && second == DASH;
            pairs[first << 5 | second] = (pair(a, b) as u64) << FORWARD
                | (pair(b, a) as u64) << BACKWARD
                | (pair(rotated(a), rotated(b)) as u64) << ROTATED
                | (leet as u64) << LEET
                | (turn as u64) << TURNS
                | ((second == DIGIT) as u64) << DIGITS
                | (is_b as u64) << LETTERS
                | (hyphen as u64) << HYPHENS;
            second += 1;
        }
        first += 1;
    }
    pairs
}

static CLASSES: [u8; 256] = classes();
static PAIRS: [u64; 1024] = pairs();

/// Stretches of a text worth a closer look, in bytes and in order, each on character boundaries.
#[derive(Debug, Default)]
pub struct Grain {
    /// Reads better backwards.
    pub backward: Stretches,
    /// Reads better after ROT13, or like no language at all.
    pub strange: Stretches,
    /// Digits and signs among letters.
    pub leet: Stretches,
    /// Letters one by one.
    pub ragged: Stretches,
    /// Mostly digits.
    pub numeric: Stretches,
    /// Words with hyphens in them.
    pub hyphened: Stretches,
    /// Dots and dashes.
    pub dotted: Stretches,
}

/// Ranges that neither overlap nor touch.
#[derive(Debug, Default)]
pub struct Stretches(Vec<Range<usize>>);

impl Stretches {
    fn add(&mut self, range: Range<usize>) {
        match self.0.last_mut() {
            // One window that looks innocent does not end a stretch.
            Some(last) if range.start <= last.end + 2 * HALF => last.end = range.end,
            _ => self.0.push(range),
        }
    }

    /// The stretches of a text, with a margin of about one window where the disguise may begin or end.
    pub fn ranges<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        let mut done = 0;
        self.0.iter().flat_map(move |range| {
            let start = back(text, range.start.saturating_sub(HALF)).max(done);
            let end = ahead(text, (range.end + HALF).min(text.len()));
            done = done.max(end);
            pieces(text, start..end)
        })
    }
}

fn pieces(text: &str, range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let end = if range.end.saturating_sub(start) <= PIECE { range.end } else { ahead(text, start + PIECE) };
        let piece = start..end;
        start = end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The nearest border of a word before this place, no more than one window away.
fn back(text: &str, mut at: usize) -> usize {
    let least = at.saturating_sub(HALF);
    while at > least && !text.as_bytes().get(at - 1).is_some_and(u8::is_ascii_whitespace) {
        at -= 1;
    }
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The nearest border of a word after this place, no more than one window away.
fn ahead(text: &str, mut at: usize) -> usize {
    let most = (at + HALF).min(text.len());
    while at < most && !text.as_bytes().get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// What Morse code is written with, and what parts its letters and words.
const fn is_morse(byte: u8) -> bool {
    matches!(byte, b'.' | b'-' | b'/' | b'|' | b' ' | b'\n')
}

/// Reads the grain of a text.
pub fn grain(text: &str) -> Grain {
    let mut grain = Grain::default();
    let mut before = 0usize;
    let mut last = 0u64;
    let mut at = 0;
    for half in text.as_bytes().chunks(HALF) {
        let mut sum = 0u64;
        for &byte in half {
            let now = usize::from(CLASSES[usize::from(byte)]);
            sum += PAIRS[(before << 5 | now) & 0x3FF];
            before = now;
        }
        let end = at + half.len();
        // Scripts without Latin letters come here as well, and go after a look at one byte or two.
        if sum >> LETTERS & 0x7F == 0 && half.iter().all(|&byte| is_morse(byte)) {
            grain.dotted.add(at..end);
        }
        judge(&mut grain, last + sum, sum, at.saturating_sub(HALF)..end);
        (at, last) = (end, sum);
    }
    grain
}

/// Judges a window, whose second half a short disguise may fill alone.
#[inline]
fn judge(grain: &mut Grain, sum: u64, half: u64, window: Range<usize>) {
    let score = |sum: u64, field: u32| sum >> field & 0x3FF;
    let count = |field: u32| sum >> field & 0x7F;
    let gains = |field: u32| (score(sum, field) > score(sum, FORWARD) + GAIN) | (score(half, field) > score(half, FORWARD) + GAIN);
    // Words, for encodings have other finders.
    let wordy = count(TURNS) * 11 >= window.len() as u64;
    let (backward, rotated) = (gains(BACKWARD), gains(ROTATED) & wordy);
    let (leet, turns, digits) = ((count(LEET) >= 3) & wordy, count(TURNS) >= RAGGED, count(DIGITS) >= 16);
    let strange = (count(LETTERS) >= 36) & wordy & (score(sum, FORWARD) < STRANGE * WINDOW);
    let short = window.len() <= HALF && count(TURNS) * 2 > window.len() as u64;
    let hyphened = sum >> HYPHENS >= HYPHENATED;
    if !(backward | rotated | leet | turns | digits | strange | short | hyphened) {
        return;
    }
    let marks = [
        (backward, &mut grain.backward),
        (rotated | strange, &mut grain.strange),
        (leet, &mut grain.leet),
        (turns | short, &mut grain.ragged),
        (digits, &mut grain.numeric),
        (hyphened, &mut grain.hyphened),
    ];
    for (marked, stretches) in marks {
        if marked {
            stretches.add(window.clone());
        }
    }
}
