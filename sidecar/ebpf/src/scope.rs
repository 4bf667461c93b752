//! Which threads are captured, and in which slot.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{bpf_get_current_pid_tgid, generated},
};
use stethos_events::{
    CallRecord, ContextPlace, DECISIONS, PROBES, Polled, SCOPE_LEVELS, ThreadSlot, ThreadTrace,
    TraceContext, lost,
};

use crate::{
    kernel::Current,
    maps::{
        self, CLAIMS, DECISIONS_BY_TID, EXCLUDED, POD_TABLE, SCOPE, SCOPE_PIDS, SELF, count_lost,
    },
};

/// Where the current thread belongs.
#[derive(Clone, Copy)]
pub struct Place {
    pub pod: u32,
    /// Cgroup id of the container: the cgroup directly below the target's, or the target's own.
    pub container: u64,
}

/// The slot of the current thread, if it is in scope: as decided before, or decided now.
#[inline(always)]
pub fn slot_of(current: Current, regs: u64) -> Option<*mut ThreadSlot> {
    let tid = current.tid();
    let at = tid % DECISIONS as u32;
    let decided = *DECISIONS_BY_TID.get(at)?;
    let verdict = if (decided >> 32) as u32 == tid {
        decided as u32
    } else {
        decide(current, regs)
    };
    if verdict == 0 {
        return None;
    }
    let slot = maps::slot(verdict - 1)?;
    // SAFETY: an array entry.
    let (owner, pod) = unsafe { ((*slot).window.header.tid, (*slot).pod) };
    if owner != tid {
        count_lost(pod, lost::STALE_SLOT, 1);
        forget(tid);
        return None;
    }
    Some(slot)
}

/// The slot of the current thread, if it has one.
#[inline(always)]
pub fn present_slot(current: Current) -> Option<(u32, *mut ThreadSlot)> {
    let tid = current.tid();
    let decided = *DECISIONS_BY_TID.get(tid % DECISIONS as u32)?;
    let number = if (decided >> 32) as u32 == tid {
        (decided as u32).checked_sub(1)?
    } else {
        let place = place(current.tgid())?;
        find(place.pod, tid).0?
    };
    let slot = maps::slot(number)?;
    // SAFETY: an array entry.
    (unsafe { (*slot).window.header.tid } == tid).then_some((number, slot))
}

/// Drops what was decided about a thread.
#[inline(always)]
pub fn forget(tid: u32) {
    if let Some(entry) = DECISIONS_BY_TID.get_ptr_mut(tid % DECISIONS as u32) {
        // SAFETY: an array entry; 0 is the decision about no thread.
        unsafe {
            if (*entry >> 32) as u32 == tid {
                core::ptr::write_volatile(entry, 0);
            }
        }
    }
}

/// Decides about the current thread and remembers it.
#[inline(never)]
fn decide(current: Current, regs: u64) -> u32 {
    let tid = current.tid();
    let verdict = match place(current.tgid()) {
        None => 0,
        Some(place) => match take(place, current, regs) {
            Some(number) => number + 1,
            None => {
                // Not remembered: a slot may become free.
                count_lost(place.pod, lost::NO_SLOT, 1);
                return 0;
            }
        },
    };
    if let Some(entry) = DECISIONS_BY_TID.get_ptr_mut(tid % DECISIONS as u32) {
        // SAFETY: an array entry, written whole.
        unsafe { core::ptr::write_volatile(entry, u64::from(tid) << 32 | u64::from(verdict)) };
    }
    verdict
}

/// Pod and container of the current thread, whose process is `tgid`.
#[inline(always)]
pub fn place(tgid: u32) -> Option<Place> {
    let found = by_cgroup().or_else(|| {
        // SAFETY: plain integers, copied at once.
        let scope = unsafe { SCOPE_PIDS.get(tgid) }.copied()?;
        Some(Place {
            pod: scope.pod,
            container: scope.container,
        })
    })?;
    // SAFETY: presence alone is read.
    match unsafe { EXCLUDED.get(tgid) } {
        Some(_) => None,
        None => Some(found),
    }
}

#[inline(always)]
fn by_cgroup() -> Option<Place> {
    let mut found: Option<u32> = None;
    let mut target = 0;
    for level in 1..SCOPE_LEVELS {
        // SAFETY: helper without memory arguments.
        let id = unsafe { generated::bpf_get_current_ancestor_cgroup_id(level as i32) };
        if let Some(pod) = found {
            return Some(Place {
                pod,
                container: if id == 0 { target } else { id },
            });
        }
        if id == 0 {
            return None;
        }
        // SAFETY: a plain integer, copied at once.
        found = unsafe { SCOPE.get(id) }.copied();
        target = id;
    }
    None
}

/// The slot that a thread has among its pod's, and the first free one that it may have.
#[inline(always)]
fn find(pod: u32, tid: u32) -> (Option<u32>, Option<u32>) {
    let Some(entry) = POD_TABLE.get(pod) else {
        return (None, None);
    };
    let (slots, first) = (
        entry.slots,
        entry.first_bank * stethos_events::BANK_SLOTS as u32,
    );
    if slots == 0 {
        return (None, None);
    }
    let start = probed_first(tid);
    let mut free = None;
    for probe in 0..PROBES as u32 {
        let number = first + (start.wrapping_add(probe) & (slots - 1));
        let Some(slot) = maps::slot(number) else {
            return (None, None);
        };
        // SAFETY: an array entry.
        let owner = unsafe { (*slot).window.header.tid };
        if owner == tid {
            return (Some(number), None);
        }
        if owner == 0 && free.is_none() {
            free = Some(number);
        }
    }
    (None, free)
}

