//! One pattern: medoid, sample of distinct windows, and how often it comes.

use super::{ClusterConfig, FrozenPattern};
use crate::similarity::{Comparator, lcs_similarity};

/// New distinct windows between two elections of the medoid, once the sample is full.
const ELECTION_INTERVAL: u64 = 64;

/// A cluster of windows that do the same kind of work.
#[derive(Debug)]
pub struct Pattern {
    id: u32,
    windows: u64,
    /// Distinct windows taken (a repeat that was forgotten counts again).
    distinct: u64,
    /// Decayed count of windows at `mass_since`.
    mass: f64,
    mass_since: u64,
    sample: Vec<Sampled>,
    medoid: usize,
    comparator: Comparator,
    /// Counts changes of the medoid.
    version: u32,
    next_election: u64,
    random: u64,
}

#[derive(Debug)]
struct Sampled {
    hash: u64,
    codes: Vec<u32>,
    count: u64,
}

impl Pattern {
    pub(super) fn found(id: u32, hash: u64, codes: &[u32], now: u64) -> Self {
        Pattern {
            id,
            windows: 1,
            distinct: 1,
            mass: 1.0,
            mass_since: now,
            sample: vec![Sampled {
                hash,
                codes: codes.to_vec(),
                count: 1,
            }],
            medoid: 0,
            comparator: Comparator::new(codes),
            version: 0,
            next_election: 4,
            random: u64::from(id),
        }
    }

    /// Never reused within one [`super::OnlineClusters`].
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The window that stands for the pattern.
    pub fn medoid(&self) -> &[u32] {
        &self.sample[self.medoid].codes
    }

    /// Windows assigned since the pattern was founded.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// Distinct windows assigned, approximately.
    pub fn distinct(&self) -> u64 {
        self.distinct
    }

    /// Similarity of a window with the medoid.
    pub fn similarity(&self, codes: &[u32]) -> f64 {
        self.comparator.similarity(codes)
    }

    /// The sampled distinct windows and how often each came while sampled.
    pub fn sample(&self) -> impl Iterator<Item = (&[u32], u64)> + '_ {
        self.sample
            .iter()
            .map(|sampled| (sampled.codes.as_slice(), sampled.count))
    }

    /// Sum of the counts in [`Self::sample`].
    pub fn sampled(&self) -> u64 {
        self.sample.iter().map(|sampled| sampled.count).sum()
    }

    pub(super) fn version(&self) -> u32 {
        self.version
    }

    pub(super) fn bound(&self, length: usize) -> f64 {
        self.comparator.bound(length)
    }

    pub(super) fn mass_at(&self, now: u64, half_life: u64) -> f64 {
        let age = now.saturating_sub(self.mass_since) as f64;
        self.mass * (-age / half_life as f64).exp2()
    }

    fn count(&mut self, now: u64, half_life: u64) {
        self.windows += 1;
        self.mass = self.mass_at(now, half_life) + 1.0;
        self.mass_since = now;
    }

    /// A window that is in the cache came again.
    pub(super) fn count_again(&mut self, hash: u64, now: u64, half_life: u64) {
        self.count(now, half_life);
        if let Some(sampled) = self.sample.iter_mut().find(|sampled| sampled.hash == hash) {
            sampled.count += 1;
        }
    }

    /// Takes a window; true when the medoid moved.
    pub(super) fn add(
        &mut self,
        hash: u64,
        codes: &[u32],
        now: u64,
        config: &ClusterConfig,
    ) -> bool {
        self.count(now, config.half_life);
        if let Some(sampled) = self.sample.iter_mut().find(|sampled| sampled.hash == hash) {
            sampled.count += 1;
            return false;
        }
        self.distinct += 1;
        self.keep(
            Sampled {
                hash,
                codes: codes.to_vec(),
                count: 1,
            },
            config.max_sample,
        );
        if self.distinct < self.next_election {
            return false;
        }
        self.next_election = self.distinct + self.distinct.min(ELECTION_INTERVAL);
        self.elect()
    }

    pub(super) fn absorb(&mut self, other: Pattern, now: u64, config: &ClusterConfig) {
        self.mass = self.mass_at(now, config.half_life) + other.mass_at(now, config.half_life);
        self.mass_since = now;
        self.windows += other.windows;
        self.distinct += other.distinct;
        self.next_election += other.distinct;
        for sampled in other.sample {
            self.keep_given(sampled, config.max_sample);
        }
        self.elect();
    }

    /// Reservoir sampling (algorithm R) whose victim is one of the least frequent windows: those
    /// that come often stay. The medoid is never replaced.
    fn keep(&mut self, sampled: Sampled, max_sample: usize) {
        if self.sample.len() < max_sample {
            self.sample.push(sampled);
            return;
        }
        let room = self.sample.len() as u64;
        if self.below(self.distinct.max(room)) < room
            && let Some(victim) = self.least_frequent()
        {
            self.sample[victim] = sampled;
        }
    }

    /// Takes a window that another pattern had sampled; the more frequent ones stay.
    fn keep_given(&mut self, sampled: Sampled, max_sample: usize) {
        if let Some(mine) = self
            .sample
            .iter_mut()
            .find(|mine| mine.hash == sampled.hash)
        {
            mine.count += sampled.count;
        } else if self.sample.len() < max_sample {
            self.sample.push(sampled);
        } else if let Some(victim) = self.least_frequent()
            && self.sample[victim].count < sampled.count
        {
            self.sample[victim] = sampled;
        }
    }

    /// One of the least frequent sampled windows that are not the medoid.
    fn least_frequent(&mut self) -> Option<usize> {
        let start = self.below(self.sample.len() as u64) as usize;
        let others = (start..self.sample.len())
            .chain(0..start)
            .filter(|i| *i != self.medoid);
        others.min_by_key(|index| self.sample[*index].count)
    }

    /// Makes the sampled window that is most similar to the sample the medoid; true when that
    /// is another one than before.
    fn elect(&mut self) -> bool {
        let mut scores = vec![0.0; self.sample.len()];
        for i in 0..self.sample.len() {
            for j in i + 1..self.sample.len() {
                let (a, b) = (&self.sample[i], &self.sample[j]);
                let similarity = lcs_similarity(&a.codes, &b.codes);
                scores[i] += similarity * b.count as f64;
                scores[j] += similarity * a.count as f64;
            }
            scores[i] += self.sample[i].count as f64;
        }
        let mut best = self.medoid;
        for (index, score) in scores.iter().enumerate() {
            if *score > scores[best] {
                best = index;
            }
        }
        if best == self.medoid {
            return false;
        }
        self.medoid = best;
        self.version = self.version.wrapping_add(1);
        self.comparator = Comparator::new(&self.sample[best].codes);
        true
    }

    /// Next number below `bound` of a SplitMix64 sequence that starts at the pattern's id.
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound.max(1)
    }

    pub(super) fn freeze(&self) -> FrozenPattern {
        let sampled = self.sampled().max(1) as f64;
        let similar: f64 = self
            .sample()
            .map(|(codes, count)| self.similarity(codes) * count as f64)
            .sum();
        FrozenPattern {
            id: self.id,
            medoid: self.medoid().to_vec(),
            windows: self.windows,
            distinct: self.distinct,
            mean_similarity: similar / sampled,
        }
    }
}
