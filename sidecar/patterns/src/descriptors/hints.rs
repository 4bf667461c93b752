//! Peers of connects whose call has not come yet.

use std::collections::VecDeque;

/// How much later than the call's return its peer may be dated.
const LATEST_NS: u64 = 1_000_000_000;

const CAPACITY: usize = 1024;

/// True when a peer dated `at_ns` is that of a connect that was entered and returned then.
pub(super) fn belongs(at_ns: u64, enter_ns: u64, end_ns: u64) -> bool {
    (enter_ns..=end_ns.saturating_add(LATEST_NS)).contains(&at_ns)
}

#[derive(Debug, Default)]
pub(super) struct PeerHints(VecDeque<Hint>);

#[derive(Debug)]
struct Hint {
    pid: u32,
    fd: i32,
    at_ns: u64,
    peer: String,
}

impl PeerHints {
    /// The oldest makes room.
    pub(super) fn add(&mut self, pid: u32, fd: i32, at_ns: u64, peer: &str) {
        if self.0.len() == CAPACITY {
            self.0.pop_front();
        }
        self.0.push_back(Hint {
            pid,
            fd,
            at_ns,
            peer: peer.to_owned(),
        });
    }

    /// The first peer dated within the call or shortly after; earlier ones of the same
    /// descriptor are dropped.
    pub(super) fn take(&mut self, pid: u32, fd: i32, enter_ns: u64, end_ns: u64) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        self.0
            .retain(|hint| (hint.pid, hint.fd) != (pid, fd) || hint.at_ns >= enter_ns);
        let index = self
            .0
            .iter()
            .enumerate()
            .filter(|(_, hint)| (hint.pid, hint.fd) == (pid, fd))
            .filter(|(_, hint)| belongs(hint.at_ns, enter_ns, end_ns))
            .min_by_key(|(_, hint)| hint.at_ns)?
            .0;
        self.0.remove(index).map(|hint| hint.peer)
    }
}