/// Where a thread's slot is looked for first, before the number of slots cuts it.
#[inline(always)]
fn probed_first(tid: u32) -> u32 {
    tid.wrapping_mul(0x9e37_79b1) >> 7
}

/// The number of the current thread's slot: its own, or a free one that becomes its own.
#[inline(always)]
fn take(place: Place, current: Current, regs: u64) -> Option<u32> {
    let tid = current.tid();
    let (own, free) = find(place.pod, tid);
    if own.is_some() {
        return own;
    }
    let mut number = free?;
    let entry = POD_TABLE.get(place.pod)?;
    let first = entry.first_bank * stethos_events::BANK_SLOTS as u32;
    let within = entry.slots.wrapping_sub(1);
    // Another thread may take it first; the next ones that it may have are tried then.
    let mut claimed = false;
    for _ in 0..PROBES {
        let from_start = number.wrapping_sub(first).wrapping_sub(probed_first(tid)) & within;
        if from_start >= PROBES as u32 {
            return None;
        }
        if CLAIMS.insert(number, tid, u64::from(BPF_NOEXIST)).is_ok() {
            claimed = true;
            break;
        }
        number = first + (number.wrapping_sub(first).wrapping_add(1) & within);
    }
    if !claimed {
        return None;
    }
    let slot = maps::slot(number)?;
    // SAFETY: claimed, so no other thread writes it.
    let slot = unsafe { &mut *slot };
    let header = &mut slot.window.header;
    header.cgroup = place.container;
    header.pid = current.tgid();
    header.sequence = 0;
    header.lost_before = 0;
    header.count = 0;
    header.end = 0;
    header.weight = 0;
    header.counted_before = 0;
    header.context = 0;
    slot.task = current.address();
    slot.regs = regs;
    slot.clocks = current.clocks();
    slot.first = slot.clocks;
    slot.last = CallRecord {
        exit_ns: 0,
        waited_ns: 0,
        ret: 0,
        fd: -1,
        nr: 0,
        class: 0,
        flags: 0,
    };
    slot.seen = 0;
    slot.lost = 0;
    slot.counted = 0;
    slot.context = 0;
    slot.strange = 0;
    slot.familiar_windows = 0;
    slot.sample_at = 0;
    slot.polled = Polled {
        at_ns: 0,
        since_ns: 0,
        arg_0: 0,
        nr: -1,
        state: 0,
        seen: 0,
        ran: 0,
        run_delay: 0,
    };
    slot.trace = ThreadTrace {
        pointer: 0,
        place: ContextPlace {
            offset: 0,
            module: 0,
        },
        told: TraceContext {
            trace_id: [0, 0],
            span_id: 0,
            flags: 0,
            source: 0,
        },
        generation: 0,
        state: 0,
        lost: 0,
        epoch: 0,
    };
    slot.pod = place.pod;
    slot.owner = tid;
    // The slot is whole before it has an owner: the sidecar reads slots in place.
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::Release);
    slot.window.header.tid = tid;
    Some(number)
}

/// The slot that the thread `tid` has in `pod`.
#[inline(always)]
pub fn slot_of_tid(pod: u32, tid: u32) -> Option<(u32, *mut ThreadSlot)> {
    let number = find(pod, tid).0?;
    Some((number, maps::slot(number)?))
}

/// The slot of a thread other than the current one, as decided.
#[inline(always)]
pub fn any_slot_of(tid: u32) -> Option<*mut ThreadSlot> {
    let decided = *DECISIONS_BY_TID.get(tid % DECISIONS as u32)?;
    if (decided >> 32) as u32 != tid {
        return None;
    }
    let slot = maps::slot((decided as u32).checked_sub(1)?)?;
    // SAFETY: an array entry.
    (unsafe { (*slot).window.header.tid } == tid).then_some(slot)
}

/// Gives the slot back.
#[inline(always)]
pub fn release(number: u32, slot: *mut ThreadSlot) {
    // SAFETY: the slot of a thread that makes no further call.
    unsafe { core::ptr::write_volatile(&raw mut (*slot).window.header.tid, 0) };
    let _ = CLAIMS.remove(number);
}

/// Processes that a process in scope, or one of Stethos's own, starts belong where it belongs.
#[inline(always)]
pub fn inherit(parent: u32, child: u32) {
    // SAFETY: a plain integer, copied at once.
    if let Some(pod) = unsafe { EXCLUDED.get(parent) }.copied() {
        if EXCLUDED.insert(child, pod, u64::from(BPF_ANY)).is_err() {
            count_lost(pod, lost::NO_SCOPE_SLOT, 1);
        }
        return;
    }
    // SAFETY: plain integers, copied at once.
    if let Some(scope) = unsafe { SCOPE_PIDS.get(parent) }.copied() {
        if SCOPE_PIDS.insert(child, scope, u64::from(BPF_ANY)).is_err() {
            count_lost(scope.pod, lost::NO_SCOPE_SLOT, 1);
        }
        return;
    }
    // What had the id before may have been named when it had ended already.
    // SAFETY: presence alone is read.
    let named = unsafe {
        (
            EXCLUDED.get(child).is_some(),
            SCOPE_PIDS.get(child).is_some(),
        )
    };
    if named.0 {
        let _ = EXCLUDED.remove(child);
    }
    if named.1 {
        let _ = SCOPE_PIDS.remove(child);
    }
}

/// Tells the caller who it is and where its cgroup stands.
pub fn discover() {
    let Some(found) = SELF.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: an array entry; only the loader's start-up runs this.
    let found = unsafe { &mut *found };
    for level in 0..found.ancestors.len() {
        // SAFETY: helper without memory arguments.
        found.ancestors[level] =
            unsafe { generated::bpf_get_current_ancestor_cgroup_id(level as i32) };
    }
    found.pid_tgid = bpf_get_current_pid_tgid();
}
