//! When a container has been seen enough.

use std::{num::NonZeroUsize, time::Duration};

use stethos_patterns::{
    Window,
    familiarity::{Contexts, GoodTuring},
};

use crate::record::Nanos;

/// Bounds of learning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Learning ends when the unseen mass is below this…
    pub unseen: f64,
    /// …and it has lasted this long…
    pub min_duration: Duration,
    /// …and this many calls were seen.
    pub min_calls: u64,
    /// Learning ends at the latest after this, with widened thresholds.
    pub ceiling: Duration,
}

/// Learning has seen enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ready {
    pub unseen_mass: f64,
    /// The ceiling ended it, not the unseen mass.
    pub widened: bool,
}

/// What a container has shown so far.
#[derive(Clone, Debug)]
pub struct Progress {
    bounds: Bounds,
    /// How long it lasted before `started_ns`.
    before: Duration,
    started_ns: Option<Nanos>,
    block_ns: Nanos,
    calls: u64,
    windows: u64,
    contexts: Contexts,
    unseen: GoodTuring,
}

/// Length of one block of the unseen-mass estimate.
const BLOCK_NS: u64 = 1_000_000_000;
const MAX_STREAMS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);

impl Progress {
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            before: Duration::ZERO,
            started_ns: None,
            block_ns: 0,
            calls: 0,
            windows: 0,
            contexts: Contexts::new(MAX_STREAMS),
            unseen: GoodTuring::new(),
        }
    }

    pub fn on_window(&mut self, window: &Window) {
        self.windows += 1;
        self.calls += window.calls.len() as u64;
        self.started_ns.get_or_insert(window.start_ns());
        for call in &window.calls {
            let context = self.contexts.push(window.stream(), call.token.code());
            self.unseen.observe(context);
        }
    }

    /// Says whether learning ends now.
    pub fn on_tick(&mut self, now_ns: Nanos) -> Option<Ready> {
        let started_ns = self.started_ns?;
        if now_ns.saturating_sub(self.block_ns) >= BLOCK_NS {
            self.block_ns = now_ns;
            self.unseen.advance();
        }
        let lasted = self.before + Duration::from_nanos(now_ns.saturating_sub(started_ns));
        let unseen_mass = self.unseen.unseen_mass();
        let ready = |widened| {
            Some(Ready {
                unseen_mass,
                widened,
            })
        };
        if self.calls < self.bounds.min_calls || lasted < self.bounds.min_duration {
            return None;
        }
        if unseen_mass < self.bounds.unseen {
            ready(false)
        } else if lasted >= self.bounds.ceiling {
            ready(true)
        } else {
            None
        }
    }

    /// Goes on with what was seen earlier, by another process. What was seen since counts as well, but for
    /// the unseen mass, which is estimated on from there.
    pub fn resume(&mut self, earlier: Progress) {
        self.calls += earlier.calls;
        self.windows += earlier.windows;
        self.before += earlier.before;
        self.unseen = earlier.unseen;
    }

    /// The end of what one process saw: the time until the next is none of its own.
    pub fn pause(&mut self, now_ns: Nanos) {
        if let Some(started_ns) = self.started_ns.take() {
            self.before += Duration::from_nanos(now_ns.saturating_sub(started_ns));
        }
        self.contexts = Contexts::new(MAX_STREAMS);
    }

    pub fn unseen_mass(&self) -> f64 {
        self.unseen.unseen_mass()
    }

    pub fn calls(&self) -> u64 {
        self.calls
    }

    pub fn windows(&self) -> u64 {
        self.windows
    }
}

/// Unseen mass at the end of a run of windows, for training from recordings.
pub fn unseen_mass_of(windows: &[Window]) -> f64 {
    let mut contexts = Contexts::new(MAX_STREAMS);
    let mut unseen = GoodTuring::new();
    let mut block_ns = 0;
    for window in windows {
        if window.end_ns().saturating_sub(block_ns) >= BLOCK_NS {
            block_ns = window.end_ns();
            unseen.advance();
        }
        for call in &window.calls {
            unseen.observe(contexts.push(window.stream(), call.token.code()));
        }
    }
    unseen.unseen_mass()
}

#[cfg(test)]
mod tests {
    use stethos_patterns::{Role, Token, WindowCall};

    use super::*;

    const BOUNDS: Bounds = Bounds {
        unseen: 0.01,
        min_duration: Duration::from_secs(5),
        min_calls: 100,
        ceiling: Duration::from_secs(60),
    };

    fn window(second: u64, calls: impl Iterator<Item = u16>) -> Window {
        let calls = calls
            .map(|nr| WindowCall {
                token: Token::new(nr, 0),
                role: Role::None,
                fd: -1,
                ret: 0,
                enter_ns: second * BLOCK_NS,
                duration_ns: 1000,
            })
            .collect();
        Window {
            container: 0,
            pid: 1,
            tid: 1,
            sequence: second,
            weight: 1,
            whole: true,
            calls,
        }
    }

    fn run(next: impl Fn(u64) -> Window, seconds: u64) -> Option<(u64, Ready)> {
        let mut progress = Progress::new(BOUNDS);
        (1..seconds).find_map(|second| {
            progress.on_window(&next(second));
            progress
                .on_tick(second * BLOCK_NS)
                .map(|ready| (second, ready))
        })
    }

    #[test]
    fn repeating_work_is_learned_early() {
        let (second, ready) = run(|s| window(s, (0..60).map(|n| n % 6)), 60).unwrap();
        assert!((5..30).contains(&second), "{second}");
        assert!(!ready.widened && ready.unseen_mass < 0.01);
    }

    #[test]
    fn ever_new_work_is_learned_at_the_ceiling_and_says_so() {
        let fresh = |s: u64| window(s, (0..60).map(move |n| (s * 60 + n) as u16));
        let (second, ready) = run(fresh, 100).unwrap();
        assert!(second >= 60 && ready.widened);
    }

    #[test]
    fn learning_goes_on_where_another_process_was_ended() {
        let work = |second| window(second, (0..60).map(|n| n % 6));
        let (whole, _) = run(work, 60).unwrap();
        let mut earlier = Progress::new(BOUNDS);
        let first = whole - 3;
        for second in 1..=first {
            earlier.on_window(&work(second));
            assert_eq!(earlier.on_tick(second * BLOCK_NS), None);
        }
        earlier.pause(first * BLOCK_NS);
        let mut progress = Progress::new(BOUNDS);
        progress.on_window(&work(1000));
        progress.resume(earlier);
        assert_eq!(progress.calls(), 60 * (first + 1));
        assert_eq!(progress.windows(), first + 1);
        let ready = (1001..1010).find(|second| {
            progress.on_window(&work(*second));
            progress.on_tick(second * BLOCK_NS).is_some()
        });
        assert!(ready.is_some_and(|second| second <= 1005), "{ready:?}");
    }

    #[test]
    fn too_few_calls_are_not_enough() {
        assert_eq!(run(|s| window(s, 0..1), 90), None);
    }
}
