//! Durations in bounded memory.

use serde::{Deserialize, Serialize};

/// Everything below goes into bucket 0.
const FIRST_NS: u64 = 1 << FIRST_OCTAVE;
const FIRST_OCTAVE: u32 = 6;
/// log2 of the buckets in one octave.
const SUB_BITS: u32 = 2;
const LAST_BUCKET: usize = ((64 - FIRST_OCTAVE) as usize) << SUB_BITS;

/// Log-linear histogram of durations: four buckets of equal width per octave from 64 ns on, so
/// that a quantile is within 25 % of the exact one (64 ns below that). Merging two gives
/// exactly the histogram of both inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurationHistogram {
    /// Counts from bucket 0 to the highest one in use.
    buckets: Vec<u64>,
    count: u64,
    sum_ns: u64,
    max_ns: u64,
}

fn bucket_of(ns: u64) -> usize {
    if ns < FIRST_NS {
        return 0;
    }
    let octave = ns.ilog2();
    let sub = (ns >> (octave - SUB_BITS)) as usize & ((1 << SUB_BITS) - 1);
    1 + (((octave - FIRST_OCTAVE) as usize) << SUB_BITS) + sub
}

/// Lowest value of a bucket and of the next.
fn bounds(bucket: usize) -> (u64, u64) {
    (lower_bound(bucket), lower_bound(bucket + 1))
}

fn lower_bound(bucket: usize) -> u64 {
    let Some(index) = bucket.checked_sub(1) else {
        return 0;
    };
    if bucket > LAST_BUCKET {
        return u64::MAX;
    }
    let octave = FIRST_OCTAVE + (index >> SUB_BITS) as u32;
    let sub = (index & ((1 << SUB_BITS) - 1)) as u64;
    (1 << octave) + (sub << (octave - SUB_BITS))
}

impl DurationHistogram {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn record(&mut self, ns: u64) {
        self.record_n(ns, 1);
    }

    /// Records the same duration `n` times.
    pub fn record_n(&mut self, ns: u64, n: u64) {
        if n == 0 {
            return;
        }
        let bucket = bucket_of(ns);
        if self.buckets.len() <= bucket {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] = self.buckets[bucket].saturating_add(n);
        self.count = self.count.saturating_add(n);
        self.sum_ns = self.sum_ns.saturating_add(ns.saturating_mul(n));
        self.max_ns = self.max_ns.max(ns);
    }

