//! When a failed guest is started again, and when no more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Longest wait before a failed guest is started again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Failures further apart than this have nothing to do with each other.
const RECENT: Duration = Duration::from_secs(60);

/// Bounds of what a plugin may get wrong.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Failures in a row.
    pub(super) in_a_row: u32,
    /// Failures and refusals of a minute, whatever went well between them.
    pub(super) in_a_minute: u32,
    /// Wait after the second failure in a row; doubled by each further one.
    pub(super) backoff: Duration,
}

/// The failures of one plugin. Time is an argument.
#[derive(Debug)]
pub(super) struct Health {
    bounds: Bounds,
    in_a_row: u32,
    recent: VecDeque<Instant>,
    retry_at: Option<Instant>,
    quarantined: bool,
}

impl Health {
    pub(super) fn new(bounds: Bounds) -> Self {
        Health {
            bounds: Bounds {
                in_a_row: bounds.in_a_row.max(1),
                in_a_minute: bounds.in_a_minute.max(1),
                ..bounds
            },
            in_a_row: 0,
            recent: VecDeque::new(),
            retry_at: None,
            quarantined: false,
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.in_a_row = 0;
    }

    /// The guest has to be started again.
    pub(super) fn failed(&mut self, now: Instant) {
        self.in_a_row += 1;
        self.quarantined |= self.in_a_row >= self.bounds.in_a_row;
        let wait = match self.in_a_row {
            1 => Duration::ZERO,
            failures => self
                .bounds
                .backoff
                .saturating_mul(1 << (failures - 2).min(16)),
        };
        self.retry_at = Some(now + wait.min(LONGEST_WAIT));
        self.remember(now);
    }

    /// The guest answered with an error of its own.
    pub(super) fn refused(&mut self, now: Instant) {
        self.remember(now);
    }

    fn remember(&mut self, now: Instant) {
        while self
            .recent
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= RECENT)
        {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.quarantined |= self.recent.len() >= self.bounds.in_a_minute as usize;
    }

    pub(super) fn is_quarantined(&self) -> bool {
        self.quarantined
    }

    /// Failures in a row.
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// Failures in a row, or failures and refusals of the last minute where those are more.
    pub(super) fn failures(&self) -> u32 {
        self.in_a_row.max(self.recent.len() as u32)
    }

    /// Time until the guest may be started again; none when it may be now.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        let wait = self.retry_at?.saturating_duration_since(now);
        (!wait.is_zero()).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health::new(Bounds {
            in_a_row: 5,
            in_a_minute: 20,
            backoff: Duration::from_millis(100),
        })
    }

    #[test]
    fn waits_double_and_five_in_a_row_are_the_end() {
        let (mut health, now) = (health(), Instant::now());
        let waits: Vec<_> = (0..4)
            .map(|_| {
                health.failed(now);
                health.wait(now).map_or(0, |wait| wait.as_millis())
            })
            .collect();
        assert_eq!(waits, [0, 100, 200, 400]);
        assert!(!health.is_quarantined());
        health.failed(now);
        assert!(health.is_quarantined());
    }

    #[test]
    fn failures_between_successes_count_within_a_minute() {
        let fails_every = |seconds: u64| {
            let (mut health, start) = (health(), Instant::now());
            (0..200).find(|failure| {
                health.failed(start + Duration::from_secs(seconds * failure));
                health.succeeded();
                health.is_quarantined()
            })
        };
        assert_eq!(fails_every(1), Some(19));
        assert_eq!(fails_every(4), None);
    }

    #[test]
    fn a_guest_that_only_refuses_is_of_no_use() {
        let (mut health, now) = (health(), Instant::now());
        let refusals = (1..).find(|_| {
            health.refused(now);
            health.is_quarantined()
        });
        assert_eq!((refusals, health.wait(now)), (Some(20), None));
    }
}
