//! What the network between a pod and its peers is like.

use serde::{Deserialize, Serialize};

use super::Nanos;

/// Once a second, and more often while diagnosis asks for sockets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkState {
    pub at_ns: Nanos,
    /// A process in the network namespace that was looked at.
    pub pid: u32,
    /// None where they cannot be read.
    pub counters: Option<NetworkCounters>,
    /// Of those that were asked for, what could be looked at.
    pub sockets: Vec<SocketState>,
}

/// What a network namespace counted since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCounters {
    /// TCP segments.
    pub received: u64,
    /// TCP segments, without those sent again.
    pub sent: u64,
    pub sent_again: u64,
    /// Retransmission timers that ran out.
    pub timeouts: u64,
    /// Segments sent again that ask for a connection.
    pub syn_again: u64,
    /// Peers said that they had got what was sent again.
    pub needless: u64,
    /// Not sent again because the first copy had not left this machine.
    pub still_queued: u64,
    /// ICMP messages that a destination is unreachable.
    pub unreachable: u64,
    /// Packets for which there was no route.
    pub no_route: u64,
    /// Segments that came again: what acknowledged them was lost or late.
    pub received_again: u64,
}

impl NetworkState {
    /// Longer apart, two readings do not belong together.
    const APART: Nanos = 5_000_000_000;

    /// What was counted since an earlier reading; none where that is another namespace's, too old, or
    /// counting began again.
    pub fn since(&self, before: &NetworkState) -> Option<NetworkCounters> {
        let near = self.at_ns.saturating_sub(before.at_ns) <= Self::APART;
        let (now, before) = (
            self.counters.filter(|_| near && self.pid == before.pid)?,
            before.counters?,
        );
        Some(NetworkCounters {
            received: now.received.checked_sub(before.received)?,
            sent: now.sent.checked_sub(before.sent)?,
            sent_again: now.sent_again.checked_sub(before.sent_again)?,
            timeouts: now.timeouts.checked_sub(before.timeouts)?,
            syn_again: now.syn_again.checked_sub(before.syn_again)?,
            needless: now.needless.checked_sub(before.needless)?,
            still_queued: now.still_queued.checked_sub(before.still_queued)?,
            unreachable: now.unreachable.checked_sub(before.unreachable)?,
            no_route: now.no_route.checked_sub(before.no_route)?,
            received_again: now.received_again.checked_sub(before.received_again)?,
        })
    }
}

impl NetworkCounters {
    /// Segments of connections that were sent or came again. Those that ask for one are left out: a peer
    /// that takes no more makes them be sent again, too.
    pub fn again(&self) -> u64 {
        let sent = self.sent_again.saturating_sub(self.syn_again);
        sent.saturating_add(self.received_again)
    }
}

/// A TCP socket as its kernel sees it, from `struct tcp_info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketState {
    pub pid: u32,
    pub fd: i32,
    /// None while it connects.
    pub peer: Option<String>,
    /// As in `net/tcp_states.h`.
    pub state: u8,
    /// How often in a row the same segment was sent again, or its window asked for, without an answer.
    pub retries: u8,
    /// Segments.
    pub unacknowledged: u32,
    /// Segments sent again in its life.
    pub sent_again: u32,
    pub rtt_us: u32,
    /// 0 where it is not known.
    pub least_rtt_us: u32,
    /// Since the last acknowledgement came.
    pub since_heard_ms: u32,
    /// Written by the process, and not sent yet.
    pub unsent_bytes: u32,
    pub received_bytes: u64,
    /// Time with data on the way.
    pub busy_us: u64,
    /// Of that, held up by the window that the peer granted.
    pub window_limited_us: u64,
}

impl SocketState {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
}
