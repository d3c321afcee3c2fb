//! Letters moved along the alphabet, and text written backwards.

use std::ops::Range;

use super::english::{class, likeness, pair};
use super::search::Find;
use super::view::Veil;

/// How much better the disguised part has to read in all, and per pair of letters in tenths. The first keeps out what is
/// short, the second what is merely no language either way.
const GAIN: i32 = 40;
const TENTHS: i32 = 5;
/// The same for one of all the distances that letters may move: of so many the best has to be really good.
const SURE: i32 = 80;
const SURE_TENTHS: i32 = 20;
/// How much of a stretch is counted to find out how far its letters were moved, in bytes.
const SAMPLE: usize = 4096;

/// The part of a stretch that gains most by a change of letters, up to the borders of its words; `None` if that is not enough
/// to believe it. `change` gives the classes of two neighbours as they would be, in the order they would be read.
fn gaining(stretch: &str, least: i32, tenths: i32, change: impl Fn(usize, usize) -> (usize, usize)) -> Option<Range<usize>> {
    let (mut best, mut range) = (0, 0..0);
    let (mut sum, mut start) = (0, 0);
    let mut before = 0;
    for (at, byte) in stretch.bytes().chain([b' ']).enumerate() {
        let now = class(byte);
        let (first, second) = change(before, now);
        sum += i32::from(pair(first, second)) - i32::from(pair(before, now));
        if sum <= 0 {
            (sum, start) = (0, at);
        } else if sum > best {
            (best, range) = (sum, start..at);
        }
        before = now;
    }
    let is_gap = |at: usize| stretch.as_bytes().get(at).is_none_or(u8::is_ascii_whitespace);
    while range.start > 0 && !is_gap(range.start - 1) {
        range.start -= 1;
    }
    while range.end < stretch.len() && !is_gap(range.end) {
        range.end += 1;
    }
    let part = stretch.get(range.clone())?;
    let pairs = i32::try_from(part.len()).unwrap_or(i32::MAX);
    (best >= least && best.saturating_mul(10) >= pairs.saturating_mul(tenths)).then_some(range)
}

/// A stretch that reads better backwards.
pub fn backwards(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    let Some(part) = gaining(stretch, GAIN, TENTHS, |first, second| (second, first)) else { return };
    let Some(backward) = stretch.get(part.clone()) else { return };
    if !likeness(backward.bytes().rev()).is_language() {
        return;
    }
    let whole: String = backward.chars().rev().collect();
    // Words may have been turned round one by one.
    let mut words = String::with_capacity(backward.len());
    for word in backward.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        words.extend(bare.chars().rev());
        words.push_str(word.get(bare.len()..).unwrap_or_default());
    }
    let place = range.start + part.start..range.start + part.end;
    if found(Find { veil: Veil::Reversed, text: whole, range: place.clone() }) {
        found(Find { veil: Veil::Reversed, text: words, range: place });
    }
}

/// A stretch that reads better after ROT13.
pub fn rotated(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    replaced(text, range, &|byte| shift(byte, 13), GAIN, TENTHS, found);
}

/// A stretch that reads better when all letters move by one distance, or the alphabet is turned round (Atbash).
pub fn shifted(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    let mut counts = [0u64; 26];
    for byte in stretch.bytes().take(SAMPLE).filter(u8::is_ascii_lowercase) {
        if let Some(count) = counts.get_mut(usize::from(byte - b'a')) {
            *count += 1;
        }
    }
    let weight = |by: u8| -> u64 {
        (b'a'..=b'z')
            .zip(counts)
            .map(|(byte, count)| count * FREQUENCY.get(usize::from(shift(byte, by) - b'a')).copied().map_or(0, u64::from))
            .sum()
    };
    // ROT13 is found by its grain.
    let best = (1..26u8).filter(|&by| by != 13).max_by_key(|&by| weight(by)).unwrap_or(1);
    if !replaced(text, range.clone(), &|byte| shift(byte, best), SURE, SURE_TENTHS, found) {
        replaced(text, range, &turned, SURE, SURE_TENTHS, found);
    }
}

/// Reports the part of a stretch that reads better with other letters, and says whether there is one.
fn replaced(text: &str, range: Range<usize>, with: &dyn Fn(u8) -> u8, gain: i32, tenths: i32, found: &mut dyn FnMut(Find) -> bool) -> bool {
    let Some(stretch) = text.get(range.clone()) else { return false };
    let mut classes = [0usize; 27];
    for (to, byte) in classes.iter_mut().skip(1).zip(b'a'..=b'z') {
        *to = class(with(byte));
    }
    let of = |class: usize| classes.get(class).copied().unwrap_or(0);
    let Some(part) = gaining(stretch, gain, tenths, |first, second| (of(first), of(second))) else { return false };
    let Some(moved) = stretch.get(part.clone()) else { return false };
    if !likeness(moved.bytes().map(with)).is_language() {
        return false;
    }
    let text: String = moved.chars().map(|c| u8::try_from(c).ok().filter(u8::is_ascii).map_or(c, |byte| char::from(with(byte)))).collect();
    found(Find { veil: Veil::Shifted, text, range: range.start + part.start..range.start + part.end });
    true
}

/// How many of a thousand letters of English prose are each one, from a to z.
const FREQUENCY: [u8; 26] = [82, 15, 28, 43, 127, 22, 20, 61, 70, 2, 8, 40, 24, 67, 75, 19, 1, 60, 63, 91, 28, 10, 24, 2, 20, 1];

fn shift(byte: u8, by: u8) -> u8 {
    if byte.is_ascii_lowercase() { b'a' + (byte - b'a' + by) % 26 } else { byte }
}

fn turned(byte: u8) -> u8 {
    if byte.is_ascii_lowercase() { b'a' + (b'z' - byte) } else { byte }
}
