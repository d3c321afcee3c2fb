//! Text files within a body: base64 of a text, with or without a `data:` URL around it. A model reads them, so the modules
//! do too, and a redacted file is encoded again in the same way.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::wire::percent;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);

/// Strings of fewer bytes are not taken for files, but for words of the protocol.
const LEAST: usize = 24;
/// The length of base64 that is decoded first, to see whether the file is text; a multiple of four.
const GLANCE: usize = 64;

/// A text file in a string of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    /// The part of the string before the base64.
    head: String,
    /// The decoded text.
    pub text: String,
}

impl File {
    /// Decodes a string of the body. `None` if it is not a text file, but an image, sound, an id or not UTF-8.
    pub fn read(written: &str) -> Option<Self> {
        if written.len() < LEAST {
            return None;
        }
        // Scheme and marker are case-insensitive (RFC 3986 §3.1, RFC 2397 §2).
        let Some((_, url)) = written.split_at_checked(5).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("data:")) else {
            return Some(Self { head: String::new(), text: decoded(written)? });
        };
        let (kind, content) = url.split_once(',')?;
        let marked = kind.len().checked_sub(7).and_then(|at| kind.split_at_checked(at));
        if let Some((kind, _)) = marked.filter(|(_, marker)| marker.eq_ignore_ascii_case(";base64")) {
            return Some(Self { head: format!("data:{kind};base64,"), text: decoded(content)? });
        }
        Some(Self { head: format!("data:{kind};base64,"), text: unescaped(content)? })
    }

    /// The string to put in its place, with another text encoded.
    pub fn written(&self, text: &str) -> String {
        let mut out = self.head.clone();
        BASE64.encode_string(text, &mut out);
        out
    }
}

fn decoded(base64: &str) -> Option<String> {
    let bytes = base64.as_bytes();
    let glance = bytes.get(..GLANCE).unwrap_or(bytes);
    if !glance.iter().all(|b| b.is_ascii_alphanumeric() || b"+/-_=\r\n ".contains(b)) {
        return None;
    }
    // The first characters are enough to rule out nearly every other string.
    if !begins_text(&bytes_of(glance, true)?) {
        return None;
    }
    let text = String::from_utf8(bytes_of(bytes, false)?).ok()?;
    (!text.bytes().any(|b| b == 0)).then_some(text)
}

/// Decodes base64 of either alphabet, with or without line breaks. Of a `part`, an incomplete last group is ignored.
fn bytes_of(base64: &[u8], part: bool) -> Option<Vec<u8>> {
    let plain = base64.iter().filter(|b| !b.is_ascii_whitespace()).map(|b| match b {
        b'-' => b'+',
        b'_' => b'/',
        b => *b,
    });
    let mut plain: Vec<u8> = plain.collect();
    if part {
        plain.truncate(plain.len() / 4 * 4);
    }
    BASE64.decode(plain).ok()
}

/// Whether bytes can be the beginning of a text.
fn begins_text(bytes: &[u8]) -> bool {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{c}'))
}

/// Decodes percent-encoding; `None` if the result is not UTF-8.
fn unescaped(written: &str) -> Option<String> {
    String::from_utf8(percent::lenient(written.as_bytes()).into_owned()).ok()
}

/// The decoded values of a query (application/x-www-form-urlencoded); a pair without `=` is a value as a whole.
pub(super) fn query_values(query: &str) -> impl Iterator<Item = String> {
    let pairs = query.split('&').filter(|pair| !pair.starts_with("key="));
    let values = pairs.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value).replace('+', " "));
    values.map(|value| unescaped(&value).unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(written: &str) -> Option<String> {
        File::read(written).map(|file| file.text)
    }

    #[test]
    fn text_files_are_read_in_every_form_and_go_back_as_they_came() {
        let text = "Dear bank, my card is 4111 1111 1111 1111. Grüße";
        let base64 = BASE64.encode(text);
        for (written, head) in [
            (base64.clone(), ""),
            (base64.trim_end_matches('=').replace('+', "-").replace('/', "_"), ""),
            (format!("{}\r\n{}", &base64[..40], &base64[40..]), ""),
            (format!("data:text/plain;base64,{base64}"), "data:text/plain;base64,"),
            (format!("DATA:text/plain;Base64,{base64}"), "data:text/plain;base64,"),
            (format!("data:text/plain;charset=utf-8,{}", text.replace(' ', "%20")), "data:text/plain;charset=utf-8;base64,"),
        ] {
            assert_eq!(said(&written).as_deref(), Some(text), "{written}");
            let again = File::read(&written).map(|file| file.written("less")).unwrap_or_default();
            assert_eq!(again, format!("{head}bGVzcw=="), "{written}");
        }
    }

    #[test]
    fn the_values_of_a_query_are_decoded() {
        let values: Vec<_> = query_values("q=4111+1111%201111%2b&key=sk-1&a%40b&x=%zz&=").collect();
        assert_eq!(values, ["4111 1111 1111+", "a@b", "%zz", ""]);
    }

    #[test]
    fn everything_else_is_none() {
        let picture = BASE64.encode([0x89, b'P', b'N', b'G', 13, 10, 26, 10].repeat(9));
        for written in ["text/plain", "call_Zq9xK7bbW2mPz4TnR8sLQe5v", &picture, &format!("data:image/png;base64,{picture}"), "data:"] {
            assert_eq!(said(written), None, "{written}");
        }
        assert_eq!(said(&BASE64.encode("a text\0 with a zero in it, further on")), None);
    }
}
