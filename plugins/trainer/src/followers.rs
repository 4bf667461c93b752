//! What comes after each token, in windows of each pattern: what the GRU's logits start from.
//!
//! The counts' logarithms are added to the logits (direct connections; Mikolov et al. 2011), so that the
//! GRU learns what they do not know, and what never came after a token is far less likely than what
//! came seldom, which is hard to learn from the weights of so few tokens. With `n` counts, `d` the number
//! of distinct tokens after a context and `V` the size of the vocabulary (Witten & Bell 1991):
//! `P(t) = (n(t) + d/V) / (n + d)`, `P(t | a) = (n(a, t) + d(a)·P(t)) / (n(a) + d(a))`, and
//! `P(t | p, a)` in the same way from `P(t | a)`, for token `a` and pattern `p`. Before a window's first
//! token stands one that is no token.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Device, Tensor};

use crate::TrainError;
use crate::corpus::Sequence;
use crate::tensors::Named;

/// Rows for tokens in windows of one pattern, the most frequent ones.
const PATTERN_ROWS: usize = 384;

/// Rows of values that are added to the logits.
#[derive(Debug)]
pub struct Followers {
    vocabulary: usize,
    patterns: usize,
    /// `[rows, vocabulary]`; the first row is 0.
    pub(crate) table: Tensor,
    /// Row for each pattern, the last one for none, and token before, the last one for none:
    /// `[patterns + 1, vocabulary + 1]`.
    pub(crate) rows: Tensor,
    index: Vec<u32>,
}

/// Counts after one context.
#[derive(Clone, Debug, Default)]
struct Counts {
    all: u64,
    of: BTreeMap<u16, u64>,
}

impl Counts {
    fn add(&mut self, id: u16, count: u64) {
        self.all += count;
        *self.of.entry(id).or_default() += count;
    }

    /// Probabilities, drawn towards those of a shorter context.
    fn probabilities(&self, shorter: &[f64]) -> Vec<f64> {
        let distinct = self.of.len() as f64;
        let sum = self.all as f64 + distinct;
        let place = |(id, shorter): (usize, &f64)| {
            let count = u16::try_from(id).ok().and_then(|id| self.of.get(&id));
            (count.copied().unwrap_or(0) as f64 + distinct * shorter) / sum
        };
        shorter.iter().enumerate().map(place).collect()
    }
}

impl Followers {
    /// Counts `sequences`, each as often as it came. `vocabulary` and `patterns`: numbers of ids.
    ///
    /// # Errors
    /// The library's.
    pub fn new(
        sequences: &[Sequence],
        vocabulary: usize,
        patterns: usize,
    ) -> Result<Self, TrainError> {
        let none = vocabulary;
        let mut alone = Counts::default();
        let mut after: BTreeMap<usize, Counts> = BTreeMap::new();
        let mut after_in: BTreeMap<(usize, usize), Counts> = BTreeMap::new();
        for sequence in sequences {
            let mut before = none;
            for &id in &sequence.ids {
                alone.add(id, sequence.count);
                after.entry(before).or_default().add(id, sequence.count);
                if let Some(pattern) = sequence.pattern.filter(|pattern| *pattern < patterns) {
                    let counts = after_in.entry((pattern, before)).or_default();
                    counts.add(id, sequence.count);
                }
                before = usize::from(id);
            }
        }
        let even = vec![1.0 / vocabulary.max(1) as f64; vocabulary];
        let alone = alone.probabilities(&even);
        let mut table = vec![0.0; vocabulary];
        let mut index = vec![0u32; (patterns + 1) * (vocabulary + 1)];
        let mut shorter = BTreeMap::new();
        let mut row = |probabilities: &[f64]| {
            table.extend(probabilities.iter().map(|p| p.ln() as f32));
            (table.len() / vocabulary - 1) as u32
        };
        for (&before, counts) in &after {
            let probabilities = counts.probabilities(&alone);
            let number = row(&probabilities);
            for pattern in 0..=patterns {
                index[pattern * (vocabulary + 1) + before] = number;
            }
            shorter.insert(before, probabilities);
        }
        let mut kept: BTreeSet<_> = after_in
            .iter()
            .map(|(context, counts)| (std::cmp::Reverse(counts.all), *context))
            .collect();
        while kept.len() > PATTERN_ROWS {
            kept.pop_last();
        }
        for (_, (pattern, before)) in kept {
            let counts = &after_in[&(pattern, before)];
            let number = row(&counts.probabilities(&shorter[&before]));
            index[pattern * (vocabulary + 1) + before] = number;
        }
        let count = table.len() / vocabulary.max(1);
        let device = &Device::Cpu;
        let rows: Vec<f32> = index.iter().map(|row| *row as f32).collect();
        Ok(Followers {
            vocabulary,
            patterns,
            table: Tensor::from_vec(table, (count, vocabulary), device)?,
            rows: Tensor::from_vec(rows, (patterns + 1, vocabulary + 1), device)?,
            index,
        })
    }

