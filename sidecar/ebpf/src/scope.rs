//! Which threads are captured.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_kernel, generated};
use stethos_events::{DISCOVERY_OPTION, SCOPE_LEVELS, Settings};

use crate::{
    maps::{EXCLUDED, SCOPE, SCOPE_PIDS, SELF},
    threads::PtRegs,
};

/// The container (cgroup id) that the current thread belongs to, if it is in scope.
#[inline(always)]
pub fn container(settings: &Settings, tgid: u32) -> Option<u64> {
    let found = by_cgroup(settings).or_else(|| {
        if settings.by_pid == 0 {
            return None;
        }
        // SAFETY: the value is a plain integer, copied at once.
        unsafe { SCOPE_PIDS.get(tgid) }.copied()
    })?;
    // SAFETY: presence alone is read.
    match unsafe { EXCLUDED.get(tgid) } {
        Some(_) => None,
        None => Some(found),
    }
}

#[inline(always)]
fn by_cgroup(settings: &Settings) -> Option<u64> {
    for index in 0..SCOPE_LEVELS {
        if index as u32 >= settings.level_count {
            break;
        }
        let level = settings.levels[index];
        // SAFETY: helper without memory arguments.
        let id = unsafe { generated::bpf_get_current_ancestor_cgroup_id(level as i32) };
        if id == 0 {
            continue;
        }
        // SAFETY: presence alone is read.
        if unsafe { SCOPE.get(id) }.is_some() {
            // SAFETY: helper without memory arguments.
            let below = unsafe { generated::bpf_get_current_ancestor_cgroup_id(level as i32 + 1) };
            return Some(if below == 0 { id } else { below });
        }
    }
    None
}

pub fn discover(regs: *const PtRegs, nr: i64) {
    let Some(found) = SELF.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: `regs` is the argument of the tracepoint; the helper checks every access.
    let Ok(args) = (unsafe { bpf_probe_read_kernel(PtRegs::arguments(regs)) }) else {
        return;
    };
    if nr != PtRegs::PRCTL || PtRegs::argument_of(&args, 0) != DISCOVERY_OPTION {
        return;
    }
    // SAFETY: an array entry; only the sidecar's own start-up makes this call.
    let found = unsafe { &mut *found };
    for level in 0..found.ancestors.len() {
        // SAFETY: helper without memory arguments.
        found.ancestors[level] =
            unsafe { generated::bpf_get_current_ancestor_cgroup_id(level as i32) };
    }
    found.pid_tgid = bpf_get_current_pid_tgid();
}
