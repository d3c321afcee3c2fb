//! Kinds of personal data made of digits: where one ends that begins at a given byte, and whether its checksum is right.
//! All functions read a bounded number of bytes and allocate nothing.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest card number, with one separator between groups of three or four digits.
const CARD_BYTES: usize = 19 + 6;
/// Longest IBAN, with a space after every fourth character.
const IBAN_BYTES: usize = 34 + 8;
/// The longest textual IPv6 address.
const IPV6_BYTES: usize = 45;

/// Whether a byte continues a word: digits next to one are part of an identifier, not a number of their own.
pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn at(text: &[u8], index: usize) -> u8 {
    text.get(index).copied().unwrap_or(0)
}

fn before(text: &[u8], index: usize, back: usize) -> u8 {
    index.checked_sub(back).map_or(0, |i| at(text, i))
}

/// Whether `start` is within a word. The letter of a JSON escape in quoted text (`\\n4111 …`) does not count.
pub fn in_word(text: &[u8], start: usize) -> bool {
    let previous = before(text, start, 1);
    let escape = matches!(previous, b'n' | b'r' | b't' | b'b' | b'f') && {
        let slashes = text.get(..start - 1).unwrap_or_default().iter().rev().take_while(|b| **b == b'\\').count();
        slashes % 2 == 1
    };
    is_word(previous) && !escape
}

/// Whether a number may begin here: not within a word, not after a decimal point.
fn opens(text: &[u8], start: usize) -> bool {
    !(in_word(text, start) || before(text, start, 1) == b'.' && before(text, start, 2).is_ascii_digit())
}

/// Whether a number may end here: not within a word, an address or decimals.
fn closes(text: &[u8], end: usize) -> bool {
    let next = at(text, end);
    !(is_word(next) || next == b'@' || next == b'.' && at(text, end + 1).is_ascii_digit())
}

/// The index after the group of digits at `start`.
fn group_end(text: &[u8], start: usize, most: usize) -> usize {
    let mut end = start;
    while end - start <= most && at(text, end).is_ascii_digit() {
        end += 1;
    }
    end
}

/// A card number at `start`: 13–19 digits of a known network, whole or in groups of 3–6 with one kind of separator,
/// with a valid Luhn digit. Returns its end.
pub fn credit_card(text: &[u8], start: usize) -> Option<usize> {
    if !matches!(at(text, start), b'2'..=b'6') || !opens(text, start) {
        return None;
    }
    let mut digits = [0u8; 19];
    let mut count = 0;
    let mut index = start;
    let mut separator = None;
    let mut best = None;
    while index - start <= CARD_BYTES {
        let end = group_end(text, index, 19);
        let size = end - index;
        if count + size > digits.len() {
            break;
        }
        for (slot, byte) in digits.iter_mut().skip(count).zip(text.iter().skip(index).take(size)) {
            *slot = byte - b'0';
        }
        count += size;
        if closes(text, end) && network_takes(&digits[..count]) && luhn(&digits[..count]) {
            best = Some(end);
        }
        let next = at(text, end);
        let joins = matches!(next, b' ' | b'-') && separator.is_none_or(|s| s == next);
        if !joins || !(3..=6).contains(&size) || !at(text, end + 1).is_ascii_digit() {
            break;
        }
        separator = Some(next);
        index = end + 1;
    }
    best
}

/// Whether a network issues numbers with this prefix and length. Excludes order numbers and timestamps.
fn network_takes(digits: &[u8]) -> bool {
    let number = |n: usize| digits.iter().take(n).fold(0u32, |sum, d| sum * 10 + u32::from(*d));
    let (two, three, four) = (number(2), number(3), number(4));
    match digits.len() {
        13 => two / 10 == 4,
        14 => two == 36 || two == 38 || two == 39 || (300..=305).contains(&three),
        15 => two == 34 || two == 37,
        16 => matches!(two, 40..=49 | 50..=58 | 60..=69 | 35) || (2221..=2720).contains(&four),
        17..=19 => matches!(two, 40..=49 | 50 | 56..=69 | 35) && (digits.len() == 19 || two / 10 != 4),
        _ => false,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit) * 2) {
            (0, _) => u32::from(*digit),
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}

