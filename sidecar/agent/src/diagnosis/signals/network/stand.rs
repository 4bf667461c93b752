//! How single sockets stand.

use crate::record::{Nanos, SocketState};
use crate::sequential::SECOND;

/// A segment that was sent again this often in a row went nowhere; once is enough for what asks for a
/// connection.
const RETRIES: u8 = 2;
/// A way is narrow when it is so for this long.
const NARROW_FOR: Nanos = 3 * SECOND;
/// Of this many times the shortest time to an acknowledgement, and of this one, it is slow.
const SLOWER: u32 = 10;
const SLOW_US: u32 = 100_000;

/// How a socket with something to wait for stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// All that was sent was acknowledged.
    Heard,
    Unheard {
        connecting: bool,
    },
    Narrow,
    Moving,
}

impl Stand {
    pub(super) fn of(socket: &SocketState) -> Self {
        let under_way = socket.unacknowledged > 0 || socket.unsent_bytes > 0;
        let slower = socket.least_rtt_us > 0
            && socket.rtt_us >= SLOW_US
            && socket.rtt_us / SLOWER >= socket.least_rtt_us;
        match socket.state {
            SocketState::SYN_SENT if socket.retries > 0 => Stand::Unheard { connecting: true },
            SocketState::SYN_SENT => Stand::Moving,
            _ if !under_way => Stand::Heard,
            _ if socket.retries >= RETRIES => Stand::Unheard { connecting: false },
            // What this machine drops itself is not on the way.
            _ if socket.unacknowledged == 0 || socket.retries > 0 => Stand::Moving,
            // After a loss, little is sent at once, and times are taken of what was sent again.
            _ if socket.sent_again > 0 => Stand::Moving,
            _ if socket.unsent_bytes > 0 || slower => Stand::Narrow,
            _ => Stand::Moving,
        }
    }
}

/// Sockets of a peer that were looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    first_ns: Nanos,
    last_ns: Nanos,
    narrow: u32,
    otherwise: u32,
}

impl Seen {
    pub(super) fn new(first_ns: Nanos) -> Self {
        Seen {
            first_ns,
            last_ns: first_ns,
            narrow: 0,
            otherwise: 0,
        }
    }

    pub(super) fn first_ns(&self) -> Nanos {
        self.first_ns
    }

    /// When the way was narrow last.
    pub(super) fn last_ns(&self) -> Nanos {
        self.last_ns
    }

    pub(super) fn narrow_at(&mut self, at_ns: Nanos) {
        self.last_ns = at_ns;
        self.narrow = self.narrow.saturating_add(1);
    }

    pub(super) fn otherwise(&mut self) {
        self.otherwise = self.otherwise.saturating_add(1);
    }

    /// Most of them, for seconds.
    pub(super) fn is_narrow(&self) -> bool {
        let lasts = self.last_ns.saturating_sub(self.first_ns) >= NARROW_FOR;
        lasts && self.narrow / 2 >= self.otherwise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(unacknowledged: u32, unsent_bytes: u32, retries: u8) -> SocketState {
        SocketState {
            state: SocketState::ESTABLISHED,
            unacknowledged,
            unsent_bytes,
            retries,
            ..SocketState::default()
        }
    }

    #[test]
    fn a_socket_says_what_became_of_what_was_sent() {
        assert_eq!(Stand::of(&socket(0, 0, 0)), Stand::Heard);
        let lost = Stand::Unheard { connecting: false };
        assert_eq!(Stand::of(&socket(1, 0, 2)), lost);
        assert_eq!(
            Stand::of(&socket(0, 100, 2)),
            lost,
            "dropped by this machine"
        );
        assert_eq!(Stand::of(&socket(1, 0, 1)), Stand::Moving);
        assert_eq!(Stand::of(&socket(3, 0, 0)), Stand::Moving);
        assert_eq!(Stand::of(&socket(0, 100, 0)), Stand::Moving);
        assert_eq!(Stand::of(&socket(3, 4000, 0)), Stand::Narrow);
    }

    #[test]
    fn a_way_is_narrow_where_segments_take_much_longer_than_at_best() {
        let timed = |rtt_us, least_rtt_us| SocketState {
            rtt_us,
            least_rtt_us,
            ..socket(2, 0, 0)
        };
        assert_eq!(Stand::of(&timed(400_000, 300)), Stand::Narrow);
        assert_eq!(Stand::of(&timed(400_000, 200_000)), Stand::Moving);
        assert_eq!(Stand::of(&timed(3_000, 30)), Stand::Moving);
        assert_eq!(Stand::of(&timed(400_000, 0)), Stand::Moving);
        let lossy = SocketState {
            sent_again: 1,
            ..timed(400_000, 300)
        };
        assert_eq!(Stand::of(&lossy), Stand::Moving);
    }

    #[test]
    fn a_connect_is_unheard_once_it_was_sent_again() {
        let connects = |retries| SocketState {
            state: SocketState::SYN_SENT,
            ..socket(1, 0, retries)
        };
        assert_eq!(Stand::of(&connects(0)), Stand::Moving);
        assert_eq!(Stand::of(&connects(1)), Stand::Unheard { connecting: true });
    }
}
