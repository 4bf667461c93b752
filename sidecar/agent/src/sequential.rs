//! Sequential tests: how much evidence against "as learned" has come in so far.

use crate::record::Nanos;

pub(crate) const SECOND: Nanos = 1_000_000_000;

/// Observations that come close together share one cause (a scheduling stall makes a hundred
/// exchanges slow at once), so that those of one slice count at most [`SLICE_CAP`] together.
const SLICE: Nanos = SECOND / 4;
/// Nats.
const SLICE_CAP: f64 = 6.0;
/// Evidence is kept up to here, so that a change that ends is forgotten within seconds.
const MAX_EVIDENCE: f64 = 40.0;

/// Page's CUSUM over hits and misses: the log-likelihood ratio of "share of hits is `p1`"
/// against "it is `p0`", restarted when it falls to zero. With limit `h` the mean time between
/// false alarms is at least `e^h` observations (Lorden 1971).
#[derive(Clone, Debug)]
pub(crate) struct ShareTest {
    sum: f64,
    slice: f64,
    slice_start: Nanos,
    run: Option<Run>,
}

/// The hits since the sum last left zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) first_ns: Nanos,
    pub(crate) last_ns: Nanos,
    pub(crate) hits: u64,
    /// Observations in the same time.
    pub(crate) all: u64,
}

impl Run {
    /// Of hits.
    pub(crate) fn share(&self) -> f64 {
        self.hits as f64 / self.all.max(1) as f64
    }
}

impl ShareTest {
    pub(crate) fn new() -> Self {
        ShareTest {
            sum: 0.0,
            slice: 0.0,
            slice_start: 0,
            run: None,
        }
    }

    /// Takes one observation made at `at_ns` and gives the evidence in nats.
    pub(crate) fn observe(&mut self, at_ns: Nanos, hit: bool, p0: f64, p1: f64) -> f64 {
        self.observe_many(at_ns, u64::from(hit), u64::from(!hit), p0, p1)
    }

    /// Takes several at once, made by `at_ns`.
    pub(crate) fn observe_many(
        &mut self,
        at_ns: Nanos,
        hits: u64,
        misses: u64,
        p0: f64,
        p1: f64,
    ) -> f64 {
        if at_ns >= self.slice_start.saturating_add(SLICE) {
            self.sum = self.evidence();
            self.slice = 0.0;
            self.slice_start = at_ns;
            if self.sum == 0.0 {
                self.run = None;
            }
        }
        self.slice += hits as f64 * (p1 / p0).ln() + misses as f64 * ((1.0 - p1) / (1.0 - p0)).ln();
        if hits > 0 {
            let run = self.run.get_or_insert(Run {
                first_ns: at_ns,
                last_ns: at_ns,
                hits: 0,
                all: 0,
            });
            run.hits += hits;
            run.first_ns = run.first_ns.min(at_ns);
            run.last_ns = run.last_ns.max(at_ns);
        }
        if let Some(run) = &mut self.run {
            run.all = run.all.saturating_add(hits).saturating_add(misses);
        }
        self.evidence()
    }

    pub(crate) fn evidence(&self) -> f64 {
        (self.sum + self.slice.clamp(-SLICE_CAP, SLICE_CAP)).clamp(0.0, MAX_EVIDENCE)
    }

    pub(crate) fn run(&self) -> Option<Run> {
        self.run
    }
}

/// Page's CUSUM over counts: the log-likelihood ratio of one rate against another, for counts as
/// Poisson has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct RateTest {
    sum: f64,
    run: Option<Run>,
}

impl RateTest {
    /// Takes what was counted in a span of time, with the rates per second that are normal and that
    /// are tested against, and gives the evidence in nats.
    pub(crate) fn observe(
        &mut self,
        from_ns: Nanos,
        to_ns: Nanos,
        count: u64,
        (normal, other): (f64, f64),
    ) -> f64 {
        let seconds = to_ns.saturating_sub(from_ns) as f64 / SECOND as f64;
        let ratio = count as f64 * (other / normal).ln() - (other - normal) * seconds;
        self.sum = (self.sum + ratio.clamp(-SLICE_CAP, SLICE_CAP)).clamp(0.0, MAX_EVIDENCE);
        if self.sum == 0.0 {
            self.run = None;
        } else if ratio > 0.0 {
            let run = self.run.get_or_insert(Run {
                first_ns: from_ns,
                last_ns: to_ns,
                hits: 0,
                all: 0,
            });
            run.hits += count;
            run.all += count;
            run.last_ns = to_ns;
        }
        self.sum
    }

    pub(crate) fn run(&self) -> Option<Run> {
        self.run
    }
}

/// Limit in nats for each of `tests` sequential tests that observe at most `per_second` times a
/// second, so that all of them together raise at most `per_day` false alarms a day.
pub(crate) fn limit(per_day: f64, tests: f64, per_second: f64) -> f64 {
    (tests * per_second * 86_400.0 / per_day.max(1e-6)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_change_is_found_and_a_burst_is_not() {
        let mut test = ShareTest::new();
        for i in 0..100 {
            test.observe(SECOND + i, true, 0.002, 0.8);
        }
        assert!(test.evidence() <= SLICE_CAP);
        let mut test = ShareTest::new();
        let found = (0..10).find(|i| test.observe(i * SECOND, true, 0.002, 0.8) > 15.0);
        assert_eq!(found, Some(2));
        assert_eq!(test.run().map(|run| run.hits), Some(10).map(|_| 3));
    }

    #[test]
    fn normal_hits_fade() {
        let mut test = ShareTest::new();
        let highest = (0..10_000u64)
            .map(|i| test.observe(i * SECOND / 40, i % 50 == 0, 0.02, 0.8))
            .fold(0.0, f64::max);
        assert!(highest < 10.0, "{highest}");
    }

    #[test]
    fn five_times_as_many_are_normal_and_ten_times_as_many_are_not() {
        let run = |count: u64| {
            let mut test = RateTest::default();
            let seconds = (0..60).map(|i| i * SECOND);
            let evidence = seconds.map(|at| test.observe(at, at + SECOND, count, (100.0, 260.0)));
            evidence.fold(0.0, f64::max)
        };
        assert_eq!(run(100), 0.0);
        assert_eq!(run(160), 0.0);
        assert!(run(200) > 17.0);
    }

    #[test]
    fn limits_follow_the_budget() {
        assert!((limit(1.0, 10.0, 4.0) - 15.06).abs() < 0.01);
        assert!(limit(0.1, 10.0, 4.0) > limit(1.0, 10.0, 4.0));
    }
}