/// A United States social security number at `start`, `ddd-dd-dddd` or with spaces. Returns its end.
pub fn us_ssn(text: &[u8], start: usize) -> Option<usize> {
    let number = text.get(start..start + 11)?;
    let separator = *number.get(3)?;
    let shaped = matches!(separator, b'-' | b' ')
        && number.iter().enumerate().all(|(i, b)| if i == 3 || i == 6 { *b == separator } else { b.is_ascii_digit() });
    let issued = number.get(..3)? != b"000"
        && number.get(..3)? != b"666"
        && number.first()? != &b'9'
        && number.get(4..6)? != b"00"
        && number.get(7..)? != b"0000";
    let apart = opens(text, start)
        && closes(text, start + 11)
        && !(before(text, start, 1) == b'-' && before(text, start, 2).is_ascii_digit())
        && !(at(text, start + 11) == b'-' && at(text, start + 12).is_ascii_digit());
    (shaped && issued && apart).then_some(start + 11)
}

/// A dotted IPv4 address at `start` that can be a person's: not 0.0.0.0, not loopback, no leading zeros, no fifth part.
/// Returns its end.
pub fn ipv4(text: &[u8], start: usize) -> Option<usize> {
    let mut octets = [0u8; 4];
    let mut index = start;
    for (place, octet) in octets.iter_mut().enumerate() {
        if place > 0 {
            if at(text, index) != b'.' {
                return None;
            }
            index += 1;
        }
        let end = group_end(text, index, 3);
        let part = text.get(index..end)?;
        if part.is_empty() || part.len() > 3 || part.len() > 1 && part.first() == Some(&b'0') {
            return None;
        }
        *octet = std::str::from_utf8(part).ok()?.parse().ok()?;
        index = end;
    }
    let address = Ipv4Addr::from(octets);
    let next = at(text, index);
    let ends = !(is_word(next) || next == b'.' && is_word(at(text, index + 1)));
    (opens(text, start) && ends && !address.is_loopback() && !address.is_unspecified()).then_some(index)
}

/// The IPv6 address around the colon at `colon`, as `(start, end)`; it never begins before `floor`.
pub fn ipv6(text: &[u8], colon: usize, floor: usize) -> Option<(usize, usize)> {
    let part = |b: u8| b.is_ascii_hexdigit() || b == b':' || b == b'.';
    let mut start = colon;
    while start > floor && colon - start < 5 && before(text, start, 1).is_ascii_hexdigit() {
        start -= 1;
    }
    let mut end = colon;
    while end - start <= IPV6_BYTES && part(at(text, end)) {
        end += 1;
    }
    let run = text.get(start..end)?;
    let cut = run.len() - run.iter().rev().take_while(|b| **b == b'.').count();
    let run = std::str::from_utf8(run.get(..cut)?).ok()?;
    let run = if run.ends_with("::") { run } else { run.trim_end_matches(':') };
    let address: Ipv6Addr = run.parse().ok()?;
    let groups = run.split(':').filter(|g| !g.is_empty()).count();
    let meant = groups >= 4 || groups >= 2 && run.bytes().any(|b| b.is_ascii_digit());
    let end = start + run.len();
    let apart = !in_word(text, start) && !behind_group(text, start) && !is_word(at(text, end));
    (meant && apart && !address.is_loopback() && !address.is_unspecified()).then_some((start, end))
}

/// Whether a colon and a group of an address come before `start`, so that the address does not begin there.
fn behind_group(text: &[u8], start: usize) -> bool {
    if before(text, start, 1) != b':' {
        return false;
    }
    let group = (2..=6).take_while(|back| before(text, start, *back).is_ascii_hexdigit()).count();
    let ahead = before(text, start, 2 + group);
    group == 0 && ahead == b':' || (1..=4).contains(&group) && !is_word(ahead)
}

/// An IBAN whose first check digit is at `digit`: two letters before it, the right length for its country, and valid check
/// digits; groups may be separated by single spaces. Returns `(start, end)`.
pub fn iban(text: &[u8], digit: usize, floor: usize) -> Option<(usize, usize)> {
    let start = digit.checked_sub(2).filter(|s| *s >= floor)?;
    if in_word(text, start) {
        return None;
    }
    let country = [at(text, start).to_ascii_uppercase(), at(text, start + 1).to_ascii_uppercase()];
    let length = IBAN_LENGTHS.iter().find(|(c, _)| **c == country)?.1;
    let mut characters = [0u8; 34];
    let mut count = 0;
    let mut index = start;
    while count < length {
        let byte = at(text, index);
        if byte.is_ascii_alphanumeric() {
            *characters.get_mut(count)? = byte.to_ascii_uppercase();
            count += 1;
        } else if !(byte == b' ' && before(text, index, 1) != b' ' && count >= 4) {
            return None;
        }
        index += 1;
        if index - start > IBAN_BYTES {
            return None;
        }
    }
    let (head, rest) = characters.get(..length)?.split_at(4);
    let checked = rest.iter().chain(head).fold(0u32, |sum, c| match c {
        b'0'..=b'9' => (sum * 10 + u32::from(c - b'0')) % 97,
        _ => (sum * 100 + u32::from(c - b'A') + 10) % 97,
    }) == 1;
    let digits = head.iter().skip(2).all(u8::is_ascii_digit);
    (checked && digits && !is_word(at(text, index))).then_some((start, index))
}

