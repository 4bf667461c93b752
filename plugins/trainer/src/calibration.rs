//! Limits from the scores of held-back normal windows.
//!
//! A limit is the score that a share `rate` of normal windows exceeds. Beyond the 90 % quantile
//! the tail is taken for a generalised Pareto distribution (peaks over threshold; moments
//! estimates of Hosking & Wallis 1987), so that a limit does not hang on the highest of a few
//! hundred scores.

use stethos_bundle::{Thresholds, WIDENED};

/// Held-back windows from which on a pattern has a limit of its own.
pub const MIN_WINDOWS: u64 = 200;

/// Share of the scores that makes the tail.
const TAIL: f64 = 0.1;
/// Exceedances from which on the tail's shape is estimated; with fewer it is exponential.
const MIN_SHAPED: f64 = 30.0;
/// Heaviest tail assumed.
const MAX_SHAPE: f64 = 0.5;
/// A limit on reconstruction is at least this multiple of the median error.
const RECONSTRUCTION_FLOOR: f64 = 2.0;
/// And at least what one value adds that is this many of its scales off: profiles of a program that
/// does the same all the time are reconstructed far better than any difference between them matters.
const STRAYS: f64 = 3.0;

/// Scores and how often each came.
pub type Scores = Vec<(f64, u64)>;

/// The score that a share `rate` of the population behind `scores` exceeds; 0 without scores.
pub fn tail_limit(scores: &[(f64, u64)], rate: f64) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: u64 = sorted.iter().map(|(_, count)| count).sum();
    let threshold = quantile(&sorted, total, 1.0 - TAIL);
    let excess = || {
        let above = sorted.iter().filter(move |(score, _)| *score > threshold);
        above.map(move |&(score, count)| (score - threshold, count as f64))
    };
    let exceedances: f64 = excess().map(|(_, count)| count).sum();
    if exceedances == 0.0 {
        return threshold;
    }
    let share = exceedances / total as f64;
    let mean = excess().map(|(x, count)| x * count).sum::<f64>() / exceedances;
    let variance = excess()
        .map(|(x, count)| (x - mean).powi(2) * count)
        .sum::<f64>()
        / exceedances;
    // More exceedances than the rate asks for: the quantile is inside the tail.
    let ratio = (share / rate.max(f64::MIN_POSITIVE)).max(1.0);
    let shape = if exceedances >= MIN_SHAPED && variance > 0.0 {
        (0.5 * (1.0 - mean * mean / variance)).clamp(0.0, MAX_SHAPE)
    } else {
        0.0
    };
    let beyond = if shape > 1e-6 {
        mean * (1.0 - shape) * (ratio.powf(shape) - 1.0) / shape
    } else {
        mean * ratio.ln()
    };
    threshold + beyond
}

fn quantile(sorted: &[(f64, u64)], total: u64, share: f64) -> f64 {
    let rank = share * total as f64;
    let mut below = 0;
    for &(score, count) in sorted {
        below += count;
        if below as f64 >= rank {
            return score;
        }
    }
    sorted.last().map_or(0.0, |(score, _)| *score)
}

/// What limits are made from.
#[derive(Debug)]
pub struct Calibration {
    /// Scores of held-back windows per pattern; the last entry is for windows without one.
    pub windows: Vec<Scores>,
    /// Scores of all held-back windows as if they had no pattern.
    pub without_pattern: Scores,
    /// Reconstruction errors of held-back profiles.
    pub reconstruction: Vec<f64>,
    /// Number of a profile's values.
    pub profile: usize,
    /// Number of vocabulary ids: limits are at least half the surprise of a uniform guess.
    pub vocabulary: usize,
    pub false_alarm_rate: f64,
    pub widened: bool,
}

