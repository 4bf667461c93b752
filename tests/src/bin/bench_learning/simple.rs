//! Simple models of sequences, which the GRU has to beat.

use std::collections::{HashMap, HashSet};

/// Sequence time-delay embedding (Forrest et al. 1996; Hofmeyr et al. 1998): the runs of six tokens
/// that came in normal time.
pub(crate) struct Stide(HashSet<[u16; Stide::LENGTH]>);

impl Stide {
    const LENGTH: usize = 6;
    /// Stands before a window's first token.
    const START: u16 = u16::MAX;

    pub(crate) fn new<'a>(windows: impl Iterator<Item = &'a [u16]>) -> Self {
        Self(windows.flat_map(Self::runs).collect())
    }

    /// How many runs of the window never came.
    pub(crate) fn score(&self, ids: &[u16]) -> f64 {
        let strange = Self::runs(ids).filter(|run| !self.0.contains(run));
        strange.count() as f64
    }

    /// The run that ends at each token.
    fn runs(ids: &[u16]) -> impl Iterator<Item = [u16; Self::LENGTH]> + '_ {
        (0..ids.len()).map(move |end| {
            std::array::from_fn(|place| {
                let at = (end + 1 + place).checked_sub(Self::LENGTH);
                at.map_or(Self::START, |at| ids[at])
            })
        })
    }
}

/// How often each call comes in a window, whatever the order: a window is as strange as it is far
/// from the nearest normal one.
pub(crate) struct Bag {
    /// Shares by id.
    bags: Vec<Vec<f32>>,
    vocabulary: usize,
}

impl Bag {
    /// Distinct bags that are kept, the most frequent ones.
    const MOST: usize = 1024;

    pub(crate) fn new<'a>(
        windows: impl Iterator<Item = (&'a [u16], u64)>,
        vocabulary: usize,
    ) -> Self {
        let mut counts: HashMap<Vec<u16>, u64> = HashMap::new();
        for (ids, count) in windows {
            let mut sorted = ids.to_vec();
            sorted.sort_unstable();
            *counts.entry(sorted).or_default() += count;
        }
        let mut counts: Vec<(Vec<u16>, u64)> = counts.into_iter().collect();
        counts.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        let kept = counts.iter().take(Self::MOST);
        Self {
            bags: kept.map(|(ids, _)| shares(ids, vocabulary)).collect(),
            vocabulary,
        }
    }

    /// Half the sum of the differences of shares, 0…1.
    pub(crate) fn score(&self, ids: &[u16]) -> f64 {
        let bag = shares(ids, self.vocabulary);
        let distance = |other: &Vec<f32>| {
            let common = bag.iter().zip(other).map(|(a, b)| a.min(*b));
            1.0 - common.sum::<f32>()
        };
        f64::from(self.bags.iter().map(distance).fold(1.0, f32::min))
    }
}

fn shares(ids: &[u16], vocabulary: usize) -> Vec<f32> {
    let mut shares = vec![0.0; vocabulary];
    for id in ids {
        if let Some(share) = shares.get_mut(usize::from(*id)) {
            *share += 1.0 / ids.len() as f32;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_never_came_are_counted() {
        let stide = Stide::new([&[1, 2, 3, 4][..], &[1, 2, 5]].into_iter());
        assert_eq!(stide.score(&[1, 2, 3, 4]), 0.0);
        assert_eq!(stide.score(&[1, 2, 5]), 0.0);
        // 1 2 | 4: the run that ends at 4 is new.
        assert_eq!(stide.score(&[1, 2, 4]), 1.0);
        assert_eq!(stide.score(&[2, 2]), 2.0);
    }

    #[test]
    fn bags_do_not_know_order() {
        let bag = Bag::new([(&[1, 2, 3, 4][..], 1)].into_iter(), 10);
        assert!(bag.score(&[4, 3, 2, 1]) < 1e-6);
        assert!((bag.score(&[1, 2, 3, 9]) - 0.25).abs() < 1e-6);
        assert_eq!(bag.score(&[9]), 1.0);
    }
}
