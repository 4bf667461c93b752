//! The window of each thread.

use aya_ebpf::{
    bindings::{BPF_NOEXIST, BPF_RB_NO_WAKEUP},
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns, generated},
};
use stethos_events::{
    CALL_NUMBERS, CallRecord, Inside, ThreadSlot, WINDOW_CALLS, WindowHeader, class, end, flag,
    lost,
};

use crate::{
    events,
    maps::{CALL_CLASS, EMPTY_SLOT, SETTINGS, THREADS, WINDOWS, count_lost},
    scope,
};

/// The registers of a system call on x86-64 (`struct pt_regs`, fixed ABI).
#[cfg(bpf_target_arch = "x86_64")]
#[repr(C)]
pub struct PtRegs {
    before: [u64; 12],
    rdx: u64,
    rsi: u64,
    rdi: u64,
    orig_rax: u64,
}

#[cfg(bpf_target_arch = "x86_64")]
impl PtRegs {
    pub const PRCTL: i64 = 157;

    /// Where the first three arguments stand, for a checked read.
    pub fn arguments(regs: *const Self) -> *const [u64; 3] {
        // An address only; nothing is read here.
        (regs as usize + 12 * 8) as *const [u64; 3]
    }

    pub fn argument_of(read: &[u64; 3], n: usize) -> u64 {
        read[2 - n]
    }

    /// The first three arguments, by direct loads from the trusted pointer.
    #[inline(always)]
    fn load(regs: *const Self) -> [u64; 3] {
        // SAFETY: a trusted `struct pt_regs` of a BTF tracepoint: the verifier allows loads.
        unsafe { [(*regs).rdi, (*regs).rsi, (*regs).rdx] }
    }

    /// The call's number at its exit.
    #[inline(always)]
    fn number(regs: *const Self) -> u64 {
        // SAFETY: as in `load`.
        unsafe { (*regs).orig_rax }
    }
}

/// The registers of a system call on arm64 (`struct user_pt_regs` and what follows).
#[cfg(bpf_target_arch = "aarch64")]
#[repr(C)]
pub struct PtRegs {
    regs: [u64; 31],
    sp: u64,
    pc: u64,
    pstate: u64,
    orig_x0: u64,
    syscallno: i32,
}

#[cfg(bpf_target_arch = "aarch64")]
impl PtRegs {
    pub const PRCTL: i64 = 167;

    pub fn arguments(regs: *const Self) -> *const [u64; 3] {
        regs.cast()
    }

    pub fn argument_of(read: &[u64; 3], n: usize) -> u64 {
        read[n]
    }

    #[inline(always)]
    fn load(regs: *const Self) -> [u64; 3] {
        // SAFETY: a trusted `struct pt_regs` of a BTF tracepoint: the verifier allows loads.
        unsafe { [(*regs).regs[0], (*regs).regs[1], (*regs).regs[2]] }
    }

    #[inline(always)]
    fn number(regs: *const Self) -> u64 {
        // SAFETY: as in `load`.
        unsafe { (*regs).syscallno as i64 as u64 }
    }
}

#[inline(always)]
pub fn enter(regs: *const PtRegs, nr: i64) {
    let Some(settings) = SETTINGS.get(0) else {
        return;
    };
    let pid_tgid = bpf_get_current_pid_tgid();
    let tid = pid_tgid as u32;
    let Some(cgroup) = scope::container(settings, (pid_tgid >> 32) as u32) else {
        return;
    };
    let Some(slot) = slot(tid, pid_tgid, cgroup) else {
        count_lost(lost::NO_SLOT, 1);
        return;
    };
    // SAFETY: the slot of the current thread; only its own calls write it.
    let slot = unsafe { &mut *slot };
    let nr = nr as u32;
    let class = if (nr as usize) < CALL_NUMBERS {
        CALL_CLASS.get(nr).copied().unwrap_or(0)
    } else {
        0
    };
    if class & class::WAIT != 0 && slot.window.header.count != 0 {
        flush(slot, end::WAIT);
    }
    slot.inside.args = PtRegs::load(regs);
    slot.inside.nr = nr;
    slot.inside.class = class;
    // SAFETY: helper without memory arguments.
    slot.inside.enter_ns = unsafe { bpf_ktime_get_ns() };
}

