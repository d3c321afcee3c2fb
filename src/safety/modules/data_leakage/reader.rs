//! Reads an arriving answer and follows what it shares with the request, in several readings at once: plain, ROT13,
//! reversed, spaced-out letters, and within encoded islands.
//!
//! Everything is decided one character at a time, so it makes no difference how the text is cut.

mod glance;
mod lane;

use std::ops::Range;

use super::escape::Escape;
use super::island::Islands;
use super::trail::{Hit, Piece, Rule, Trail, Unit, Units};
use crate::safety::fingerprint::Fingerprints;
use crate::safety::fingerprint::gist::Row;
use crate::safety::fingerprint::reading::{GRAM, Gram, Window};
use crate::safety::fingerprint::skeleton::{Class, LETTERS as CODES, class, rot13};
use crate::safety::fingerprint::table::Table;
use crate::safety::fingerprint::word::{LONGEST, Spelling, Word};

/// When a trail of system text is a leak, by words.
pub const WORDS: Rule = Rule { enough: 500, loss: 40, misses: 10, piece: 800 };
/// When an answer counts as repeating the caller's own words.
const ECHO: Rule = Rule { enough: 2400, loss: 40, misses: 10, piece: i32::MAX };
/// [`WORDS`] for trails by letters.
const LETTERS: Rule = Rule { enough: 500, loss: 6, misses: 40, piece: 800 };
/// Weights: a letter counts a fifth of a word, a character of a script without spaces a little more.
const LETTER: i32 = 20;
const DENSE: i32 = 25;
/// From this many single letters or dense characters in a row, the text is read letter by letter.
const APART: u16 = 6;
/// After this many consecutive words that the system text does not contain, other readings are tried: a text in the same
/// language shares some words.
const STRANGE: u8 = 4;
/// This many invisible characters in a row count as a break, and this many breaks as a word outside of the trail, so that
/// no text holds another back for ever.
const INVISIBLE: u8 = 6;
const BLANK: u8 = 16;

/// ASCII bytes that are always breaks: no letters, apostrophes, or parts of escapes or base64.
const PLAIN_BREAKS: [bool; 256] = {
    let mut table = [false; 256];
    let mut c = 0;
    while c < 128 {
        table[c] = CODES[c].0 == 0 && !matches!(c as u8, b'\'' | b'%' | b'&' | b'+' | b'-' | b'/' | b'_');
        c += 1;
    }
    table
};

/// What an answer is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The fingerprints of the request.
    pub asked: &'a Fingerprints,
    /// Shingles that any answer may repeat.
    pub public: &'a Table,
}

/// Reads a text, or one that is encoded within it.
#[derive(Debug)]
pub struct Reader {
    spelling: Spelling,
    start: usize,
    invisible: u8,
    blank: u8,
    escape: Escape,
    /// Windows of the plain, ROT13 and reversed readings.
    windows: [Window; 3],
    /// Windows of gists: plain, and after ROT13.
    gists: [Window; 2],
    units: Units<4>,
    trails: [Trail; 3],
    apart: Apart,
    seen: Seen,
    islands: Islands,
    /// Number of consecutive words that the system text does not contain.
    strange: u8,
    /// The trail along the caller's own words, in the outermost text only; `None` once it is known to repeat them.
    echo: Option<Trail>,
    echoed: Option<usize>,
}

impl Reader {
    /// A reader at the beginning of an answer. Nested islands are read `depth` levels deep.
    pub fn new(depth: u8) -> Self {
        Self { echo: Some(Trail::new()), ..Self::inside(depth) }
    }

    /// A reader at the beginning of an island.
    pub fn inside(depth: u8) -> Self {
        Self {
            spelling: Spelling::new(),
            start: 0,
            invisible: 0,
            blank: 0,
            escape: Escape::default(),
            windows: [Window::default(); 3],
            gists: [Window::default(); 2],
            units: Units::new(),
            trails: [const { Trail::new() }; 3],
            apart: Apart::new(),
            seen: Seen::default(),
            islands: Islands::new(depth),
            strange: 0,
            echo: None,
            echoed: None,
        }
    }

