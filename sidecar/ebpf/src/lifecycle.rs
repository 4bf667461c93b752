//! Processes and threads that begin and end.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::{
        bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_ktime_get_ns, bpf_probe_read_kernel,
    },
};
use stethos_events::{EndedAccount, Event, class, kind, lost};

use crate::{
    events,
    maps::{ENDED, EVENT_SCRATCH, EXCLUDED, SCOPE_PIDS, SETTINGS, THREADS, count_lost},
    scope, threads,
};

/// The current thread made `child`.
#[inline(always)]
pub fn fork(child: *const u8) {
    let Some(settings) = SETTINGS.get(0) else {
        return;
    };
    let pid_tgid = bpf_get_current_pid_tgid();
    let tgid = (pid_tgid >> 32) as u32;
    let Some((child_pid, child_tid)) = task_ids(child) else {
        return;
    };
    if child_pid != tgid {
        // SAFETY: presence alone is read.
        if unsafe { EXCLUDED.get(tgid) }.is_some() {
            if EXCLUDED.insert(child_pid, 1, u64::from(BPF_ANY)).is_err() {
                count_lost(lost::NO_SCOPE_SLOT, 1);
            }
            return;
        }
        // SAFETY: a plain integer, copied at once.
        if let Some(target) = unsafe { SCOPE_PIDS.get(tgid) }.copied()
            && SCOPE_PIDS
                .insert(child_pid, target, u64::from(BPF_ANY))
                .is_err()
        {
            count_lost(lost::NO_SCOPE_SLOT, 1);
        }
    }
    let Some(cgroup) = scope::container(settings, tgid) else {
        return;
    };
    if let Some(event) = begin(cgroup, pid_tgid, kind::FORK) {
        event.extra = [child_pid, child_tid];
        events::ship(event, 0);
    }
}

/// The current thread executes a new program; `old_tid` was its tid before.
#[inline(always)]
pub fn exec(old_tid: i32) {
    let Some(settings) = SETTINGS.get(0) else {
        return;
    };
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(cgroup) = scope::container(settings, (pid_tgid >> 32) as u32) else {
        return;
    };
    if old_tid as u32 != pid_tgid as u32 {
        retire(old_tid as u32);
    }
    let Some(event) = begin(cgroup, pid_tgid, kind::EXEC) else {
        return;
    };
    let mut len = 0;
    if let Ok(name) = bpf_get_current_comm() {
        event.bytes[..16].copy_from_slice(&name);
        len = 16;
    }
    events::ship(event, len);
}

/// The current thread ends.
#[inline(always)]
pub fn exit() {
    let pid_tgid = bpf_get_current_pid_tgid();
    let tid = pid_tgid as u32;
    let tgid = (pid_tgid >> 32) as u32;
    if tid == tgid {
        let _ = EXCLUDED.remove(tgid);
        let _ = SCOPE_PIDS.remove(tgid);
    }
    let Some(slot) = THREADS.get_ptr_mut(tid) else {
        return;
    };
    let inside = threads::inside_of(slot);
    // SAFETY: the slot of the current thread.
    let cgroup = unsafe { (*slot).window.header.cgroup };
    retire(tid);
    if let Some(event) = begin(cgroup, pid_tgid, kind::EXIT) {
        let asked = inside.enter_ns != 0 && inside.class & class::EXIT != 0;
        event.extra = if asked {
            [inside.args[0] as u32 & 0xff, 1]
        } else {
            [u32::MAX, 0]
        };
        events::ship(event, 0);
    }
}

#[inline(always)]
pub fn oom_kill(pid: i32) {
    let tid = pid as u32;
    let Some(slot) = THREADS.get_ptr_mut(tid) else {
        return;
    };
    // SAFETY: plain integers of a slot that is not freed while the program runs.
    let (cgroup, pid) = unsafe { ((*slot).window.header.cgroup, (*slot).window.header.pid) };
    if let Some(event) = begin(
        cgroup,
        u64::from(pid) << 32 | u64::from(tid),
        kind::OOM_KILL,
    ) {
        events::ship(event, 0);
    }
}

#[inline(always)]
pub fn oom_kill_task(task: *const u8) {
    if let Some((_, tid)) = task_ids(task) {
        oom_kill(tid as i32);
    }
}

/// Hands over what the thread's slot holds, adds up its account, and gives the slot back.
#[inline(always)]
fn retire(tid: u32) {
    let Some(slot) = THREADS.get_ptr_mut(tid) else {
        return;
    };
    threads::end_thread(slot);
    // SAFETY: plain integers of a slot that is not freed while the program runs.
    let (cgroup, seen, lost_calls) =
        unsafe { ((*slot).window.header.cgroup, (*slot).seen, (*slot).lost) };
    if ENDED.get_ptr_mut(cgroup).is_none() {
        let _ = ENDED.insert(
            cgroup,
            EndedAccount {
                seen: 0,
                lost: 0,
                threads: 0,
            },
            u64::from(BPF_NOEXIST),
        );
    }
    match ENDED.get_ptr_mut(cgroup) {
        Some(account) => {
            // SAFETY: a preallocated per-CPU entry that is never removed.
            let account = unsafe { &mut *account };
            account.seen += seen;
            account.lost += lost_calls;
            account.threads += 1;
        }
        None => count_lost(lost::NO_ACCOUNT, seen),
    }
    let _ = THREADS.remove(tid);
}

/// Room for an event, with its head filled in.
#[inline(always)]
fn begin(cgroup: u64, pid_tgid: u64, kind: u32) -> Option<&'static mut Event> {
    let event = EVENT_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: per-CPU room; the programs that use it do not nest on one CPU.
    let event = unsafe { &mut *event };
    // SAFETY: helper without memory arguments.
    event.at_ns = unsafe { bpf_ktime_get_ns() };
    event.cgroup = cgroup;
    event.pid = (pid_tgid >> 32) as u32;
    event.tid = pid_tgid as u32;
    event.kind = kind;
    event.ret = 0;
    event.fd = -1;
    event.nr = 0;
    event.len = 0;
    event.extra = [0, 0];
    Some(event)
}

/// pid (thread group) and tid of a task in the initial PID namespace.
#[inline(always)]
fn task_ids(task: *const u8) -> Option<(u32, u32)> {
    let settings = SETTINGS.get(0)?;
    let pid_at = (task as usize + settings.task_pid_offset as usize) as *const u32;
    let tgid_at = (task as usize + settings.task_tgid_offset as usize) as *const u32;
    // SAFETY: the helper checks every access.
    let (tid, pid) = unsafe {
        (
            bpf_probe_read_kernel(pid_at).ok()?,
            bpf_probe_read_kernel(tgid_at).ok()?,
        )
    };
    Some((pid, tid))
}
