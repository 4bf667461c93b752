//! How well scores (higher = stranger) tell faulty from normal, whatever gave them.

use std::collections::HashSet;
use std::hash::Hash;

/// Area under the receiver operating characteristic: the probability that a faulty score is above
/// a normal one, equal scores counting half (Mann & Whitney 1947). None when a side is empty.
pub(crate) fn auc(normal: &[f64], faulty: &[f64]) -> Option<f64> {
    if normal.is_empty() || faulty.is_empty() {
        return None;
    }
    let mut normal = normal.to_vec();
    normal.sort_by(f64::total_cmp);
    let above = |score: &f64| {
        let lower = normal.partition_point(|other| other < score);
        let not_higher = normal.partition_point(|other| other <= score);
        (lower + not_higher) as f64 / 2.0
    };
    let wins: f64 = faulty.iter().map(above).sum();
    Some(wins / (normal.len() * faulty.len()) as f64)
}

/// The lowest of the `normal` scores that at most the share `rate` of them exceeds. None without
/// scores.
pub(crate) fn limit(normal: &[f64], rate: f64) -> Option<f64> {
    let mut sorted = normal.to_vec();
    sorted.sort_by(f64::total_cmp);
    let exceeding = (rate * sorted.len() as f64) as usize;
    let index = sorted.len().checked_sub(exceeding + 1)?;
    sorted.get(index).copied()
}

/// Share of the scores above a limit: of faulty ones the true positives, of normal ones the false
/// ones. None without scores.
pub(crate) fn share_above(scores: &[f64], limit: f64) -> Option<f64> {
    let above = scores.iter().filter(|score| **score > limit).count();
    (!scores.is_empty()).then(|| above as f64 / scores.len() as f64)
}

/// The items without those whose key came before.
pub(crate) fn distinct_by<T, K: Eq + Hash>(
    items: impl IntoIterator<Item = T>,
    key: impl Fn(&T) -> K,
) -> Vec<T> {
    let mut seen = HashSet::new();
    let is_new = |item: &T| seen.insert(key(item));
    items.into_iter().filter(is_new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_is_the_share_of_ordered_pairs_and_half_the_ties() {
        assert_eq!(auc(&[1.0, 2.0], &[3.0, 4.0]), Some(1.0));
        assert_eq!(auc(&[3.0, 4.0], &[1.0, 2.0]), Some(0.0));
        assert_eq!(auc(&[5.0; 7], &[5.0; 3]), Some(0.5));
        // Six pairs: 2 > 1; 2 = 2; 2 < 3; 3 > 1; 3 > 2; 3 = 3.
        assert_eq!(auc(&[1.0, 2.0, 3.0], &[2.0, 3.0]), Some(4.0 / 6.0));
        assert_eq!(auc(&[], &[1.0]), None);
        assert_eq!(auc(&[1.0], &[]), None);
    }

    #[test]
    fn a_limit_lets_the_asked_share_through() {
        let normal: Vec<f64> = (0..200).rev().map(f64::from).collect();
        assert_eq!(limit(&normal, 0.01), Some(197.0));
        assert_eq!(share_above(&normal, 197.0), Some(0.01));
        assert_eq!(limit(&normal, 0.0), Some(199.0));
        assert_eq!(limit(&[], 0.01), None);
    }

    #[test]
    fn true_positives_at_a_false_positive_rate() {
        let normal: Vec<f64> = (0..100).map(f64::from).collect();
        let found = |rate| share_above(&[50.0, 98.5, 99.0, 120.0], limit(&normal, rate)?);
        assert_eq!(found(0.0), Some(0.25));
        assert_eq!(found(0.01), Some(0.75));
        assert_eq!(found(0.5), Some(1.0));
    }

    #[test]
    fn what_came_before_is_left_out() {
        let kept = distinct_by([("a", 1), ("b", 2), ("c", 1)], |item| item.1);
        assert_eq!(kept, [("a", 1), ("b", 2)]);
    }
}
