//! Processes and threads that begin and end.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::{bpf_get_current_comm, bpf_ktime_get_ns},
};
use stethos_events::{EndedAccount, Event, ThreadSlot, kind, lost};

use crate::{
    events,
    kernel::{Current, clocks_of, of_task, offset, task_ids},
    maps::{CONTEXT_PLACES, ENDED, EVENT_SCRATCH, EXCLUDED, SCOPE_PIDS, count_lost},
    registers::PtRegs,
    scope, threads,
};

const SIGNAL_GROUP_EXIT: u32 = 4;

/// The current thread made `child`.
#[inline(always)]
pub fn fork(child: u64) {
    let current = Current::get();
    let (tid, tgid) = (current.tid(), current.tgid());
    let Some((child_pid, child_tid)) = task_ids(child) else {
        return;
    };
    // A tid may have been another thread's whose end was not seen.
    scope::forget(child_tid);
    if child_pid != tgid {
        scope::inherit(tgid, child_pid);
    }
    let Some(place) = scope::place(tgid) else {
        return;
    };
    if let Some(event) = begin(place.container, tgid, tid, kind::FORK) {
        event.extra = [child_pid, child_tid];
        events::ship(place.pod, event, 0);
    }
}

/// The current thread executes a new program; `old_tid` was its tid before.
#[inline(always)]
pub fn exec(old_tid: i32) {
    let current = Current::get();
    let (tid, tgid) = (current.tid(), current.tgid());
    if old_tid as u32 != tid {
        scope::forget(old_tid as u32);
    }
    // A container's first process joins its cgroup before it executes: what was decided about it
    // until then does not hold.
    scope::forget(tid);
    // What the process kept where is over.
    let _ = CONTEXT_PLACES.remove(tgid);
    let Some(place) = scope::place(tgid) else {
        return;
    };
    if let Some((number, slot)) = scope::slot_of_tid(place.pod, old_tid as u32) {
        // SAFETY: the slot of the current thread.
        let container = unsafe {
            (*slot).trace.generation = 0;
            (*slot).trace.state = 0;
            (*slot).window.header.cgroup
        };
        // Its calls so far are another thread's, or another container's.
        if old_tid as u32 != tid || container != place.container {
            retire(number, slot, -1);
        }
    }
    let Some(event) = begin(place.container, tgid, tid, kind::EXEC) else {
        return;
    };
    let mut len = 0;
    if let Ok(name) = bpf_get_current_comm() {
        event.bytes[..16].copy_from_slice(&name);
        len = 16;
    }
    events::ship(place.pod, event, len);
}

/// The current thread ends.
#[inline(always)]
pub fn exit() {
    let current = Current::get();
    let (tid, tgid) = (current.tid(), current.tgid());
    let present = scope::present_slot(current);
    let ending = ending(current);
    scope::forget(tid);
    if let Some((number, slot)) = present {
        // SAFETY: the slot of the current thread.
        let (cgroup, pod, regs) =
            unsafe { ((*slot).window.header.cgroup, (*slot).pod, (*slot).regs) };
        let inside = PtRegs::inside(regs).map_or(-1, |(nr, _)| nr);
        retire(number, slot, inside);
        if let Some(event) = begin(cgroup, tgid, tid, kind::EXIT) {
            event.extra = ending;
            events::ship(pod, event, 0);
        }
    } else if ending[1] == 1
        && let Some(place) = scope::place(tgid)
        && let Some(event) = begin(place.container, tgid, tid, kind::EXIT)
    {
        event.extra = ending;
        events::ship(place.pod, event, 0);
    }
    // Not with its first thread: what is left of the process may still return from a call.
    if ending[1] == 1 {
        let _ = CONTEXT_PLACES.remove(tgid);
        let _ = EXCLUDED.remove(tgid);
        let _ = SCOPE_PIDS.remove(tgid);
    }
}

