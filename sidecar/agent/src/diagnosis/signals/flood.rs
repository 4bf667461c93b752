//! Many more requests than ever.
//!
//! The rate of answered requests is compared with the learned one, or with half of the learned
//! busiest second where that is more (so that a service with few requests, or with bursts, is not
//! judged by its mean). Five times as many are a normal change of load; the test weighs them
//! against thirteen times, so that more than 8.4 times as many speak for a flood.

use std::collections::BTreeMap;

use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::{Kind, Normal, Place, Signal, Standing};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::{RateTest, SECOND};

/// In multiples of the learned rate.
const NORMAL: f64 = 5.0;
const FLOOD: f64 = 13.0;
const LASTS: Nanos = 4 * SECOND;

#[derive(Debug, Default)]
pub(crate) struct Flood {
    containers: BTreeMap<ContainerIndex, Requests>,
}

#[derive(Debug, Default)]
struct Requests {
    answered: u64,
    since_ns: Nanos,
    pid: u32,
    test: RateTest,
}

impl Flood {
    /// So many requests were answered, by this process where it is known.
    pub(crate) fn answered(&mut self, container: ContainerIndex, pid: Option<u32>, count: u64) {
        let requests = self.containers.entry(container).or_default();
        requests.answered = requests.answered.saturating_add(count);
        requests.pid = pid.unwrap_or(requests.pid);
    }

    /// Judges what was answered since the last time, about a second ago.
    pub(crate) fn judge<'a>(
        &mut self,
        now: Nanos,
        model: impl Fn(ContainerIndex) -> Option<&'a Reference>,
        limit: f64,
    ) -> Vec<Signal> {
        let containers = self.containers.iter_mut();
        containers
            .filter_map(|(container, requests)| {
                requests.second(*container, now, model(*container)?, limit)
            })
            .collect()
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.containers.remove(&container);
    }
}

impl Requests {
    fn second(
        &mut self,
        container: ContainerIndex,
        now: Nanos,
        model: &Reference,
        limit: f64,
    ) -> Option<Signal> {
        let answered = std::mem::take(&mut self.answered);
        let since_ns = std::mem::replace(&mut self.since_ns, now);
        let seconds = now.saturating_sub(since_ns) as f64 / SECOND as f64;
        let (usual, most) = model.requests_per_second()?;
        if since_ns == 0 || seconds == 0.0 {
            return None;
        }
        let base = usual.max(most / 2.0);
        let rates = (NORMAL * base, FLOOD * base);
        let evidence = self.test.observe(since_ns, now, answered, rates);
        let run = self.test.run()?;
        if evidence < limit || run.last_ns < now || now.saturating_sub(run.first_ns) < LASTS {
            return None;
        }
        let place = Place {
            container,
            pid: self.pid,
            tid: self.pid,
            fd: -1,
            start_ns: run.first_ns,
            end_ns: now,
        };
        let normal = Normal::Rate {
            usual,
            most,
            now: answered as f64 / seconds,
        };
        let signal = Signal::at(place, Kind::Flood, "requests:flood").against(normal);
        Some(signal.standing(Standing::Opens, evidence.min(12.0)))
    }
}
