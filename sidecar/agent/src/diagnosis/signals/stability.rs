//! The autoencoder's view, over several intervals, and single values of profiles that are far off for
//! long: a server that syncs after every write does nothing else differently.

use std::collections::BTreeMap;

use crate::diagnosis::observation::Stray;
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
/// A value is far off for so long: it shows a change together with others, and by itself.
const OFF_LASTS: (Nanos, Nanos) = (4 * SECOND, 12 * SECOND);

#[derive(Debug, Default)]
pub(crate) struct Stability {
    below: BTreeMap<ContainerIndex, Below>,
}

#[derive(Clone, Debug)]
struct Below {
    limit_since: Option<Nanos>,
    far_since: Option<Nanos>,
    last: f64,
    /// What is far off, and since when.
    astray: Option<(String, Nanos)>,
}

impl Stability {
    pub(crate) fn observe(
        &mut self,
        container: ContainerIndex,
        at_ns: Nanos,
        stability: f64,
        strays: &[Stray],
    ) -> Vec<Signal> {
        let below = self.below.entry(container).or_insert(Below {
            limit_since: None,
            far_since: None,
            last: 1.0,
            astray: None,
        });
        below.last = stability;
        below.limit_since = (stability < LIMIT).then(|| below.limit_since.unwrap_or(at_ns));
        below.far_since = (stability < FAR).then(|| below.far_since.unwrap_or(at_ns));
        let astray = below.astray(container, at_ns, strays);
        let unstable = below.unstable(container, at_ns, strays);
        unstable.into_iter().chain(astray).collect()
    }

    pub(crate) fn last(&self, container: ContainerIndex) -> Option<f64> {
        self.below.get(&container).map(|below| below.last)
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        if let Some(below) = self.below.get_mut(&container) {
            below.limit_since = None;
            below.far_since = None;
            below.astray = None;
        }
    }
}

impl Below {
    fn unstable(
        &self,
        container: ContainerIndex,
        at_ns: Nanos,
        strays: &[Stray],
    ) -> Option<Signal> {
        let since = self.limit_since?;
        let lasted = |since: Nanos| at_ns.saturating_sub(since);
        let far = self
            .far_since
            .is_some_and(|since| lasted(since) >= FAR_LASTS);
        let (standing, weight) = if far {
            (Standing::Opens, 5.0)
        } else if lasted(since) >= LASTS {
            (Standing::Symptom, 3.0)
        } else {
            return None;
        };
        let normal = Normal::Share {
            calibrated: 1.0,
            now: self.last,
        };
        let signal = Signal::at(place(container, since, at_ns), Kind::Unstable, "stability");
        let named = signal
            .against(normal)
            .about(strays.first().map(Stray::to_string));
        Some(named.standing(standing, weight))
    }

    fn astray(
        &mut self,
        container: ContainerIndex,
        at_ns: Nanos,
        strays: &[Stray],
    ) -> Option<Signal> {
        let mut far = strays.iter().filter(|stray| stray.is_far_off());
        let known = self.astray.take();
        let known = known.filter(|(name, _)| far.clone().any(|stray| stray.name == *name));
        self.astray = known.or_else(|| Some((far.next()?.name.clone(), at_ns)));
        let (name, since) = self.astray.as_ref()?;
        let deviations = strays.iter().find(|stray| stray.name == *name)?.deviations;
        let lasted = at_ns.saturating_sub(*since);
        let (standing, weight) = match lasted {
            lasted if lasted >= OFF_LASTS.1 => (Standing::Opens, 9.0),
            lasted if lasted >= OFF_LASTS.0 => (Standing::Symptom, 4.0),
            _ => return None,
        };
        let signal = Signal::at(place(container, *since, at_ns), Kind::Astray, "profile");
        let normal = Normal::Deviations(f64::from(deviations));
        let named = signal.against(normal).about(Some(name.clone()));
        Some(named.standing(standing, weight))
    }
}

fn place(container: ContainerIndex, start_ns: Nanos, end_ns: Nanos) -> Place {
    Place {
        container,
        pid: 0,
        tid: 0,
        fd: -1,
        start_ns,
        end_ns,
    }
}
