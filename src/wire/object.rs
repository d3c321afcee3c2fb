//! Writing JSON by hand, member by member, into a buffer that is used again.
//!
//! Records and log lines are written for every request. Their shape is known here, so nothing has to be built first and
//! walked over afterwards; what is written is byte for byte what `serde_json` writes.

use std::fmt;

/// Bytes that gather on a page.
const PAGE: usize = 512;

/// What is written gathers here and goes to the buffer a page at a time, at the latest when this is dropped.
///
/// A record consists of hundreds of pieces of a few bytes each. Copying one of known length to a place of known size is
/// a move or two, appending it to a vector is a call.
#[derive(Debug)]
pub struct Page<'o> {
    out: &'o mut Vec<u8>,
    bytes: [u8; PAGE],
    used: usize,
}

impl<'o> Page<'o> {
    /// A blank page; what is written on it is appended to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out, bytes: [0; PAGE], used: 0 }
    }

    /// Writes bytes as they are.
    // Always inlined, for the sake of literals: their length must be known where they are copied.
    #[inline(always)]
    pub fn put(&mut self, bytes: &[u8]) {
        match self.bytes.get_mut(self.used..self.used + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.used += bytes.len();
            }
            None => self.turn(bytes),
        }
    }

    /// How long what it appends to is by now, what is still on the page included.
    pub fn written(&self) -> usize {
        self.out.len() + self.used
    }

    #[cold]
    fn turn(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(self.bytes.get(..self.used).unwrap_or_default());
        self.used = 0;
        match self.bytes.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.used = bytes.len();
            }
            None => self.out.extend_from_slice(bytes),
        }
    }

    /// Writes a JSON string with its quotes.
    #[inline]
    pub fn string(&mut self, text: &str) {
        // Looks at all bytes without stopping early, which the compiler turns into vector code; nearly every text is plain.
        if text.bytes().fold(false, |odd, b| odd | (b < 0x20) | (b == b'"') | (b == b'\\')) {
            return self.escaped(text);
        }
        self.word(text);
    }

    /// Writes a JSON string that needs no escapes, with its quotes.
    #[inline]
    pub fn word(&mut self, word: &str) {
        self.put(b"\"");
        self.put(word.as_bytes());
        self.put(b"\"");
    }

    #[cold]
    fn escaped(&mut self, text: &str) {
        // Writing a str to memory cannot fail; an empty string keeps the JSON whole if it ever does.
        let quoted = serde_json::to_string(text);
        self.put(quoted.as_deref().unwrap_or("\"\"").as_bytes());
    }

    /// Writes a whole number.
    #[inline]
    pub fn decimal(&mut self, mut number: u64) {
        let mut digits = [b'0'; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.put(&digits[at..]);
    }

    /// Writes lowercase hex digits.
    pub fn hex(&mut self, bytes: &[u8]) {
        // Arithmetic instead of a table, which the compiler turns into vector code.
        let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        for bytes in bytes.chunks(16) {
            let mut digits = [0u8; 32];
            for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
                pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            self.put(&digits[..2 * bytes.len()]);
        }
    }
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

/// A JSON object that is being written. Members stand in the order in which they are given; their names are literals that
/// need no escapes.
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

    /// Closes it.
    #[inline]
    pub fn close(self) {
        self.page.put(b"}");
    }

    /// The place of the next member's value.
    #[inline(always)]
    pub fn member(&mut self, name: &str) -> &mut Page<'o> {
        if self.empty {
            self.empty = false;
            self.page.put(b"\"");
        } else {
            self.page.put(b",\"");
        }
        self.page.put(name.as_bytes());
        self.page.put(b"\":");
        self.page
    }

    /// A string.
    #[inline(always)]
    pub fn text(&mut self, name: &str, value: &str) {
        self.member(name).string(value);
    }

    /// A string that needs no escapes, such as a word of a fixed set.
    #[inline(always)]
    pub fn word(&mut self, name: &str, value: &str) {
        self.member(name).word(value);
    }

    /// A string, if there is one; otherwise no member.
    #[inline(always)]
    pub fn text_if(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A whole number.
    #[inline(always)]
    pub fn number(&mut self, name: &str, value: u64) {
        self.member(name).decimal(value);
    }

    /// `true` or `false`.
    #[inline(always)]
    pub fn flag(&mut self, name: &str, value: bool) {
        let page = self.member(name);
        if value { page.put(b"true") } else { page.put(b"false") }
    }

    /// An object within.
    #[inline(always)]
    pub fn object(&mut self, name: &str) -> Object<'_, 'o> {
        Object::open(self.member(name))
    }
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
            object.close();
        });
        assert_eq!(text, r#"{"n":0,"empty":{},"f":true,"some":"a\"b","w":"word"}"#);
    }

    proptest! {
        #[test]
        fn values_are_written_as_serde_writes_them(text in ".*", odd in "[\\x00-\\x20\"\\\\a\u{7f}\u{2028}é]*", number in any::<u64>(), bytes in any::<[u8; 5]>()) {
            for text in [text, odd] {
                prop_assert_eq!(written(|page| page.string(&text)), json!(text).to_string());
            }
            prop_assert_eq!(written(|page| page.decimal(number)), number.to_string());
            prop_assert_eq!(written(|page| page.hex(&bytes)), bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
        }

        #[test]
        fn pages_follow_each_other(pieces in proptest::collection::vec("[a-z]{0,40}|[a-z]{500,530}|[a-z]{1100}", 0..60)) {
            prop_assert_eq!(written(|page| pieces.iter().for_each(|piece| page.put(piece.as_bytes()))), pieces.concat());
        }
    }
}
