//! The features of the model: hashed words, stems, pairs of them, pieces of words, and sequences of ideas, each counted at
//! the token where it ends.

use super::lexicon::{Idea, Lexicon};
use super::tokens::{Sort, Token, Tokens};

/// Number of weights of a head, as a power of two.
pub const BITS: u32 = 19;
/// Number of weights of a head.
pub const BUCKETS: usize = 1 << BITS;

/// Number of tokens within which an idea is paired with the one before it.
const REACH: usize = 14;
/// Number of earlier ideas with which an idea is paired.
const PAIRED: usize = 4;
/// Length in bytes of the pieces of words, which bridge spellings and endings.
const PIECE: usize = 4;

/// Receives the features of a text, token by token.
pub trait Sink {
    /// A feature of the current token.
    fn feature(&mut self, bucket: u32);
    /// Several features of the current token.
    #[inline]
    fn features(&mut self, buckets: impl Iterator<Item = u32>) {
        buckets.for_each(|bucket| self.feature(bucket));
    }
    /// An idea that begins with the current token.
    fn idea(&mut self, _idea: Idea) {}
    /// The current token is complete. It began at byte `start`; if `ends`, a sentence may end with it.
    fn token(&mut self, start: usize, ends: bool);
}

/// The bucket of a feature of a given sort.
#[inline]
const fn bucket(sort: u64, of: u64) -> u32 {
    let hash = (of ^ sort.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    ((hash ^ hash >> 32).wrapping_mul(0xE703_7ED1_A0B4_28DB) >> (64 - BITS)) as u32
}

/// Combines the two parts of a feature, respecting their order.
#[inline]
const fn pair(a: u64, b: u64) -> u64 {
    a ^ b.rotate_left(23).wrapping_mul(0xA076_1D64_78BD_642F)
}

/// Extracts the features of a folded text or of a stretch of one.
pub fn read(text: &str, lexicon: &Lexicon, sink: &mut impl Sink) {
    let mut past = [Past::default(); 3];
    let mut ideas = [(0u64, 0usize); PAIRED]; // what and at which token
    let mut before = None;
    let mut speech = Speech::default();
    for (index, token) in Tokens::new(text, 0).enumerate() {
        if token.sort != Sort::Line {
            words(text, &token, &past, sink);
        }
        let reported = speech.reported(text, &token, index);
        if reported && matches!(token.sort, Sort::Word | Sort::Sign) {
            sink.feature(bucket(13, token.stem()));
        }
        lexicon.find(text, before.as_ref(), &token, &mut |found| {
            idea(found as u64 + 1, index, &mut ideas, sink);
            if reported {
                sink.feature(bucket(14, found as u64));
            }
            if found == Idea::Talk {
                speech.talk = index + TOLD;
            } else if index < speech.talk {
                sink.feature(bucket(15, found as u64));
            }
            sink.idea(found);
        });
        past = match token.sort {
            // A new line is read like the beginning of a text, whatever the lines above.
            Sort::Line => [Past::default(); 3],
            _ => [Past { hash: token.hash, stem: token.stem(), sort: Some(token.sort) }, past[0], past[1]],
        };
        sink.token(token.start, token.ends(text));
        if token.sort != Sort::Line {
            before = Some(token);
        }
    }
}

/// Number of tokens after a mention of attacks within which an idea counts as reported.
const TOLD: usize = 64;
/// Most tokens in a quotation.
const QUOTATION: usize = 64;

/// Tells whether words are meant or reported: texts about attacks quote them.
#[derive(Default)]
struct Speech {
    /// The token before which an open quotation must close.
    until: usize,
    /// Whether the open quotation is a value in a record (JSON, for example), which is not reported speech.
    value: bool,
    /// Whether the previous token contained a quotation mark.
    marked: bool,
    /// The token up to which ideas count as reported.
    talk: usize,
}

impl Speech {
    /// Whether a token is within a quotation in running text.
    #[inline]
    fn reported(&mut self, text: &str, token: &Token, index: usize) -> bool {
        if token.sort != Sort::Mark {
            if token.sort == Sort::Line {
                self.until = 0;
            }
            self.marked = false;
            return index < self.until && !self.value;
        }
        let mark = text.get(token.start..token.end).unwrap_or_default();
        let count = mark.chars().filter(|c| matches!(c, '"' | '`' | '“' | '”' | '„' | '«' | '»' | '「' | '」' | '『' | '』')).count();
        if !count.is_multiple_of(2) {
            self.until = if index < self.until { 0 } else { index + QUOTATION };
            // In a record the name of a value is quoted too, so that two quotation marks meet.
            self.value = self.marked;
        }
        self.marked = count > 0;
        false
    }
}

/// What is remembered of an earlier token.
#[derive(Clone, Copy, Default)]
struct Past {
    hash: u64,
    stem: u64,
    sort: Option<Sort>,
}

#[inline]
fn words(text: &str, token: &Token, past: &[Past; 3], sink: &mut impl Sink) {
    let (alone, both) = (bucket(1, token.hash), bucket(2, pair(token.hash, past[0].hash)));
    match token.sort {
        Sort::Sign => {
            let three = pair(pair(token.hash, past[0].hash), past[1].hash);
            sink.features([alone, both, bucket(3, three), bucket(4, pair(three, past[2].hash))].into_iter());
        }
        Sort::Mark => {
            sink.features([alone, both, bucket(6, pair(token.stem(), past[0].stem))].into_iter());
            if past[0].sort == Some(Sort::Word) && past[1].sort == Some(Sort::Mark) {
                // Machine-generated suffixes look like words and punctuation in turns.
                sink.feature(bucket(9, token.stem()));
            }
        }
        Sort::Word => {
            sink.features([alone, both, bucket(5, token.stem()), bucket(6, pair(token.stem(), past[0].stem))].into_iter());
            let pieces = text.as_bytes().get(token.start..token.end).unwrap_or_default().windows(PIECE);
            sink.features(pieces.map(|piece| bucket(8, piece.iter().fold(0, |piece, &byte| piece << 8 | u64::from(byte)))));
        }
        _ => sink.features([alone, both, bucket(6, pair(token.stem(), past[0].stem))].into_iter()),
    }
}

#[inline]
fn idea(idea: u64, index: usize, ideas: &mut [(u64, usize); PAIRED], sink: &mut impl Sink) {
    sink.feature(bucket(10, idea));
    for (depth, &(before, at)) in ideas.iter().enumerate() {
        if before == 0 || index - at > REACH {
            break;
        }
        if before != idea {
            sink.feature(bucket(11, idea << 16 | before << 8 | u64::from(index - at > 4)));
        }
        if depth == 0 && ideas[1].0 != 0 && index - ideas[1].1 <= REACH {
            sink.feature(bucket(12, idea << 16 | before << 8 | ideas[1].0));
        }
    }
    ideas.rotate_right(1);
    ideas[0] = (idea, index);
}
