//! The grain of a text: one pass over the folded text finds stretches that may be disguised, by which letters follow which.
//!
//! Every pair of bytes looks up a number that holds eight counters; summed over 64 bytes, they say how much the window
//! looks like language when read forwards, backwards and after ROT13, how often it alternates between letters and gaps, and
//! what it is made of.

use std::ops::Range;

use super::english::{class, pair};

const FORWARD: u32 = 0;
const BACKWARD: u32 = 10;
const ROTATED: u32 = 20;
const LEET: u32 = 30;
const TURNS: u32 = 37;
const DIGITS: u32 = 44;
const LETTERS: u32 = 51;
/// The topmost counter has six bits, which is enough: at most half of a window can be dashes after letters.
const HYPHENS: u32 = 58;

/// Half of a window: windows overlap, so that no disguise is hidden at their border.
const HALF: usize = 32;
const WINDOW: u64 = 2 * HALF as u64;
/// How much better a window must read after undoing a cipher. English does not come near: over the benign development rows
/// the best of 13,000 windows gains 28 when reversed, and only one in ten thousand gains more than that after ROT13.
const GAIN: u64 = 26;

/// Least number of changes between letter and gap in a window of single letters; English has one in three bytes.
const RAGGED: u64 = 36;
/// Longer stretches are examined in pieces of this many bytes, which bounds the memory for each.
const PIECE: usize = 16 * 1024;

/// Windows whose pairs of letters score less on average are not English; most other European languages score more, too.
const STRANGE: u64 = 8;

/// Least number of hyphens in a window of hyphenated syllables. Innocent text rarely has three in a row, except in file
/// names.
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
            // For all other counters a dash is a gap.
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

/// Stretches of a text to be examined, ascending byte ranges on character boundaries.
#[derive(Debug, Default)]
pub struct Grain {
    /// They read better backwards.
    pub backward: Stretches,
    /// They read better after ROT13, or like no language.
    pub strange: Stretches,
    /// Digits and signs among letters.
    pub leet: Stretches,
    /// Letters that stand alone.
    pub ragged: Stretches,
    /// Mostly digits.
    pub numeric: Stretches,
    /// Words that contain hyphens.
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
            // A single innocent window does not end a stretch.
            Some(last) if range.start <= last.end + 2 * HALF => last.end = range.end,
            _ => self.0.push(range),
        }
    }

    /// The stretches of a text, widened by about one window, since the disguise may begin or end there.
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

/// The nearest word boundary before an offset, at most half a window away.
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

/// The nearest word boundary after an offset, at most half a window away.
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

/// The characters of Morse code, and its separators.
const fn is_morse(byte: u8) -> bool {
    matches!(byte, b'.' | b'-' | b'/' | b'|' | b' ' | b'\n')
}

/// Computes the grain of a text.
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
        // Scripts without Latin letters get here, too, and are dismissed after a byte or two.
        if sum >> LETTERS & 0x7F == 0 && half.iter().all(|&byte| is_morse(byte)) {
            grain.dotted.add(at..end);
        }
        judge(&mut grain, last + sum, sum, at.saturating_sub(HALF)..end);
        (at, last) = (end, sum);
    }
    grain
}

/// Judges a window. Its second half is also judged alone, since a short disguise may fill just that.
#[inline]
fn judge(grain: &mut Grain, sum: u64, half: u64, window: Range<usize>) {
    let score = |sum: u64, field: u32| sum >> field & 0x3FF;
    let count = |field: u32| sum >> field & 0x7F;
    let gains = |field: u32| (score(sum, field) > score(sum, FORWARD) + GAIN) | (score(half, field) > score(half, FORWARD) + GAIN);
    // Requires words, because encodings are found by other means.
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
