//! Writing a JSON object by hand, member by member, into a buffer that is used again.
//!
//! Records and log lines are written for every request. Their shape is known here, so nothing has to be built first and
//! walked over afterwards; what is written is byte for byte what `serde_json` writes.

/// A JSON object that is being written. Members stand in the order in which they are given.
#[derive(Debug)]
pub struct Object<'o> {
    out: &'o mut Vec<u8>,
    empty: bool,
}

impl<'o> Object<'o> {
    /// Opens an object at the end of `out`.
    #[inline]
    pub fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Closes it.
    #[inline]
    pub fn close(self) {
        self.out.push(b'}');
    }

    /// The place of the next member's value. The name is one that needs no escapes.
    // Always inlined: names are literals, and copying a few bytes of known number is a move and no call.
    #[inline(always)]
    pub fn member(&mut self, name: &str) -> &mut Vec<u8> {
        if self.empty {
            self.empty = false;
            self.out.push(b'"');
        } else {
            self.out.extend_from_slice(b",\"");
        }
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// A string.
    #[inline(always)]
    pub fn text(&mut self, name: &str, value: &str) {
        string(self.member(name), value);
    }

    /// A string that needs no escapes, such as a word of a fixed set.
    #[inline(always)]
    pub fn word(&mut self, name: &str, value: &str) {
        let out = self.member(name);
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
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
        decimal(self.member(name), value);
    }

    /// `true` or `false`.
    #[inline(always)]
    pub fn flag(&mut self, name: &str, value: bool) {
        self.member(name).extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// An object within.
    #[inline(always)]
    pub fn object(&mut self, name: &str) -> Object<'_> {
        Object::open(self.member(name))
    }
}

/// Writes a JSON string with its quotes.
#[inline]
pub fn string(out: &mut Vec<u8>, text: &str) {
    // Looks at all bytes without stopping early, which the compiler turns into vector code; nearly every text is plain.
    let odd = text.bytes().fold(false, |odd, b| odd | (b < 0x20) | (b == b'"') | (b == b'\\'));
    if odd {
        return escaped(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cold]
fn escaped(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    if serde_json::to_writer(&mut *out, text).is_err() {
        // Writing a str to memory cannot fail; an empty string keeps the JSON whole if it ever does.
        out.truncate(start);
        out.extend_from_slice(b"\"\"");
    }
}

/// Writes a whole number.
#[inline]
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
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
    out.extend_from_slice(&digits[at..]);
}

/// Writes lowercase hex digits.
#[inline]
pub fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.reserve(2 * bytes.len());
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn members_stand_as_they_were_given() {
        let mut out = b"before ".to_vec();
        let mut object = Object::open(&mut out);
        object.number("n", 0);
        object.object("empty").close();
        object.flag("f", true);
        object.text_if("none", None);
        object.text_if("some", Some("a\"b"));
        object.word("w", "word");
        object.close();
        assert_eq!(String::from_utf8_lossy(&out), r#"before {"n":0,"empty":{},"f":true,"some":"a\"b","w":"word"}"#);
    }

    proptest! {
        #[test]
        fn values_are_written_as_serde_writes_them(text in ".*", odd in "[\\x00-\\x20\"\\\\a\u{7f}\u{2028}é]*", number in any::<u64>(), bytes in any::<[u8; 5]>()) {
            for text in [text, odd] {
                let mut out = Vec::new();
                string(&mut out, &text);
                prop_assert_eq!(String::from_utf8(out), Ok(json!(text).to_string()));
            }
            let mut out = Vec::new();
            decimal(&mut out, number);
            prop_assert_eq!(String::from_utf8(out), Ok(number.to_string()));
            let mut out = Vec::new();
            hex(&mut out, &bytes);
            prop_assert_eq!(String::from_utf8(out), Ok(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()));
        }
    }
}
