//! What the model looks at: hashed words, stems, pairs of them, pieces of words, and sequences of ideas, each counted
//! where it ends.

use super::lexicon::{Idea, Lexicon};
use super::tokens::{Sort, Token, Tokens};

/// The number of weights a head has, as a power of two.
pub const BITS: u32 = 19;
/// The number of weights a head has.
pub const BUCKETS: usize = 1 << BITS;

/// How many tokens back an idea still belongs to the one before.
const REACH: usize = 14;
/// How many ideas back an idea is paired with.
const PAIRED: usize = 4;
/// How many bytes the pieces of words have that bridge spellings and endings.
const PIECE: usize = 4;

/// Takes what is found in a text, token by token.
pub trait Sink {
    /// A feature of the present token.
    fn feature(&mut self, bucket: u32);
    /// Several of them.
    #[inline]
    fn features(&mut self, buckets: impl Iterator<Item = u32>) {
        buckets.for_each(|bucket| self.feature(bucket));
    }
    /// An idea that begins with the present token.
    fn idea(&mut self, _idea: Idea) {}
    /// The present token is complete; it began at this byte, and after it a sentence may begin.
    fn token(&mut self, start: usize, ends: bool);
}

/// A bucket for a feature of this sort.
#[inline]
const fn bucket(sort: u64, of: u64) -> u32 {
    let hash = (of ^ sort.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    ((hash ^ hash >> 32).wrapping_mul(0xE703_7ED1_A0B4_28DB) >> (64 - BITS)) as u32
}

/// One number for a feature of two parts, in their order.
#[inline]
const fn pair(a: u64, b: u64) -> u64 {
    a ^ b.rotate_left(23).wrapping_mul(0xA076_1D64_78BD_642F)
}

/// Reads a folded text, or a stretch of one.
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
            // A line begins as a text does, whatever stands above it.
            Sort::Line => [Past::default(); 3],
            _ => [Past { hash: token.hash, stem: token.stem(), sort: Some(token.sort) }, past[0], past[1]],
        };
        sink.token(token.start, token.ends(text));
        if token.sort != Sort::Line {
            before = Some(token);
        }
    }
}

/// Within how many tokens after words about attacks an idea is still one that is written about.
const TOLD: usize = 64;
/// How many tokens a quotation has at most.
const QUOTATION: usize = 64;

/// Whether words are somebody's own or reported: who writes about attacks quotes them.
#[derive(Default)]
struct Speech {
    /// The token before which a quotation has to close.
    until: usize,
    /// Whether what is open is a value of a record, which is nobody's speech.
    value: bool,
    /// Whether the token before held a quotation mark.
    marked: bool,
    /// The token up to which ideas are written about.
    talk: usize,
}

impl Speech {
    /// Whether a token is inside a quotation of running text.
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
            // In a record, the name of a value stands in marks as well.
            self.value = self.marked;
        }
        self.marked = count > 0;
        false
    }
}

/// What is still known of a token before.
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
                // Words and marks in turns are what machine-made suffixes look like.
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
