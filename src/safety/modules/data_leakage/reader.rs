//! Reads an answer as it arrives and follows what it shares with the request, in several readings at once: as it is, with
//! letters moved by thirteen places, backwards, with letters standing apart, and inside of encoded islands.
//!
//! Everything is decided by one character after the other, so where the text was cut makes no difference.

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

/// Leaks of system text, read word by word.
pub const WORDS: Rule = Rule { enough: 500, loss: 40, misses: 10, piece: 800 };
/// An answer that goes along with the caller's own words for this long repeats them.
const ECHO: Rule = Rule { enough: 2400, loss: 40, misses: 10, piece: i32::MAX };
/// The same as for leaks, letter by letter.
const LETTERS: Rule = Rule { enough: 500, loss: 6, misses: 40, piece: 800 };
/// A letter is a fifth of a word; a character of a script without spaces says a little more.
const LETTER: i32 = 20;
const DENSE: i32 = 25;
/// So many single letters or dense characters in a row are read letter by letter.
const APART: u16 = 6;
/// After so many words in a row that the system text does not have, other readings are tried: whoever writes the same
/// language uses some of its words.
const STRANGE: u8 = 4;
/// So many invisible characters in a row are a break, so many breaks in a row are a word outside: no text keeps another
/// waiting for ever.
const INVISIBLE: u8 = 6;
const BLANK: u8 = 16;

/// ASCII that can be nothing but a break: no letter, no apostrophe, no part of an escape or of base64.
const PLAIN_BREAKS: [bool; 256] = {
    let mut table = [false; 256];
    let mut c = 0;
    while c < 128 {
        table[c] = CODES[c].0 == 0 && !matches!(c as u8, b'\'' | b'%' | b'&' | b'+' | b'-' | b'/' | b'_');
        c += 1;
    }
    table
};

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// The request.
    pub asked: &'a Fingerprints,
    /// Shingles that anyone may repeat.
    pub public: &'a Table,
}

/// Reads one text, or one that is encoded in it.
#[derive(Debug)]
pub struct Reader {
    spelling: Spelling,
    start: usize,
    invisible: u8,
    blank: u8,
    escape: Escape,
    /// As it is, moved by thirteen places, letters mirrored.
    windows: [Window; 3],
    /// The gists of words as they are, and moved by thirteen places.
    gists: [Window; 2],
    units: Units<4>,
    trails: [Trail; 3],
    apart: Apart,
    seen: Seen,
    islands: Islands,
    /// Words in a row that the system text does not have.
    strange: u8,
    /// Along the caller's own words, in the text itself alone; `None` when it is known to repeat them.
    echo: Option<Trail>,
    echoed: Option<usize>,
}

impl Reader {
    /// Before the first character of an answer. Islands in islands are read `depth` deep.
    pub fn new(depth: u8) -> Self {
        Self { echo: Some(Trail::new()), ..Self::inside(depth) }
    }

    /// Before the first character of an island.
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

    /// Takes what comes next of a text that continues at `base`, some letters or one other character: how many bytes.
    /// What became certain with it goes to `out`; with letters that are taken together, nothing does.
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

    /// Takes the letters that a text begins with, as far as nothing but a word can come of them: how many.
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

    /// The next character.
    pub fn one(&mut self, c: char, at: Range<usize>, look: &Look<'_>, out: &mut Vec<Piece>) {
        self.islands.feed(c, at.clone(), look, out);
        if self.escape.watching(c)
            && let Some(meant) = self.escape.feed(c)
        {
            // What the escape is spelled with was no word.
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

    /// Something that is no part of a word; whether it was the last of so many that they count as one.
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
                // A reading that is followed is followed to its end.
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

    /// Whether the answer repeats the caller's own words at length. That is often what it was asked to do: it is worth a
    /// note, and nothing is held back for it.
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

    /// Where it became certain that the caller's words are repeated; said once.
    pub fn echoed(&mut self) -> Option<usize> {
        self.echoed.take()
    }

    /// The word in one reading, as the shingle that ends with it.
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

    /// The text has ended.
    pub fn finish(&mut self, at: usize, look: &Look<'_>, out: &mut Vec<Piece>) {
        self.islands.finish(at, look, out);
        self.word(at, look, out);
        out.extend(self.trails.iter_mut().filter_map(|trail| trail.close(&WORDS)));
        out.extend(self.apart.trail.close(&LETTERS));
    }

    /// From where on the text may become part of a piece.
    pub fn settled(&self, now: usize) -> usize {
        let unfinished = (self.spelling.letters() > 0).then_some(self.start);
        let words = self.trails.iter().map(|trail| trail.settled(&self.units, unfinished, now)).min().unwrap_or(now);
        words.min(self.apart.trail.settled(&self.apart.units, unfinished, now)).min(self.islands.settled(now))
    }
}

/// Letters that stand apart, and scripts without spaces.
#[derive(Debug)]
struct Apart {
    /// How many single letters or dense characters came last; longer words count down.
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

    /// Whether the letters of the next word may be wanted.
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

/// Which shingles of the request the current trail has passed.
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
