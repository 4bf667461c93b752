//! Records that the kernel programs write and the sidecar reads.
//!
//! Everything is `repr(C)` without implicit padding, in the machine's byte order. Times are
//! nanoseconds of `bpf_ktime_get_ns` (CLOCK_MONOTONIC).
#![no_std]

#[cfg(feature = "user")]
use bytemuck::{Pod, Zeroable};

/// Calls in one window at most.
pub const WINDOW_CALLS: usize = 64;
/// Bytes of a path, an address or an HTTP head that travel at most.
pub const BYTES_MAX: usize = 1024;
/// Call numbers that have a class; higher ones have none.
pub const CALL_NUMBERS: usize = 512;
/// Ancestor levels that are compared with the scope.
pub const SCOPE_LEVELS: usize = 4;

/// What the programs do at a call: bits of `CALL_CLASS[nr]`, written by user space.
pub mod class {
    /// The call waits: the thread's window ends when it is entered.
    pub const WAIT: u32 = 1 << 0;
    /// The first argument is a descriptor.
    pub const DESCRIPTOR: u32 = 1 << 1;
    /// The first argument is a path; shipped when the call fails.
    pub const PATH_0: u32 = 1 << 2;
    /// The second argument is a path; shipped when the call fails.
    pub const PATH_1: u32 = 1 << 3;
    /// The second argument is a socket address, the third its length; shipped always.
    pub const ADDRESS_1: u32 = 1 << 4;
    /// The second argument is a buffer that was filled (`ret` bytes).
    pub const READ: u32 = 1 << 5;
    /// The second argument is a buffer that was sent (`ret` bytes).
    pub const WRITE: u32 = 1 << 6;
    /// With `READ` or `WRITE`: the second argument is an array of `iovec`.
    pub const VECTOR: u32 = 1 << 7;
    /// With `READ` or `WRITE`: the second argument is a `msghdr`.
    pub const MESSAGE: u32 = 1 << 8;
    /// `exit` or `exit_group`: the first argument is the exit code.
    pub const EXIT: u32 = 1 << 9;
    /// With `PATH_0` or `PATH_1`: shipped when the call succeeds, too.
    pub const OPEN: u32 = 1 << 10;
}

/// Bits of `CallRecord::flags`.
pub mod flag {
    /// Entered and never returned: the thread ended inside it.
    pub const NO_RETURN: u16 = 1 << 0;
    /// Returned without having been seen entering: filtered by seccomp, or entered before the
    /// programs were attached. `enter_ns` is the time of return.
    pub const NO_ENTER: u16 = 1 << 1;
    /// `fd` holds a descriptor.
    pub const DESCRIPTOR: u16 = 1 << 2;
}

/// One finished call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct CallRecord {
    pub enter_ns: u64,
    pub duration_ns: u64,
    pub ret: i64,
    /// First argument, cut to 32 bits; a descriptor when the flag says so.
    pub fd: i32,
    pub nr: u16,
    pub flags: u16,
}

/// Why a window was handed over.
pub mod end {
    pub const WAIT: u32 = 1;
    pub const FULL: u32 = 2;
    pub const THREAD_EXIT: u32 = 3;
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct WindowHeader {
    /// Container: the cgroup directly below the target's, or the target's own.
    pub cgroup: u64,
    pub pid: u32,
    pub tid: u32,
    /// Number of this window among the thread's, from 0.
    pub sequence: u64,
    /// Calls of this thread lost directly before this window.
    pub lost_before: u32,
    /// Entries of `calls` that hold a call.
    pub count: u32,
    /// One of `end`; 0 while the thread is still filling it.
    pub end: u32,
    pub reserved: u32,
}

/// What travels through the ring `WINDOWS`: the header and its first `count` calls.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Window {
    pub header: WindowHeader,
    pub calls: [CallRecord; WINDOW_CALLS],
}

/// The call that a thread is inside.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Inside {
    /// 0: inside none.
    pub enter_ns: u64,
    pub args: [u64; 3],
    pub nr: u32,
    /// `CALL_CLASS[nr]`.
    pub class: u32,
}

/// State of one thread in the kernel, in the map `THREADS` under its tid.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct ThreadSlot {
    pub window: Window,
    pub inside: Inside,
    /// The last call that returned.
    pub last: CallRecord,
    /// Calls finished since the slot was made.
    pub seen: u64,
    /// Calls of full windows that the ring refused.
    pub lost: u64,
}

/// Account of the ended threads of one container, in the map `ENDED` under its cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct EndedAccount {
    pub seen: u64,
    pub lost: u64,
    pub threads: u64,
}

/// What an argument pointed at, or what happened to a process: travels through the ring `EVENTS`
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
    /// `FORK`: child's pid and tid. `EXIT`: exit code (-1 when killed), 1 if it was not killed.
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
    /// `bytes`: start of a buffer that was received and looks like an HTTP/1 message.
    pub const HTTP_IN: u32 = 3;
    /// The same, sent.
    pub const HTTP_OUT: u32 = 4;
    pub const FORK: u32 = 5;
    /// `bytes`: the thread's name.
    pub const EXEC: u32 = 6;
    pub const EXIT: u32 = 7;
    pub const OOM_KILL: u32 = 8;
}

/// Settings, in the one entry of `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Settings {
    /// Ancestor levels of the targets' cgroups; the first `level_count` count.
    pub levels: [u32; SCOPE_LEVELS],
    pub level_count: u32,
    /// 1 when `SCOPE_PIDS` has entries.
    pub by_pid: u32,
    /// Offsets within `task_struct`, from the kernel's BTF.
    pub task_pid_offset: u32,
    pub task_tgid_offset: u32,
    /// 1: ship the first bytes of what looks like HTTP.
    pub http: u32,
    pub reserved: u32,
}

/// Index into `LOST`: events that did not travel, by cause.
pub mod lost {
    /// Calls of threads for which no slot was left.
    pub const NO_SLOT: u32 = 0;
    /// Windows refused by the ring (their calls are in `ThreadSlot::lost`).
    pub const WINDOW_RING_FULL: u32 = 1;
    /// Events refused by the ring.
    pub const EVENT_RING_FULL: u32 = 2;
    /// Children that could not be added to the scope.
    pub const NO_SCOPE_SLOT: u32 = 3;
    /// Accounts of ended threads that had no entry left.
    pub const NO_ACCOUNT: u32 = 4;
    pub const COUNT: u32 = 5;
}

/// What the discovery program found out about the caller, in the one entry of `SELF`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct SelfFound {
    /// `pid << 32 | tid` in the initial PID namespace; 0 until found.
    pub pid_tgid: u64,
    /// Ids of the caller's cgroup and its ancestors from the root (0) down; 0 where there is none.
    pub ancestors: [u64; 16],
}

/// First argument of the `prctl` that the discovery program answers to.
pub const DISCOVERY_OPTION: u64 = 0x5354_4854;

#[cfg(feature = "user")]
mod user {
    use super::{EndedAccount, SelfFound, Settings, ThreadSlot};

    // SAFETY: repr(C) without padding, valid for any bytes.
    unsafe impl aya::Pod for Settings {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ThreadSlot {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EndedAccount {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SelfFound {}
}
