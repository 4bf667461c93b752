//! Profiles to learn from: intervals of neighbouring windows.

use std::collections::BTreeMap;

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use stethos_patterns::Window;
use stethos_patterns::profile::{Profile, ProfileBuilder, ProfileLayout};

use crate::corpus::{Corpus, Stretch};

/// Aimed-at length of an interval; hops are a quarter of an interval.
const INTERVAL_SECONDS: f64 = 2.0;
const HOPS: usize = 4;
/// Intervals hold this many times the calls that make a profile worth judging, where there are
/// that many.
const CALLS: f64 = 1.5 * Profile::MIN_CALLS as f64;
/// Most intervals of each side; with fewer, intervals are also resampled.
const MAX_PROFILES: usize = 512;
/// How much more, or less, of a pattern's work there is in a mix that was not seen: a factor of so much
/// is one standard deviation.
const MIX_SPREAD: f64 = 2.2;

/// Profiles of training and held-back intervals, and as many of other mixes of the same windows: under
/// another load, or with other clients, there is more of some patterns and less of others. An interval is as many windows as come in two
/// seconds on average: recordings without times and bursts alike give usable profiles.
pub(crate) struct Profiles {
    pub(crate) training: Vec<Vec<f32>>,
    pub(crate) held_back: Vec<Vec<f32>>,
}

impl Profiles {
    /// At least `minimum` profiles of each side: where there are fewer intervals, windows are
    /// also drawn from them with replacement (bootstrap).
    pub(crate) fn new(
        corpus: &Corpus,
        layout: &ProfileLayout,
        arch: &str,
        minimum: usize,
        random: &mut ChaCha8Rng,
    ) -> Self {
        let calls_per_window = corpus.calls as f64 / corpus.windows.max(1) as f64;
        let by_time = if corpus.seconds > 0.0 {
            corpus.windows as f64 / corpus.seconds * INTERVAL_SECONDS
        } else {
            0.0
        };
        let size = by_time.max(CALLS / calls_per_window.max(1.0)).ceil() as usize;
        let mut sampler = Sampler {
            builder: ProfileBuilder::new(layout.clone(), corpus.vocabulary.clone(), arch),
            size,
            minimum,
            random,
        };
        Profiles {
            training: sampler.sample(&corpus.training_stretches),
            held_back: sampler.sample(&corpus.held_back_stretches),
        }
    }
}

/// One profile of everything that is trained on.
pub(crate) fn of_all(corpus: &Corpus, layout: &ProfileLayout, arch: &str) -> Vec<f32> {
    let vocabulary = corpus.vocabulary.clone();
    let mut builder = ProfileBuilder::new(layout.clone(), vocabulary, arch);
    for (window, pattern) in corpus.training_stretches.iter().flatten() {
        builder.window(window, *pattern);
    }
    builder.finish().values
}

struct Sampler<'a> {
    builder: ProfileBuilder,
    size: usize,
    minimum: usize,
    random: &'a mut ChaCha8Rng,
}

impl Sampler<'_> {
    fn sample(&mut self, stretches: &[Stretch]) -> Vec<Vec<f32>> {
        let mut intervals: Vec<&[(_, _)]> = Vec::new();
        for stretch in stretches {
            let size = self.size.clamp(1, stretch.len().max(1));
            let hop = (size / HOPS).max(1);
            intervals.extend(stretch.windows(size).step_by(hop));
        }
        let step = intervals.len().div_ceil(MAX_PROFILES).max(1);
        let intervals: Vec<_> = intervals.into_iter().step_by(step).collect();
        let mut profiles: Vec<Vec<f32>> = intervals
            .iter()
            .map(|interval| self.profile(interval.iter()))
            .collect();
        let mut turn = 0;
        while profiles.len() < self.minimum && !intervals.is_empty() {
            let interval = intervals[turn % intervals.len()];
            let drawn: Vec<_> = (0..interval.len())
                .map(|_| &interval[self.random.random_range(0..interval.len())])
                .collect();
            profiles.push(self.profile(drawn.into_iter()));
            turn += 1;
        }
        for turn in 0..profiles.len() {
            profiles.push(self.mix(intervals[turn % intervals.len()]));
        }
        profiles
    }

    /// Windows of an interval, those of each pattern more or less often than they came.
    fn mix(&mut self, interval: &[(Window, Option<usize>)]) -> Vec<f32> {
        let mut factors: BTreeMap<Option<usize>, f64> = BTreeMap::new();
        let mut sum = 0.0;
        let mut sums = Vec::with_capacity(interval.len());
        for (_, pattern) in interval {
            let random = &mut *self.random;
            let factor = factors.entry(*pattern).or_insert_with(|| {
                let deviations: f64 = random.sample(StandardNormal);
                MIX_SPREAD.powf(deviations)
            });
            sum += *factor;
            sums.push(sum);
        }
        let drawn: Vec<_> = (0..interval.len())
            .map(|_| {
                let at = self.random.random_range(0.0..sum);
                let place = sums.partition_point(|sum| *sum <= at);
                &interval[place.min(interval.len() - 1)]
            })
            .collect();
        self.profile(drawn.into_iter())
    }

    fn profile<'w>(
        &mut self,
        windows: impl Iterator<Item = &'w (Window, Option<usize>)>,
    ) -> Vec<f32> {
        for (window, pattern) in windows {
            self.builder.window(window, *pattern);
        }
        self.builder.finish().values
    }
}