    /// Those of a model whose numbers of ids are known.
    pub(crate) fn read(
        tensors: &Named,
        vocabulary: usize,
        patterns: usize,
    ) -> Result<Self, TrainError> {
        let (count, _) = tensors.matrix("gru.after")?;
        let rows = tensors.get("gru.after.row", &[patterns + 1, vocabulary + 1])?;
        let values = rows.flatten_all()?.to_vec1::<f32>()?;
        Ok(Followers {
            vocabulary,
            patterns,
            table: tensors.get("gru.after", &[count, vocabulary])?,
            rows,
            index: values.into_iter().map(|row| row as u32).collect(),
        })
    }

    /// The row after a token of a window, or before its first one.
    pub(crate) fn row(&self, pattern: u32, before: Option<u32>) -> u32 {
        let pattern = (pattern as usize).min(self.patterns);
        let before = before.map_or(self.vocabulary, |before| before as usize);
        self.index[pattern * (self.vocabulary + 1) + before.min(self.vocabulary)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(ids: &[u16], pattern: Option<usize>, count: u64) -> Sequence {
        Sequence {
            ids: ids.to_vec(),
            pattern,
            count,
        }
    }

    fn probabilities(followers: &Followers, pattern: u32, before: Option<u32>) -> Vec<f64> {
        let row = followers.row(pattern, before) as usize;
        let values = followers.table.to_vec2::<f32>().unwrap();
        values[row].iter().map(|x| f64::from(*x).exp()).collect()
    }

    #[test]
    fn by_hand() {
        // Of six tokens: 2 three times, 3 twice, 4 once. After 2 comes 3 twice and 4 once; in windows
        // of pattern 0 only 3.
        let sequences = [sequence(&[2, 3], Some(0), 2), sequence(&[2, 4], Some(1), 1)];
        let followers = Followers::new(&sequences, 5, 2).unwrap();
        let alone = |count: f64| (count + 3.0 / 5.0) / (6.0 + 3.0);
        let after_two = |count: f64, alone: f64| (count + 2.0 * alone) / (3.0 + 2.0);
        let of_three = after_two(2.0, alone(2.0));
        let of_four = after_two(1.0, alone(1.0));
        let none = probabilities(&followers, 2, Some(2));
        assert!((none[3] - of_three).abs() < 1e-6, "{none:?}");
        assert!((none[4] - of_four).abs() < 1e-6, "{none:?}");
        let first = probabilities(&followers, 0, Some(2));
        assert!((first[3] - (2.0 + of_three) / (2.0 + 1.0)).abs() < 1e-6);
        assert!((first[4] - of_four / (2.0 + 1.0)).abs() < 1e-6);
        for before in [None, Some(2)] {
            let sum: f64 = probabilities(&followers, 1, before).iter().sum();
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        }
    }

    #[test]
    fn after_what_never_came_nothing_is_added() {
        let followers = Followers::new(&[sequence(&[2, 3], None, 2)], 5, 1).unwrap();
        assert_eq!(probabilities(&followers, 0, Some(4)), [1.0; 5]);
        assert_eq!(probabilities(&followers, 7, Some(9)).len(), 5);
    }
}
