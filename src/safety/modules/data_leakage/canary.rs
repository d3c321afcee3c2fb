//! Strings that must never occur in an answer: found however they are spelled, and held back from their first letter on.

use std::ops::Range;

use crate::safety::fingerprint::skeleton::{Class, LETTERS, class};
use crate::safety::fingerprint::{Fingerprints, reading};

/// Most characters other than letters between two letters of a canary.
const APART: u8 = 3;
/// Shorter canaries must be whole words; otherwise nearly every text would contain them.
const WITHIN: usize = 8;

/// Number of first letters of an encoded canary, and of a canary within a word, that are released before they are
/// recognised: nothing is held back for so few.
const ENCODED: usize = 4;
const INSIDE: usize = 2;

/// Most reports of one canary in one text.
const MOST: u8 = 8;

/// A canary as a sequence of letters.
#[derive(Debug, Clone)]
pub struct Canary {
    letters: Vec<u32>,
    /// Whether it may begin and end within words.
    within: bool,
    encoded: bool,
}

impl Canary {
    /// All spellings of a string that need a pattern of their own: plain, reversed, ROT13, base64 at each of its three
    /// alignments, and hexadecimal. `None` for a string that is too short or too long to look for.
    pub fn all(text: &str) -> Option<Vec<Self>> {
        let mut plain = Vec::new();
        reading::letters(text, |code| plain.push(code));
        if !(4..=256).contains(&plain.len()) {
            return None;
        }
        let mut written = vec![(text.chars().rev().collect::<String>(), false), (moved(text), false), (hex(text.as_bytes()), true)];
        written.extend((0..3).map(|skipped| (base64_inside(text.as_bytes(), skipped), true)));
        let mut all = vec![Self::new(plain)];
        for (text, encoded) in written {
            let mut letters = Vec::new();
            reading::letters(&text, |code| letters.push(code));
            if letters.len() >= 6 && all.iter().all(|known: &Self| known.letters != letters) {
                all.push(Self { encoded, ..Self::new(letters) });
            }
        }
        Some(all)
    }

    /// A canary in plain spelling, given the codes of its letters.
    pub fn new(letters: Vec<u32>) -> Self {
        let within = letters.len() >= WITHIN;
        Self { letters, within, encoded: false }
    }
}

