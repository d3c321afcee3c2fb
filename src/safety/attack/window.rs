//! Which stretch of a text looks most like an attack.
//!
//! The sum of a stretch is the difference of two running sums, so every window at every place costs the same few additions
//! and an injected sentence counts the same in eight thousand tokens of prose as alone.

use std::sync::LazyLock;

/// Lengths of windows in tokens: a long sentence, and a paragraph.
pub const LENGTHS: [usize; 2] = [24, 96];
/// How many sentences in a row make a window of their own.
const SENTENCES: usize = 6;

/// Keeps one token from being a verdict.
const DAMPING: f32 = 16.0;

/// How long a text is that the gate chose from; a short one, which is read whole, is of no length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Extent {
    /// Its words.
    pub words: usize,
    /// The words of what was opened: each of them is a chance to be wrong.
    pub opened: usize,
}

/// How much higher the strongest window has to be, by head, in raw sums: how many words are few, what is asked for each
/// e-fold of them, and how much at most.
const GROWTH: [(f32, f32, f32); 2] = [(150.0, 0.35, 1.0), (200.0, 1.3, 4.4)];

/// How much higher the strongest window of a longer text has to be: the maximum of many windows is high by chance, and grows
/// with the logarithm of their number. Sentences that are put into documents are the injection head's: it counts only the
/// words that the gate opened, few in a manual and many in a hundred requests one after another. A jailbreak of its own
/// length is far above the bar in any text.
pub fn allowance(head: usize, extent: Extent) -> f32 {
    let (few, growth, most) = GROWTH[head];
    let count = [extent.opened, extent.words][head];
    (growth * (count as f32 / few).max(1.0).ln()).min(most)
}

/// How many words about attacks make the most of a difference.
const TOLD: usize = 3;
/// How far from a window they may stand, in tokens.
const NEAR: usize = 48;
/// How much lower the sum of a window is taken to be among them.
const MENTION: f32 = 1.0;

/// How much lower a window has to be taken that stands among words about attacks, which are at these tokens: who writes
/// about attacks names them, and says who makes them and what they do.
pub fn mention(window: &Window, talk: impl Iterator<Item = usize>) -> f32 {
    let near = window.from.saturating_sub(NEAR)..window.to + NEAR;
    MENTION * talk.filter(|token| near.contains(token)).take(TOLD).count() as f32 / TOLD as f32
}

/// A stretch of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first token.
    pub from: usize,
    /// One after the last.
    pub to: usize,
    /// Which of [`LENGTHS`] it was cut by; sentences count as paragraphs, as a text of one sentence does.
    pub scale: usize,
}

impl Window {
    /// What a sum over the window is divided by.
    #[inline]
    pub fn norm(&self) -> f32 {
        NORMS.get(self.to - self.from).copied().unwrap_or_else(|| norm(self.to - self.from))
    }
}

/// What the sum over so many tokens is divided by.
fn norm(tokens: usize) -> f32 {
    1.0 / (tokens as f32 + DAMPING).sqrt()
}

/// Worked out once for all lengths that windows have.
static NORMS: LazyLock<[f32; LENGTHS[LENGTHS.len() - 1] + 1]> = LazyLock::new(|| std::array::from_fn(norm));

/// The windows of a text of so many tokens: of either length, a quarter of it apart, and up to three sentences in a row,
/// so that a sentence weighs the same wherever it stands. `breaks` are the tokens that sentences begin with.
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
