//! What containers used from one look to the next.

use std::collections::BTreeMap;

use stethos_patterns::baseline::Used;

use crate::record::{ContainerIndex, ContainerResources};
use crate::sequential::SECOND;

/// Containers that are followed.
const CONTAINERS: usize = 1024;
/// Looks further apart say nothing about a second.
const APART: u64 = 5 * SECOND;

/// Takes differences of what is told since the start.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    last: BTreeMap<ContainerIndex, ContainerResources>,
}

impl Meter {
    /// What was used since the look before; none for the first one. Where a limit was set or
    /// replaced, its counts may begin anew: such a second says nothing about it.
    pub(crate) fn used(&mut self, now: &ContainerResources) -> Option<Used> {
        let full = self.last.len() >= CONTAINERS;
        if full && !self.last.contains_key(&now.container) {
            return None;
        }
        let before = self.last.insert(now.container, *now)?;
        let apart = now.at_ns.checked_sub(before.at_ns)?;
        if apart == 0 || apart > APART {
            return None;
        }
        let counts = now.throttling.zip(before.throttling);
        Some(Used {
            from_ns: before.at_ns,
            to_ns: now.at_ns,
            ran_ns: now.ran_ns.saturating_sub(before.ran_ns),
            ready_ns: now
                .ready_ns
                .map(|ready| ready.saturating_sub(before.ready_ns.unwrap_or(0))),
            throttling: counts.and_then(|(now, before)| {
                Some((
                    now.periods.checked_sub(before.periods)?,
                    now.throttled.checked_sub(before.throttled)?,
                    now.throttled_ns.checked_sub(before.throttled_ns)?,
                ))
            }),
            memory: now.memory.map(|memory| memory.anonymous),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{MemoryUse, Throttling};

    fn look(second: u64, periods: u64) -> ContainerResources {
        ContainerResources {
            at_ns: second * SECOND,
            container: 3,
            ran_ns: second * 100,
            ready_ns: Some(second * 10),
            throttling: Some(Throttling {
                periods,
                throttled: periods / 2,
                throttled_ns: periods * 7,
            }),
            memory: Some(MemoryUse {
                anonymous: 4096,
                limit: None,
            }),
        }
    }

    #[test]
    fn differences_are_taken_from_look_to_look() {
        let mut meter = Meter::default();
        assert_eq!(meter.used(&look(1, 10)), None);
        let used = Used {
            from_ns: SECOND,
            to_ns: 2 * SECOND,
            ran_ns: 100,
            ready_ns: Some(10),
            throttling: Some((10, 5, 70)),
            memory: Some(4096),
        };
        assert_eq!(meter.used(&look(2, 20)), Some(used));
        // Counts that began anew; a look that came late.
        let anew = meter.used(&look(3, 0)).map(|used| used.throttling);
        assert_eq!(anew, Some(None));
        assert_eq!(meter.used(&look(30, 10)), None);
    }
}
