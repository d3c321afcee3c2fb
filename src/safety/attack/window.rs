//! Which stretch of a text looks most like an attack.
//!
//! The sum of a stretch is the difference of two running sums, so every window at every place costs the same few additions
//! and an injected sentence counts the same in eight thousand tokens of prose as alone.

/// Lengths of windows in tokens: a sentence, and a paragraph.
pub const LENGTHS: [usize; 2] = [24, 96];

/// Keeps one token from being a verdict.
const DAMPING: f32 = 16.0;

/// A stretch of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first token.
    pub from: usize,
    /// One after the last.
    pub to: usize,
    /// Which of [`LENGTHS`] it was cut by.
    pub scale: usize,
}

impl Window {
    /// What a sum over the window is divided by.
    #[inline]
    pub fn norm(&self) -> f32 {
        1.0 / ((self.to - self.from) as f32 + DAMPING).sqrt()
    }
}

/// The windows of a text of so many tokens, a quarter of a window apart.
pub fn windows(tokens: usize) -> impl Iterator<Item = Window> {
    LENGTHS.into_iter().enumerate().flat_map(move |(scale, length)| {
        let step = length / 4;
        let last = tokens.saturating_sub(length);
        let count = if tokens == 0 { 0 } else { last.div_ceil(step) + 1 };
        (0..count).map(move |index| {
            let from = (index * step).min(last);
            Window { from, to: (from + length).min(tokens), scale }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_in_a_window_of_either_length() {
        for tokens in [1, 23, 24, 25, 95, 96, 97, 1000] {
            for scale in 0..LENGTHS.len() {
                let mut covered = vec![false; tokens];
                for window in windows(tokens).filter(|window| window.scale == scale) {
                    assert!(window.to <= tokens && window.to - window.from <= LENGTHS[scale]);
                    covered[window.from..window.to].fill(true);
                }
                assert!(covered.iter().all(|&covered| covered), "{tokens} tokens, scale {scale}");
            }
        }
        assert_eq!(windows(0).count(), 0);
    }
}
