//! Windows: the stretches of a text that are scored.
//!
//! The sum of a window is the difference of two running sums, so every window costs the same few additions at any place,
//! and an injected sentence counts the same within eight thousand tokens of prose as alone.

use std::sync::LazyLock;

/// Lengths of windows in tokens: a long sentence, and a paragraph.
pub const LENGTHS: [usize; 2] = [24, 96];
/// Most consecutive sentences that make a window.
const SENTENCES: usize = 6;

/// Keeps a single token from deciding.
const DAMPING: f32 = 16.0;

/// The extent of a text that the gate selected from. A short text, which is read as a whole, has the default extent of
/// zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Number of words in the text.
    pub words: usize,
    /// Number of words in the selected stretches: each is a chance for a false alarm.
    pub opened: usize,
}

/// By head, in raw sums: number of words that need no allowance, allowance per e-fold of them, largest allowance.
const GROWTH: [(f32, f32, f32); 2] = [(150.0, 0.35, 1.0), (200.0, 1.3, 4.4)];

/// How much higher the strongest window of a longer text must be. The maximum of many windows is high by chance, and grows
/// with the logarithm of their number. Sentences inserted into documents concern the injection head, which counts only the
/// words that the gate selected: few in a manual, many in a hundred requests one after another. A complete jailbreak is far
/// above the threshold in any text.
pub fn allowance(head: usize, extent: Extent) -> f32 {
    let (few, growth, most) = GROWTH[head];
    let count = [extent.opened, extent.words][head];
    (growth * (count as f32 / few).max(1.0).ln()).min(most)
}

/// Number of mentions of attacks at which the reduction is largest.
const TOLD: usize = 3;
/// The distance from a window within which mentions count, in tokens.
const NEAR: usize = 48;
/// The largest reduction of a window's sum for mentions.
const MENTION: f32 = 1.0;

/// The reduction of a window's sum for mentions of attacks near it, at the given tokens: texts about attacks name them, and
/// say who makes them and what they do.
pub fn mention(window: &Window, talk: impl Iterator<Item = usize>) -> f32 {
    let near = window.from.saturating_sub(NEAR)..window.to + NEAR;
    MENTION * talk.filter(|token| near.contains(token)).take(TOLD).count() as f32 / TOLD as f32
}

/// A stretch of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its first token.
    pub from: usize,
    /// One past its last token.
    pub to: usize,
    /// The index in [`LENGTHS`] by which it is calibrated; windows of sentences count as paragraphs, as a text of one
    /// sentence does.
    pub scale: usize,
}

impl Window {
    /// The divisor of a sum over the window, as a factor.
    #[inline]
    pub fn norm(&self) -> f32 {
        NORMS.get(self.to - self.from).copied().unwrap_or_else(|| norm(self.to - self.from))
    }
}

/// The divisor of a sum over this many tokens, as a factor.
fn norm(tokens: usize) -> f32 {
    1.0 / (tokens as f32 + DAMPING).sqrt()
}

/// Precomputed for all lengths of windows.
static NORMS: LazyLock<[f32; LENGTHS[LENGTHS.len() - 1] + 1]> = LazyLock::new(|| std::array::from_fn(norm));

/// The windows of a text with this many tokens: of each length, a quarter of it apart; and of consecutive sentences, so
/// that a sentence scores the same wherever it is. `breaks` are the tokens that begin a sentence.
pub fn windows(tokens: usize, breaks: &[u32]) -> impl Iterator<Item = Window> {
    let even = LENGTHS.into_iter().enumerate().flat_map(move |(scale, length)| {
        let step = length / 4;
        let last = tokens.saturating_sub(length);
        let count = if tokens == 0 { 0 } else { last.div_ceil(step) + 1 };
        (0..count).map(move |index| {
            let from = (index * step).min(last);
            Window { from, to: (from + length).min(tokens), scale }
        })
    });
    let sentences = breaks.iter().enumerate().flat_map(move |(index, &from)| {
        let from = from as usize;
        let ends = (1..=SENTENCES).map(move |ahead| breaks.get(index + ahead).map_or(tokens, |&end| end as usize));
        let fitting = ends.filter(move |&to| to > from && to - from <= LENGTHS[LENGTHS.len() - 1]);
        fitting.map(move |to| Window { from, to, scale: LENGTHS.len() - 1 })
    });
    even.chain(sentences)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_in_a_window_of_either_length() {
        for tokens in [1, 23, 24, 25, 95, 96, 97, 1000] {
            for (scale, longest) in LENGTHS.into_iter().enumerate() {
                let mut covered = vec![false; tokens];
                for window in windows(tokens, &[]).filter(|window| window.scale == scale) {
                    assert!(window.to <= tokens && window.to - window.from <= longest);
                    covered[window.from..window.to].fill(true);
                }
                assert!(covered.iter().all(|&covered| covered), "{tokens} tokens, scale {scale}");
            }
        }
        assert_eq!(windows(0, &[]).count(), 0);
    }

    #[test]
    fn only_long_texts_have_to_look_worse_and_the_longer_the_more() {
        for (head, (few, _, most)) in GROWTH.into_iter().enumerate() {
            let of = |times: usize| allowance(head, Extent { words: times * few as usize, opened: times * few as usize });
            assert_eq!((of(0), of(1)), (0.0, 0.0));
            assert!(of(2) > 0.0 && of(5) > of(4));
            assert_eq!(of(1 << 40), most);
        }
        let unopened = Extent { words: 10_000, opened: 0 };
        assert_eq!(allowance(0, unopened), 0.0, "what was not read is no chance to be wrong");
    }

    #[test]
    fn sentences_are_windows_wherever_they_stand() {
        let sentence = |from, to| windows(200, &[0, 90, 101, 140]).any(|window| window.from == from && window.to == to);
        assert!(sentence(90, 101) && sentence(90, 140) && sentence(101, 140) && sentence(140, 200));
        assert!(!sentence(0, 101) && !sentence(90, 200), "longer than a paragraph");
    }
}
