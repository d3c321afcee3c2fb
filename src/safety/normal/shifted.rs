//! Letters moved along the alphabet, and text written backwards.

use std::ops::Range;

use super::english::{Likeness, likeness};
use super::search::Find;
use super::view::Veil;

/// How much better a stretch has to read, per pair of letters and in twentieths of a point.
const BETTER: u32 = 8;
/// The fewest pairs of letters of which anything can be said.
const FEWEST: u32 = 12;
/// How much of a stretch is counted to find out how far its letters were moved, in bytes.
const SAMPLE: usize = 4096;

fn reads_better(now: Likeness, before: Likeness) -> bool {
    now.pairs >= FEWEST && now.is_language() && now.sum * 20 >= before.sum * 20 + now.pairs * BETTER
}

/// A stretch that reads better backwards.
pub fn backwards(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    if !reads_better(likeness(stretch.bytes().rev()), likeness(stretch.bytes())) {
        return;
    }
    let whole: String = stretch.chars().rev().collect();
    // Words may have been turned round one by one.
    let mut words = String::with_capacity(stretch.len());
    for word in stretch.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        words.extend(bare.chars().rev());
        words.push_str(word.get(bare.len()..).unwrap_or_default());
    }
    if found(Find { veil: Veil::Reversed, text: whole, range: range.clone() }) {
        found(Find { veil: Veil::Reversed, text: words, range });
    }
}

/// A stretch that reads better after ROT13.
pub fn rotated(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    if reads_better(likeness(stretch.bytes().map(|byte| shift(byte, 13))), likeness(stretch.bytes())) {
        found(Find { veil: Veil::Shifted, text: apply(stretch, |byte| shift(byte, 13)), range });
    }
}

/// A stretch that reads better when all letters move by one distance, or the alphabet is turned round (Atbash).
pub fn shifted(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    let before = likeness(stretch.bytes());
    if before.is_language() {
        return;
    }
    let mut counts = [0u64; 26];
    for byte in stretch.bytes().take(SAMPLE).filter(u8::is_ascii_lowercase) {
        if let Some(count) = counts.get_mut(usize::from(byte - b'a')) {
            *count += 1;
        }
    }
    let weight = |of: &dyn Fn(u8) -> u8| -> u64 {
        (b'a'..=b'z')
            .zip(counts)
            .map(|(byte, count)| count * FREQUENCY.get(usize::from(of(byte) - b'a')).copied().map_or(0, u64::from))
            .sum()
    };
    let turned = |byte: u8| if byte.is_ascii_lowercase() { b'a' + b'z' - byte } else { byte };
    let best = (1..26u8).max_by_key(|&by| weight(&|byte| shift(byte, by))).unwrap_or(13);
    // ROT13 is found by its grain.
    if best != 13 && reads_better(likeness(stretch.bytes().map(|byte| shift(byte, best))), before) {
        found(Find { veil: Veil::Shifted, text: apply(stretch, |byte| shift(byte, best)), range });
    } else if reads_better(likeness(stretch.bytes().map(turned)), before) {
        found(Find { veil: Veil::Shifted, text: apply(stretch, turned), range });
    }
}

/// How many of a thousand letters of English prose are each one, from a to z.
const FREQUENCY: [u8; 26] = [82, 15, 28, 43, 127, 22, 20, 61, 70, 2, 8, 40, 24, 67, 75, 19, 1, 60, 63, 91, 28, 10, 24, 2, 20, 1];

fn shift(byte: u8, by: u8) -> u8 {
    if byte.is_ascii_lowercase() { b'a' + (byte - b'a' + by) % 26 } else { byte }
}

fn apply(stretch: &str, of: impl Fn(u8) -> u8) -> String {
    stretch.chars().map(|c| u8::try_from(c).ok().filter(u8::is_ascii).map_or(c, |byte| char::from(of(byte)))).collect()
}
