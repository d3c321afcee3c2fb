//! A strict JSON reader that builds no values: it finds where things are, and whether the text is valid JSON.
//!
//! The few members that steer a request and the few that report its usage are read for every request. A general parser
//! would decode and allocate values that are thrown away; this one skips over them. It accepts exactly what `serde_json`
//! accepts (RFC 8259, nested up to 127 levels, no lone surrogates, numbers within the range of a double), so that all
//! readers of this gateway agree on what is JSON.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

use super::head::ParseError;

/// Most containers nested in one another, as in `serde_json`.
const DEPTH: u32 = 127;
/// Strings up to this many bytes are searched without setting up a vector search: two machine words.
const SHORT: usize = 16;

/// A position in a JSON text. Every method that reads a value moves the position behind it.
#[derive(Debug, Clone)]
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
    depth: u32,
    /// Whether the text contains control characters; only then must strings be searched for them.
    controls: bool,
}

/// A string of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Literal<'a> {
    /// The decoded string.
    pub text: Cow<'a, str>,
    /// Its range, inside the quotes.
    pub span: Range<usize>,
}

/// A value other than a container, or the fact that it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scalar<'a> {
    Text(Literal<'a>),
    Bool(bool),
    /// The digits as written.
    Number(&'a str),
    Null,
    /// An object or array, skipped.
    Nested,
}

type Result<T> = std::result::Result<T, ParseError>;

/// The offset of the next quote or backslash. Most strings are short names and words, which are searched a machine word at
/// a time before a vector search would be set up.
#[inline]
fn special(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < SHORT
        && let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk)
    {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ every(b'"')) | zeros(word ^ every(b'\\'));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    memchr2(b'"', b'\\', bytes.get(at..)?).map(|more| at + more)
}

const fn every(byte: u8) -> u64 {
    byte as u64 * 0x0101_0101_0101_0101
}

/// Sets the high bit of the first zero byte. Bits above it may be set although their bytes are not zero.
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(every(1)) & !word & every(0x80)
}

impl<'a> Scan<'a> {
    /// Starts at the beginning of a text.
    ///
    /// # Errors
    /// When the text is not UTF-8.
    pub fn new(json: &'a [u8]) -> Result<Self> {
        match std::str::from_utf8(json) {
            Ok(text) => Ok(Self { text, at: 0, depth: 0, controls: has_control(json) }),
            Err(error) => Err(syntax(json, error.valid_up_to())),
        }
    }

