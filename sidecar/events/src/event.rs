//! What travels beside the windows.

#[cfg(feature = "user")]
use bytemuck::{Pod, Zeroable};

use crate::BYTES_MAX;

/// An HTTP head of a reduced pod, kept in place until it is overwritten.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct KeptHead {
    /// Number of the head, plus one; 0 while it is written.
    pub number: u64,
    pub event: Event,
}

/// What an argument pointed at, or what happened to a process: travels through a pod's ring of events
/// cut to `len` bytes.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Event {
    pub at_ns: u64,
    pub cgroup: u64,
    pub ret: i64,
    /// One of `kind`.
    pub kind: u32,
    pub pid: u32,
    pub tid: u32,
    pub fd: i32,
    pub nr: u32,
    /// Bytes used in `bytes`.
    pub len: u32,
    /// `FORK`: child's pid and tid. `EXIT`: what the process ends with as of `wait(2)`, and 1 when
    /// this was its last thread.
    pub extra: [u32; 2],
    pub bytes: [u8; BYTES_MAX],
}

/// Bytes of `Event` before `bytes`.
pub const EVENT_HEAD: usize = core::mem::size_of::<Event>() - BYTES_MAX;

/// Kinds of `Event`.
pub mod kind {
    /// `bytes`: the path that a failed call, or an open, named.
    pub const PATH: u32 = 1;
    /// `bytes`: the socket address of a connect.
    pub const ADDRESS: u32 = 2;
    /// `bytes`: start of a buffer that was received and looks like an HTTP/1 message, or frames of HTTP/2.
    pub const HTTP_IN: u32 = 3;
    /// The same, sent.
    pub const HTTP_OUT: u32 = 4;
    pub const FORK: u32 = 5;
    /// `bytes`: the thread's name.
    pub const EXEC: u32 = 6;
    pub const EXIT: u32 = 7;
    pub const OOM_KILL: u32 = 8;
    /// An exchange that is not familiar, of a descriptor that was followed while the pod was reduced:
    /// `at_ns` is when it ended, the first 8 bytes of `bytes` when it began, the next 8 the peer's
    /// hash, `extra` the role of the descriptor and one of `ended`.
    pub const EXCHANGE: u32 = 9;
    /// The span that the thread works for, as of `at_ns`: `bytes` hold a `TraceContext`, `extra` how many
    /// changes of this thread were lost so far, and 1 where it holds until the next one is told.
    pub const CONTEXT: u32 = 10;
    /// The descriptor that HTTP heads were seen on was closed, or stands for something else.
    pub const CLOSED: u32 = 11;
}
