//! Encoded text within text: runs of base64 and hexadecimal digits, decoded as they arrive and read like the surrounding
//! text.

use std::ops::Range;

use super::reader::{Look, Reader};
use super::trail::Piece;

/// Shorter runs are ignored: 18 bytes of base64, 16 bytes of hexadecimal digits.
const BASE64: u32 = 24;
const HEX: u32 = 32;
/// Number of base64 characters from which on a run may be an island.
pub const LEAST: usize = BASE64 as usize;
/// A run of this length may continue on the next line.
const WRAPPED: u32 = 40;

/// The islands that are open in a text.
#[derive(Debug)]
pub struct Islands {
    depth: u8,
    /// Number of base64 characters in the current run, up to [`BASE64`], and the characters.
    run: u8,
    last: [u8; BASE64 as usize],
    base64: Island,
    hex: Island,
}

impl Islands {
    /// No islands yet. With a depth of 0 there will be none.
    pub fn new(depth: u8) -> Self {
        Self { depth, run: 0, last: [0; BASE64 as usize], base64: Island::new(BASE64), hex: Island::new(HEX) }
    }

    /// Number of base64 characters that may [pass](Self::pass) before they could be an island.
    #[inline]
    pub fn room(&self) -> usize {
        if self.depth == 0 { usize::MAX } else { (BASE64 as usize - 1).saturating_sub(self.run as usize) }
    }

    /// Takes base64 characters, at most as many as there is room for.
    #[inline]
    pub fn pass(&mut self, bytes: &[u8]) {
        if self.depth > 0 {
            let run = self.run as usize;
            if let Some(to) = self.last.get_mut(run..run + bytes.len()) {
                to.copy_from_slice(bytes);
                self.run += bytes.len() as u8;
            }
        }
    }

    /// Called when a character that ends islands follows. Returns whether that was all it does.
    #[inline]
    pub fn part(&mut self) -> bool {
        if u32::from(self.run) >= BASE64 {
            return false;
        }
        self.run = 0;
        true
    }

    /// Length of the current run of base64 characters.
    #[inline]
    pub fn run(&self) -> usize {
        usize::from(self.run)
    }

    /// Whether no island is open.
    #[inline]
    pub fn calm(&self) -> bool {
        self.run() < LEAST
    }

    /// Skips a stretch without islands that ends with a run of this many base64 characters, fewer than [`LEAST`].
    pub fn passed(&mut self, bytes: &[u8], run: usize) {
        if self.depth == 0 {
            return;
        }
        match bytes.len().checked_sub(run) {
            Some(from) => {
                self.run = 0;
                self.pass(&bytes[from..]);
            }
            None => self.pass(bytes),
        }
    }

    /// Takes the next character of the surrounding text.
    #[inline]
    pub fn feed(&mut self, c: char, at: Range<usize>, look: &Look<'_>, out: &mut Vec<Piece>) {
        if self.depth == 0 {
            return;
        }
        let (sextet, nibble) = VALUES.get(c as usize).map_or((NONE, NONE), |&values| values);
        if u32::from(self.run) < BASE64 {
            if sextet == NONE {
                self.run = 0;
                return;
            }
            self.last[self.run as usize] = c as u8;
            self.run += 1;
            if u32::from(self.run) == BASE64 {
                // The whole run counts as being at this offset: its beginning may have been released.
                for byte in self.last {
                    let (sextet, nibble) = VALUES[byte as usize];
                    self.base64.feed(char::from(byte), sextet, 6, at.clone(), self.depth, look, out);
                    self.hex.feed(char::from(byte), nibble, 4, at.clone(), self.depth, look, out);
                }
            }
            return;
        }
        self.base64.feed(c, sextet, 6, at.clone(), self.depth, look, out);
        self.hex.feed(c, nibble, 4, at, self.depth, look, out);
        if self.base64.run == 0 && self.hex.run == 0 {
            self.run = 0;
        }
    }

    /// Ends the text.
    pub fn finish(&mut self, at: usize, look: &Look<'_>, out: &mut Vec<Piece>) {
        self.base64.end(at, look, out);
        self.hex.end(at, look, out);
    }