    /// Takes the next characters of a text that continues at `base`: several letters, or one other character. Returns the
    /// number of bytes. Pieces that became certain are added to `out`; several letters never complete one.
    #[inline]
    pub fn some(&mut self, text: &str, base: usize, look: &Look<'_>, out: &mut Vec<Piece>) -> usize {
        let bytes = text.as_bytes();
        let Some(&byte) = bytes.first() else { return 0 };
        if self.escape == Escape::None {
            if CODES[byte as usize].0 != 0 {
                let letters = self.letters(bytes, base);
                if letters > 0 {
                    return letters;
                }
            } else if PLAIN_BREAKS[byte as usize] && self.islands.part() {
                self.pause(base, look, out);
                return 1;
            }
        }
        let c = if byte.is_ascii() { char::from(byte) } else { text.chars().next().unwrap_or(' ') };
        self.one(c, base..base + c.len_utf8(), look, out);
        c.len_utf8()
    }

    /// Takes the letters at the start of a text, as far as they can only be part of a word. Returns the number of bytes.
    #[inline]
    fn letters(&mut self, bytes: &[u8], base: usize) -> usize {
        let room = usize::from(LONGEST - self.spelling.letters()).min(self.islands.room());
        if room == 0 {
            return 0;
        }
        if self.spelling.letters() == 0 {
            self.start = base;
        }
        let mut taken = 0_usize;
        let mut spelling = self.spelling.clone();
        let edge = |byte: Option<&u8>| byte.map_or((0, 0), |&byte| CODES[byte as usize]);
        let (first, moved) = edge(bytes.first());
        spelling.edge(u32::from(first), u32::from(moved));
        let strange = self.strange >= STRANGE;
        for &byte in bytes.iter().take(room) {
            let (code, moved) = CODES[byte as usize];
            if code == 0 {
                break;
            }
            if strange {
                spelling.push(u32::from(code), u32::from(moved));
            } else {
                spelling.push_plain(u32::from(code));
            }
            taken += 1;
        }
        if let Some(last) = taken.checked_sub(1) {
            let (last, moved) = edge(bytes.get(last));
            spelling.edge(u32::from(last), u32::from(moved));
        }
        self.spelling = spelling;
        if self.apart.near() {
            bytes[..taken].iter().for_each(|&byte| self.apart.letter(u32::from(CODES[byte as usize].0)));
        }
        self.islands.pass(&bytes[..taken]);
        (self.invisible, self.blank) = (0, 0);
        taken
    }

    /// Takes the next character.
    pub fn one(&mut self, c: char, at: Range<usize>, look: &Look<'_>, out: &mut Vec<Piece>) {
        self.islands.feed(c, at.clone(), look, out);
        if self.escape.watching(c)
            && let Some(meant) = self.escape.feed(c)
        {
            // The letters that spelled the escape were not a word.
            self.spelling = Spelling::new();
            self.apart.filled = 0;
            self.take(meant, at, look, out);
            return;
        }
        self.take(c, at, look, out);
    }

    #[inline]
    fn take(&mut self, c: char, at: Range<usize>, look: &Look<'_>, out: &mut Vec<Piece>) {
        match class(c) {
            Class::Letter(code) => {
                if self.spelling.letters() == LONGEST {
                    self.word(at.start, look, out);
                }
                if self.spelling.letters() == 0 {
                    self.start = at.start;
                }
                let moved = rot13(c, code);
                self.spelling.edge(code, moved);
                if self.strange >= STRANGE {
                    self.spelling.push(code, moved);
                } else {
                    self.spelling.push_plain(code);
                }
                if self.apart.near() {
                    self.apart.letter(code);
                }
                (self.invisible, self.blank) = (0, 0);
            }
            Class::Ignored => {
                self.invisible += 1;
                if self.invisible > INVISIBLE {
                    self.invisible = 0;
                    self.pause(at.start, look, out);
                }
            }
            Class::Break => self.pause(at.start, look, out),
            Class::Dense(code) => {
                self.word(at.start, look, out);
                self.invisible = 0;
                self.idle(at.start, out);
                self.apart.dense(code, at, look, out);
            }
        }
    }

