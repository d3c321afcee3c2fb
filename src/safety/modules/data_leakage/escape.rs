//! Decodes characters written as `%49` or `&#73;` in an arriving text.

/// The part of an escape that was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Escape {
    /// No escape is open.
    #[default]
    None,
    /// `%` and the first digit, if any.
    Percent(Option<u8>),
    /// `&`
    Ampersand,
    /// `&#`
    Number,
    /// `&#73` or `&#x49`: value, number of digits, whether hexadecimal.
    Digits(u32, u8, bool),
}

impl Escape {
    /// Whether [`Self::feed`] must see this character; rarely the case.
    #[inline]
    pub fn watching(self, c: char) -> bool {
        self != Self::None || c == '%' || c == '&'
    }

    /// Takes the next character. Returns the escaped character that is complete with it.
    pub fn feed(&mut self, c: char) -> Option<char> {
        let digit = |radix| c.to_digit(radix);
        let (next, meant) = match (*self, c) {
            (Self::Percent(None), _) if digit(16).is_some() => (Self::Percent(digit(16).map(|d| d as u8)), None),
            (Self::Percent(Some(high)), _) if digit(16).is_some() => {
                let byte = high << 4 | digit(16).unwrap_or(0) as u8;
                // A byte of a multi-byte character is not decoded; it separates words.
                (Self::None, Some(if byte.is_ascii() { char::from(byte) } else { ' ' }))
            }
            (Self::Ampersand, '#') => (Self::Number, None),
            (Self::Number, 'x' | 'X') => (Self::Digits(0, 0, true), None),
            (Self::Number, _) if digit(10).is_some() => (Self::Digits(digit(10).unwrap_or(0), 1, false), None),
            (Self::Digits(value, 1.., _), ';') => (Self::None, char::from_u32(value)),
            (Self::Digits(value, n @ 0..=5, hex), _) if digit(if hex { 16 } else { 10 }).is_some() => {
                let radix = if hex { 16 } else { 10 };
                (Self::Digits(value * radix + digit(radix).unwrap_or(0), n + 1, hex), None)
            }
            (_, '%') => (Self::Percent(None), None),
            (_, '&') => (Self::Ampersand, None),
            _ => (Self::None, None),
        };
        *self = next;
        meant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(text: &str) -> String {
        let mut escape = Escape::default();
        text.chars().filter_map(|c| if escape.watching(c) { escape.feed(c) } else { None }).collect()
    }

    #[test]
    fn escapes_mean_characters_and_everything_else_means_nothing() {
        assert_eq!(meant("%49%67%6eore%20all"), "Ign ");
        assert_eq!(meant("&#73;&#x67;&#110;"), "Ign");
        assert_eq!(meant("100% of 5%, AT&T, &amp; &#; &#x; &#99999999; %%41"), "A");
    }
}
