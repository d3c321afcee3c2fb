//! Characters written as escapes: percent-encoding, HTML character references, escapes of programming languages.

use std::ops::Range;

use memchr::memchr3;

use super::search::Find;
use super::view::Veil;

/// Greatest distance of escapes that belong together, in bytes.
const REACH: usize = 64;
/// How much surrounding text is included: the escapes may be only half of the message.
const AROUND: usize = 48;
/// Number of letters, digits and spaces that must be escaped without need.
const NEEDLESS: usize = 3;

/// An escape.
struct Escape {
    veil: Veil,
    range: Range<usize>,
    /// The UTF-8 bytes that it stands for, possibly only part of a character.
    bytes: [u8; 4],
    length: usize,
}

impl Escape {
    fn of_byte(veil: Veil, range: Range<usize>, byte: u8) -> Self {
        Self { veil, range, bytes: [byte, 0, 0, 0], length: 1 }
    }

    fn of_char(veil: Veil, range: Range<usize>, c: char) -> Self {
        let mut bytes = [0; 4];
        let length = c.encode_utf8(&mut bytes).len();
        Self { veil, range, bytes, length }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Whether it escapes a character that no format requires to be escaped.
    fn is_needless(&self) -> bool {
        self.bytes().iter().any(|&byte| byte.is_ascii_alphanumeric() || byte == b' ' || byte >= 0x80)
    }
}

/// Finds escapes in a text in its original case.
pub fn find(text: &str, found: &mut dyn FnMut(Find) -> bool) {
    let mut cluster: Option<Cluster> = None;
    let mut at = 0;
    while let Some(next) = text.as_bytes().get(at..).and_then(|rest| memchr3(b'%', b'&', b'\\', rest)) {
        let start = at + next;
        let Some(escape) = read(text.as_bytes(), start) else {
            at = start + 1;
            continue;
        };
        at = escape.range.end;
        match &mut cluster {
            Some(open) if open.veil == escape.veil && start <= open.end + REACH => open.add(text, &escape),
            _ => {
                if let Some(done) = cluster.take().and_then(|done| done.finish(text))
                    && !found(done)
                {
                    return;
                }
                let mut open = Cluster::new(text, &escape);
                open.add(text, &escape);
                cluster = Some(open);
            }
        }
    }
    if let Some(done) = cluster.and_then(|done| done.finish(text)) {
        found(done);
    }
}

/// Escapes of one kind that are close together.
struct Cluster {
    veil: Veil,
    start: usize,
    end: usize,
    needless: usize,
    written: Vec<u8>,
    /// The first half of a UTF-16 surrogate pair.
    high: Option<u32>,
}

impl Cluster {
    fn new(text: &str, first: &Escape) -> Self {
        let mut start = first.range.start.saturating_sub(AROUND);
        while start < first.range.start
            && !(text.is_char_boundary(start) && (start == 0 || text.as_bytes().get(start - 1).is_some_and(u8::is_ascii_whitespace)))
        {
            start += 1;
        }
        let before = text.as_bytes().get(start..first.range.start).unwrap_or_default().to_vec();
        Self { veil: first.veil, start, end: first.range.start, needless: 0, written: before, high: None }
    }

