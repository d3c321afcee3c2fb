//! Fits one head: logistic regression over the strongest windows, with adaptive steps, in a fixed random order.

use super::super::features::{BUCKETS, Sink, read};
use super::super::lexicon::{Idea, Lexicon};
use super::super::window::{LENGTHS, Window, mention, windows};
use super::chance::Chance;

/// A text as a list of features.
#[derive(Debug, Clone, Default)]
pub struct Example {
    features: Vec<u32>,
    /// The index of each token's first feature; one more than there are tokens.
    tokens: Vec<u32>,
    /// Tokens that begin a sentence.
    breaks: Vec<u32>,
    /// Tokens that begin a mention of attacks.
    talk: Vec<u32>,
}

impl Sink for Example {
    fn feature(&mut self, bucket: u32) {
        self.features.push(bucket);
    }

    fn idea(&mut self, idea: Idea) {
        if idea == Idea::Talk {
            self.talk.push(self.tokens.len() as u32 - 1);
        }
    }

    fn token(&mut self, _start: usize, ends: bool) {
        self.tokens.push(self.features.len() as u32);
        if ends {
            self.breaks.push(self.tokens.len() as u32 - 1);
        }
    }
}

impl Example {
    /// Extracts the features of a folded text.
    pub fn read(text: &str, lexicon: &Lexicon) -> Self {
        let mut example = Self { tokens: vec![0], breaks: vec![0], ..Self::default() };
        read(text, lexicon, &mut example);
        example
    }

    /// All features, with repetitions.
    pub fn all(&self) -> &[u32] {
        &self.features
    }

    fn features(&self, window: &Window) -> &[u32] {
        &self.features[self.tokens[window.from] as usize..self.tokens[window.to] as usize]
    }

    fn windows(&self) -> impl Iterator<Item = Window> {
        windows(self.len(), &self.breaks)
    }

    fn len(&self) -> usize {
        self.tokens.len() - 1
    }
}

/// The buckets that are worth a weight: those that occur in several clusters. A feature of a single cluster would only be
/// memorised.
#[derive(Debug, Clone)]
pub struct Shared(Vec<bool>);

/// Number of clusters in which a bucket must occur.
const CLUSTERS: u8 = 2;

impl Shared {
    /// Computes the buckets from texts with their cluster numbers.
    pub fn of<F: IntoIterator<Item = u32>>(texts: impl Iterator<Item = (F, u32)>) -> Self {
        let mut seen = vec![(u32::MAX, 0u8); BUCKETS];
        for (buckets, cluster) in texts {
            for bucket in buckets {
                let (last, count) = &mut seen[bucket as usize];
                if *last != cluster {
                    *last = cluster;
                    *count = count.saturating_add(1);
                }
            }
        }
        Self(seen.into_iter().map(|(_, count)| count >= CLUSTERS).collect())
    }

    /// Whether a bucket is worth a weight.
    pub fn has(&self, bucket: u32) -> bool {
        self.0[bucket as usize]
    }
}

/// Parameters of training.
#[derive(Debug, Clone, Copy)]
pub struct Fit {
    /// Number of passes over the examples.
    pub epochs: usize,
    /// Step size.
    pub rate: f32,
    /// Weight decay.
    pub decay: f32,
    /// Seed for the order of examples.
    pub seed: u64,
}

/// A trained head before its weights are rounded.
#[derive(Debug, Clone)]
pub struct Fitted {
    weights: Vec<f32>,
    bias: [f32; LENGTHS.len()],
}

/// Largest weight; keeps the rounding to bytes fine.
const LIMIT: f32 = 3.0;

impl Fitted {
    fn new() -> Self {
        Self { weights: vec![0.0; BUCKETS], bias: [-1.0; LENGTHS.len()] }
    }

    /// The mean of two heads.
    pub fn mean(mut self, other: &Self) -> Self {
        for (value, other) in self.weights.iter_mut().chain(&mut self.bias).zip(other.weights.iter().chain(&other.bias)) {
            *value = (*value + other) / 2.0;
        }
        self
    }

    fn raw(&self, sums: &[f32], window: &Window) -> f32 {
        (sums[window.to] - sums[window.from]) * window.norm() + self.bias[window.scale]
    }

    fn sums(&self, example: &Example, sums: &mut Vec<f32>) {
        sums.clear();
        sums.push(0.0);
        let mut sum = 0.0;
        for token in example.tokens.windows(2) {
            sum += example.features[token[0] as usize..token[1] as usize].iter().map(|&bucket| self.weights[bucket as usize]).sum::<f32>();
            sums.push(sum);
        }
    }

