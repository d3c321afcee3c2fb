//! Encoded runs that decode to text: base64 and hexadecimal digits.

use std::ops::Range;

use super::search::{Find, readable};
use super::view::Veil;

/// Shortest run that is examined.
const SHORTEST: usize = 16;
/// Most bytes of a run that are decoded.
const LONGEST: usize = 64 * 1024;
/// Number of bytes that must read as text before the whole run is decoded.
const TRIAL: usize = 32;
/// A line of at least this length may continue on the next one.
const WRAPPED: usize = 40;

/// Not in the alphabet.
const NONE: u8 = 0xFF;

/// The value of each byte in both base64 alphabets.
static VALUES: [u8; 256] = values();

const fn values() -> [u8; 256] {
    let mut values = [NONE; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut value = 0;
    while value < 64 {
        values[alphabet[value] as usize] = value as u8;
        value += 1;
    }
    values[b'-' as usize] = 62;
    values[b'_' as usize] = 63;
    values
}

fn belongs(byte: u8) -> bool {
    VALUES.get(usize::from(byte)).is_some_and(|&value| value != NONE)
}

/// Finds encoded runs in a text in its original case.
pub fn find(text: &str, found: &mut dyn FnMut(Find) -> bool) {
    let bytes = text.as_bytes();
    let mut from = 0;
    while let Some(run) = next_run(bytes, from) {
        let lines = wrapped(bytes, run.end, run.len());
        from = lines;
        let island = |end: usize| bytes.get(run.start..end.min(run.start + LONGEST)).unwrap_or_default();
        let whole = decode(island(lines)).map(|found| (found, lines));
        let decoded = if whole.is_none() && lines > run.end { decode(island(run.end)).map(|found| (found, run.end)) } else { whole };
        if let Some(((veil, at, text), end)) = decoded
            && !found(Find { veil, text, range: run.start + at..padded(bytes, end) })
        {
            return;
        }
    }
}

/// The next maximal run of at least [`SHORTEST`] bytes. It checks the byte at which such a run would end and searches
/// backwards from there, so that most of a text with spaces is skipped.
fn next_run(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let mut start = from;
    loop {
        let last = start + SHORTEST - 1;
        let probe = bytes.get(start..=last)?;
        match probe.iter().rposition(|&byte| !belongs(byte)) {
            Some(gap) => start += gap + 1,
            None => {
                let rest = bytes.get(last..).unwrap_or_default();
                return Some(start..last + rest.iter().take_while(|&&byte| belongs(byte)).count());
            }
        }
    }
}

/// The end of a run that may be wrapped into lines of equal length.
fn wrapped(bytes: &[u8], end: usize, width: usize) -> usize {
    if width < WRAPPED {
        return end;
    }
    let mut whole = end;
    while let Some(rest) = bytes.get(whole..) {
        let breaks = rest.iter().take(8).take_while(|byte| byte.is_ascii_whitespace()).count();
        if breaks == 0 || !rest.iter().take(breaks).any(|&byte| byte == b'\n') {
            break;
        }
        let line = rest.iter().skip(breaks).take(width + 1).take_while(|&&byte| belongs(byte)).count();
        // The next line may also be a sentence.
        let ended = rest.get(breaks + line).is_none_or(|&byte| !matches!(byte, b' ' | b'\t' | b',' | b'.' | b';' | b':' | b'!' | b'?'));
        if line == 0 || line > width || !ended {
            break;
        }
        whole += breaks + line;
        if line < width {
            break;
        }
    }
    whole
}

fn padded(bytes: &[u8], end: usize) -> usize {
    end + bytes.get(end..).unwrap_or_default().iter().take(2).take_while(|&&byte| byte == b'=').count()
}

/// The decoded text of a run, and how far into the run it begins.
fn decode(island: &[u8]) -> Option<(Veil, usize, String)> {
    if island.iter().all(|byte| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace())
        && let Some(text) = readable(&hex(island))
    {
        return Some((Veil::Hex, 0, text));
    }
    // A path or a name may be attached in front; groups of four count from where the encoding began.
    let mut starts: [Option<usize>; 6] = [Some(0), Some(1), Some(2), Some(3), None, None];
    let head = island.get(..island.len().min(256)).unwrap_or_default();
    starts[4] = head.iter().rposition(|&byte| byte == b'/').map(|slash| slash + 1);
    starts[5] = head.iter().position(|&byte| byte == b'-' || byte == b'_').map(|dash| dash + 1);
    starts.iter().flatten().find_map(|&start| {
        let rest = island.get(start..).filter(|rest| rest.len() >= SHORTEST)?;
        readable(&base64(rest, TRIAL))?;
        Some((Veil::Base64, start, readable(&base64(rest, usize::MAX))?))
    })
}

fn hex(island: &[u8]) -> Vec<u8> {
    let digits = island.iter().filter_map(|&byte| char::from(byte).to_digit(16));
    let mut bytes = Vec::with_capacity(island.len() / 2);
    let mut high = None;
    for digit in digits {
        match high.take() {
            None => high = Some(digit),
            Some(first) => bytes.push((first << 4 | digit) as u8),
        }
    }
    bytes
}

/// The first bytes that a run encodes.
fn base64(island: &[u8], most: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity((island.len() / 4 * 3 + 3).min(most));
    let (mut bits, mut held) = (0u32, 0u32);
    for &byte in island {
        let value = VALUES.get(usize::from(byte)).copied().unwrap_or(NONE);
        if value == NONE {
            continue;
        }
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            if bytes.len() == most {
                break;
            }
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}
