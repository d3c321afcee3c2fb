//! What the model looks at: hashed words, stems, pairs of them, pieces of words, and sequences of ideas, each counted
//! where it ends.

use super::lexicon::Mark;
use super::tokens::{Sort, Token, Tokens};

/// The number of weights a head has, as a power of two.
pub const BITS: u32 = 17;
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
    /// The present token is complete; it began at this byte.
    fn token(&mut self, start: usize);
}

/// A bucket for a feature of this sort.
#[inline]
fn bucket(sort: u64, a: u64, b: u64, c: u64) -> u32 {
    let mut hash = a ^ sort.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    hash = hash.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ b.rotate_left(23);
    hash = hash.wrapping_mul(0xA076_1D64_78BD_642F) ^ c.rotate_left(41);
    (hash.wrapping_mul(0xE703_7ED1_A0B4_28DB) >> (64 - BITS)) as u32
}

/// Reads a folded text from one byte to another, which have to be character boundaries; `marks` are the finds in the whole
/// text, ordered by where they begin.
pub fn read(text: &str, from: usize, to: usize, marks: &[Mark], sink: &mut impl Sink) {
    let mut past = [Past::default(); 3];
    let mut ideas = [(0u64, 0usize); PAIRED]; // what and at which token
    let mut next = marks.partition_point(|mark| mark.start < from);
    for (index, token) in Tokens::new(text, from).enumerate() {
        if token.start >= to {
            break;
        }
        words(text, &token, &past, sink);
        while let Some(mark) = marks.get(next).filter(|mark| mark.start < token.end) {
            next += 1;
            idea(mark.idea as u64 + 1, index, &mut ideas, sink);
        }
        past = [Past { hash: token.hash, stem: token.stem, sort: Some(token.sort) }, past[0], past[1]];
        sink.token(token.start);
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
    sink.feature(bucket(1, token.hash, 0, 0));
    sink.feature(bucket(2, token.hash, past[0].hash, 0));
    match token.sort {
        Sort::Sign => {
            sink.feature(bucket(3, token.hash, past[0].hash, past[1].hash));
            sink.feature(bucket(4, token.hash, past[0].hash, past[1].hash ^ past[2].hash.rotate_left(7)));
        }
        Sort::Mark => {
            sink.feature(bucket(6, token.stem, past[0].stem, 0));
            if past[0].sort == Some(Sort::Word) && past[1].sort == Some(Sort::Mark) {
                // Words and marks in turns are what machine-made suffixes look like.
                sink.feature(bucket(9, token.stem, 0, 0));
            }
        }
        Sort::Word => {
            sink.feature(bucket(5, token.stem, 0, 0));
            sink.feature(bucket(6, token.stem, past[0].stem, 0));
            for piece in text.as_bytes().get(token.start..token.end).unwrap_or_default().windows(PIECE) {
                let piece = piece.iter().fold(0u64, |piece, &byte| piece << 8 | u64::from(byte));
                sink.feature(bucket(8, piece, 0, 0));
            }
        }
        Sort::Number | Sort::Line => sink.feature(bucket(6, token.stem, past[0].stem, 0)),
    }
}

#[inline]
fn idea(idea: u64, index: usize, ideas: &mut [(u64, usize); PAIRED], sink: &mut impl Sink) {
    sink.feature(bucket(10, idea, 0, 0));
    for (depth, &(before, at)) in ideas.iter().enumerate() {
        if before == 0 || index - at > REACH {
            break;
        }
        if before != idea {
            sink.feature(bucket(11, idea, before, u64::from(index - at > 4)));
        }
        if depth == 0 && ideas[1].0 != 0 && index - ideas[1].1 <= REACH {
            sink.feature(bucket(12, idea, before, ideas[1].0));
        }
    }
    ideas.rotate_right(1);
    ideas[0] = (idea, index);
}