    /// The largest raw sum of any window, reduced for mentions of attacks; minus infinity for a text without tokens.
    pub fn strongest(&self, example: &Example, sums: &mut Vec<f32>) -> f32 {
        self.sums(example, sums);
        let windows = example.windows().map(|window| (self.raw(sums, &window), window));
        let talk = || example.talk.iter().map(|&token| token as usize);
        windows.max_by(|a, b| a.0.total_cmp(&b.0)).map_or(f32::NEG_INFINITY, |(raw, window)| raw - mention(&window, talk()))
    }

    /// Weights rounded to bytes, the value of one step, and the biases.
    pub fn rounded(&self) -> (Vec<i8>, f32, [f32; LENGTHS.len()]) {
        let largest = self.weights.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs())).max(f32::EPSILON);
        let scale = largest / 127.0;
        (self.weights.iter().map(|weight| (weight / scale).round() as i8).collect(), scale, self.bias)
    }
}

/// Trains a head on examples: features, whether it is an attack, and its weight.
pub fn fit(examples: &[(&Example, bool, f32)], shared: &Shared, options: &Fit) -> Fitted {
    let mut now = Fitted::new();
    let mut steps = vec![1e-4f32; BUCKETS];
    let mut bias_steps = [1e-2f32; LENGTHS.len()];
    let mut mean = Fitted { weights: vec![0.0; BUCKETS], bias: [0.0; LENGTHS.len()] };
    let mut chance = Chance::new(options.seed);
    let mut order: Vec<usize> = (0..examples.len()).collect();
    let mut sums = Vec::new();
    let mut averaged = 0.0;
    for epoch in 0..options.epochs {
        chance.shuffle(&mut order);
        for &index in &order {
            let (example, attack, weight) = examples[index];
            if example.len() == 0 {
                continue;
            }
            now.sums(example, &mut sums);
            for window in chosen(&now, example, attack, epoch, &sums, &mut chance).into_iter().flatten() {
                let raw = now.raw(&sums, &window);
                let target = if attack { 1.0 } else { 0.0 };
                let slope = (1.0 / (1.0 + (-raw).exp()) - target) * weight;
                let norm = window.norm();
                for &bucket in example.features(&window) {
                    let bucket = bucket as usize;
                    if !shared.0[bucket] {
                        continue;
                    }
                    let gradient = slope * norm + options.decay * now.weights[bucket];
                    steps[bucket] += gradient * gradient;
                    now.weights[bucket] = (now.weights[bucket] - options.rate * gradient / steps[bucket].sqrt()).clamp(-LIMIT, LIMIT);
                }
                bias_steps[window.scale] += slope * slope;
                now.bias[window.scale] -= options.rate * slope / bias_steps[window.scale].sqrt();
            }
        }
        if epoch * 2 >= options.epochs {
            averaged += 1.0;
            for (mean, weight) in mean.weights.iter_mut().zip(&now.weights) {
                *mean += weight;
            }
            for (mean, bias) in mean.bias.iter_mut().zip(now.bias) {
                *mean += bias;
            }
        }
    }
    for value in mean.weights.iter_mut().chain(&mut mean.bias) {
        *value /= f32::max(averaged, 1.0);
    }
    mean
}

/// The windows to learn from: the strongest of an attack; of other texts the strongest of each length, and a random one.
fn chosen(
    now: &Fitted,
    example: &Example,
    attack: bool,
    epoch: usize,
    sums: &[f32],
    chance: &mut Chance,
) -> [Option<Window>; LENGTHS.len() + 1] {
    let mut best: [Option<(f32, Window)>; LENGTHS.len()] = [None; LENGTHS.len()];
    let mut random = None;
    for (seen, window) in example.windows().enumerate() {
        let raw = now.raw(sums, &window);
        let slot = &mut best[window.scale];
        if slot.is_none_or(|(strongest, _)| raw > strongest) {
            *slot = Some((raw, window));
        }
        if chance.below(seen + 1) == 0 {
            random = Some(window);
        }
    }
    let mut chosen = [None; LENGTHS.len() + 1];
    if attack && epoch == 0 {
        // In the first pass nothing is known, and any paragraph may contain the attack.
        chosen[0] = random;
    } else if attack {
        chosen[0] = best.into_iter().flatten().max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, window)| window);
        chosen[1] = best[LENGTHS.len() - 1].map(|(_, window)| window).filter(|window| Some(*window) != chosen[0]);
    } else {
        for (slot, best) in chosen.iter_mut().zip(best) {
            *slot = best.map(|(_, window)| window);
        }
        chosen[LENGTHS.len()] = random.filter(|window| !chosen.contains(&Some(*window)));
    }
    chosen
}
