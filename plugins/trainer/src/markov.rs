//! A variable-order Markov model with Witten–Bell smoothing (Witten & Bell 1991): the simple
//! model that the GRU must beat.
//!
//! `P(t | c) = (n(c, t) + d(c)·P(t | c')) / (n(c) + d(c))` with `n` counts, `d(c)` the number of
//! distinct tokens after context `c`, `c'` the context without its oldest token, and `1/V`
//! below the empty context. The window's pattern stands before its first token, so that the
//! model knows as much as the GRU does.

use std::collections::HashMap;

use crate::corpus::Sequence;

/// First symbol of pattern contexts; token ids are below.
const PATTERNS: u32 = 1 << 16;
const NO_PATTERN: u32 = u32::MAX;

/// Counts of all contexts up to an order.
#[derive(Debug)]
pub struct Markov {
    vocabulary: usize,
    order: usize,
    contexts: HashMap<Vec<u32>, Followers>,
}

#[derive(Debug, Default)]
struct Followers {
    total: u64,
    counts: HashMap<u32, u64>,
}

impl Markov {
    /// Counts every sequence as often as it came. `vocabulary` is the number of ids.
    pub fn new(sequences: &[Sequence], vocabulary: usize, order: usize) -> Self {
        let mut contexts: HashMap<Vec<u32>, Followers> = HashMap::new();
        for sequence in sequences {
            let symbols = symbols(sequence);
            for place in 1..symbols.len() {
                for length in 0..=order.min(place) {
                    let context = &symbols[place - length..place];
                    if !contexts.contains_key(context) {
                        contexts.insert(context.to_vec(), Followers::default());
                    }
                    if let Some(followers) = contexts.get_mut(context) {
                        followers.total += sequence.count;
                        *followers.counts.entry(symbols[place]).or_default() += sequence.count;
                    }
                }
            }
        }
        Markov {
            vocabulary,
            order,
            contexts,
        }
    }

    /// Mean of `-ln P` over all tokens of all sequences with contexts of at most `order` tokens,
    /// in nats; 0 without tokens.
    pub fn loss(&self, sequences: &[Sequence], order: usize) -> f64 {
        let (mut sum, mut tokens) = (0.0, 0u64);
        for sequence in sequences {
            let surprises = self.surprises(sequence, order);
            let surprise: f64 = surprises.iter().copied().map(f64::from).sum();
            sum += surprise * sequence.count as f64;
            tokens += sequence.ids.len() as u64 * sequence.count;
        }
        if tokens == 0 {
            0.0
        } else {
            sum / tokens as f64
        }
    }

    /// `-ln P` of every token, in nats, with contexts of at most `order` tokens.
    pub fn surprises(&self, sequence: &Sequence, order: usize) -> Vec<f32> {
        let symbols = symbols(sequence);
        let surprise = |place: usize| {
            let probability = self.probability(&symbols[..place], symbols[place], order);
            -probability.ln() as f32
        };
        (1..symbols.len()).map(surprise).collect()
    }

    fn probability(&self, before: &[u32], token: u32, order: usize) -> f64 {
        let mut probability = 1.0 / self.vocabulary as f64;
        for length in 0..=order.min(self.order).min(before.len()) {
            let Some(followers) = self.contexts.get(&before[before.len() - length..]) else {
                break;
            };
            let count = followers.counts.get(&token).copied().unwrap_or(0) as f64;
            let distinct = followers.counts.len() as f64;
            probability = (count + distinct * probability) / (followers.total as f64 + distinct);
        }
        probability
    }
}

fn symbols(sequence: &Sequence) -> Vec<u32> {
    let pattern = sequence
        .pattern
        .map_or(NO_PATTERN, |p| PATTERNS.saturating_add(p as u32));
    std::iter::once(pattern)
        .chain(sequence.ids.iter().map(|&id| u32::from(id)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(ids: &[u16], count: u64) -> Sequence {
        Sequence {
            ids: ids.to_vec(),
            pattern: Some(0),
            count,
        }
    }

    #[test]
    fn probabilities_sum_to_one() {
        let model = Markov::new(&[sequence(&[2, 3, 2, 4], 3), sequence(&[3, 3, 5], 1)], 6, 3);
        for before in [
            vec![PATTERNS],
            vec![PATTERNS, 2],
            vec![PATTERNS, 2, 3, 2],
            vec![9, 9],
        ] {
            let sum: f64 = (0..6)
                .map(|token| model.probability(&before, token, 3))
                .sum();
            assert!((sum - 1.0).abs() < 1e-12, "{before:?}: {sum}");
        }
    }

    #[test]
    fn by_hand() {
        // After 2 comes 3 twice and 4 once; alone: 2, 3, 4 three, two and one times of six.
        let model = Markov::new(&[sequence(&[2, 3], 2), sequence(&[2, 4], 1)], 5, 1);
        let alone = (2.0 + 3.0 * (1.0 / 5.0)) / (6.0 + 3.0);
        let after_two = (2.0 + 2.0 * alone) / (3.0 + 2.0);
        assert!((model.probability(&[PATTERNS, 2], 3, 1) - after_two).abs() < 1e-12);
    }

    #[test]
    fn longer_contexts_tell_apart_what_shorter_ones_cannot() {
        let sequences = [
            sequence(&[2, 9, 9, 9, 9, 4], 50),
            sequence(&[3, 9, 9, 9, 9, 5], 50),
        ];
        let model = Markov::new(&sequences, 10, 8);
        assert!(model.loss(&sequences, 8) + 0.05 < model.loss(&sequences, 3));
    }
}
