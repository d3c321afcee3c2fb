//! Whether a string looks randomly generated, or like a placeholder written by a person.

/// Statistics of a string.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    /// Number of bytes.
    pub len: usize,
    /// Number of digits, lower and upper case letters, and other bytes.
    pub digits: usize,
    pub lower: usize,
    pub upper: usize,
    pub other: usize,
    /// Number of distinct bytes.
    pub distinct: usize,
    /// Shannon entropy in bits per byte.
    pub entropy: f32,
    /// Number of changes between character classes.
    pub turns: usize,
    /// Whether there are only hexadecimal digits and dashes.
    pub hex: bool,
    /// Length of the longest run of lower case letters.
    pub word: usize,
}

impl Shape {
    /// Computes the statistics of a string.
    pub fn of(text: &[u8]) -> Self {
        let mut shape = Self { len: text.len(), hex: true, ..Self::default() };
        let mut counts = [0u16; 256];
        let (mut before, mut word) = (0u8, 0);
        for &byte in text {
            let sort = match byte {
                b'0'..=b'9' => 1,
                b'a'..=b'z' => 2,
                b'A'..=b'Z' => 3,
                _ => 4,
            };
            *match sort {
                1 => &mut shape.digits,
                2 => &mut shape.lower,
                3 => &mut shape.upper,
                _ => &mut shape.other,
            } += 1;
            shape.turns += usize::from(before != 0 && before != sort);
            before = sort;
            word = if sort == 2 { word + 1 } else { 0 };
            shape.word = shape.word.max(word);
            shape.hex &= byte.is_ascii_hexdigit() || byte == b'-';
            if let Some(count) = counts.get_mut(usize::from(byte)) {
                *count = count.saturating_add(1);
            }
        }
        let n = text.len().max(1) as f32;
        for count in counts.iter().filter(|count| **count > 0) {
            shape.distinct += 1;
            let share = f32::from(*count) / n;
            shape.entropy -= share * share.log2();
        }
        shape
    }

    /// Whether letters of both cases and digits are mixed as in no identifier.
    pub fn is_drawn(&self) -> bool {
        let letters = self.lower.min(self.upper);
        letters >= 3 && self.digits >= 2 && self.turns * 100 >= self.len * 32 && self.word <= 7 && self.entropy >= 3.6
    }

    /// Whether letters and digits are more than a word followed by a number.
    pub fn is_mixed(&self) -> bool {
        let letters = self.lower + self.upper;
        letters >= 1 && self.digits >= 3 && self.turns >= 3 && self.distinct >= 6
            || self.hex && self.len >= 16 && self.distinct >= 6
            || letters == 0 && self.other == 0 && self.digits >= 16 && self.distinct >= 6
    }
}

/// Parts of placeholder values.
const STAND_INS: [&[u8]; 20] = [
    b"example",
    b"xxxx",
    b"your",
    b"****",
    b"....",
    b"placeholder",
    b"dummy",
    b"changeme",
    b"redacted",
    b"insert",
    b"<",
    b"${",
    b"{{",
    b"replace",
    b"sample",
    b"####",
    b"anything",
    b"0000000000",
    b"aaaaaaaaaa",
    b"not_long",
];

/// Whether a person wrote the value in place of a real one.
pub fn is_stand_in(value: &[u8]) -> bool {
    STAND_INS.iter().any(|part| value.len() >= part.len() && value.windows(part.len()).any(|w| w.eq_ignore_ascii_case(part)))
}

/// Whether it is a UUID: 8-4-4-4-12 hexadecimal digits.
pub fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36
        && value.iter().enumerate().all(|(i, b)| if matches!(i, 8 | 13 | 18 | 23) { *b == b'-' } else { b.is_ascii_hexdigit() })
}