/// Country codes with the length of their IBANs (SWIFT IBAN registry).
const IBAN_LENGTHS: &[(&[u8; 2], usize)] = &[
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

/// A phone number at `start` (a digit, `+` or `(`). Returns its end.
///
/// Accepts `+` or `00` with a country code, the North American 3-3-4 form, and national numbers with a leading zero whose
/// groups cannot be a date. A bare run of digits is as often an identifier as a phone number, and is not accepted.
pub fn phone(text: &[u8], start: usize) -> Option<usize> {
    let previous = before(text, start, 1);
    // A plus separates the number from what comes before.
    if previous == b'+' || at(text, start) != b'+' && !opens(text, start) {
        return None;
    }
    let end = match at(text, start) {
        b'+' if matches!(at(text, start + 1), b'1'..=b'9') => international(text, start + 1, 8)?,
        b'0' if at(text, start + 1) == b'0' && matches!(at(text, start + 2), b'1'..=b'9') => international(text, start + 2, 9)?,
        b'0' => national(text, start)?,
        b'(' | b'0'..=b'9' => north_american(text, start)?,
        _ => return None,
    };
    let next = at(text, end);
    let dashed = next == b'-' && at(text, end + 1).is_ascii_digit();
    (closes(text, end) && next != b':' && !dashed).then_some(end)
}

/// A country code and a number of up to 15 digits in all, in groups separated by one or two of ` -.()/`; at least `fewest`
/// digits.
fn international(text: &[u8], start: usize, fewest: usize) -> Option<usize> {
    let most = if at(text, start) == b'1' { 11 } else { 15 };
    let mut index = start;
    let mut count = 0;
    let mut end = start;
    let mut gap = 0;
    while count < most {
        match at(text, index) {
            b'0'..=b'9' => {
                count += 1;
                gap = 0;
                end = index + 1;
            }
            b' ' | b'-' | b'.' | b'(' | b')' | b'/' if gap < 2 => gap += 1,
            _ => break,
        }
        index += 1;
    }
    // A number with further digits beyond the last allowed one is something else.
    (count >= fewest && !at(text, end).is_ascii_digit()).then_some(end)
}

/// `(ddd) ddd-dddd`, `ddd-ddd-dddd`, `ddd.ddd.dddd`, `ddd ddd dddd`, each with an optional leading `1`.
fn north_american(text: &[u8], start: usize) -> Option<usize> {
    let mut index = start;
    if at(text, index) == b'1' && matches!(at(text, index + 1), b'-' | b' ' | b'.') {
        index += 2;
    }
    let group = |index: usize, size: usize| (group_end(text, index, size) - index == size).then_some(index + size);
    if at(text, index) == b'(' {
        index = group(index + 1, 3)?;
        if at(text, index) != b')' {
            return None;
        }
        index += 1;
        if at(text, index) == b' ' {
            index += 1;
        }
        index = group(index, 3)?;
        return matches!(at(text, index), b'-' | b' ' | b'.').then(|| group(index + 1, 4)).flatten();
    }
    index = group(index, 3)?;
    let separator = at(text, index);
    if !matches!(separator, b'-' | b' ' | b'.') {
        return None;
    }
    index = group(index + 1, 3)?;
    (at(text, index) == separator).then(|| group(index + 1, 4)).flatten()
}

/// `0ddd ddddddd` and `0d dd dd dd dd`: a trunk zero, 9–11 digits, and groups that are not a date.
fn national(text: &[u8], start: usize) -> Option<usize> {
    let mut index = start;
    let mut total = 0;
    let mut sizes = [0usize; 5];
    let mut groups = 0;
    let mut end = start;
    while let Some(slot) = sizes.get_mut(groups) {
        let next = group_end(text, index, 9);
        *slot = next - index;
        if *slot == 0 {
            break;
        }
        total += *slot;
        groups += 1;
        end = next;
        let joins = matches!(at(text, next), b' ' | b'-' | b'/' | b'.') && at(text, next + 1).is_ascii_digit();
        if !joins {
            break;
        }
        index = next + 1;
    }
    let pairs = groups == 5 && sizes.iter().all(|s| *s == 2);
    let area =
        (2..=3).contains(&groups) && (3..=5).contains(&sizes[0]) && sizes.iter().skip(1).take(groups - 1).all(|s| (3..=8).contains(s));
    (pairs || area && (9..=12).contains(&total)).then_some(end)
}
