//! One line of the evidence log, and the hash link between lines. No I/O.
//!
//! A line is `{"entry":E,"hash":"H"}` where `E` is canonical JSON (sorted keys, no whitespace, integers only, escapes as in
//! RFC 8785) and `H` is SHA-256 over the previous line's hash and the bytes of `E`. The hash covers the bytes as they are
//! in the file, so a verifier needs no JSON parser that agrees with the writer.

use ring::digest::{Context, SHA256};
use serde::Serialize;

use crate::wire::object::Page;

/// Length of a SHA-256 hash in bytes.
pub const HASH: usize = 32;
/// A SHA-256 hash.
pub type Hash = [u8; HASH];
/// The "previous hash" of the first line of a log.
pub const GENESIS: Hash = [0; HASH];

const BEFORE: &[u8] = b"{\"entry\":";
const BETWEEN: &[u8] = b",\"hash\":\"";
const AFTER: &[u8] = b"\"}";

/// The end of the chain: the hash of the last line and the number of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Hash of the last line; [`GENESIS`] before the first.
    pub hash: Hash,
    /// Number of the next line. Lines are numbered from 0 across all files of a log.
    pub next: u64,
}

impl Link {
    /// The link before the first line.
    pub const START: Self = Self { hash: GENESIS, next: 0 };

    /// Appends an entry, whose `seq` must be [`Self::next`], as a line with its line feed.
    ///
    /// # Errors
    /// None in practice: every entry is a struct that serialises to JSON. `out` is unchanged then.
    pub fn push(&mut self, out: &mut Vec<u8>, entry: &impl Serialize) -> Result<(), serde_json::Error> {
        let (start, before) = (out.len(), *self);
        let mut result = Ok(());
        self.push_with(out, |_, out| result = serde_json::to_writer(out, entry));
        if result.is_err() {
            out.truncate(start);
            *self = before;
        }
        result
    }

    /// [`Self::push`] for an entry that appends its own canonical JSON, given its number.
    pub fn push_with(&mut self, out: &mut Vec<u8>, entry: impl FnOnce(u64, &mut Vec<u8>)) {
        out.extend_from_slice(BEFORE);
        let start = out.len();
        entry(self.next, out);
        let hash = linked(&self.hash, out.get(start..).unwrap_or_default());
        out.extend_from_slice(BETWEEN);
        Page::new(out).hex(&hash);
        out.extend_from_slice(AFTER);
        out.push(b'\n');
        *self = Self { hash, next: self.next + 1 };
    }
}

/// A well-formed line, without its line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The canonical JSON of the entry.
    pub entry: &'a [u8],
    /// The hash that the line states.
    pub hash: Hash,
}

impl<'a> Line<'a> {
    /// Parses a line; `None` unless every byte outside the entry is as [`Link::push`] writes it.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(BEFORE)?.strip_suffix(AFTER)?;
        let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(2 * HASH)?)?;
        let entry = rest.strip_suffix(BETWEEN)?;
        Some(Self { entry, hash: unhex(digits)? })
    }

    /// Whether this line's hash is right after a line with the hash `previous`.
    pub fn follows(&self, previous: &Hash) -> bool {
        linked(previous, self.entry) == self.hash
    }
}

/// SHA-256 over the previous line's hash and an entry.
pub fn linked(previous: &Hash, entry: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(previous);
    context.update(entry);
    let mut hash = GENESIS;
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// SHA-256 as lowercase hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(ring::digest::digest(&SHA256, bytes).as_ref())
}

/// Lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut digits = Vec::new();
    Page::new(&mut digits).hex(bytes);
    digits.into_iter().map(char::from).collect()
}

/// The bytes of exactly `2 * N` lowercase hex digits.
pub fn unhex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    fn value(digit: u8) -> Option<u8> {
        match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        }
    }
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = value(*high)? << 4 | value(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_are_written() {
        let mut link = Link::START;
        let mut out = Vec::new();
        link.push(&mut out, &serde_json::json!({"a": "x\",\"hash\":\"", "seq": 0})).unwrap();
        let first = link.hash;
        link.push(&mut out, &serde_json::json!({"seq": 1})).unwrap();
        let lines: Vec<Line<'_>> = out.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| Line::parse(l).unwrap()).collect();
        assert!(lines[0].follows(&GENESIS) && lines[1].follows(&first) && !lines[1].follows(&GENESIS));
        assert_eq!((lines[1].entry, lines[1].hash, link.next), (&b"{\"seq\":1}"[..], link.hash, 2));
    }

    #[test]
    fn hex_is_strict() {
        assert_eq!(unhex::<2>(b"0aff"), Some([10, 255]));
        for bad in [&b"0aFF"[..], b"0af", b"0aff0", b"0ag0"] {
            assert_eq!(unhex::<2>(bad), None);
        }
        assert_eq!(hex(&[0, 171]), "00ab");
    }
}
