//! Percent-encoding (RFC 3986 §2.1).

use std::borrow::Cow;

/// The byte that two hex digits stand for; nothing else is taken for digits, a sign neither.
pub fn byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match digits {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// The bytes as a lenient server reads them: a `%` that begins nothing stays. Borrowed in the ordinary case.
pub fn lenient(written: &[u8]) -> Cow<'_, [u8]> {
    if !written.contains(&b'%') {
        return Cow::Borrowed(written);
    }
    let mut out = Vec::with_capacity(written.len());
    let mut rest = written;
    while let [first, more @ ..] = rest {
        match more.get(..2).filter(|_| *first == b'%').and_then(byte) {
            Some(byte) => {
                out.push(byte);
                rest = &more[2..];
            }
            None => {
                out.push(*first);
                rest = more;
            }
        }
    }
    Cow::Owned(out)
}

/// A value of a query (application/x-www-form-urlencoded): `+` is a space, and a `%` that begins nothing, or a text that is
/// not UTF-8, is `None`.
pub fn query_value(written: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        bytes.push(match first {
            b'%' => {
                let (digits, more) = more.split_at_checked(2)?;
                rest = more;
                byte(digits)?
            }
            b'+' => b' ',
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_hex_digits_are_a_byte() {
        assert_eq!([b"2f".as_slice(), b"2F", b"00", b"fF"].map(byte), [Some(0x2f), Some(0x2f), Some(0), Some(0xff)]);
        for wrong in [b"+1".as_slice(), b"-1", b" 1", b"1", b"", b"123", b"g0", b"\xff0"] {
            assert_eq!(byte(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_encoding_stays_or_is_refused() {
        for (written, read) in [("a%41b", "aAb"), ("%", "%"), ("%4", "%4"), ("%+1%41", "%+1A"), ("%%41", "%A"), ("a+b", "a+b")] {
            assert_eq!(lenient(written.as_bytes()).as_ref(), read.as_bytes(), "{written}");
        }
        assert_eq!(query_value("a%2Fb+c").as_deref(), Some("a/b c"));
        for wrong in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert_eq!(query_value(wrong), None, "{wrong}");
        }
    }
}
