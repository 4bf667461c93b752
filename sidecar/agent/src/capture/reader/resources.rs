//! What containers use: threads by their slots, the rest as the node tells it.

use std::collections::BTreeMap;

use super::Reader;
use crate::{
    capture::node::{RESOURCES_MAX, ResourceFacts},
    record::{ContainerIndex, ContainerResources, Nanos, Record},
};

/// Time that threads ran, and that they were ready to run and did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Times {
    ran_ns: u64,
    ready_ns: u64,
}

/// Times by container, since capture began.
#[derive(Default)]
pub(super) struct UsedTimes {
    told: BTreeMap<ContainerIndex, Times>,
    /// Of threads whose slots were in maps that were replaced.
    before: BTreeMap<ContainerIndex, Times>,
}

impl UsedTimes {
    /// What follows is counted from 0 on.
    pub(super) fn begin_again(&mut self) {
        self.before = self.told.clone();
    }

    /// Takes what is counted now and gives the times to tell. A thread that ends between the two looks
    /// at slots and accounts is in neither: times never go back.
    fn tell(&mut self, container: ContainerIndex, counted: Times) -> Times {
        let before = self.before.get(&container).copied().unwrap_or_default();
        let told = self.told.entry(container).or_default();
        told.ran_ns = told
            .ran_ns
            .max(before.ran_ns.saturating_add(counted.ran_ns));
        told.ready_ns = told
            .ready_ns
            .max(before.ready_ns.saturating_add(counted.ready_ns));
        *told
    }
}

impl Reader {
    /// Tells of every container that has threads.
    pub(super) fn tell_resources(&mut self, now: Nanos, out: &mut Vec<Record>) {
        let mut threads: BTreeMap<u64, Times> = BTreeMap::new();
        for slot in self.pod.slots.taken() {
            let (header, polled) = (slot.header(), slot.polled());
            let known = threads.contains_key(&header.cgroup);
            if known || threads.len() < RESOURCES_MAX {
                let times = threads.entry(header.cgroup).or_default();
                times.ran_ns = times.ran_ns.saturating_add(polled.ran);
                times.ready_ns = times.ready_ns.saturating_add(polled.run_delay);
            }
        }
        let cgroups: Vec<u64> = threads.keys().copied().collect();
        if cgroups.is_empty() {
            return;
        }
        let Some(facts) = self.node.resources(&cgroups) else {
            return;
        };
        for (cgroup, fact) in facts.iter().map(|fact| (fact.container, fact)) {
            let Some((container, times)) = self.facts.known(cgroup).zip(threads.get(&cgroup))
            else {
                continue;
            };
            let counted = with_ended(*times, fact);
            let told = self.used.tell(container, counted);
            out.push(Record::Resources(ContainerResources {
                at_ns: now,
                container,
                ran_ns: told.ran_ns,
                // A kernel that keeps it has some for every container that lives a while.
                ready_ns: (told.ready_ns > 0).then_some(told.ready_ns),
                throttling: fact.throttling,
                memory: fact.memory,
            }));
        }
    }
}

fn with_ended(threads: Times, fact: &ResourceFacts) -> Times {
    Times {
        ran_ns: threads.ran_ns.saturating_add(fact.ended_ran_ns),
        ready_ns: threads.ready_ns.saturating_add(fact.ended_ready_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(ran_ns: u64, ready_ns: u64) -> Times {
        Times { ran_ns, ready_ns }
    }

    #[test]
    fn times_go_on_where_a_thread_is_missed_and_where_maps_are_replaced() {
        let mut used = UsedTimes::default();
        assert_eq!(used.tell(0, times(50, 5)), times(50, 5));
        assert_eq!(used.tell(0, times(20, 2)), times(50, 5));
        assert_eq!(used.tell(0, times(60, 6)), times(60, 6));
        assert_eq!(used.tell(1, times(1, 1)), times(1, 1));
        used.begin_again();
        assert_eq!(used.tell(0, times(7, 1)), times(67, 7));
        assert_eq!(used.tell(2, times(7, 1)), times(7, 1));
    }
}
