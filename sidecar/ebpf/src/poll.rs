//! What threads are doing while they make no call: asked for by the loader a few times a second,
//! so that no call has to pay for it.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use stethos_events::{POLL_SLOTS, Polled, ThreadSlot, run_state};

use crate::{
    kernel::{clocks_of, of_task, offset},
    maps,
    registers::PtRegs,
};

const TASK_INTERRUPTIBLE: u32 = 1;
const TASK_UNINTERRUPTIBLE: u32 = 2;
const TASK_STOPPED_OR_TRACED: u32 = 4 | 8;
const TASK_FROZEN: u32 = 0x8000;
const JOBCTL_TRAP_FREEZE: u64 = 1 << 23;

/// Looks at `POLL_SLOTS` slots from number `first` on.
#[inline(always)]
pub fn slots(first: u32) {
    // SAFETY: helper without memory arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    for index in 0..POLL_SLOTS as u32 {
        let Some(slot) = maps::slot(first + index) else {
            return;
        };
        // SAFETY: an array entry.
        if unsafe { (*slot).window.header.tid } != 0 {
            look(slot, now);
        }
    }
}

#[inline(never)]
fn look(slot: *mut ThreadSlot, now: u64) {
    // SAFETY: an array entry; only this program writes `polled`.
    let slot = unsafe { &mut *slot };
    let seen = slot.seen;
    let state = state(slot);
    let mut found = Polled {
        at_ns: now,
        since_ns: 0,
        arg_0: 0,
        nr: -1,
        state,
        seen,
        ran: slot.polled.ran,
        run_delay: slot.polled.run_delay,
    };
    let clocks = match state {
        run_state::GONE => None,
        _ => clocks_of(slot.task),
    };
    if let Some(clocks) = clocks {
        found.ran = clocks.ran.wrapping_sub(slot.first.ran);
        found.run_delay = clocks.run_delay.wrapping_sub(slot.first.run_delay);
    }
    if state != run_state::GONE && state != run_state::RUNNING {
        if let Some((nr, first)) = PtRegs::inside(slot.regs) {
            found.nr = nr;
            found.arg_0 = first;
        }
        if let Some(clocks) = clocks {
            // It went to sleep when its running time was last added up: as long after its last
            // return as the run queue's clock says, less what it was ready to run.
            let ran = clocks
                .exec_start
                .wrapping_sub(slot.clocks.exec_start)
                .wrapping_sub(clocks.run_delay.wrapping_sub(slot.clocks.run_delay));
            let since = slot.last.exit_ns.wrapping_add(ran);
            found.since_ns = if ran <= u64::MAX / 2 && since < now {
                since
            } else {
                slot.last.exit_ns
            };
        }
    }
    slot.polled = found;
}

#[inline(always)]
fn state(slot: &ThreadSlot) -> u32 {
    let tid: Option<u32> = of_task(slot.task, offset!(task_pid));
    if tid != Some(slot.window.header.tid) {
        return run_state::GONE;
    }
    let (Some(state), Some(jobctl)) = (
        of_task::<u32>(slot.task, offset!(task_state)),
        of_task::<u64>(slot.task, offset!(task_jobctl)),
    ) else {
        return run_state::GONE;
    };
    if state & TASK_FROZEN != 0 || jobctl & JOBCTL_TRAP_FREEZE != 0 {
        run_state::FROZEN
    } else if state & TASK_STOPPED_OR_TRACED != 0 {
        run_state::STOPPED
    } else if state & TASK_UNINTERRUPTIBLE != 0 {
        run_state::BLOCKED
    } else if state & TASK_INTERRUPTIBLE != 0 {
        run_state::SLEEPING
    } else {
        run_state::RUNNING
    }
}
