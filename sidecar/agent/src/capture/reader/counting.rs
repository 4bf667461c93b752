//! What the kernel counted, container by container.

use std::collections::HashMap;

use stethos_events::lost;

use super::Reader;
use crate::{
    capture::node::{Counters, EndedThreads},
    record::{Account, ContainerIndex},
};

/// Counters as the node last told them. A container that is gone is told for the last time once.
#[derive(Default)]
pub(super) struct HeardCounters {
    pub(super) lost: [u64; lost::COUNT as usize],
    /// By container cgroup.
    pub(super) ended: HashMap<u64, EndedThreads>,
    pub(super) skipped_recursion: u64,
}

impl HeardCounters {
    pub(super) fn hear(&mut self, counters: Counters) {
        self.lost = counters.lost;
        self.skipped_recursion = counters.skipped_recursion;
        self.ended.extend(counters.ended);
    }
}

impl Reader {
    /// What the kernel counted, since the start of this capture.
    pub(super) fn counted(&self) -> HashMap<ContainerIndex, Account> {
        let mut accounts = self.before.accounts.clone();
        for (_, container) in self.facts.containers() {
            accounts.entry(container).or_default();
        }
        for slot in self.pod.slots.taken() {
            let header = slot.header();
            let Some(container) = self.facts.known(header.cgroup) else {
                continue;
            };
            let handed_on = self.in_place.handed(&header) as u64;
            let account = accounts.entry(container).or_default();
            account.seen += slot.seen();
            account.lost_ring_full += slot.lost();
            account.counted += slot.counted();
            account.held += u64::from(header.count).saturating_sub(handed_on);
        }
        for (cgroup, ended) in &self.counters.ended {
            if let Some(container) = self.facts.known(*cgroup) {
                let account = accounts.entry(container).or_default();
                account.seen += ended.seen;
                account.lost_ring_full += ended.lost;
                account.counted += ended.counted;
            }
        }
        let sums = self.counters.lost;
        let unplaced = sums[lost::NO_SLOT as usize] + sums[lost::STALE_SLOT as usize];
        // Threads without a slot have no container of their own: theirs is the first one's.
        if let Some(account) = accounts.get_mut(&0) {
            account.seen += unplaced;
            account.lost_no_slot += unplaced;
        }
        accounts
    }

    pub(super) fn tell_lost(&mut self) {
        for (cause, name) in [
            (lost::EVENT_RING_FULL, "event ring full"),
            (lost::NO_SCOPE_SLOT, "no room in the scope"),
            (lost::NO_ACCOUNT, "no room for accounts"),
        ] {
            let sum = self.counters.lost[cause as usize];
            let told = &mut self.lost_told[cause as usize];
            if sum > *told {
                tracing::warn!(cause = name, events = sum - *told, "events were lost");
                *told = sum;
            }
        }
    }
}
