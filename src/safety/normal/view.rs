//! What a text says once an encoding or a disguise is taken off.

use std::ops::Range;

/// What was taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Veil {
    /// Base64, with either alphabet (RFC 4648 §4, §5).
    Base64,
    /// Pairs of hexadecimal digits without spaces.
    Hex,
    /// Percent-encoding (RFC 3986 §2.1).
    Percent,
    /// Character references of HTML.
    Entity,
    /// `\u0041`, `\x41`, `\101` and their like.
    Escape,
    /// Character codes written one by one: hexadecimal, decimal, binary, Morse.
    Code,
    /// Tag characters, which nobody sees.
    Tags,
    /// Bytes in variation selectors or zero-width characters, which nobody sees.
    Unseen,
    /// Letters moved along the alphabet; ROT13 is the best known.
    Shifted,
    /// Written backwards.
    Reversed,
    /// Digits and signs in place of letters.
    Leet,
    /// Letters with spaces, dots or other marks in between.
    Spaced,
    /// Words on lines of their own.
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

/// One thing a text says under a veil.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// What was taken off last.
    pub veil: Veil,
    /// What had to be taken off first, if anything.
    pub outer: Option<Veil>,
    /// What it says, folded and in lower case, as [`super::Folded::text`].
    pub text: String,
    /// What it says, folded, in its own case.
    pub cased: String,
    /// Where it stands in the raw text.
    pub source: Range<usize>,
}

/// The views of a text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Views {
    /// In the order they were found; what lies under two veils comes after what lies under one.
    pub found: Vec<View>,
    /// There was more than the bounds allow.
    pub cut: bool,
}
