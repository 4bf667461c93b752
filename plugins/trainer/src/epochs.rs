//! How many steps are taken, and how long each one's stride is.

use std::time::{Duration, Instant};

/// A number of epochs that shrinks when the time runs out, and a learning rate that falls with
/// a half cosine from `highest` to a fiftieth of it.
#[derive(Debug)]
pub(crate) struct Schedule {
    epochs: usize,
    taken: usize,
    highest: f64,
    started: Instant,
    allowance: Option<Duration>,
}

impl Schedule {
    pub(crate) fn new(epochs: usize, highest: f64, allowance: Option<Duration>) -> Self {
        Schedule {
            epochs: epochs.max(1),
            taken: 0,
            highest,
            started: Instant::now(),
            allowance,
        }
    }

    /// The next epoch's learning rate; none when there is no next epoch.
    pub(crate) fn next(&mut self) -> Option<f64> {
        if let (Some(allowance), taken @ 1..) = (self.allowance, self.taken) {
            let epoch = self.started.elapsed() / u32::try_from(taken).unwrap_or(u32::MAX);
            let fit = allowance.as_secs_f64() / epoch.as_secs_f64().max(1e-9);
            self.epochs = self.epochs.min((fit as usize).max(taken));
        }
        if self.taken >= self.epochs {
            return None;
        }
        let angle = std::f64::consts::PI * self.fraction();
        self.taken += 1;
        Some(self.highest * (0.02 + 0.98 * (1.0 + angle.cos()) / 2.0))
    }

    /// True when all the time is used up.
    pub(crate) fn is_over(&self) -> bool {
        self.allowance
            .is_some_and(|allowance| self.started.elapsed() >= allowance)
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
    }

    /// Share of the epochs begun so far.
    pub(crate) fn fraction(&self) -> f64 {
        self.taken as f64 / self.epochs.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_falls_over_all_epochs() {
        let mut schedule = Schedule::new(10, 1.0, None);
        let rates: Vec<f64> = std::iter::from_fn(|| schedule.next()).collect();
        assert_eq!(rates.len(), 10);
        assert_eq!(rates[0], 1.0);
        assert!(rates.windows(2).all(|pair| pair[1] < pair[0]));
    }

    #[test]
    fn without_time_one_epoch_is_taken() {
        let mut schedule = Schedule::new(1_000_000, 1.0, Some(Duration::ZERO));
        assert_eq!(std::iter::from_fn(|| schedule.next()).count(), 1);
    }
}
