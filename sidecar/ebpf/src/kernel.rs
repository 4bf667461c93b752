//! The running kernel's structures: where members stand is read-only data that the loader fills in
//! from the kernel's BTF, so that the verifier sees constant offsets.

use aya_ebpf::helpers::{bpf_probe_read_kernel, generated};
use stethos_events::{Offsets, SchedClocks};

/// Set by the loader. In a section of its own, because the compiler may let other constants share
/// the place of one with the same bytes.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.settings")]
pub static OFFSETS: Offsets = Offsets {
    task_pid: 0,
    task_tgid: 0,
    task_state: 0,
    task_jobctl: 0,
    task_exit_code: 0,
    task_signal: 0,
    task_exec_start: 0,
    task_ran: 0,
    task_run_delay: 0,
    signal_live: 0,
    signal_flags: 0,
    signal_exit_code: 0,
    task_thread_pointer: 0,
};

/// 1: the first bytes of what looks like HTTP are shipped. Set by the loader.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata.settings")]
pub static SHIP_HTTP: u32 = 0;

#[inline(always)]
pub fn ship_http() -> bool {
    // SAFETY: a static; volatile because the loader changes it.
    unsafe { core::ptr::read_volatile(&raw const SHIP_HTTP) != 0 }
}

macro_rules! offset {
    ($member:ident) => {{
        // SAFETY: a static; volatile because the loader changes it.
        unsafe { core::ptr::read_volatile(&raw const $crate::kernel::OFFSETS.$member) as usize }
    }};
}
pub(crate) use offset;

/// The current task: a trusted pointer, which the verifier lets be read directly.
#[derive(Clone, Copy)]
pub struct Current(usize);

impl Current {
    #[inline(always)]
    pub fn get() -> Self {
        // SAFETY: helper without arguments.
        Self(unsafe { generated::bpf_get_current_task_btf() } as usize)
    }

    #[inline(always)]
    pub fn address(self) -> u64 {
        self.0 as u64
    }

    #[inline(always)]
    fn read<T: Copy>(self, offset: usize) -> T {
        // SAFETY: a member of a trusted `task_struct`, at an offset of the kernel's own BTF; the
        // verifier checks both.
        unsafe { core::ptr::read_volatile((self.0 + offset) as *const T) }
    }

    #[inline(always)]
    pub fn tid(self) -> u32 {
        self.read(offset!(task_pid))
    }

    #[inline(always)]
    pub fn tgid(self) -> u32 {
        self.read(offset!(task_tgid))
    }

    /// The thread pointer of user space; 0 where it is not known.
    #[inline(always)]
    pub fn thread_pointer(self) -> u64 {
        match offset!(task_thread_pointer) {
            0 => 0,
            offset => self.read(offset),
        }
    }

    #[inline(always)]
    pub fn exec_start(self) -> u64 {
        self.read(offset!(task_exec_start))
    }

    /// The clocks as of one moment: the timer's interrupt may move them between two reads, but not
    /// twice in a row.
    #[inline(always)]
    pub fn clocks(self) -> SchedClocks {
        let clocks = self.read_clocks();
        if self.exec_start() == clocks.exec_start {
            clocks
        } else {
            self.read_clocks()
        }
    }

    #[inline(always)]
    fn read_clocks(self) -> SchedClocks {
        let delay = offset!(task_run_delay);
        SchedClocks {
            exec_start: self.exec_start(),
            ran: self.read(offset!(task_ran)),
            run_delay: if delay == 0 { 0 } else { self.read(delay) },
        }
    }
}

/// A member of any task, by checked read.
#[inline(always)]
pub fn of_task<T>(task: u64, offset: usize) -> Option<T> {
    // SAFETY: the helper checks the access.
    unsafe { bpf_probe_read_kernel((task as usize + offset) as *const T) }.ok()
}

/// Clocks of any task, by checked reads.
#[inline(always)]
pub fn clocks_of(task: u64) -> Option<SchedClocks> {
    let delay = offset!(task_run_delay);
    Some(SchedClocks {
        exec_start: of_task(task, offset!(task_exec_start))?,
        ran: of_task(task, offset!(task_ran))?,
        run_delay: if delay == 0 { 0 } else { of_task(task, delay)? },
    })
}

/// pid (thread group) and tid of any task in the initial PID namespace.
#[inline(always)]
pub fn task_ids(task: u64) -> Option<(u32, u32)> {
    Some((
        of_task(task, offset!(task_tgid))?,
        of_task(task, offset!(task_pid))?,
    ))
}
