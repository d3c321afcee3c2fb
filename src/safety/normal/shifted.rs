//! Letters shifted along the alphabet, and reversed text.

use std::ops::Range;

use super::english::{class, likeness, pair};
use super::search::Find;
use super::view::Veil;

/// How much better the disguised part must read: in total, and in tenths per pair of letters. The first excludes short
/// parts, the second parts that are no language either way.
const ENOUGH: (i32, i32) = (40, 5);
/// The same for the best of all possible shifts, which must be clearly better.
const SURE: (i32, i32) = (80, 20);
/// How much of a stretch is tried with each shift, in bytes.
const SAMPLE: usize = 160;
/// How much of the beginning of a stretch may not belong to the disguise, in bytes.
const MARGIN: usize = 48;
/// The mean likelihood of pairs in certain language; English prose has 13.
const CERTAIN: u32 = 11;
/// Stands for the reversed alphabet among the shifts.
const TURNED: u8 = 26;

/// The part of a stretch that gains most by a change of letters, and its gain. `change` returns the classes of two
/// neighbours after the change, in reading order.
fn gaining(stretch: &[u8], change: impl Fn(usize, usize) -> (usize, usize)) -> (i32, Range<usize>) {
    let (mut best, mut range) = (0, 0..0);
    let (mut sum, mut start) = (0, 0);
    let mut before = 0;
    for (at, &byte) in stretch.iter().chain(b" ").enumerate() {
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
    (best, range)
}

/// This part widened to word boundaries; `None` if it does not gain enough.
fn part(stretch: &str, (gain, mut range): (i32, Range<usize>), least: (i32, i32)) -> Option<Range<usize>> {
    let is_gap = |at: usize| stretch.as_bytes().get(at).is_none_or(u8::is_ascii_whitespace);
    while range.start > 0 && !is_gap(range.start - 1) {
        range.start -= 1;
    }
    while range.end < stretch.len() && !is_gap(range.end) {
        range.end += 1;
    }
    let pairs = i32::try_from(range.len()).unwrap_or(i32::MAX);
    (gain >= least.0 && gain.saturating_mul(10) >= pairs.saturating_mul(least.1)).then_some(range)
}

/// Finds text that reads better backwards.
pub fn backwards(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    let gained = gaining(stretch.as_bytes(), |first, second| (second, first));
    let Some(part) = part(stretch, gained, ENOUGH) else { return };
    let Some(backward) = stretch.get(part.clone()) else { return };
    if !likeness(backward.bytes().rev()).is_language() {
        return;
    }
    let whole: String = backward.chars().rev().collect();
    // Words may have been reversed one by one.
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

/// Finds text that reads better after shifting all letters by one distance, or with the alphabet reversed (Atbash).
pub fn shifted(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    // The sample begins behind the margin; text around the disguise reads equally badly with every shift.
    let from = MARGIN.min(stretch.len().saturating_sub(SAMPLE));
    let sample = || stretch.bytes().skip(from).take(SAMPLE);
    let reads = |distance: &u8| {
        sample()
            .fold((0, 0), |(sum, before), byte| {
                let now = moved(class(byte), *distance);
                (sum + u32::from(pair(before, now)), now)
            })
            .0
    };
    // ROT13 is by far the most common: if it gives language, no other shift is tried.
    let thirteen = reads(&13) >= CERTAIN * sample().len() as u32;
    let Some(distance) = (if thirteen { 13..=13 } else { 1..=TURNED }).max_by_key(reads) else { return };
    let gained = gaining(stretch.as_bytes(), |first, second| (moved(first, distance), moved(second, distance)));
    let Some(part) = part(stretch, gained, if distance == 13 { ENOUGH } else { SURE }) else { return };
    let Some(disguised) = stretch.get(part.clone()) else { return };
    let text: String =
        disguised.chars().map(|c| if c.is_ascii_lowercase() { letter(moved(class(c as u8), distance)) } else { c }).collect();
    if likeness(text.bytes()).is_language() {
        found(Find { veil: Veil::Shifted, text, range: range.start + part.start..range.start + part.end });
    }
}

/// The class of a letter after a shift; gaps are kept.
fn moved(class: usize, distance: u8) -> usize {
    match class {
        0 => 0,
        class if distance == TURNED => 27 - class,
        class => (class - 1 + usize::from(distance)) % 26 + 1,
    }
}

fn letter(class: usize) -> char {
    u8::try_from(class).ok().and_then(|class| (b'a' - 1).checked_add(class)).map_or(' ', char::from)
}
