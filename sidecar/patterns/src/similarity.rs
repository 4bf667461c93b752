//! How alike two windows are.

use rapidfuzz::distance::lcs_seq;

/// `2·LCS(a, b) / (|a| + |b|)`: 1 for equal sequences, 0 for sequences without a common code.
/// Two empty sequences are equal.
pub fn lcs_similarity(a: &[u32], b: &[u32]) -> f64 {
    if a.is_empty() && b.is_empty() {
        return 1.0;
    }
    let common = lcs_seq::similarity(a.iter().copied(), b.iter().copied());
    2.0 * common as f64 / (a.len() + b.len()) as f64
}

/// Upper bound of [`lcs_similarity`] from the lengths alone.
pub fn length_bound(a: usize, b: usize) -> f64 {
    if a + b == 0 {
        1.0
    } else {
        2.0 * a.min(b) as f64 / (a + b) as f64
    }
}

/// One sequence prepared for comparison with many: the same values as [`lcs_similarity`].
pub struct Comparator {
    length: usize,
    prepared: lcs_seq::BatchComparator<u32>,
}

impl Comparator {
    pub fn new(codes: &[u32]) -> Self {
        Comparator {
            length: codes.len(),
            prepared: lcs_seq::BatchComparator::new(codes.iter().copied()),
        }
    }

    pub fn similarity(&self, other: &[u32]) -> f64 {
        if self.length == 0 && other.is_empty() {
            return 1.0;
        }
        let common = self.prepared.similarity(other.iter().copied());
        2.0 * common as f64 / (self.length + other.len()) as f64
    }

    /// Upper bound of the similarity with a sequence of this length.
    pub fn bound(&self, length: usize) -> f64 {
        length_bound(self.length, length)
    }
}

impl std::fmt::Debug for Comparator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Comparator")
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The textbook table, independent of the library.
    fn lcs_by_table(a: &[u32], b: &[u32]) -> usize {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                table[i + 1][j + 1] = if x == y {
                    table[i][j] + 1
                } else {
                    table[i][j + 1].max(table[i + 1][j])
                };
            }
        }
        table[a.len()][b.len()]
    }

    fn window() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(
            prop_oneof![0..8u32, 60_000u32..60_004, Just(u32::MAX)],
            0..70,
        )
    }

    proptest! {
        #[test]
        fn agrees_with_the_table(a in window(), b in window()) {
            let expected = if a.is_empty() && b.is_empty() {
                1.0
            } else {
                2.0 * lcs_by_table(&a, &b) as f64 / (a.len() + b.len()) as f64
            };
            prop_assert_eq!(lcs_similarity(&a, &b), expected);
            prop_assert_eq!(Comparator::new(&a).similarity(&b), expected);
            prop_assert!(expected <= length_bound(a.len(), b.len()));
        }

        #[test]
        fn is_symmetric_and_one_only_for_equals(a in window(), b in window()) {
            prop_assert_eq!(lcs_similarity(&a, &b), lcs_similarity(&b, &a));
            prop_assert_eq!(lcs_similarity(&a, &b) == 1.0, a == b);
        }
    }
}