    /// Checks that only whitespace follows.
    ///
    /// # Errors
    /// When anything else follows.
    pub fn end(mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.refuse()),
        }
    }

    /// The offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The unread bytes.
    pub fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The first byte of the next token; `None` at the end of the text.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = self.byte()?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Reads an object. `member` is called with each name, and must read the value.
    ///
    /// # Errors
    /// When there is no object here; and errors of `member`.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, Literal<'a>) -> Result<()>) -> Result<()> {
        self.take(b'{')?;
        self.enter()?;
        if self.peek() == Some(b'}') {
            return self.leave();
        }
        loop {
            let name = self.string()?;
            self.take(b':')?;
            member(self, name)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => return self.leave(),
                _ => return Err(self.refuse()),
            }
        }
    }

    /// Reads an array. `element` is called before each element, and must read it.
    ///
    /// # Errors
    /// When there is no array here; and errors of `element`.
    pub fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.take(b'[')?;
        self.enter()?;
        if self.peek() == Some(b']') {
            return self.leave();
        }
        loop {
            element(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => return self.leave(),
                _ => return Err(self.refuse()),
            }
        }
    }

    /// Reads a value of any kind; a container is skipped.
    ///
    /// # Errors
    /// When there is no value here.
    pub fn scalar(&mut self) -> Result<Scalar<'a>> {
        match self.peek() {
            Some(b'"') => self.string().map(Scalar::Text),
            Some(b't') => self.word("true").map(|()| Scalar::Bool(true)),
            Some(b'f') => self.word("false").map(|()| Scalar::Bool(false)),
            Some(b'n') => self.word("null").map(|()| Scalar::Null),
            Some(b'-' | b'0'..=b'9') => self.number().map(Scalar::Number),
            _ => self.skip().map(|()| Scalar::Nested),
        }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// When there is no string here.
    pub fn string(&mut self) -> Result<Literal<'a>> {
        let (span, plain) = self.place()?;
        let text = match plain {
            true => Cow::Borrowed(self.inside(&span)),
            false => self.decoded(&span)?,
        };
        Ok(Literal { text, span })
    }

    /// Skips a string. Returns its range inside the quotes, and whether it has no escapes.
    ///
    /// # Errors
    /// When there is no string here.
    pub fn place(&mut self) -> Result<(Range<usize>, bool)> {
        self.take(b'"')?;
        let start = self.at;
        let plain = self.string_end()?;
        Ok((start..self.at - 1, plain))
    }

    /// The raw content of a string, escapes included.
    pub fn inside(&self, span: &Range<usize>) -> &'a str {
        self.text.get(span.clone()).unwrap_or_default()
    }

    /// Decodes the string at a span that [`Self::place`] returned.
    ///
    /// # Errors
    /// When its escapes are invalid.
    pub fn decoded(&self, span: &Range<usize>) -> Result<Cow<'a, str>> {
        let quoted = self.text.get(span.start.saturating_sub(1)..span.end + 1).unwrap_or_default();
        serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| self.refuse())
    }

    /// Skips a value. Not recursive, since callers decide how deep they nest.
    ///
    /// # Errors
    /// When there is no value here.
    pub fn skip(&mut self) -> Result<()> {
        let outside = self.depth;
        // One bit for each level entered here: whether it is an object.
        let mut objects: u128 = 0;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.string_end()?;
                }
                Some(open @ (b'{' | b'[')) => {
                    self.at += 1;
                    self.enter()?;
                    objects = objects << 1 | u128::from(open == b'{');
                    match self.peek() {
                        // An empty container is closed below, like all others.
                        Some(close) if close == open + 2 => {}
                        _ if open == b'{' => {
                            self.name()?;
                            continue;
                        }
                        _ => continue,
                    }
                }
                Some(b't') => self.word("true")?,
                Some(b'f') => self.word("false")?,
                Some(b'n') => self.word("null")?,
                _ => {
                    self.number()?;
                }
            }
            loop {
                if self.depth == outside {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.name()?;
                        }
                        break;
                    }
                    Some(b'}') if object => self.leave()?,
                    Some(b']') if !object => self.leave()?,
                    _ => return Err(self.refuse()),
                }
                objects >>= 1;
            }
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, token: u8) -> Result<()> {
        if self.peek() != Some(token) {
            return Err(self.refuse());
        }
        self.at += 1;
        Ok(())
    }

    /// Skips a member's name and its colon.
    fn name(&mut self) -> Result<()> {
        self.take(b'"')?;
        self.string_end()?;
        self.take(b':')
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEPTH { Err(self.refuse()) } else { Ok(()) }
    }

    fn leave(&mut self) -> Result<()> {
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<()> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        self.at += rest.iter().zip(word.bytes()).take_while(|(a, b)| *a == b).count();
        Err(self.refuse())
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while self.byte().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.refuse()) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<&'a str> {
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let exponent = matches!(self.byte(), Some(b'e' | b'E'));
        if exponent {
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        let number = self.text.get(start..self.at).unwrap_or_default();
        // Only such numbers can exceed the range of a double.
        if (exponent || number.len() > 300) && !number.parse::<f64>().is_ok_and(f64::is_finite) {
            return Err(self.refuse());
        }
        Ok(number)
    }

    /// Moves from behind the opening quote to behind the closing one. Returns whether there was no escape.
    #[inline]
    fn string_end(&mut self) -> Result<bool> {
        let bytes = self.text.as_bytes();
        let mut plain = true;
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let Some(run) = special(rest) else { return Err(self.refuse()) };
            if self.controls && has_control(&rest[..run]) {
                return Err(self.refuse());
            }
            self.at += run;
            if rest[run] == b'"' {
                self.at += 1;
                return Ok(plain);
            }
            plain = false;
            self.escape()?;
        }
    }

    #[cold]
    fn escape(&mut self) -> Result<()> {
        self.at += 2;
        match self.text.as_bytes().get(self.at - 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => match self.unit()? {
                0xd800..=0xdbff => {
                    if self.text.as_bytes().get(self.at..self.at + 2) != Some(br"\u") {
                        return Err(self.refuse());
                    }
                    self.at += 2;
                    if (0xdc00..=0xdfff).contains(&self.unit()?) { Ok(()) } else { Err(self.refuse()) }
                }
                0xdc00..=0xdfff => Err(self.refuse()),
                _ => Ok(()),
            },
            _ => Err(self.refuse()),
        }
    }

    fn unit(&mut self) -> Result<u16> {
        let digits = self.text.get(self.at..self.at + 4).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = digits.and_then(|hex| u16::from_str_radix(hex, 16).ok()).ok_or_else(|| self.refuse())?;
        self.at += 4;
        Ok(unit)
    }

    #[cold]
    fn refuse(&self) -> ParseError {
        syntax(self.text.as_bytes(), self.at)
    }
}

/// Whether there is a control character. Checks every byte without stopping early, which the compiler vectorises.
fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, byte| found | (*byte < 0x20))
}

