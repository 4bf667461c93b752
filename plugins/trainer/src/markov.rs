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
    contexts: HashMap<Context, Followers>,
    /// How often a symbol came after a context.
    counts: HashMap<(Context, u32), u64>,
}

/// 64 bits of a context; that two of them are one by chance is as good as never.
type Context = u64;

#[derive(Clone, Copy, Debug, Default)]
struct Followers {
    total: u64,
    distinct: u32,
}

impl Markov {
    /// Counts every sequence as often as it came. `vocabulary` is the number of ids.
    pub fn new(sequences: &[Sequence], vocabulary: usize, order: usize) -> Self {
        let mut model = Markov {
            vocabulary,
            order,
            contexts: HashMap::new(),
            counts: HashMap::new(),
        };
        for sequence in sequences {
            let symbols = symbols(sequence);
            for place in 1..symbols.len() {
                for context in contexts(&symbols[..place]).take(order + 1) {
                    let followers = model.contexts.entry(context).or_default();
                    followers.total += sequence.count;
                    let count = model.counts.entry((context, symbols[place])).or_default();
                    followers.distinct += u32::from(*count == 0);
                    *count += sequence.count;
                }
            }
        }
        model
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
        for context in contexts(before).take(order.min(self.order) + 1) {
            let Some(followers) = self.contexts.get(&context) else {
                break;
            };
            let count = self.counts.get(&(context, token)).copied().unwrap_or(0) as f64;
            let distinct = f64::from(followers.distinct);
            probability = (count + distinct * probability) / (followers.total as f64 + distinct);
        }
        probability
    }
}

/// The contexts that end `before`, the empty one first.
fn contexts(before: &[u32]) -> impl Iterator<Item = Context> + '_ {
    const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
    let longer = |context: &mut u64, symbol: &u32| {
        // The finaliser of MurmurHash3.
        let mut mixed = *context ^ u64::from(*symbol).wrapping_mul(SEED);
        mixed = (mixed ^ mixed >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed = (mixed ^ mixed >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        *context = mixed ^ mixed >> 33;
        Some(*context)
    };
    std::iter::once(SEED).chain(before.iter().rev().scan(SEED, longer))
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
