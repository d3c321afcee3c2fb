//! International bank account numbers (ISO 13616).

use super::view::{View, in_word, is_word};

/// Longest IBAN in bytes, with a separator after every fourth character.
const IBAN_BYTES: usize = 34 + 8;

/// The end of an IBAN at `start`: the right length for its country, and valid check digits. Groups may be separated by
/// single spaces or dashes.
pub fn end(view: &View<'_>, start: usize) -> Option<usize> {
    let country = [view.at(start).to_ascii_uppercase(), view.at(start + 1).to_ascii_uppercase()];
    let length = LENGTHS.iter().find(|(c, _)| **c == country)?.1;
    if in_word(view, start) {
        return None;
    }
    let mut characters = [0u8; 34];
    let (mut count, mut at) = (0, start);
    while count < length {
        let byte = view.at(at);
        if byte.is_ascii_alphanumeric() {
            *characters.get_mut(count)? = byte.to_ascii_uppercase();
            count += 1;
        } else if !(matches!(byte, b' ' | b'-') && view.before(at, 1).is_ascii_alphanumeric() && count >= 4) {
            return None;
        }
        at += 1;
        if at - start > IBAN_BYTES {
            return None;
        }
    }
    let characters = characters.get(..length)?;
    let digits = characters.iter().skip(2).take(2).all(u8::is_ascii_digit);
    (digits && mod97(characters) && !is_word(view.at(at))).then_some(at)
}

/// Whether the check digits are right (ISO 7064 MOD 97-10 over the rearranged number). Upper case.
pub fn mod97(characters: &[u8]) -> bool {
    let (head, rest) = characters.split_at(characters.len().min(4));
    rest.iter().chain(head).fold(0u32, |sum, c| match c {
        b'0'..=b'9' => (sum * 10 + u32::from(c - b'0')) % 97,
        b'A'..=b'Z' => (sum * 100 + u32::from(c - b'A') + 10) % 97,
        _ => sum,
    }) == 1
}

/// Lengths by country, from the IBAN registry.
const LENGTHS: &[(&[u8; 2], usize)] = &[
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];
