//! When the maps of the pod are replaced: the old ones are read to their end, what they counted is
//! kept, and every thread's stream says that it was cut.

use std::collections::{HashMap, HashSet};

use super::{
    Reader, counting::HeardCounters, monotonic_ns, older::OlderThreads, standing::standing_calls,
};
use crate::{
    capture::pod::{Pod, PodMaps},
    record::{Account, ContainerIndex, Nanos, Record},
};

/// What was counted in maps that were replaced.
#[derive(Default)]
pub(super) struct Before {
    pub(super) accounts: HashMap<ContainerIndex, Account>,
    /// Threads whose stream was cut and that were not heard of since.
    cut: HashSet<u32>,
}

impl Before {
    /// True when the next window of this thread is the first one after a cut.
    pub(super) fn cut(&mut self, tid: u32) -> bool {
        !self.cut.is_empty() && self.cut.remove(&tid)
    }
}

impl Reader {
    /// Goes on with new maps. Nothing is written into the old ones any more.
    pub(super) fn renew(&mut self, pod: Pod, maps: &PodMaps, out: &mut Vec<Record>) {
        self.drain(out);
        let standing: Vec<_> = self
            .pod
            .slots
            .taken()
            .filter_map(|slot| standing_calls(slot, &self.in_place, Nanos::MAX))
            .collect();
        for (header, calls) in &standing {
            self.window(header, calls, out);
        }
        let last = self
            .pod
            .slots
            .taken()
            .map(|slot| (slot.header().tid, slot.last().exit_ns))
            .collect::<HashMap<u32, Nanos>>();
        self.before.accounts = self.counted();
        for (container, account) in &mut self.before.accounts {
            let delivered = self.delivered.get(container).copied().unwrap_or(0);
            let rescued = self.rescued.get(container).copied().unwrap_or(0);
            let lost = account.lost_ring_full.saturating_sub(rescued) + account.lost_no_slot;
            // What threads did that ended since the counters were last heard of.
            let known = delivered + account.counted + account.held + lost;
            account.seen = account.seen.max(known);
            account.lost_ring_full += std::mem::take(&mut account.held);
        }
        let since = last.values().max().copied().unwrap_or(0);
        if since > 0 {
            let unseen_ms = monotonic_ns().saturating_sub(since) / 1_000_000;
            tracing::warn!(
                threads = last.len(),
                unseen_ms,
                "the maps were replaced: what threads did for up to this long is not known"
            );
        }
        self.before.cut = last.into_keys().collect();
        self.used.begin_again();
        self.counters = HeardCounters::default();
        self.lost_told = Default::default();
        self.in_place.clear();
        self.tell_counts(monotonic_ns(), out);
        self.older = OlderThreads::default();
        self.pod = pod;
        self.facts.describe_again();
        if let Err(error) = self.reduced.renew(maps) {
            tracing::error!(%error, "every call is shipped from now on");
        }
    }
}
