//! Writes JSON by hand, member by member, into a reused buffer.
//!
//! Records and log lines are written for every request. Their shape is known at compile time, so no tree is built and
//! walked. The output is byte for byte that of `serde_json`.

use std::fmt;

/// Size of a page in bytes; most records and lines fit.
const PAGE: usize = 1024;

/// A buffer on the stack, which is appended to the output a page at a time, and when it is dropped.
///
/// A record consists of hundreds of pieces of a few bytes each. Copying a piece of known length to a place of known size
/// takes a move or two, appending it to a vector takes a call.
#[derive(Debug)]
pub struct Page<'o> {
    out: &'o mut Vec<u8>,
    bytes: [u8; PAGE],
    used: usize,
}

impl<'o> Page<'o> {
    /// A blank page whose content is appended to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, bytes: [0; PAGE], used: 0 }
    }

    /// Writes bytes unchanged.
    // Always inlined, so that the length of literals is known to the copy.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        self.put_all([bytes]);
    }

    /// Writes several pieces, with a single check for room.
    #[inline(always)]
    pub fn put_all<const N: usize>(&mut self, pieces: [&[u8]; N]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        match self.bytes.get_mut(self.used..self.used + length) {
            Some(mut place) => {
                for piece in pieces {
                    // There is room for all pieces; written this way, the compiler needs no panic branch.
                    if let Some((here, behind)) = std::mem::take(&mut place).split_at_mut_checked(piece.len()) {
                        here.copy_from_slice(piece);
                        place = behind;
                    }
                }
                self.used += length;
            }
            None => self.turn(&pieces),
        }
    }

    /// Length of the output so far, including the page.
    pub fn written(&self) -> usize {
        self.out.len() + self.used
    }

    /// Starts a new page for pieces that no longer fit.
    #[cold]
    #[inline(never)]
    fn turn(&mut self, pieces: &[&[u8]]) {
        self.out.extend_from_slice(self.bytes.get(..self.used).unwrap_or_default());
        self.used = 0;
        for piece in pieces {
            match self.bytes.get_mut(self.used..self.used + piece.len()) {
                Some(place) => {
                    place.copy_from_slice(piece);
                    self.used += piece.len();
                }
                None => {
                    self.out.extend_from_slice(self.bytes.get(..self.used).unwrap_or_default());
                    self.used = 0;
                    self.out.extend_from_slice(piece);
                }
            }
        }
    }

    /// Writes a JSON string with its quotes.
    #[inline]
    pub fn string(&mut self, text: &str) {
        if is_plain(text) { self.word(text) } else { self.escaped(text) }
    }

    /// Writes a JSON string that needs no escapes, with its quotes.
    #[inline]
    pub fn word(&mut self, word: &str) {
        self.put_all([b"\"", word.as_bytes(), b"\""]);
    }

    #[cold]
    fn escaped(&mut self, text: &str) {
        // Writing a str to memory cannot fail; if it ever did, an empty string would keep the JSON valid.
        let quoted = serde_json::to_string(text);
        self.put(quoted.as_deref().unwrap_or("\"\"").as_bytes());
    }

    /// Writes a whole number. Most in a record have one digit.
    #[inline]
    pub fn decimal(&mut self, number: u64) {
        if number < 10 { self.put(&[b'0' + number as u8]) } else { self.digits(number) }
    }

    /// Two digits at a time, since divisions dominate the cost.
    #[inline(never)]
    fn digits(&mut self, mut number: u64) {
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        while number > 0 {
            let pair = (number % 100) as u8;
            number /= 100;
            at -= 2;
            digits[at] = b'0' + pair / 10;
            digits[at + 1] = b'0' + pair % 10;
        }
        at += usize::from(digits[at] == b'0');
        self.put(&digits[at..]);
    }

    /// Writes lowercase hex digits.
    pub fn hex(&mut self, bytes: &[u8]) {
        let (fours, rest) = bytes.as_chunks::<4>();
        for four in fours {
            self.put(&hex(*four));
        }
        if !rest.is_empty() {
            let mut four = [0; 4];
            four[..rest.len()].copy_from_slice(rest);
            self.put(&hex(four)[..2 * rest.len()]);
        }
    }
}

/// The lowercase hex digits of four bytes, computed in parallel within one integer (SWAR).
#[inline]
fn hex(four: [u8; 4]) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut nibbles = u64::from(u32::from_be_bytes(four));
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 where a nibble is above 9: adding 6 carries into the next bit of its byte.
    let letters = (nibbles + 6 * ONES) >> 4 & ONES;
    (nibbles + u64::from(b'0') * ONES + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        self.out.extend_from_slice(self.bytes.get(..self.used).unwrap_or_default());
    }
}

impl fmt::Write for Page<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// A JSON object being written. Members are written in the order given; their names are literals that need no escapes.
#[derive(Debug)]
pub struct Object<'p, 'o> {
    page: &'p mut Page<'o>,
    empty: bool,
}

impl<'p, 'o> Object<'p, 'o> {
    /// Opens an object.
    #[inline]
    pub fn open(page: &'p mut Page<'o>) -> Self {
        page.put(b"{");
        Self { page, empty: true }
    }