impl Calibration {
    pub fn thresholds(&self) -> Thresholds {
        let rate = self.false_alarm_rate;
        let widening = if self.widened { WIDENED } else { 1.0 };
        let floor = 0.5 * (self.vocabulary as f64).ln();
        let none = self.windows.len().saturating_sub(1);
        let pooled: Scores = self.windows.iter().flatten().copied().collect();
        let pooled = tail_limit(&pooled, rate);
        let limit = |(pattern, scores): (usize, &Scores)| {
            let windows: u64 = scores.iter().map(|(_, count)| count).sum();
            let limit = if pattern == none {
                tail_limit(&self.without_pattern, rate).max(pooled)
            } else if windows < MIN_WINDOWS {
                scores
                    .iter()
                    .map(|(score, _)| *score)
                    .fold(pooled, f64::max)
            } else {
                tail_limit(scores, rate)
            };
            limit.max(floor) * widening
        };
        let mut errors: Scores = self
            .reconstruction
            .iter()
            .map(|&error| (error, 1))
            .collect();
        errors.sort_by(|a, b| a.0.total_cmp(&b.0));
        let median = quantile(&errors, errors.len() as u64, 0.5);
        let reconstruction = tail_limit(&errors, rate)
            .max(RECONSTRUCTION_FLOOR * median)
            .max(STRAYS.powi(2) / self.profile.max(1) as f64);
        Thresholds {
            false_alarm_rate: rate,
            patterns: self.windows.iter().enumerate().map(limit).collect(),
            reconstruction_median: median,
            reconstruction_limit: reconstruction * widening,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n` quantiles of the exponential distribution with mean 1.
    fn exponential(n: u64) -> Scores {
        (0..n)
            .map(|i| (-((i as f64 + 0.5) / n as f64).ln(), 1))
            .collect()
    }

    #[test]
    fn exponential_tail_is_extrapolated() {
        // Exceeded with probability 1e-4: ln 10 000 = 9.21, the highest of 500 is 6.9.
        let limit = tail_limit(&exponential(500), 1e-4);
        assert!((limit - 9.21).abs() < 0.9, "{limit}");
    }

    #[test]
    fn heavy_tail_gives_a_higher_limit() {
        let heavy: Scores = (0..500)
            .map(|i| (((i as f64 + 0.5) / 500.0).powf(-0.4) - 1.0, 1))
            .collect();
        let true_limit = 1e-4f64.powf(-0.4) - 1.0;
        let limit = tail_limit(&heavy, 1e-4);
        assert!(
            limit > 0.5 * true_limit && limit < 1.5 * true_limit,
            "{limit} {true_limit}"
        );
    }

    #[test]
    fn equal_scores_are_their_own_limit() {
        assert_eq!(tail_limit(&[(0.25, 1000)], 1e-3), 0.25);
        assert_eq!(tail_limit(&[], 1e-3), 0.0);
    }

    fn calibration(widened: bool) -> Calibration {
        Calibration {
            windows: vec![
                exponential(1000),
                vec![(20.0, 1), (0.1, 3)],
                vec![(0.01, 1000)],
                vec![],
            ],
            without_pattern: vec![(0.5, 1000)],
            reconstruction: exponential(100)
                .into_iter()
                .map(|(error, _)| error)
                .collect(),
            profile: 90,
            vocabulary: 40,
            false_alarm_rate: 1e-3,
            widened,
        }
    }

    #[test]
    fn profiles_that_are_all_the_same_may_differ_a_little() {
        let mut same = calibration(false);
        same.reconstruction = vec![6e-6; 100];
        let thresholds = same.thresholds();
        assert!((thresholds.reconstruction_limit - 0.1).abs() < 1e-12);
        assert!(thresholds.stability(7e-3) > 0.9);
        assert!(thresholds.stability(0.2) < 0.5);
    }

    #[test]
    fn limits_per_pattern_pooled_floored_and_widened() {
        let thresholds = calibration(false).thresholds();
        assert!(
            (thresholds.patterns[0] - 6.9).abs() < 0.8,
            "{:?}",
            thresholds.patterns
        );
        assert_eq!(thresholds.patterns[1], 20.0);
        assert_eq!(thresholds.patterns[2], 0.5 * 40f64.ln());
        assert!(thresholds.patterns[3] >= 0.5 * 40f64.ln());
        assert!((thresholds.reconstruction_median - 0.69).abs() < 0.05);
        assert!(thresholds.reconstruction_limit > 4.0);
        let wide = calibration(true).thresholds();
        for (wide, plain) in wide.patterns.iter().zip(&thresholds.patterns) {
            assert_eq!(*wide, plain * WIDENED);
        }
        assert_eq!(
            wide.reconstruction_limit,
            thresholds.reconstruction_limit * WIDENED
        );
    }
}