/// What the current thread's process ends with as of `wait(2)`, and 1 when this was its last
/// thread.
#[inline(always)]
fn ending(current: Current) -> [u32; 2] {
    let task = current.address();
    let code: u32 = of_task(task, offset!(task_exit_code)).unwrap_or(u32::MAX);
    let Some(signal) = of_task::<u64>(task, offset!(task_signal)) else {
        return [code, 0];
    };
    let live: i32 = of_task(signal, offset!(signal_live)).unwrap_or(1);
    let flags: u32 = of_task(signal, offset!(signal_flags)).unwrap_or(0);
    let group: u32 = of_task(signal, offset!(signal_exit_code)).unwrap_or(code);
    let code = if flags & SIGNAL_GROUP_EXIT != 0 {
        group
    } else {
        code
    };
    [code, u32::from(live == 0)]
}

/// The task was chosen by the out-of-memory killer: placed by its slot when it has one, else as
/// the current task is, which ran out of memory and mostly belongs to the same container.
#[inline(always)]
pub fn oom_kill(tid: u32) {
    let (cgroup, pid, pod) = match scope::any_slot_of(tid) {
        // SAFETY: plain integers of an array entry.
        Some(slot) => unsafe {
            (
                (*slot).window.header.cgroup,
                (*slot).window.header.pid,
                (*slot).pod,
            )
        },
        None => match scope::place(Current::get().tgid()) {
            Some(place) => (place.container, tid, place.pod),
            None => return,
        },
    };
    if let Some(event) = begin(cgroup, pid, tid, kind::OOM_KILL) {
        events::ship(pod, event, 0);
    }
}

#[inline(always)]
pub fn oom_kill_task(task: u64) {
    if let Some((_, tid)) = task_ids(task) {
        oom_kill(tid);
    }
}

/// Hands over what the slot of an ended thread holds, adds up its account, and gives it back.
#[inline(always)]
fn retire(number: u32, slot: *mut ThreadSlot, inside: i32) {
    threads::end_thread(slot, inside);
    // SAFETY: plain integers of the slot of a thread that makes no further call.
    let (cgroup, seen, lost_calls, counted, pod, task, first) = unsafe {
        (
            (*slot).window.header.cgroup,
            (*slot).seen,
            (*slot).lost,
            (*slot).counted,
            (*slot).pod,
            (*slot).task,
            (*slot).first,
        )
    };
    let last = clocks_of(task).unwrap_or(first);
    if ENDED.get_ptr_mut(cgroup).is_none() {
        let _ = ENDED.insert(
            cgroup,
            EndedAccount {
                seen: 0,
                lost: 0,
                counted: 0,
                ran: 0,
                run_delay: 0,
                threads: 0,
                pod,
            },
            u64::from(BPF_NOEXIST),
        );
    }
    match ENDED.get_ptr_mut(cgroup) {
        Some(account) => {
            // SAFETY: a preallocated per-CPU entry.
            let account = unsafe { &mut *account };
            account.seen += seen;
            account.lost += lost_calls;
            account.counted += counted;
            account.ran += last.ran.wrapping_sub(first.ran);
            account.run_delay += last.run_delay.wrapping_sub(first.run_delay);
            account.threads += 1;
            account.pod = pod;
        }
        None => count_lost(pod, lost::NO_ACCOUNT, seen),
    }
    scope::release(number, slot);
}

/// Room for an event, with its head filled in.
#[inline(always)]
fn begin(cgroup: u64, pid: u32, tid: u32, kind: u32) -> Option<&'static mut Event> {
    let event = EVENT_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: per-CPU room; the programs that use it do not nest on one CPU.
    let event = unsafe { &mut *event };
    // SAFETY: helper without memory arguments.
    event.at_ns = unsafe { bpf_ktime_get_ns() };
    event.cgroup = cgroup;
    event.pid = pid;
    event.tid = tid;
    event.kind = kind;
    event.ret = 0;
    event.fd = -1;
    event.nr = 0;
    event.len = 0;
    event.extra = [0, 0];
    Some(event)
}
