//! A keyed 128-bit hash of texts, fast enough that recognising a message takes less time than scanning it.
//!
//! Blocks are compressed by NH (sums of products of keyed words, an almost universal family), and the sums by two
//! polynomials over the field of 2⁶¹ − 1. The keys are random and never leave the process, so nobody can construct two
//! texts with one hash: for any two texts the probability is below 2⁻⁵⁵. It is not a cryptographic digest.

use std::hash::{BuildHasher, RandomState};

/// Words in a block of 512 bytes.
const WORDS: usize = 64;
const PRIME: u64 = (1 << 61) - 1;

/// The keys of one process.
#[derive(Debug)]
pub struct Digests {
    words: [u64; WORDS],
    points: [u64; 2],
    mask: [u64; 2],
}

impl Digests {
    /// Fresh random keys.
    pub fn random() -> Self {
        let source = RandomState::new();
        let word = |n: usize| source.hash_one(n as u64);
        Self {
            words: std::array::from_fn(word),
            points: [WORDS, WORDS + 1].map(|n| word(n) % PRIME),
            mask: [WORDS + 2, WORDS + 3].map(word),
        }
    }

    /// The hash of a text, together with the context on which its verdict depends.
    pub fn of(&self, text: &[u8], context: u64) -> u128 {
        let [mut a, mut b] = [context % PRIME, context.rotate_left(32) % PRIME];
        let [p, q] = self.points;
        let mut take = |sum: u128, len: usize| {
            // Three limbs below the prime hold the 128-bit sum and the length.
            for limb in [sum as u64 & ((1 << 60) - 1), (sum >> 60) as u64 & ((1 << 60) - 1), ((sum >> 120) as u64) << 16 | len as u64] {
                a = step(a, p, limb);
                b = step(b, q, limb);
            }
        };
        let mut blocks = text.chunks_exact(WORDS * 8);
        for block in &mut blocks {
            take(self.block(block), WORDS * 8);
        }
        let rest = blocks.remainder();
        let mut last = [0u8; WORDS * 8];
        if let Some(head) = last.get_mut(..rest.len()) {
            head.copy_from_slice(rest);
        }
        // Hashes only as many words as there are, since short texts are common.
        take(self.block(last.get(..rest.len().div_ceil(16) * 16).unwrap_or_default()), rest.len());
        take(text.len() as u128, 1);
        u128::from(a ^ self.mask[0]) << 64 | u128::from(b ^ self.mask[1])
    }

    /// NH of one block whose length is a multiple of 16.
    fn block(&self, bytes: &[u8]) -> u128 {
        let word = |bytes: &[u8]| bytes.first_chunk::<8>().map_or(0, |chunk| u64::from_le_bytes(*chunk));
        let keys = self.words.chunks_exact(2);
        bytes.chunks_exact(16).zip(keys).fold(0u128, |sum, (pair, key)| {
            let (low, high) = pair.split_at(8);
            let [k, l] = key else { return sum };
            sum.wrapping_add(u128::from(word(low).wrapping_add(*k)) * u128::from(word(high).wrapping_add(*l)))
        })
    }
}

/// One step of the evaluation of a polynomial modulo 2⁶¹ − 1.
fn step(value: u64, point: u64, limb: u64) -> u64 {
    let product = u128::from(value) * u128::from(point) + u128::from(limb);
    let folded = (product as u64 & PRIME) as u128 + (product >> 61);
    let folded = folded as u64;
    let folded = (folded & PRIME) + (folded >> 61);
    if folded >= PRIME { folded - PRIME } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_byte_the_length_and_the_context_count() {
        let digests = Digests::random();
        let text = vec![7u8; 1500];
        let mut seen = HashSet::from([digests.of(&text, 0), digests.of(&text, 1)]);
        assert_eq!(seen.len(), 2);
        for at in 0..text.len() {
            let mut other = text.clone();
            other[at] ^= 1;
            assert!(seen.insert(digests.of(&other, 0)), "byte {at}");
        }
        for len in 0..text.len() {
            assert!(seen.insert(digests.of(&text[..len], 0)), "length {len}");
        }
        // A text with trailing zeros differs from the one without.
        assert_ne!(digests.of(b"a", 0), digests.of(b"a\0", 0));
        assert_ne!(digests.of(&[0; 512], 0), digests.of(&[0; 1024], 0));
        assert_eq!(digests.of(&text, 5), digests.of(&text, 5));
        assert_ne!(digests.of(&text, 5), Digests::random().of(&text, 5), "keys differ by process");
    }
}