#[inline(always)]
pub fn exit(regs: *const PtRegs, ret: i64) {
    let tid = bpf_get_current_pid_tgid() as u32;
    let Some(slot) = THREADS.get_ptr_mut(tid) else {
        return;
    };
    // SAFETY: the slot of the current thread; only its own calls write it.
    let slot = unsafe { &mut *slot };
    // SAFETY: helper without memory arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let inside = slot.inside;
    let entered = inside.enter_ns != 0;
    let mut call = CallRecord {
        enter_ns: if entered { inside.enter_ns } else { now },
        duration_ns: if entered { now - inside.enter_ns } else { 0 },
        ret,
        fd: -1,
        nr: inside.nr as u16,
        flags: if entered { 0 } else { flag::NO_ENTER },
    };
    if !entered {
        call.nr = PtRegs::number(regs) as u16;
    } else if inside.class & class::DESCRIPTOR != 0 {
        call.fd = inside.args[0] as i32;
        call.flags = flag::DESCRIPTOR;
    }
    slot.inside.enter_ns = 0;
    slot.last = call;
    push(slot, call);
    if entered && inside.class & events::CLASSES != 0 {
        events::of_call(slot, now);
    }
}

/// The current thread ends: its window is handed over and its slot given back.
#[inline(always)]
pub fn end_thread(slot: *mut ThreadSlot) {
    // SAFETY: the slot of the current thread, which makes no further call.
    let slot = unsafe { &mut *slot };
    if slot.inside.enter_ns != 0 {
        let inside = slot.inside;
        // SAFETY: helper without memory arguments.
        let now = unsafe { bpf_ktime_get_ns() };
        let call = CallRecord {
            enter_ns: inside.enter_ns,
            duration_ns: now - inside.enter_ns,
            ret: 0,
            fd: if inside.class & class::DESCRIPTOR != 0 {
                inside.args[0] as i32
            } else {
                -1
            },
            nr: inside.nr as u16,
            flags: flag::NO_RETURN,
        };
        push(slot, call);
    }
    if slot.window.header.count != 0 {
        flush(slot, end::THREAD_EXIT);
    }
}

#[inline(always)]
fn slot(tid: u32, pid_tgid: u64, cgroup: u64) -> Option<*mut ThreadSlot> {
    if let Some(slot) = THREADS.get_ptr_mut(tid) {
        return Some(slot);
    }
    let empty = EMPTY_SLOT.get(0)?;
    THREADS.insert(tid, empty, u64::from(BPF_NOEXIST)).ok()?;
    let slot = THREADS.get_ptr_mut(tid)?;
    // SAFETY: the slot of the current thread; only its own calls write it.
    let header = unsafe { &mut (*slot).window.header };
    header.cgroup = cgroup;
    header.pid = (pid_tgid >> 32) as u32;
    header.tid = tid;
    Some(slot)
}

#[inline(always)]
fn push(slot: &mut ThreadSlot, call: CallRecord) {
    slot.seen += 1;
    let count = slot.window.header.count as usize;
    if count < WINDOW_CALLS {
        slot.window.calls[count] = call;
        // The entry is complete before the count covers it: the sidecar reads slots in place.
        core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::Release);
        slot.window.header.count = count as u32 + 1;
        if count + 1 == WINDOW_CALLS {
            flush(slot, end::FULL);
        }
    }
}

#[inline(always)]
fn flush(slot: &mut ThreadSlot, why: u32) {
    let count = slot.window.header.count as u64;
    if count > WINDOW_CALLS as u64 {
        return;
    }
    slot.window.header.end = why;
    let size = size_of::<WindowHeader>() as u64 + count * size_of::<CallRecord>() as u64;
    let ring = (&raw const WINDOWS).cast_mut().cast();
    // SAFETY: `size` is at most the size of the window that `slot` holds.
    let refused = unsafe {
        generated::bpf_ringbuf_output(
            ring,
            (&raw mut slot.window).cast(),
            size,
            u64::from(BPF_RB_NO_WAKEUP),
        )
    };
    if refused == 0 {
        slot.window.header.lost_before = 0;
    } else {
        slot.lost += count;
        slot.window.header.lost_before += count as u32;
        count_lost(lost::WINDOW_RING_FULL, 1);
    }
    slot.window.header.sequence += 1;
    slot.window.header.count = 0;
    slot.window.header.end = 0;
}

/// The call that the thread is inside.
#[inline(always)]
pub fn inside_of(slot: *mut ThreadSlot) -> Inside {
    // SAFETY: the slot of the current thread; only its own calls write it.
    unsafe { (*slot).inside }
}