    #[inline]
    fn pause(&mut self, at: usize, look: &Look<'_>, out: &mut Vec<Piece>) {
        if self.spelling.letters() > 0 {
            self.word(at, look, out);
            return;
        }
        if self.idle(at, out) {
            out.extend(self.apart.trail.close(&LETTERS));
        }
    }

    /// Takes a character that is not part of a word. Returns whether so many came in a row that they count as a word.
    fn idle(&mut self, at: usize, out: &mut Vec<Piece>) -> bool {
        self.blank += 1;
        if self.blank < BLANK {
            return false;
        }
        self.blank = 0;
        self.units.push(Unit { weight: 0, start: at });
        let units = &self.units;
        out.extend(self.trails.iter_mut().filter_map(|trail| trail.step(units, at, Hit::None, &WORDS)));
        true
    }

    fn word(&mut self, at: usize, look: &Look<'_>, out: &mut Vec<Piece>) {
        let Some(word) = self.spelling.take() else { return };
        self.units.push(Unit { weight: word.weight() * 10, start: self.start });
        let shingle = self.windows[0].push(word.plain);
        self.echo(word.gist, at, look);
        self.gists[0].push(word.gist);
        self.gists[1].push(word.moved);
        if !look.asked.shingles().is_empty() {
            self.step(0, shingle, at, look, out);
            let known = look.asked.words().contains(word.plain);
            if self.strange >= STRANGE {
                for (reading, number) in [(1, word.rot13), (2, word.mirrored)] {
                    let shingle = self.windows[reading].push(number);
                    self.step(reading, shingle, at, look, out);
                }
                // A reading with an open trail is followed to the end of that trail.
                let followed = self.trails[1].open() || self.trails[2].open();
                if known && !followed {
                    (self.strange, self.windows[1], self.windows[2]) = (0, Window::default(), Window::default());
                }
            } else {
                self.strange = if known { 0 } else { self.strange + 1 };
            }
        }
        self.apart.word(word, self.start, at, look, out);
    }

    /// Follows whether the answer repeats the caller's own words at length. That is often what was asked for, so it is only
    /// noted, and nothing is held back.
    #[inline]
    fn echo(&mut self, gist: u64, at: usize, look: &Look<'_>) {
        let Some(trail) = &mut self.echo else { return };
        let Some(four) = Row::behind(&self.gists[0]).push(gist) else { return };
        let hit = if look.asked.recent().may_have(four) { Hit::New } else { Hit::None };
        if trail.step(&self.units, at, hit, &ECHO).is_some() {
            self.echo = None;
            self.echoed = Some(at);
        }
    }

    /// Where it became certain that the caller's words are repeated; returned once.
    pub fn echoed(&mut self) -> Option<usize> {
        self.echoed.take()
    }

    /// Takes the word in one reading, by the shingle that ends with it.
    #[inline]
    fn step(&mut self, reading: usize, shingle: Option<u64>, at: usize, look: &Look<'_>, out: &mut Vec<Piece>) {
        let own = look.asked.shingles();
        let trail = &mut self.trails[reading];
        let place = shingle.and_then(|shingle| Some((shingle, own.find(shingle)?)));
        let hit = match place {
            None if !trail.open() => return,
            None => Hit::None,
            Some((shingle, _)) if look.public.contains(shingle) || look.asked.known_shingle(shingle) => Hit::None,
            Some((_, place)) => self.seen.on(trail.number() * 3 + reading as u32, place, own),
        };
        out.extend(trail.step(&self.units, at, hit, &WORDS));
    }