    /// Continues an object whose first members are on the page already.
    #[inline]
    pub fn opened(page: &'p mut Page<'o>) -> Self {
        Self { page, empty: false }
    }

    /// Writes members that are rendered already, in pieces, each with a leading comma. They must not be the first ones.
    #[inline(always)]
    pub fn members<const N: usize>(&mut self, pieces: [&[u8]; N]) {
        self.page.put_all(pieces);
    }

    /// Closes the object.
    #[inline]
    pub fn close(self) {
        self.page.put(b"}");
    }

    /// Writes the name of the next member, and returns the page for its value.
    #[inline(always)]
    pub fn member(&mut self, name: &str) -> &mut Page<'o> {
        let lead = self.lead();
        self.page.put_all([lead, name.as_bytes(), b"\":"]);
        self.page
    }

    /// What precedes the name of the next member.
    #[inline(always)]
    fn lead(&mut self) -> &'static [u8] {
        if std::mem::take(&mut self.empty) { b"\"" } else { b",\"" }
    }

    /// A member with a string.
    #[inline(always)]
    pub fn text(&mut self, name: &str, value: &str) {
        if is_plain(value) { self.word(name, value) } else { self.member(name).escaped(value) }
    }

    /// A member with a string that needs no escapes, such as a word of a fixed set.
    #[inline(always)]
    pub fn word(&mut self, name: &str, value: &str) {
        let lead = self.lead();
        self.page.put_all([lead, name.as_bytes(), b"\":\"", value.as_bytes(), b"\""]);
    }

    /// A member with a string; omitted for `None`.
    #[inline(always)]
    pub fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A member with a string that needs no escapes; omitted for `None`.
    #[inline(always)]
    pub fn word_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.word(name, value);
        }
    }

    /// A member with a whole number.
    #[inline(always)]
    pub fn number(&mut self, name: &str, value: u64) {
        self.member(name).decimal(value);
    }

    /// A member with `true` or `false`.
    #[inline(always)]
    pub fn flag(&mut self, name: &str, value: bool) {
        let (lead, value): (_, &[u8]) = (self.lead(), if value { b"true" } else { b"false" });
        self.page.put_all([lead, name.as_bytes(), b"\":", value]);
    }

    /// A member with an object.
    #[inline(always)]
    pub fn object(&mut self, name: &str) -> Object<'_, 'o> {
        Object::open(self.member(name))
    }
}

/// Whether a text needs no JSON escapes. Checks all bytes without stopping early, which the compiler vectorises; nearly
/// every text is plain.
#[inline]
fn is_plain(text: &str) -> bool {
    !text.bytes().fold(false, |odd, b| odd | (b < 0x20) | (b == b'"') | (b == b'\\'))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn written(write: impl FnOnce(&mut Page<'_>)) -> String {
        let mut out = b"before ".to_vec();
        write(&mut Page::new(&mut out));
        String::from_utf8(out).unwrap().split_off(7)
    }

    #[test]
    fn members_stand_as_they_were_given() {
        let text = written(|page| {
            let mut object = Object::open(page);
            object.number("n", 0);
            object.object("empty").close();
            object.flag("f", true);
            object.text_if("none", None);
            object.text_if("some", Some("a\"b"));
            object.word("w", "word");
            object.members([b",\"made\":", b"1"]);
            object.word_if("none", None);
            object.close();
        });
        assert_eq!(text, r#"{"n":0,"empty":{},"f":true,"some":"a\"b","w":"word","made":1}"#);
        let text = written(|page| {
            page.put(b"{\"first\":1");
            let mut object = Object::opened(page);
            object.word_if("second", Some("2"));
            object.close();
        });
        assert_eq!(text, r#"{"first":1,"second":"2"}"#);
    }

    proptest! {
        #[test]
        fn values_are_written_as_serde_writes_them(text in ".*", odd in "[\\x00-\\x20\"\\\\a\u{7f}\u{2028}é]*", number in any::<u64>(), shift in 0..64_u32, bytes in any::<[u8; 21]>(), length in 0..=21_usize) {
            for text in [text, odd] {
                prop_assert_eq!(written(|page| page.string(&text)), json!(text).to_string());
                let many = |page: &mut Page<'_>| {
                    let mut object = Object::open(page);
                    (0..40).for_each(|_| object.text("t", &text));
                    object.word("w", "plain");
                    object.flag("f", true);
                    object.close();
                };
                let expected = format!("{{{}\"w\":\"plain\",\"f\":true}}", format!("\"t\":{},", json!(text)).repeat(40));
                prop_assert_eq!(written(many), expected);
            }
            for number in [number, number >> shift] {
                prop_assert_eq!(written(|page| page.decimal(number)), number.to_string());
            }
            let bytes = &bytes[..length];
            prop_assert_eq!(written(|page| page.hex(bytes)), bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
        }

        #[test]
        fn pages_follow_each_other(pieces in proptest::collection::vec("[a-z]{0,40}|[a-z]{500,530}|[a-z]{1000,1040}", 0..60)) {
            prop_assert_eq!(written(|page| pieces.iter().for_each(|piece| page.put(piece.as_bytes()))), pieces.concat());
        }
    }
}
