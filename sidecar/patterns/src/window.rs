//! A run of consecutive calls of one thread.

use serde::{Deserialize, Serialize};

use crate::token::Token;

/// What the descriptor of a call stands for, as far as it is known.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum Role {
    /// The call takes no descriptor, or what it stands for is not known.
    #[default]
    None,
    File,
    /// A socket that this process connected.
    Client,
    /// A socket that this process accepted.
    Server,
    Listener,
    /// Pipe, event descriptor, timer, epoll, or a socket that is neither connected nor accepted.
    Other,
}

/// One finished call of a window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WindowCall {
    pub token: Token,
    pub role: Role,
    /// First argument of calls that take a descriptor there, -1 otherwise.
    pub fd: i32,
    /// Return value (-errno on error).
    pub ret: i64,
    /// Monotonic ns.
    pub enter_ns: u64,
    pub duration_ns: u64,
}

impl WindowCall {
    /// The place of lost calls in a window.
    pub fn gap(at_ns: u64) -> Self {
        WindowCall {
            token: Token::GAP,
            role: Role::None,
            fd: -1,
            ret: 0,
            enter_ns: at_ns,
            duration_ns: 0,
        }
    }

    pub fn end_ns(&self) -> u64 {
        self.enter_ns.saturating_add(self.duration_ns)
    }
}

/// A run of consecutive calls of one thread, in order of return: one unit of work, at most
/// [`Window::MAX_CALLS`] long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Index of the container within one run of the sidecar.
    pub container: u16,
    pub pid: u32,
    pub tid: u32,
    /// Number of this window among the thread's windows.
    pub sequence: u64,
    /// Windows that this one stands for: itself, and alike ones that were only counted.
    pub weight: u32,
    /// False when the unit of work began or ended among calls that were only counted.
    pub whole: bool,
    pub calls: Vec<WindowCall>,
}

impl Window {
    pub const MAX_CALLS: usize = 64;

    /// [`Token::code`] of every call, in order: what similarity and clustering work on.
    pub fn codes(&self) -> Vec<u32> {
        self.calls.iter().map(|call| call.token.code()).collect()
    }

    /// When the first call was entered; 0 for an empty window.
    pub fn start_ns(&self) -> u64 {
        self.calls.first().map_or(0, |call| call.enter_ns)
    }

    /// When the last call returned; 0 for an empty window.
    pub fn end_ns(&self) -> u64 {
        self.calls.last().map_or(0, WindowCall::end_ns)
    }

    /// One number per thread: pid in the upper half, tid in the lower.
    pub fn stream(&self) -> u64 {
        u64::from(self.pid) << 32 | u64::from(self.tid)
    }
}