fn moved(text: &str) -> String {
    let by = |c: char, base: u8| char::from(base + (c as u8 - base + 13) % 26);
    text.chars()
        .map(|c| match c {
            'a'..='z' => by(c, b'a'),
            'A'..='Z' => by(c, b'A'),
            c => c,
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The part of the base64 of any text containing these bytes that depends on them only, if they begin `skipped` bytes into
/// a group of three.
fn base64_inside(bytes: &[u8], skipped: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let padded: Vec<u8> = std::iter::repeat_n(0, skipped).chain(bytes.iter().copied()).collect();
    let sextet = |n: usize| {
        let bit = n * 6;
        let pair = u16::from(padded.get(bit / 8).copied().unwrap_or(0)) << 8 | u16::from(padded.get(bit / 8 + 1).copied().unwrap_or(0));
        (pair >> (10 - bit % 8)) as usize & 63
    };
    let whole = (skipped * 8).div_ceil(6)..padded.len() * 8 / 6;
    whole.map(|n| char::from(ALPHABET[sextet(n)])).collect()
}

/// A set of canaries, with filters on their first letters: one lookup shows that none begins here.
#[derive(Debug, Clone, Default)]
pub struct Canaries {
    all: Vec<Canary>,
    first: u128,
    beyond: bool,
    /// The class of each byte while no canary has begun.
    bytes: Bytes,
    /// Whether a byte may follow the first letter of a canary.
    second: Second,
}

#[derive(Debug, Clone)]
struct Second([bool; 256]);

impl Default for Second {
    fn default() -> Self {
        Self([true; 256])
    }
}

/// The class of each byte while no canary has begun.
#[derive(Debug, Clone)]
struct Bytes([Wait; 256]);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Separates words.
    Between,
    /// A letter with which no canary begins.
    Inside,
    /// A canary may begin here.
    Look,
}

impl Default for Bytes {
    fn default() -> Self {
        Self([Wait::Look; 256])
    }
}

impl Canaries {
    /// A set of these canaries.
    pub fn new(all: Vec<Canary>) -> Self {
        let mut this = Self { all, first: 0, beyond: false, bytes: Bytes::default(), second: Second::default() };
        for canary in &this.all {
            match canary.letters.first() {
                Some(&code) if code < 128 => this.first |= 1 << code,
                _ => this.beyond = true,
            }
        }
        for byte in 0..128_u8 {
            let code = LETTERS[byte as usize].0;
            let wait = match code {
                0 if byte == b'\'' => Wait::Look,
                0 => Wait::Between,
                _ if this.may_begin(u32::from(code)) => Wait::Look,
                _ => Wait::Inside,
            };
            this.bytes.0[byte as usize] = wait;
            let next = u32::from(code);
            this.second.0[byte as usize] = code == 0 || this.all.iter().any(|canary| canary.letters.get(1).is_none_or(|l| *l == next));
        }
        this
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    #[inline]
    fn may_begin(&self, code: u32) -> bool {
        if code < 128 { self.first >> code & 1 == 1 } else { self.beyond }
    }
}

/// A canary of which some letters have matched.
#[derive(Debug, Clone, Copy)]
struct Open {
    which: usize,
    matched: usize,
    /// Number of its letters that may be released before it is recognised; it is held back from the next one on.
    late: usize,
    start: usize,
    /// The offset behind the last matched letter.
    end: usize,
    apart: u8,
}

/// Looks for a set of canaries in an arriving text.
#[derive(Debug, Default)]
pub struct Lookout {
    open: Vec<Open>,
    inside: bool,
    told: Told,
}

/// For each canary, how often it was reported, and where the last report ended. In a repetitive text one can begin within
/// itself at every letter.
#[derive(Debug, Default)]
struct Told(Vec<(u8, usize)>);

impl Told {
    /// Whether this occurrence is to be reported.
    fn note(&mut self, which: usize, at: &Range<usize>) -> bool {
        if self.0.len() <= which {
            self.0.resize(which + 1, (0, 0));
        }
        match self.0.get_mut(which) {
            Some((times, end)) if *times < MOST && at.start >= *end => {
                (*times, *end) = (*times + 1, at.end);
                true
            }
            _ => false,
        }
    }

    fn enough(&self, which: usize) -> bool {
        self.0.get(which).is_some_and(|(times, _)| *times >= MOST)
    }
}

impl Lookout {
    /// Takes more of a text that continues at offset `base`. Calls `found` with the canary's index and range.
    pub fn read(&mut self, text: &str, base: usize, canaries: &Canaries, mut found: impl FnMut(usize, Range<usize>)) {
        let mut at = 0;
        while at < text.len() {
            if self.open.is_empty() {
                let bytes = &text.as_bytes()[at..];
                let mut skipped = 0;
                while let Some(&byte) = bytes.get(skipped) {
                    match canaries.bytes.0[byte as usize] {
                        // A letter followed by none of the second letters begins no canary.
                        Wait::Look
                            if byte.is_ascii_alphanumeric() && bytes.get(skipped + 1).is_some_and(|b| !canaries.second.0[*b as usize]) =>
                        {
                            self.inside = true;
                        }
                        Wait::Look => break,
                        wait => self.inside = wait == Wait::Inside,
                    }
                    skipped += 1;
                }
                at += skipped;
            }
            let Some(c) = text[at..].chars().next() else { return };
            self.feed(c, base + at..base + at + c.len_utf8(), canaries, &mut found);
            at += c.len_utf8();
        }
    }

    /// Takes the next character. Calls `found` with the canary's index and range.
    #[inline]
    pub fn feed(&mut self, c: char, at: Range<usize>, canaries: &Canaries, mut found: impl FnMut(usize, Range<usize>)) {
        match class(c) {
            Class::Letter(code) | Class::Dense(code) => {
                let inside = std::mem::replace(&mut self.inside, true);
                if !self.open.is_empty() {
                    self.letter(code, &at, canaries, &mut found);
                }
                if canaries.may_begin(code) {
                    self.begin(code, at, inside, canaries);
                }
            }
            Class::Ignored => {
                self.open.retain_mut(|open| {
                    open.apart += 1;
                    open.apart <= 3 * APART
                });
            }
            Class::Break => {
                self.inside = false;
                if !self.open.is_empty() {
                    self.pause(canaries, &mut found);
                }
            }
        }
    }

    fn letter(&mut self, code: u32, at: &Range<usize>, canaries: &Canaries, found: &mut impl FnMut(usize, Range<usize>)) {
        let told = &mut self.told;
        self.open.retain_mut(|open| {
            let Some(canary) = canaries.all.get(open.which) else { return false };
            // A short canary that is complete waits for the end of its word; here the word continues.
            if canary.letters.get(open.matched) != Some(&code) {
                return false;
            }
            (open.matched, open.end, open.apart) = (open.matched + 1, at.end, 0);
            if open.matched == open.late + 1 {
                open.start = at.start;
            }
            if open.matched == canary.letters.len() && canary.within {
                let span = open.start..open.end;
                if told.note(open.which, &span) {
                    found(open.which, span);
                }
                return false;
            }
            true
        });
    }

    fn begin(&mut self, code: u32, at: Range<usize>, inside: bool, canaries: &Canaries) {
        for (which, canary) in canaries.all.iter().enumerate() {
            let fits = canary.letters.first() == Some(&code) && (canary.within || !inside);
            if fits && self.open.len() < 256 && !self.told.enough(which) {
                let late = if canary.encoded { ENCODED } else { INSIDE * usize::from(inside) };
                self.open.push(Open { which, matched: 1, late, start: at.start, end: at.end, apart: 0 });
            }
        }
    }

    fn pause(&mut self, canaries: &Canaries, found: &mut impl FnMut(usize, Range<usize>)) {
        let told = &mut self.told;
        self.open.retain_mut(|open| {
            if canaries.all.get(open.which).is_some_and(|canary| canary.letters.len() == open.matched) {
                let span = open.start..open.end;
                if told.note(open.which, &span) {
                    found(open.which, span);
                }
                return false;
            }
            open.apart += 1;
            open.apart <= APART
        });
    }

    /// Ends the text.
    pub fn finish(&mut self, canaries: &Canaries, mut found: impl FnMut(usize, Range<usize>)) {
        self.pause(canaries, &mut found);
        self.open.clear();
    }

    /// The offset from which on the text may become part of a canary.
    pub fn settled(&self, now: usize) -> usize {
        self.open.iter().filter(|open| open.matched > open.late).map(|open| open.start).min().unwrap_or(now)
    }
}

/// The codes in a request's system text that its caller does not know, as canaries; and for each whether it is sure.
pub fn of_request(asked: &Fingerprints) -> (Canaries, Vec<bool>) {
    let codes = asked.codes();
    if codes.is_empty() {
        return Default::default();
    }
    let (all, sure) = codes.iter().map(|code| (Canary::new(code.letters.clone()), code.sure)).unzip();
    (Canaries::new(all), sure)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[allow(clippy::single_range_in_vec_init)]
mod tests {
    use super::*;

    fn found(canary: &str, text: &str) -> Vec<Range<usize>> {
        let canaries = Canaries::new(Canary::all(canary).unwrap());
        let (mut lookout, mut out) = (Lookout::default(), Vec::new());
        for (at, c) in text.char_indices() {
            lookout.feed(c, at..at + c.len_utf8(), &canaries, |_, at| out.push(at));
        }
        lookout.finish(&canaries, |_, at| out.push(at));
        out
    }

    #[test]
    fn a_canary_is_found_however_it_is_written() {
        let canary = "Zephyr-7Q4x-Lumen";
        for written in [
            "Zephyr-7Q4x-Lumen",
            "zephyr7q4xlumen",
            "Z E P H Y R - 7 Q 4 X - L U M E N",
            "Zephyr\n7Q4x\nLumen",
            "Zеphуr-7Q4x-Lumеn",
            "Ze\u{200b}phyr-7Q4x-Lu\u{200b}men",
            "nemuL-x4Q7-ryhpeZ",
            "Mrcule-7D4k-Yhzra",
            "5a65706879722d375134782d4c756d656e",
            "WmVwaHlyLTdRNHgtTHVtZW4=",
            "dGhlIGNvZGUgaXMgWmVwaHlyLTdRNHgtTHVtZW4gb2s=",
            "eFplcGh5ci03UTR4LUx1bWVu",
        ] {
            assert_eq!(found(canary, &format!("it is {written}, see")).len(), 1, "{written}");
        }
        assert_eq!(found(canary, "it is Zephyr-7Q4x-Lumen, see"), [6..23]);
        assert!(found(canary, "Zephyr-7Q4x-Lume and Lumen").is_empty());
    }

    #[test]
    fn a_short_one_is_a_word_of_its_own() {
        assert_eq!(found("blau", "Das Wort ist Blau."), [13..17]);
        assert!(found("blau", "hellblau, blaugrau, bläulich").is_empty());
        assert_eq!(found("blau", "blau"), [0..4]);
        assert!(Canary::all("abc").is_none());
    }
}
