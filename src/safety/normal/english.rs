//! How much a text looks like English, or another European language, by pairs of letters.

/// The class of everything that is not a letter.
const GAP: usize = 0;
/// Number of classes: the gap and the letters.
const CLASSES: usize = 27;

/// How likely a letter follows another, 0 to 15 on a logarithmic scale; gap first, then a to z. Counted over the benign
/// English rows of the labelled development data.
const PAIRS: [&[u8; CLASSES]; CLASSES] = [
    b"0fcdccdbbe78bcbdd7cefb9c5a3",
    b"e3bdc48c3c29fcf2b1fef9a76b4",
    b"ef775f332da0f63f62db8e400e0",
    b"df2a4f31fd0cd52f41d9fd40180",
    b"fd65bf796f44866d60ab5b83290",
    b"fc6cdaa95814cbe7a8ffc5a8b90",
    b"fd542ed40f03b48f50e7bd32190",
    b"fd343f3ade00a6ccb0db8d20082",
    b"ff443f200f00768f30a6c901090",
    b"cb9ecccb0108dcfea6bef3c050a",
    b"cf644f225c37556f855e4f09000",
    b"fb678f797f0495eb607e8937170",
    b"fe46dfa63f06f75e904cbc880d0",
    b"ffb57f540e028c7ef04b4c220a0",
    b"fd2dfeaf5c48859d734ef9831a1",
    b"f98bb7da4968cdfab0fbcfbc450",
    b"ee269f46bd11f64fc0fced21190",
    b"e61458513333b33337957f35101",
    b"fe6aaf793f099bae70adcb851c1",
    b"fb0b4f53cd0a786cc44dfc48090",
    b"fd483f53ff02853e80dcab183b1",
    b"ecbdbd6b0c03ede6c0fff120453",
    b"cf260f261f00250d30552742250",
    b"ff163f41ff04b4cf40db7008040",
    b"ff4d4d547d106726f347f912793",
    b"f8785b533a00a8afc07db226007",
    b"ef525f044f46976c25658b4659c",
];

/// The least mean likelihood of language.
pub const LANGUAGE: u32 = 9;

/// Twice the least mean likelihood at which single words count as language.
const WORDS: u32 = 21;

/// How likely one class follows another.
pub const fn pair(first: usize, second: usize) -> u8 {
    if first >= CLASSES || second >= CLASSES || (first == GAP && second == GAP) {
        return 0;
    }
    match PAIRS[first][second] {
        digit @ b'0'..=b'9' => digit - b'0',
        digit => digit - b'a' + 10,
    }
}

/// The class of a byte: 1 to 26 for letters of either case, 0 for all others.
pub const fn class(byte: u8) -> usize {
    match byte {
        b'a'..=b'z' => (byte - b'a') as usize + 1,
        b'A'..=b'Z' => (byte - b'A') as usize + 1,
        _ => GAP,
    }
}

/// The score of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Likeness {
    /// Sum over all pairs.
    pub sum: u32,
    /// Number of pairs that contain a letter.
    pub pairs: u32,
}

impl Likeness {
    /// Whether the text may be language.
    pub const fn is_language(self) -> bool {
        self.pairs > 0 && self.sum >= self.pairs * LANGUAGE
    }

    /// Whether the text is language for certain, even if it is only a word or two.
    pub const fn is_words(self) -> bool {
        self.pairs > 0 && self.sum * 2 >= self.pairs * WORDS
    }
}

/// Scores a text, with a gap before and after it.
pub fn likeness(bytes: impl IntoIterator<Item = u8>) -> Likeness {
    let mut score = Likeness::default();
    let mut before = GAP;
    for byte in bytes.into_iter().chain([b' ']) {
        let now = class(byte);
        if before != GAP || now != GAP {
            score.sum += u32::from(pair(before, now));
            score.pairs += 1;
        }
        before = now;
    }
    score
}
