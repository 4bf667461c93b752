//! A limit of processor time that cuts what was always enough.
//!
//! The share of the periods of the limit that end early is compared with the learned one. A period
//! counts only in a second of which the container stood still for a while, and for much longer than
//! learned. With more calls than were learned, the limit may be reached by the load alone: such a
//! second says nothing.

use std::collections::BTreeMap;

use stethos_patterns::baseline::{Resources, Used};

use super::resources::{Judged, MORE_LOAD, standing};
use crate::diagnosis::signal::{Kind, Normal, Place, Signal};
use crate::record::ContainerIndex;
use crate::sequential::ShareTest;

/// Of a second, stood still.
const MATTERS: f64 = 0.05;
/// In multiples of the learned time.
const LONGER: f64 = 3.0;
/// Shares of periods that are taken as learned and that are tested against where there was no limit.
const UNLIMITED: (f64, f64) = (0.02, 0.2);
/// The least and the most that is taken as learned where there was one, and the least that is tested
/// against.
const LEARNED: (f64, f64) = (0.05, 0.6);
const CUT: f64 = 0.25;

#[derive(Debug, Default)]
pub(crate) struct Throttling {
    tests: BTreeMap<ContainerIndex, ShareTest>,
}

/// Of a second, stood still.
pub(crate) fn stood_still(used: &Used) -> f64 {
    let (_, _, throttled_ns) = used.throttling.unwrap_or_default();
    throttled_ns as f64 / (used.seconds() * 1e9).max(1.0)
}

/// True for a second that a limit shaped.
pub(crate) fn is_cut(used: &Used) -> bool {
    stood_still(used) >= MATTERS
}

impl Throttling {
    pub(crate) fn judge(
        &mut self,
        container: ContainerIndex,
        used: &Used,
        learned: &Resources,
        load: f64,
        limit: f64,
    ) -> Judged {
        let Some((periods, throttled, _)) = used.throttling.filter(|_| load <= MORE_LOAD) else {
            return Judged::Unclear;
        };
        let observed = learned.observed_ns.max(1) as f64;
        let usual = learned.throttled_ns as f64 / observed;
        let now = stood_still(used);
        let cut = is_cut(used) && now >= LONGER * usual;
        let hits = if cut { throttled.min(periods) } else { 0 };
        let share = 2.0 * (learned.throttled as f64 + 1.0) / (learned.periods as f64 + 2.0);
        let (p0, p1) = match learned.periods {
            0 => UNLIMITED,
            _ => {
                let p0 = share.clamp(LEARNED.0, LEARNED.1);
                (p0, (2.5 * p0).clamp(CUT, 0.97))
            }
        };
        let test = self.tests.entry(container).or_insert_with(ShareTest::new);
        let evidence = test.observe_many(used.to_ns, hits, periods - hits.min(periods), p0, p1);
        let Some(run) = test.run().filter(|_| cut) else {
            return Judged::Normal(Kind::Throttled);
        };
        let Some(standing) = standing(evidence, limit) else {
            return Judged::Unclear;
        };
        let place = Place {
            container,
            pid: 0,
            tid: 0,
            fd: -1,
            start_ns: run.first_ns.min(used.from_ns),
            end_ns: used.to_ns,
        };
        let normal = Normal::Throttled {
            learned: learned.throttled as f64 / learned.periods.max(1) as f64,
            now: throttled as f64 / periods.max(1) as f64,
            still_ns: (now * 1e9) as u64,
            ran_ns: (used.ran_ns as f64 / used.seconds()) as u64,
            usual_ns: (learned.ran_ns as f64 * 1e9 / observed) as u64,
        };
        let signal = Signal::at(place, Kind::Throttled, "cpu:throttled").against(normal);
        Judged::Signal(signal.standing(standing, evidence.min(12.0)))
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.tests.remove(&container);
    }
}
