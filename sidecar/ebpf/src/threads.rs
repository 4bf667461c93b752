//! The window of each thread.

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    helpers::{bpf_ktime_get_ns, bpf_probe_read_user, generated},
};
use stethos_events::{
    CALL_NUMBERS, CallRecord, RECENT_CALLS, ThreadSlot, WINDOW_CALLS, WindowHeader, class,
    duration_class, end, flag, lost,
};

use crate::{
    contexts, descriptors, events, familiar,
    kernel::Current,
    maps::{CALL_CLASS, WINDOWS, count_lost},
    registers::PtRegs,
    scope,
};

/// A call of the current thread returned.
#[inline(always)]
pub fn exit(regs: *const PtRegs, ret: i64) {
    let current = Current::get();
    let Some(slot) = scope::slot_of(current, regs as u64) else {
        return;
    };
    // SAFETY: the slot of the current thread; only its own calls write it.
    let slot = unsafe { &mut *slot };
    // SAFETY: helper without memory arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    // The return of a signal handler leaves the registers that the signal found, without a number.
    let (nr, ret) = match PtRegs::number(regs) {
        u32::MAX => (PtRegs::RT_SIGRETURN, 0),
        nr => (nr, ret),
    };
    let class = if (nr as usize) < CALL_NUMBERS {
        CALL_CLASS.get(nr).copied().unwrap_or(0)
    } else {
        0
    };
    let ret = if class & class::SOCKET_ERROR != 0 && ret == 0 {
        socket_error(PtRegs::first_three(regs), PtRegs::fourth(regs))
    } else {
        ret
    };
    let mut call = CallRecord {
        exit_ns: now,
        waited_ns: 0,
        ret,
        fd: -1,
        nr: nr as u16,
        class: 0,
        flags: 0,
    };
    if class & class::DESCRIPTOR != 0 {
        call.fd = PtRegs::first(regs) as i32;
        call.flags = flag::DESCRIPTOR;
    }
    if slot.seen == 0 {
        call.flags |= flag::FIRST;
        slot.clocks = current.clocks();
    } else if current.exec_start() != slot.clocks.exec_start {
        call.waited_ns = waited(slot, current, now);
        call.class = duration_class(call.waited_ns);
    }
    if class & class::WAIT != 0 && slot.window.header.count != 0 {
        flush(slot, end::WAIT);
    }
    let familiar = push(slot, call);
    if class & class::SOCKET_ERROR != 0 && slot.last.ret < 0 {
        descriptors::connect_failed(slot, now);
    }
    let mut in_file = false;
    if class & class::FOLLOWED != 0 && class & class::CONNECT == 0 {
        let class = if class & class::CONTROL != 0 && duplicates(PtRegs::first_three(regs)) {
            class::DUPLICATE
        } else {
            class
        };
        in_file = descriptors::follow(slot, class, now);
    }
    if contexts::are_told(slot, current) && !familiar {
        contexts::tell(slot, now);
    }
    if class & events::CLASSES != 0 && !in_file {
        events::of_call(slot, class, PtRegs::first_three(regs), now, familiar);
    }
}

/// What a `getsockopt` with these arguments handed out: the socket's error as a call returns one, or
/// 0.
#[inline(always)]
fn socket_error(args: [u64; 3], value: u64) -> i64 {
    const SOL_SOCKET: u32 = 1;
    const SO_ERROR: u32 = 4;
    const MAX_ERRNO: i32 = 4095;
    if args[1] as u32 != SOL_SOCKET || args[2] as u32 != SO_ERROR {
        return 0;
    }
    // SAFETY: the helper checks the user address.
    match unsafe { bpf_probe_read_user(value as *const i32) } {
        Ok(error @ 1..=MAX_ERRNO) => -i64::from(error),
        _ => 0,
    }
}

/// An `fcntl` with these arguments gives a copy of its descriptor.
#[inline(always)]
fn duplicates(args: [u64; 3]) -> bool {
    const F_DUPFD: u32 = 0;
    const F_DUPFD_CLOEXEC: u32 = 1030;
    matches!(args[1] as u32, F_DUPFD | F_DUPFD_CLOEXEC)
}

