//! How much of the broker one sidecar may use.

use std::time::{Duration, Instant};

/// Holds the time that one sidecar takes of the broker under a share of a processor.
pub(super) struct Pace {
    window: Instant,
    spent: Duration,
}

impl Pace {
    const WINDOW: Duration = Duration::from_secs(1);
    const SHARE: Duration = Duration::from_millis(300);

    pub(super) fn new() -> Self {
        Self {
            window: Instant::now(),
            spent: Duration::ZERO,
        }
    }

    /// An answer that took since `began`: waits when it is too much.
    pub(super) fn spent(&mut self, began: Instant) {
        self.spent += began.elapsed();
        let passed = self.window.elapsed();
        if self.spent > Self::SHARE && passed < Self::WINDOW {
            std::thread::sleep(Self::WINDOW.saturating_sub(passed));
        }
        if self.window.elapsed() >= Self::WINDOW {
            *self = Self::new();
        }
    }
}
