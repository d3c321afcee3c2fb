//! Characters written as their numeric codes.

use std::ops::Range;

use super::english::likeness;
use super::search::{Find, readable};
use super::view::Veil;

/// Fewest codes that make a message.
const FEWEST: usize = 6;

/// How characters are written as codes.
#[derive(Clone, Copy)]
enum Code {
    /// Two hexadecimal digits.
    Hex,
    /// Seven or eight binary digits.
    Binary,
    /// Decimal ASCII codes.
    Decimal,
    /// Three octal digits.
    Octal,
    /// Positions in the alphabet.
    Place,
}

impl Code {
    const ALL: [Self; 5] = [Self::Binary, Self::Hex, Self::Octal, Self::Decimal, Self::Place];

    fn read(self, token: &str) -> Option<u8> {
        let bare = token.strip_prefix("0x").or_else(|| token.strip_prefix("u+00")).unwrap_or(token);
        let number = |radix| u8::from_str_radix(bare, radix).ok();
        match self {
            Self::Hex if bare.len() == 2 => number(16),
            Self::Binary if bare.len() == 8 || bare.len() == 7 => number(2),
            Self::Octal if bare.len() == 3 => number(8),
            Self::Decimal => number(10).filter(|&code| (0x20..0x7F).contains(&code) || matches!(code, 9 | 10 | 13)),
            Self::Place => number(10).filter(|code| (1..=26).contains(code)).map(|place| b'a' + place - 1),
            _ => None,
        }
    }
}

fn is_between(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\t' | b'\r' | b',' | b';' | b':' | b'-' | b'[' | b']' | b'|')
}

/// Decodes the codes in a stretch.
pub fn find(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    let tokens: Vec<(usize, &str)> = stretch
        .split(|c: char| u8::try_from(c).is_ok_and(is_between))
        .filter(|token| !token.is_empty())
        .map(|token| (token.as_ptr() as usize - stretch.as_ptr() as usize, token))
        .collect();
    // The same digits may be codes of several kinds: the one with the longest message is taken.
    let mut best: Option<(usize, Find)> = None;
    for code in Code::ALL {
        let mut bytes = Vec::new();
        let mut place = 0..0;
        for &(at, token) in tokens.iter().chain([&(0, "")]) {
            match code.read(token) {
                Some(byte) => {
                    if bytes.is_empty() {
                        place.start = range.start + at;
                    }
                    place.end = range.start + at + token.len();
                    bytes.push(byte);
                }
                None => {
                    if best.as_ref().is_none_or(|(length, _)| *length < bytes.len())
                        && let Some(text) = message(code, &bytes)
                    {
                        best = Some((bytes.len(), Find { veil: Veil::Code, text, range: place.clone() }));
                    }
                    bytes.clear();
                }
            }
        }
    }
    match best {
        Some((_, find)) => {
            found(find);
        }
        None => unspaced(&tokens, range.start, found),
    }
}

fn message(code: Code, bytes: &[u8]) -> Option<String> {
    if bytes.len() < FEWEST {
        return None;
    }
    let text = readable(bytes)?;
    // Small numbers are common in innocent text, so positions need a longer message that reads as words.
    (!matches!(code, Code::Place) || (bytes.len() >= 2 * FEWEST && likeness(text.bytes()).is_words())).then_some(text)
}

/// Letters and digits in Morse code (ITU-R M.1677-1): their signs from first to last, a dash being one, after a leading 1
/// so that `.` and `..` differ.
const MORSE: [(u8, u8); 36] = [
    (0b101, b'a'),
    (0b11000, b'b'),
    (0b11010, b'c'),
    (0b1100, b'd'),
    (0b10, b'e'),
    (0b10010, b'f'),
    (0b1110, b'g'),
    (0b10000, b'h'),
    (0b100, b'i'),
    (0b10111, b'j'),
    (0b1101, b'k'),
    (0b10100, b'l'),
    (0b111, b'm'),
    (0b110, b'n'),
    (0b1111, b'o'),
    (0b10110, b'p'),
    (0b11101, b'q'),
    (0b1010, b'r'),
    (0b1000, b's'),
    (0b11, b't'),
    (0b1001, b'u'),
    (0b10001, b'v'),
    (0b1011, b'w'),
    (0b11001, b'x'),
    (0b11011, b'y'),
    (0b11100, b'z'),
    (0b111111, b'0'),
    (0b101111, b'1'),
    (0b100111, b'2'),
    (0b100011, b'3'),
    (0b100001, b'4'),
    (0b100000, b'5'),
    (0b110000, b'6'),
    (0b111000, b'7'),
    (0b111100, b'8'),
    (0b111110, b'9'),
];
/// Most signs of a letter. Punctuation has as many, and is skipped.
const SIGNS: usize = 6;

/// Decodes dots and dashes: letters are separated by a space; words by several, a slash or a line end.
pub fn morse(text: &str, range: Range<usize>, found: &mut dyn FnMut(Find) -> bool) {
    let Some(stretch) = text.get(range.clone()) else { return };
    let mut out = String::with_capacity(stretch.len() / 3);
    let (mut gap, mut place) = (0usize, 0..0);
    for (at, token) in stretch.split([' ', '/', '|', '\n']).map(|token| (token.as_ptr() as usize - stretch.as_ptr() as usize, token)) {
        if token.is_empty() {
            gap += 1;
            continue;
        }
        let signs = token.bytes().try_fold(1u8, |signs, byte| match byte {
            _ if token.len() > SIGNS => None,
            b'.' => Some(signs << 1),
            b'-' => Some(signs << 1 | 1),
            _ => None,
        });
        let Some(signs) = signs else { continue };
        if out.is_empty() {
            place.start = range.start + at;
        } else if gap > 0 {
            out.push(' ');
        }
        gap = 0;
        place.end = range.start + at + token.len();
        out.extend(MORSE.iter().find(|(known, _)| *known == signs).map(|(_, letter)| char::from(*letter)));
    }
    let letters = out.bytes().filter(u8::is_ascii_alphabetic).count();
    if letters >= FEWEST && likeness(out.bytes()).is_words() {
        found(Find { veil: Veil::Code, text: out, range: place });
    }
}

/// Decodes binary digits without spaces.
fn unspaced(tokens: &[(usize, &str)], start: usize, found: &mut dyn FnMut(Find) -> bool) {
    for &(at, token) in
        tokens.iter().filter(|(_, token)| token.len() >= 8 * FEWEST && token.bytes().all(|byte| matches!(byte, b'0' | b'1')))
    {
        let bytes: Vec<u8> = token.as_bytes().chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, &bit| byte << 1 | (bit & 1))).collect();
        if let Some(text) = readable(&bytes)
            && !found(Find { veil: Veil::Code, text, range: start + at..start + at + token.len() })
        {
            return;
        }
    }
}