    pub fn merge(&mut self, other: &DurationHistogram) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count = self.count.saturating_add(other.count);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Mean in ns; 0 when empty.
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum_ns as f64 / self.count as f64
        }
    }

    /// Highest duration recorded, exactly; 0 when empty.
    pub fn max(&self) -> u64 {
        self.max_ns
    }

    /// The duration in ns that a share `q` (0…1) of the recorded ones does not exceed, linear
    /// within its bucket; 0 when empty.
    pub fn quantile(&self, q: f64) -> u64 {
        if self.count == 0 {
            return 0;
        }
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).max(1.0);
        let mut below = 0.0;
        for (bucket, &n) in self.buckets.iter().enumerate() {
            let n = n as f64;
            if n > 0.0 && below + n >= rank {
                let (from, to) = bounds(bucket);
                let to = to.min(self.max_ns.saturating_add(1)).max(from);
                let inside = (rank - below) / n * (to - from) as f64;
                return from.saturating_add(inside as u64).min(self.max_ns);
            }
            below += n;
        }
        self.max_ns
    }

    /// Share (0…1) of recorded durations above `ns`, linear within the bucket that holds it; 0
    /// when empty.
    pub fn share_above(&self, ns: u64) -> f64 {
        if self.count == 0 || ns >= self.max_ns {
            return 0.0;
        }
        let bucket = bucket_of(ns);
        let above: f64 = self
            .buckets
            .iter()
            .skip(bucket + 1)
            .map(|n| *n as f64)
            .sum();
        let here = self.buckets.get(bucket).copied().unwrap_or(0) as f64;
        let (from, to) = bounds(bucket);
        let to = to.min(self.max_ns.saturating_add(1)).max(from + 1);
        let part = to.saturating_sub(ns.saturating_add(1)) as f64 / (to - from) as f64;
        ((above + here * part) / self.count as f64).clamp(0.0, 1.0)
    }

    /// Non-empty buckets: lowest value, lowest value of the next bucket, count.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, u64)> + '_ {
        self.buckets
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
            .map(|(bucket, n)| {
                let (from, to) = bounds(bucket);
                (from, to, *n)
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(durations: &[u64]) -> DurationHistogram {
        let mut histogram = DurationHistogram::new();
        durations.iter().for_each(|ns| histogram.record(*ns));
        histogram
    }

    #[test]
    fn buckets_are_quarters_of_octaves() {
        for (ns, from, to) in [
            (0, 0, 64),
            (63, 0, 64),
            (64, 64, 80),
            (79, 64, 80),
            (80, 80, 96),
            (127, 112, 128),
            (128, 128, 160),
            (1_000_000, 917_504, 1_048_576),
        ] {
            assert_eq!(bounds(bucket_of(ns)), (from, to), "{ns}");
        }
        assert_eq!(bucket_of(u64::MAX), LAST_BUCKET);
        assert_eq!(bounds(LAST_BUCKET).1, u64::MAX);
    }

    #[test]
    fn empty_is_all_zero() {
        let empty = DurationHistogram::new();
        assert_eq!(
            (empty.quantile(0.5), empty.share_above(0), empty.mean()),
            (0, 0.0, 0.0)
        );
    }

    #[test]
    fn a_slow_tail_shows() {
        let mut histogram = DurationHistogram::new();
        histogram.record_n(200_000, 990);
        histogram.record_n(210_000_000, 10);
        assert!((180_000..230_000).contains(&histogram.quantile(0.5)));
        assert!((190_000_000..=210_000_000).contains(&histogram.quantile(0.999)));
        assert_eq!(histogram.quantile(1.0), 210_000_000);
        assert!((histogram.share_above(1_000_000) - 0.01).abs() < 1e-12);
        assert_eq!(histogram.share_above(210_000_000), 0.0);
    }

    #[test]
    fn shares_within_a_bucket_are_linear() {
        let histogram = of(&(1024..1280).collect::<Vec<u64>>());
        for (limit, share) in [
            (1024, 1.0),
            (1087, 0.75),
            (1151, 0.5),
            (1215, 0.25),
            (1279, 0.0),
        ] {
            assert!(
                (histogram.share_above(limit) - share).abs() < 0.01,
                "{limit}"
            );
        }
    }

    #[test]
    fn survives_serialisation() {
        let histogram = of(&[1, 100, 5_000_000_000, u64::MAX]);
        let json = serde_json::to_string(&histogram).unwrap();
        assert_eq!(
            serde_json::from_str::<DurationHistogram>(&json).unwrap(),
            histogram
        );
    }

    fn durations() -> impl Strategy<Value = Vec<u64>> {
        let any_scale = (0..64u32, any::<u64>()).prop_map(|(bits, ns)| ns >> bits);
        prop::collection::vec(any_scale, 1..200)
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_bucket_of_the_exact_ones(
            mut all in durations(), q in 0.0..=1.0f64,
        ) {
            let histogram = of(&all);
            all.sort_unstable();
            let rank = ((q * all.len() as f64).ceil() as usize).clamp(1, all.len());
            let exact = all[rank - 1] as f64;
            let found = histogram.quantile(q) as f64;
            prop_assert!((found - exact).abs() <= 64f64.max(exact / 4.0), "{} {}", found, exact);
        }

        #[test]
        fn shares_above_are_within_a_bucket_of_the_exact_ones(
            all in durations(), bits in 0..64u32, ns in any::<u64>(),
        ) {
            let histogram = of(&all);
            let limit = ns >> bits;
            let (from, to) = bounds(bucket_of(limit));
            let above = |limit: u64| all.iter().filter(|ns| **ns > limit).count() as f64;
            let count = all.len() as f64;
            let found = histogram.share_above(limit);
            let from_bucket_on = all.iter().filter(|ns| **ns >= from).count() as f64;
            prop_assert!(found * count <= from_bucket_on + 1e-6);
            prop_assert!(found * count >= above(to) - 1e-6);
        }

        #[test]
        fn merging_is_recording_both(a in durations(), b in durations()) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            prop_assert_eq!(merged, of(&[a, b].concat()));
        }

        #[test]
        fn buckets_hold_what_falls_into_them(ns in any::<u64>(), bits in 0..64u32) {
            let ns = ns >> bits;
            let (from, to) = bounds(bucket_of(ns));
            prop_assert!(from <= ns && (ns < to || to == u64::MAX));
        }
    }
}
