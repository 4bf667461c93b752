//! Threads that are ready to run and do not get a processor, because others have it.
//!
//! How long threads were ready is compared, for the time that they ran, with the seconds of
//! learning. Only what every running container of the pod meets comes from outside; what the pod
//! itself runs more than it did makes its own threads wait, as a limit does: such a second says
//! nothing.

use std::collections::BTreeMap;

use stethos_patterns::baseline::{Resources, Used};

use super::resources::{Judged, MORE_LOAD, standing};
use super::throttling::is_cut;
use crate::diagnosis::signal::{Kind, Normal, Place, Signal, Standing};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::{SECOND, ShareTest};

/// Ready for so many ns for each ms that they ran, at least.
const WAITS: u64 = 4_000_000;
/// In multiples of the longest that seconds of learning had, but for one in twenty.
const LONGER: u64 = 2;
const MOST_SECONDS: f64 = 0.95;
/// What is felt in any case: ready for so many ns for each ms, in multiples of the same, and so many seconds of it.
const HEAVY: u64 = 30_000_000;
const HEAVIER: u64 = 4;
const HEAVY_FOR: u32 = 8;
/// Seconds of learning that say what is usual.
const ENOUGH: u64 = 15;
/// Of the processor's time: what the pod may run more than it did, beside twice as much.
const MORE: f64 = 0.02;
/// Share of seconds in which threads wait so long that is tested against.
const CONTENDED: f64 = 0.8;
const LASTS: Nanos = 5 * SECOND;

#[derive(Debug, Default)]
pub(crate) struct Contention {
    tests: BTreeMap<ContainerIndex, ShareTest>,
    /// Seconds in a row that are felt in any case.
    heavy: BTreeMap<ContainerIndex, u32>,
}

/// A second of one container.
pub(crate) struct Second<'a> {
    pub(crate) container: ContainerIndex,
    pub(crate) used: Used,
    pub(crate) learned: &'a Resources,
    pub(crate) load: f64,
}

impl Second<'_> {
    /// Of the processor's time: now, and in learning.
    fn runs(&self) -> f64 {
        self.used.ran_ns as f64 / (self.used.seconds() * 1e9).max(1.0)
    }

    fn ran(&self) -> f64 {
        self.learned.ran_ns as f64 / self.learned.observed_ns.max(1) as f64
    }

    fn threshold(&self) -> u64 {
        let usual = self.learned.ready.quantile(MOST_SECONDS);
        usual.saturating_mul(LONGER).max(WAITS)
    }

    /// Whatever it answers waits: before it is read, where no call shows it.
    fn is_heavy(&self) -> bool {
        let usual = self.learned.ready.quantile(MOST_SECONDS);
        let ready = self.used.ready_per_ms().unwrap_or(0);
        ready >= usual.saturating_mul(HEAVIER).max(HEAVY)
    }

    /// None where it says nothing.
    fn waits(&self) -> Option<bool> {
        let known = self.learned.ready.count() >= ENOUGH;
        let ready = self.used.ready_per_ms().filter(|_| known)?;
        Some(ready > self.threshold())
    }

    fn is_own_doing(&self) -> bool {
        self.load > MORE_LOAD || is_cut(&self.used)
    }
}

impl Contention {
    /// Judges a second of all containers that have a learned normal.
    pub(crate) fn judge(
        &mut self,
        seconds: &[Second<'_>],
        limit: f64,
    ) -> Vec<(ContainerIndex, Judged)> {
        let runs: f64 = seconds.iter().map(Second::runs).sum();
        let ran: f64 = seconds.iter().map(Second::ran).sum();
        if runs > 2.0 * ran + MORE || seconds.iter().any(Second::is_own_doing) {
            return Vec::new();
        }
        let told = seconds
            .iter()
            .filter_map(|second| Some((second, second.waits()?)));
        let told: Vec<_> = told.collect();
        let all = told.iter().all(|(_, waits)| *waits);
        let judged = told
            .iter()
            .map(|(second, _)| (second.container, self.one(second, all, limit)));
        judged.collect()
    }

    fn one(&mut self, second: &Second<'_>, waits: bool, limit: f64) -> Judged {
        let heavy = self.heavy.entry(second.container).or_default();
        *heavy = match waits && second.is_heavy() {
            true => heavy.saturating_add(1),
            false => 0,
        };
        let (container, learned, used) = (second.container, &second.learned.ready, &second.used);
        let p0 = (2.0 * learned.share_above(second.threshold())).clamp(0.02, 0.3);
        let test = self.tests.entry(container).or_insert_with(ShareTest::new);
        let evidence = test.observe(used.to_ns, waits, p0, CONTENDED);
        let Some(run) = test.run().filter(|_| waits) else {
            return Judged::Normal(Kind::Contended);
        };
        let Some(standing) = standing(evidence, limit) else {
            return Judged::Unclear;
        };
        let start_ns = run.first_ns.min(used.from_ns);
        let lasts = used.to_ns.saturating_sub(start_ns);
        let heavy = self.heavy.get(&container).is_some_and(|n| *n >= HEAVY_FOR);
        let standing = match standing {
            _ if lasts < LASTS => Standing::Symptom,
            Standing::Opens if heavy => Standing::Certain,
            standing => standing,
        };
        let place = Place {
            container,
            pid: 0,
            tid: 0,
            fd: -1,
            start_ns,
            end_ns: used.to_ns,
        };
        let share = |ready: u64| ready as f64 / (ready as f64 + 1e6);
        let normal = Normal::Ready {
            learned: share(learned.quantile(0.5)),
            most: share(learned.quantile(0.95)),
            now: share(used.ready_per_ms().unwrap_or(0)),
        };
        let signal = Signal::at(place, Kind::Contended, "cpu:contention").against(normal);
        Judged::Signal(signal.standing(standing, evidence.min(12.0)))
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.tests.remove(&container);
        self.heavy.remove(&container);
    }
}
