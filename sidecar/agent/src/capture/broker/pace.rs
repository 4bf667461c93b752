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
        let pause = Self::pause(self.spent, self.window.elapsed());
        std::thread::sleep(pause);
        if self.window.elapsed() >= Self::WINDOW {
            *self = Self::new();
        }
    }

    /// How long to wait after `spent` of the `passed` time, so that it is the share.
    fn pause(spent: Duration, passed: Duration) -> Duration {
        let within = spent.mul_f64(Self::WINDOW.div_duration_f64(Self::SHARE));
        if spent > Self::SHARE {
            within.max(Self::WINDOW).saturating_sub(passed)
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_an_answer_takes_it_is_the_share_in_the_end() {
        let ms = Duration::from_millis;
        assert_eq!(Pace::pause(ms(200), ms(200)), Duration::ZERO);
        assert_eq!(Pace::pause(ms(400), ms(500)).as_millis(), 833);
        let pause = Pace::pause(ms(3000), ms(3000));
        assert_eq!(pause.as_millis(), 7000);
    }
}