    /// Ends the text.
    pub fn finish(&mut self, at: usize, look: &Look<'_>, out: &mut Vec<Piece>) {
        self.islands.finish(at, look, out);
        self.word(at, look, out);
        out.extend(self.trails.iter_mut().filter_map(|trail| trail.close(&WORDS)));
        out.extend(self.apart.trail.close(&LETTERS));
    }

    /// The offset from which on the text may become part of a piece.
    pub fn settled(&self, now: usize) -> usize {
        let unfinished = (self.spelling.letters() > 0).then_some(self.start);
        let words = self.trails.iter().map(|trail| trail.settled(&self.units, unfinished, now)).min().unwrap_or(now);
        words.min(self.apart.trail.settled(&self.apart.units, unfinished, now)).min(self.islands.settled(now))
    }
}

/// Reads spaced-out letters, and scripts without spaces.
#[derive(Debug)]
struct Apart {
    /// Number of consecutive single letters or dense characters; longer words reduce it.
    streak: u16,
    letters: [u32; LONGEST as usize],
    filled: u16,
    gram: Gram,
    units: Units<GRAM>,
    trail: Trail,
    seen: Seen,
}

impl Apart {
    fn new() -> Self {
        Self {
            streak: 0,
            letters: [0; LONGEST as usize],
            filled: 0,
            gram: Gram::default(),
            units: Units::new(),
            trail: Trail::new(),
            seen: Seen::default(),
        }
    }

    /// Whether the letters of the next word may be needed.
    #[inline]
    fn near(&self) -> bool {
        self.streak + 1 >= APART
    }

    #[inline]
    fn letter(&mut self, code: u32) {
        if let Some(slot) = self.letters.get_mut(self.filled as usize) {
            *slot = code;
            self.filled += 1;
        }
    }

    #[inline]
    fn word(&mut self, word: Word, start: usize, at: usize, look: &Look<'_>, out: &mut Vec<Piece>) {
        if self.streak == 0 && word.letters > 1 {
            self.filled = 0;
            return;
        }
        let filled = std::mem::take(&mut self.filled);
        if word.letters == 1 {
            self.streak = self.streak.saturating_add(1).min(4 * APART);
        }
        if self.streak >= APART {
            for n in 0..filled {
                let code = self.letters[n as usize];
                self.unit(code, Unit { weight: LETTER, start }, at, look, out);
            }
        }
        if word.letters > 1 && self.streak > 0 {
            self.streak = self.streak.saturating_sub(word.letters);
            if self.streak < APART {
                self.gram = Gram::default();
                out.extend(self.trail.close(&LETTERS));
            }
        }
    }

    fn dense(&mut self, code: u32, at: Range<usize>, look: &Look<'_>, out: &mut Vec<Piece>) {
        self.streak = self.streak.saturating_add(1).min(4 * APART);
        if self.streak >= APART {
            self.unit(code, Unit { weight: DENSE, start: at.start }, at.end, look, out);
        }
    }

    fn unit(&mut self, code: u32, unit: Unit, at: usize, look: &Look<'_>, out: &mut Vec<Piece>) {
        if look.asked.system().is_empty() {
            return;
        }
        let own = look.asked.grams();
        let place = self.gram.push(code).and_then(|gram| Some((gram, own.find(gram)?)));
        let hit = match place {
            None => Hit::None,
            Some((gram, _)) if look.asked.known_gram(gram) => Hit::None,
            Some((_, place)) => self.seen.on(self.trail.number(), place, own),
        };
        self.units.push(unit);
        out.extend(self.trail.step(&self.units, at, hit, &LETTERS));
    }
}

/// The shingles of the request that the current trail has passed.
#[derive(Debug, Default)]
struct Seen(Vec<u32>);

impl Seen {
    fn on(&mut self, trail: u32, place: usize, of: &Table) -> Hit {
        if self.0.is_empty() {
            self.0.resize(of.places(), 0);
        }
        match self.0.get_mut(place) {
            Some(last) if *last != trail => {
                *last = trail;
                Hit::New
            }
            _ => Hit::Again,
        }
    }
}