    /// The offset from which on the text may become part of a piece.
    pub fn settled(&self, now: usize) -> usize {
        let of = |island: &Island| island.inside.as_ref().map_or(now, |reader| reader.settled(now));
        of(&self.base64).min(of(&self.hex))
    }
}

const NONE: u8 = 255;

/// The values of ASCII characters as base64 (both alphabets) and as hexadecimal digits.
const VALUES: [(u8, u8); 128] = {
    let mut table = [(NONE, NONE); 128];
    let mut c = 0;
    while c < 128 {
        let byte = c as u8;
        let sextet = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => NONE,
        };
        let nibble = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => NONE,
        };
        table[c] = (sextet, nibble);
        c += 1;
    }
    table
};

#[derive(Debug)]
struct Island {
    least: u32,
    run: u32,
    /// A line ended after a long run.
    wrapped: bool,
    bits: u32,
    held: u8,
    /// What was decoded before the run was known to be an island.
    first: [u8; 20],
    decoded: u8,
    utf8: Utf8,
    inside: Option<Box<Reader>>,
}

impl Island {
    fn new(least: u32) -> Self {
        Self { least, run: 0, wrapped: false, bits: 0, held: 0, first: [0; 20], decoded: 0, utf8: Utf8::default(), inside: None }
    }

    #[inline]
    #[allow(clippy::too_many_arguments)]
    fn feed(&mut self, c: char, value: u8, width: u8, at: Range<usize>, depth: u8, look: &Look<'_>, out: &mut Vec<Piece>) {
        if value == NONE {
            if self.run == 0 {
                return;
            }
            if self.run >= WRAPPED && (c == '\r' || c == '\n') && !self.wrapped {
                self.wrapped = c == '\n';
                return;
            }
            self.end(at.start, look, out);
            return;
        }
        self.wrapped = false;
        self.run = self.run.saturating_add(1);
        self.bits = (self.bits << width | u32::from(value)) & 0xFFFF;
        self.held += width;
        if self.held >= 8 {
            self.held -= 8;
            let byte = (self.bits >> self.held) as u8;
            if self.inside.is_some() {
                self.read(byte, at, look, out);
                return;
            }
            if let Some(slot) = self.first.get_mut(self.decoded as usize) {
                *slot = byte;
                self.decoded += 1;
            }
        }
        if self.run == self.least {
            // The run is an island. All of it counts as being at this offset: its beginning may have been released.
            self.inside = Some(Box::new(Reader::inside(depth - 1)));
            let first = self.first;
            for &byte in first.iter().take(self.decoded as usize) {
                self.read(byte, at.clone(), look, out);
            }
        }
    }

    fn read(&mut self, byte: u8, at: Range<usize>, look: &Look<'_>, out: &mut Vec<Piece>) {
        if let Some(inside) = &mut self.inside {
            self.utf8.push(byte, |c| inside.one(c, at.clone(), look, out));
        }
    }

    fn end(&mut self, at: usize, look: &Look<'_>, out: &mut Vec<Piece>) {
        if let Some(mut inside) = self.inside.take() {
            inside.finish(at, look, out);
        }
        *self = Self::new(self.least);
    }
}

/// Decodes UTF-8; invalid bytes are separators.
#[derive(Debug, Default)]
struct Utf8 {
    held: [u8; 4],
    len: u8,
}

impl Utf8 {
    fn push(&mut self, byte: u8, mut f: impl FnMut(char)) {
        if byte.is_ascii() {
            if std::mem::take(&mut self.len) > 0 {
                f(' ');
            }
            f(char::from(byte));
            return;
        }
        self.held[self.len as usize] = byte;
        self.len += 1;
        match std::str::from_utf8(&self.held[..self.len as usize]) {
            Ok(text) => text.chars().for_each(&mut f),
            Err(error) if error.error_len().is_none() && self.len < 4 => return,
            Err(_) => f(' '),
        }
        self.len = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_characters_and_garbage_becomes_breaks() {
        let read = |bytes: &[u8]| {
            let (mut utf8, mut text) = (Utf8::default(), String::new());
            bytes.iter().for_each(|&byte| utf8.push(byte, |c| text.push(c)));
            text
        };
        assert_eq!(read("è 指示 🦀!".as_bytes()), "è 指示 🦀!");
        assert_eq!(read(b"a\xC3b\xFF\xFEc\x80"), "a b  c ");
    }
}