    fn add(&mut self, text: &str, escape: &Escape) {
        let between = text.as_bytes().get(self.end..escape.range.start).unwrap_or_default();
        self.between(between);
        self.needless += usize::from(escape.is_needless());
        self.end = escape.range.end;
        match (surrogate(escape), self.high.take()) {
            (Some(high @ 0xD800..=0xDBFF), _) => self.high = Some(high),
            (Some(low), Some(high)) => {
                if let Some(c) = char::from_u32(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00)) {
                    self.written.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            (Some(_), None) => {}
            (None, _) => self.written.extend_from_slice(escape.bytes()),
        }
    }

    fn between(&mut self, between: &[u8]) {
        // Forms write spaces as plus signs.
        let form = self.veil == Veil::Percent && !between.contains(&b' ');
        self.written.extend(between.iter().map(|&byte| if form && byte == b'+' { b' ' } else { byte }));
    }

    fn finish(mut self, text: &str) -> Option<Find> {
        if self.needless < NEEDLESS {
            return None;
        }
        let mut end = (self.end + AROUND).min(text.len());
        while end > self.end && !(text.is_char_boundary(end) && text.as_bytes().get(end).is_none_or(u8::is_ascii_whitespace)) {
            end -= 1;
        }
        let after = text.as_bytes().get(self.end..end).unwrap_or_default();
        self.between(after);
        Some(Find { veil: self.veil, text: String::from_utf8_lossy(&self.written).into_owned(), range: self.start..end })
    }
}

/// The half of a surrogate pair that an escape holds in place of a character.
fn surrogate(escape: &Escape) -> Option<u32> {
    (escape.length == 0).then(|| u32::from_be_bytes(escape.bytes))
}

fn read(bytes: &[u8], start: usize) -> Option<Escape> {
    match bytes.get(start)? {
        b'%' => percent(bytes, start),
        b'&' => reference(bytes, start),
        _ => backslash(bytes, start),
    }
}

/// The number written at an offset, and where its digits end.
fn number(bytes: &[u8], start: usize, radix: u32, least: usize, most: usize) -> Option<(u32, usize)> {
    let mut value = 0u32;
    let mut length = 0;
    for &byte in bytes.get(start..)?.iter().take(most) {
        let Some(digit) = char::from(byte).to_digit(radix) else { break };
        value = value.checked_mul(radix)?.checked_add(digit)?;
        length += 1;
    }
    (length >= least).then_some((value, start + length))
}

/// The escape of a character, or of half of a surrogate pair.
fn character(veil: Veil, range: Range<usize>, code: u32) -> Option<Escape> {
    if matches!(code, 0xD800..=0xDFFF) {
        return Some(Escape { veil, range, bytes: code.to_be_bytes(), length: 0 });
    }
    char::from_u32(code).map(|c| Escape::of_char(veil, range, c))
}

fn percent(bytes: &[u8], start: usize) -> Option<Escape> {
    if matches!(bytes.get(start + 1)?, b'u' | b'U') {
        let (code, end) = number(bytes, start + 2, 16, 4, 4)?;
        return character(Veil::Percent, start..end, code);
    }
    let (byte, end) = number(bytes, start + 1, 16, 2, 2)?;
    Some(Escape::of_byte(Veil::Percent, start..end, byte as u8))
}

fn reference(bytes: &[u8], start: usize) -> Option<Escape> {
    let closed = |end: usize| if bytes.get(end) == Some(&b';') { end + 1 } else { end };
    if bytes.get(start + 1)? == &b'#' {
        let (code, end) = match bytes.get(start + 2)? {
            b'x' | b'X' => number(bytes, start + 3, 16, 1, 8)?,
            _ => number(bytes, start + 2, 10, 1, 9)?,
        };
        return character(Veil::Entity, start..closed(end), code).filter(|escape| escape.length > 0);
    }
    let rest = bytes.get(start + 1..)?;
    NAMES.iter().find(|(name, _)| rest.starts_with(name)).map(|&(name, c)| Escape::of_char(Veil::Entity, start..start + 1 + name.len(), c))
}

/// Named character references that occur between or instead of the letters of a message.
const NAMES: [(&[u8], char); 14] = [
    (b"amp;", '&'),
    (b"lt;", '<'),
    (b"gt;", '>'),
    (b"quot;", '"'),
    (b"apos;", '\''),
    (b"nbsp;", ' '),
    (b"Tab;", '\t'),
    (b"NewLine;", '\n'),
    (b"period;", '.'),
    (b"comma;", ','),
    (b"colon;", ':'),
    (b"excl;", '!'),
    (b"lowbar;", '_'),
    (b"hyphen;", '-'),
];

fn backslash(bytes: &[u8], start: usize) -> Option<Escape> {
    let digits = start + 2;
    let (code, end) = match bytes.get(start + 1)? {
        b'x' | b'X' => {
            let (byte, end) = number(bytes, digits, 16, 2, 2)?;
            return Some(Escape::of_byte(Veil::Escape, start..end, byte as u8));
        }
        b'u' if bytes.get(digits) == Some(&b'{') => {
            let (code, end) = number(bytes, digits + 1, 16, 1, 6)?;
            (code, (bytes.get(end)? == &b'}').then_some(end + 1)?)
        }
        b'u' => number(bytes, digits, 16, 4, 4)?,
        b'U' => number(bytes, digits, 16, 8, 8)?,
        b'0'..=b'3' => number(bytes, start + 1, 8, 3, 3)?,
        _ => return None,
    };
    character(Veil::Escape, start..end, code)
}
