//! Pods, what is theirs, and what did not travel.

#[cfg(feature = "user")]
use bytemuck::{Pod, Zeroable};

/// What one target has, in `PODS` under its index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct PodEntry {
    pub first_bank: u32,
    /// Slots in its banks: a power of two times `BANK_SLOTS`; 0 for an index not in use.
    pub slots: u32,
}

/// A process that was named as a target, or a descendant of one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct PidScope {
    /// The made-up cgroup id that stands for the target.
    pub container: u64,
    pub pod: u32,
    pub reserved: u32,
}

/// Account of the ended threads of one container, in the map `ENDED` under its cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct EndedAccount {
    pub seen: u64,
    pub lost: u64,
    pub counted: u64,
    /// What they ran, and what they waited while ready to run, since they had their slots.
    pub ran: u64,
    pub run_delay: u64,
    pub threads: u32,
    /// Whose they were; without meaning while `threads` is 0.
    pub pod: u32,
}

/// Byte offsets within kernel structures, from the kernel's BTF. Part of the programs' read-only
/// data: the verifier sees constants.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Offsets {
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_state: u32,
    pub task_jobctl: u32,
    pub task_exit_code: u32,
    pub task_signal: u32,
    pub task_exec_start: u32,
    pub task_ran: u32,
    /// 0 where the kernel does not keep it: waits then include the time ready to run.
    pub task_run_delay: u32,
    pub signal_live: u32,
    pub signal_flags: u32,
    pub signal_exit_code: u32,
    /// The thread pointer of user space (x86-64: the base of `fs`); 0 where it is not known.
    pub task_thread_pointer: u32,
}

/// Index into `LOST`, from `pod * lost::COUNT`: what did not travel, by cause.
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
    /// Calls whose decision named a slot that was another thread's.
    pub const STALE_SLOT: u32 = 5;
    /// Descriptors that the table had no room for.
    pub const NO_DESCRIPTOR: u32 = 6;
    pub const COUNT: u32 = 8;
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

#[cfg(feature = "user")]
mod user {
    use super::{EndedAccount, Offsets, PidScope, PodEntry, SelfFound};

    // SAFETY: repr(C) without padding, valid for any bytes.
    unsafe impl aya::Pod for Offsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PodEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PidScope {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EndedAccount {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SelfFound {}
}