/// How long the current thread was off the processor of its own accord since its last return.
#[inline(always)]
fn waited(slot: &mut ThreadSlot, current: Current, now: u64) -> u64 {
    let clocks = current.clocks();
    let waited = clocks.waited_since(&slot.clocks);
    slot.clocks = clocks;
    let passed = now.wrapping_sub(slot.last.exit_ns);
    if waited < passed { waited } else { passed }
}

/// The current thread ends, inside the call `nr`: its window is handed over.
#[inline(always)]
pub fn end_thread(slot: *mut ThreadSlot, nr: i32) {
    // SAFETY: the slot of a thread that makes no further call.
    let slot = unsafe { &mut *slot };
    if nr == PtRegs::EXIT || nr == PtRegs::EXIT_GROUP {
        let call = CallRecord {
            // SAFETY: helper without memory arguments.
            exit_ns: unsafe { bpf_ktime_get_ns() },
            waited_ns: 0,
            ret: 0,
            fd: -1,
            nr: nr as u16,
            class: 0,
            flags: flag::NO_RETURN,
        };
        push(slot, call);
    }
    if slot.window.header.count != 0 {
        flush(slot, end::THREAD_EXIT);
    }
}

/// Adds a finished call to its thread's window. True for a familiar one.
#[inline(always)]
fn push(slot: &mut ThreadSlot, mut call: CallRecord) -> bool {
    let familiar = familiar::judge(slot, &mut call);
    slot.last = call;
    slot.recent[(slot.seen % RECENT_CALLS as u64) as usize] = call;
    // The entry is complete before the number covers it: the sidecar reads slots in place.
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::Release);
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
    familiar
}

/// Ends the window: it is handed over, or, when every call of it was familiar, only counted.
#[inline(never)]
fn flush(slot: &mut ThreadSlot, why: u32) {
    let count = slot.window.header.count as u64;
    if count > WINDOW_CALLS as u64 {
        return;
    }
    let mut weight = 1;
    if slot.strange == 0 {
        let sample = familiar::sample(slot.pod);
        slot.familiar_windows = slot.familiar_windows.wrapping_add(1);
        if slot.sample_at == 0 {
            slot.sample_at = familiar::next_sample(sample);
        }
        if sample > 1 && slot.familiar_windows < slot.sample_at {
            slot.counted += count;
            slot.window.header.counted_before += count;
            next_window(slot);
            return;
        }
        weight = slot.familiar_windows;
        slot.familiar_windows = 0;
        slot.sample_at = 0;
    }
    slot.window.header.end = why;
    slot.window.header.weight = weight;
    let size = size_of::<WindowHeader>() as u64 + count * size_of::<CallRecord>() as u64;
    let refused = match WINDOWS.get(slot.pod) {
        // SAFETY: `size` is at most the size of the window that `slot` holds.
        Some(ring) => unsafe {
            generated::bpf_ringbuf_output(
                core::ptr::from_ref(ring).cast_mut().cast(),
                (&raw mut slot.window).cast(),
                size,
                u64::from(BPF_RB_NO_WAKEUP),
            )
        },
        None => -1,
    };
    if refused == 0 {
        slot.window.header.lost_before = 0;
        slot.window.header.counted_before = 0;
    } else {
        slot.lost += count;
        slot.window.header.lost_before += count as u32;
        count_lost(slot.pod, lost::WINDOW_RING_FULL, 1);
    }
    next_window(slot);
}

#[inline(always)]
fn next_window(slot: &mut ThreadSlot) {
    slot.strange = 0;
    let context = slot.context;
    let header = &mut slot.window.header;
    // The sidecar reads slots in place: the calls that were handed over are not those of an
    // unfinished window at any moment.
    header.count = 0;
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::Release);
    header.sequence += 1;
    header.end = 0;
    header.weight = 0;
    header.context = context;
}