#[cold]
fn syntax(json: &[u8], at: usize) -> ParseError {
    let before = json.get(..at).unwrap_or(json);
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
    ParseError::Syntax { line: memchr::memchr_iter(b'\n', before).count() + 1, column: before.len() - line_start + 1 }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn accepts(json: &[u8]) -> bool {
        Scan::new(json).and_then(|mut scan| scan.skip().and_then(|()| scan.end())).is_ok()
    }

    fn assert_agrees(json: &[u8]) {
        let serde = serde_json::from_slice::<Value>(json).is_ok();
        assert_eq!(accepts(json), serde, "{}", String::from_utf8_lossy(json));
    }

    #[test]
    fn accepts_what_serde_accepts() {
        let lines = r#"

            {} [] {"a":{}} {"a":[]} [[],{}]
            [1,] [,1] {,} {"a":1,} {"a"} {1:2} [} {] {}x {}{}
            true tru truex null nul false
            0 -0 01 - 1. .1 1.5 1e 1e5 1e+5 1E-5 1e400 -1e999 1e-999 12345678901234567890123
            "" "a "\"" "\x" "\u12" "\u00e9" "\ud83d\ude00" "\ud83d" "\ude00" "\ud83dx" "\ud83d\n" "\u+123" "é" ["\u00é"]
        "#;
        for json in lines.split_ascii_whitespace().chain([
            " [ 1 , 2 ] ",
            "[1 2]",
            "{\"a\" 1}",
            "{} {}",
            "\"a\tb\"",
            "\"\u{7f}\"",
            "\u{feff}{}",
            " ",
            "",
        ]) {
            assert_agrees(json.as_bytes());
        }
        assert_agrees(b"\"\xff\"");
        for depth in [1, 126, 127, 128, 129, 4000] {
            assert_agrees(format!("{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes());
            assert_agrees(format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth)).as_bytes());
            assert_agrees(format!("{}{}", "[{\"a\":".repeat(depth / 2), "1".to_owned() + &"}]".repeat(depth / 2)).as_bytes());
        }
        for digits in [299, 305, 308, 309, 310, 400] {
            assert_agrees("9".repeat(digits).as_bytes());
            assert_agrees(format!("0.{}", "0".repeat(digits)).as_bytes());
        }
    }

    #[test]
    fn says_where() {
        let refusal = Scan::new(b"{\"a\":1,\n  x}").unwrap().skip().unwrap_err();
        assert_eq!(refusal, ParseError::Syntax { line: 2, column: 3 });
    }

    /// JSON with some bytes changed.
    fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|b| b.to_string()),
            any::<f64>().prop_filter("finite", |n| n.is_finite()).prop_map(|n| format!("{n:e}")),
            any::<i64>().prop_map(|n| n.to_string()),
            any::<String>().prop_map(|s| serde_json::to_string(&s).unwrap()),
            r#""([a-z ]{0,80}|\\u[0-9a-fD]{4}|\\[a-z"/\\]){0,6}""#,
        ];
        let json = leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(|list| format!("[{}]", list.join(" , "))),
                proptest::collection::vec(("[a-z]{0,40}", inner), 0..6)
                    .prop_map(|list| format!("{{{}}}", list.iter().map(|(k, v)| format!("{k:?}:{v}")).collect::<Vec<_>>().join(","))),
            ]
        });
        let edits = proptest::collection::vec(
            (any::<proptest::sample::Index>(), prop_oneof![any::<u8>(), r#"[{}\[\]",:0e\\.-]"#.prop_map(|s| s.as_bytes()[0])]),
            0..3,
        );
        (json, edits).prop_map(|(json, edits)| {
            let mut bytes = json.into_bytes();
            for (index, byte) in edits {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_next_special_byte_is_found_wherever_it_stands(bytes in proptest::collection::vec(prop_oneof![4 => any::<u8>(), 1 => Just(b'"'), 1 => Just(b'\\'), 1 => Just(b'#')], 0..60)) {
            prop_assert_eq!(special(&bytes), bytes.iter().position(|b| matches!(b, b'"' | b'\\')));
        }

        #[test]
        fn is_the_same_language_as_serde_json(json in nearly_json()) {
            assert_agrees(&json);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), token in r#"[{}\[\]",:0-9e\\utrnal .-]{0,60}"#) {
            assert_agrees(&bytes);
            assert_agrees(token.as_bytes());
        }

        #[test]
        fn strings_say_what_serde_says(text in any::<String>(), long in "[a-z\"\\\\\n ]{0,120}") {
            for text in [text, long] {
                let json = format!(" {} ", serde_json::to_string(&text).unwrap());
                let mut scan = Scan::new(json.as_bytes()).unwrap();
                let literal = scan.string().unwrap();
                prop_assert_eq!(&*literal.text, &text);
                prop_assert_eq!(literal.span, 2..json.len() - 2);
                prop_assert!(scan.end().is_ok());
            }
        }
    }
}
