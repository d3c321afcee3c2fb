//! Texts found under an encoding or a disguise.

use std::ops::Range;

/// The encoding or disguise that was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Veil {
    /// Base64, with either alphabet (RFC 4648 §4, §5).
    Base64,
    /// Pairs of hexadecimal digits without spaces.
    Hex,
    /// Percent-encoding (RFC 3986 §2.1).
    Percent,
    /// HTML character references.
    Entity,
    /// `\u0041`, `\x41`, `\101` and the like.
    Escape,
    /// Numeric codes of characters: hexadecimal, decimal, binary, Morse.
    Code,
    /// Tag characters, which are invisible.
    Tags,
    /// Bytes in variation selectors or zero-width characters, which are invisible.
    Unseen,
    /// Letters shifted along the alphabet, as by ROT13.
    Shifted,
    /// Reversed text.
    Reversed,
    /// Digits and signs in place of letters.
    Leet,
    /// Letters separated by spaces, dots or other marks.
    Spaced,
    /// Each word on a line of its own.
    Lines,
}

impl Veil {
    /// Every veil, in the order of declaration.
    pub const ALL: [Self; 13] = [
        Self::Base64,
        Self::Hex,
        Self::Percent,
        Self::Entity,
        Self::Escape,
        Self::Code,
        Self::Tags,
        Self::Unseen,
        Self::Shifted,
        Self::Reversed,
        Self::Leet,
        Self::Spaced,
        Self::Lines,
    ];

    /// The stable name used in findings and evidence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Hex => "hex",
            Self::Percent => "percent",
            Self::Entity => "entity",
            Self::Escape => "escape",
            Self::Code => "code",
            Self::Tags => "tags",
            Self::Unseen => "unseen",
            Self::Shifted => "shifted",
            Self::Reversed => "reversed",
            Self::Leet => "leet",
            Self::Spaced => "spaced",
            Self::Lines => "lines",
        }
    }
}

/// A text found under a veil.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The veil that was removed last.
    pub veil: Veil,
    /// The veil that was removed before that, if any.
    pub outer: Option<Veil>,
    /// The text, folded and in lower case, as [`super::Folded::text`].
    pub text: String,
    /// The text, folded, in its original case.
    pub cased: String,
    /// Its range in the raw text.
    pub source: Range<usize>,
}

/// All views of a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Views {
    /// In the order in which they were found; views under two veils come after those under one.
    pub found: Vec<View>,
    /// Whether there were more than the bounds allow.
    pub cut: bool,
}
