//! The autoencoder's view, over several intervals.

use std::collections::BTreeMap;

use crate::diagnosis::signal::{Kind, Normal, Place, Signal, Standing};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::SECOND;

/// Stability at the calibrated limit.
const LIMIT: f64 = 0.5;
/// Far outside, for this long, is a change even when nothing else shows it.
const FAR: f64 = 0.05;
const FAR_LASTS: Nanos = 60 * SECOND;
/// Outside for this long goes with other evidence.
const LASTS: Nanos = 10 * SECOND;

#[derive(Debug, Default)]
pub(crate) struct Stability {
    below: BTreeMap<ContainerIndex, Below>,
}

#[derive(Clone, Copy, Debug)]
struct Below {
    limit_since: Option<Nanos>,
    far_since: Option<Nanos>,
    last: f64,
}

impl Stability {
    pub(crate) fn observe(
        &mut self,
        container: ContainerIndex,
        at_ns: Nanos,
        stability: f64,
    ) -> Option<Signal> {
        let below = self.below.entry(container).or_insert(Below {
            limit_since: None,
            far_since: None,
            last: 1.0,
        });
        below.last = stability;
        below.limit_since = (stability < LIMIT).then(|| below.limit_since.unwrap_or(at_ns));
        below.far_since = (stability < FAR).then(|| below.far_since.unwrap_or(at_ns));
        let since = below.limit_since?;
        let place = Place {
            container,
            pid: 0,
            tid: 0,
            fd: -1,
            start_ns: since,
            end_ns: at_ns,
        };
        let far = below
            .far_since
            .is_some_and(|since| at_ns.saturating_sub(since) >= FAR_LASTS);
        let (standing, weight) = if far {
            (Standing::Opens, 5.0)
        } else if at_ns.saturating_sub(since) >= LASTS {
            (Standing::Symptom, 3.0)
        } else {
            return None;
        };
        let normal = Normal::Share {
            calibrated: 1.0,
            now: stability,
        };
        Some(
            Signal::at(place, Kind::Unstable, "stability")
                .against(normal)
                .standing(standing, weight),
        )
    }

    pub(crate) fn last(&self, container: ContainerIndex) -> Option<f64> {
        self.below.get(&container).map(|below| below.last)
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        if let Some(below) = self.below.get_mut(&container) {
            below.limit_since = None;
            below.far_since = None;
        }
    }
}
