//! Asks for the pod's network once a second, and for sockets as long as diagnosis wants them.

use super::{Reader, monotonic_ns};
use crate::{
    capture::node::SOCKETS_MAX,
    record::{NetworkState, Record},
};

/// Processes that are tried until one has counters.
const TRIES: usize = 3;

impl Reader {
    /// `always`: also where no sockets are wanted.
    pub(super) fn network(&mut self, always: bool, out: &mut Vec<Record>) {
        let mut sockets = self.reduced.looked_at();
        if sockets.is_empty() && !always {
            return;
        }
        sockets.truncate(SOCKETS_MAX);
        let slots = self.pod.slots.taken().map(|slot| slot.header().pid);
        let others = slots.filter(|pid| *pid != self.network_of);
        // The same one as long as it lives: another may be in another namespace.
        let first = (self.network_of != 0).then_some(self.network_of);
        let mut tried: Vec<u32> = first.into_iter().chain(others).collect();
        tried.dedup();
        for pid in tried.into_iter().take(TRIES) {
            let Some(facts) = self.node.network(pid, &sockets) else {
                continue;
            };
            if facts.counters.is_none() && facts.sockets.is_empty() {
                continue;
            }
            self.network_of = pid;
            out.push(Record::Network(NetworkState {
                at_ns: monotonic_ns(),
                pid,
                counters: facts.counters,
                sockets: facts.sockets,
            }));
            return;
        }
    }
}
