//! What the kernel keeps of a thread, and the windows that it hands over.

#[cfg(feature = "user")]
use bytemuck::{Pod, Zeroable};

use crate::{CallRecord, RECENT_CALLS, ThreadTrace, WINDOW_CALLS};

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
    /// Windows that this one stands for: itself, and familiar ones of its pod that were only
    /// counted. 0 while the thread is still filling it.
    pub weight: u32,
    /// Calls of this thread that were only counted, directly before this window.
    pub counted_before: u64,
    /// `ThreadSlot::context` before the first call.
    pub context: u64,
}

/// What travels through a pod's ring of windows: the header and its first `count` calls.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Window {
    pub header: WindowHeader,
    pub calls: [CallRecord; WINDOW_CALLS],
}

/// Clocks of the scheduler for one thread, in ns of the run queue's clock.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct SchedClocks {
    /// `se.exec_start`: when its running time was last added up.
    pub exec_start: u64,
    /// `se.sum_exec_runtime`: what it ran, up to `exec_start`.
    pub ran: u64,
    /// `sched_info.run_delay`: what it waited while ready to run.
    pub run_delay: u64,
}

impl SchedClocks {
    /// Time off the processor by own will between `before` and `self`:
    /// `Δexec_start − Δran − Δrun_delay`, at least 0.
    #[inline(always)]
    pub fn waited_since(&self, before: &Self) -> u64 {
        let passed = self.exec_start.wrapping_sub(before.exec_start);
        let spent = self
            .ran
            .wrapping_sub(before.ran)
            .wrapping_add(self.run_delay.wrapping_sub(before.run_delay));
        if passed > spent && passed <= u64::MAX / 2 {
            passed - spent
        } else {
            0
        }
    }
}

/// What the poll program found a thread doing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Polled {
    /// When; 0: never looked at.
    pub at_ns: u64,
    /// Since when it has been off the processor, when it is.
    pub since_ns: u64,
    /// First argument of the call that it is inside.
    pub arg_0: u64,
    /// Number of the call that it is inside, as of its registers; meaningful when it sleeps.
    pub nr: i32,
    /// One of `run_state`.
    pub state: u32,
    /// `ThreadSlot::seen` at that time: what was polled is stale when it differs.
    pub seen: u64,
    /// Since it has its slot: what it ran, and what it waited while ready to run.
    pub ran: u64,
    pub run_delay: u64,
}

/// Values of `Polled::state`.
pub mod run_state {
    /// Not there any more.
    pub const GONE: u32 = 0;
    /// Running or ready to run.
    pub const RUNNING: u32 = 1;
    /// Asleep until a signal or what it waits for.
    pub const SLEEPING: u32 = 2;
    /// Asleep until what it waits for, mostly a disk.
    pub const BLOCKED: u32 = 3;
    /// Stopped by a signal or a debugger.
    pub const STOPPED: u32 = 4;
    /// Frozen with its cgroup.
    pub const FROZEN: u32 = 5;
}

/// State of one thread in the kernel, in a bank of its pod.
///
/// Written by the thread's own calls; `polled` by the poll program. Readable in place: the calls
/// that `window.header.count` covers are complete, and a window that was handed over in the
/// meantime has another `sequence`.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct ThreadSlot {
    /// `header.tid` is 0 in a free slot.
    pub window: Window,
    /// Addresses of its `task_struct` and of its user registers; compared and read, never
    /// followed without check.
    pub task: u64,
    pub regs: u64,
    /// As of its last return.
    pub clocks: SchedClocks,
    /// As of when the slot became its own.
    pub first: SchedClocks,
    /// The last call that returned.
    pub last: CallRecord,
    /// Calls finished since the slot was made.
    pub seen: u64,
    /// Calls of windows that the ring refused.
    pub lost: u64,
    /// Calls of windows that were only counted.
    pub counted: u64,
    /// The last tokens, the newest in the low bits: see `token`.
    pub context: u64,
    /// Calls of the unfinished window that were not familiar.
    pub strange: u32,
    /// Familiar windows since the last one that was shipped.
    pub familiar_windows: u32,
    /// How many familiar windows make the next one that is shipped; 0: not decided.
    pub sample_at: u32,
    pub reserved: u32,
    pub polled: Polled,
    pub pod: u32,
    /// The thread that has or had the slot.
    pub owner: u32,
    pub trace: ThreadTrace,
    /// The thread's last calls: number `n` (from 0) at `n % RECENT_CALLS`.
    pub recent: [CallRecord; RECENT_CALLS],
}
