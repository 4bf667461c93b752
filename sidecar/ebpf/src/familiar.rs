//! Which calls are familiar: those are only counted.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use stethos_events::{
    CONTEXT_TOKENS, COUNT_CLASSES, COUNT_ROWS, CallRecord, FAMILIAR_ENTRIES, FAMILIAR_PROBES,
    ThreadSlot, context_key, flag, token,
};

use crate::maps::{COUNTS, FAMILIAR, REDUCTION};

const _: () = assert!(CONTEXT_TOKENS * size_of::<u16>() == size_of::<u64>());

/// Every how many familiar windows one is shipped; 0 when all windows are.
#[inline(always)]
pub fn sample(pod: u32) -> u32 {
    REDUCTION
        .get_value(pod, &0)
        .map_or(0, |reduction| reduction.sample)
}

/// Takes the call into its thread's context. When the pod is reduced: counts the call if its kind
/// has a row, and notes in the slot when it was not familiar.
#[inline(always)]
pub fn judge(slot: &mut ThreadSlot, call: &mut CallRecord) {
    slot.context = slot.context << 16 | u64::from(token(call.nr, call.ret));
    if sample(slot.pod) == 0 {
        slot.strange += 1;
        return;
    }
    match row_of(slot) {
        Some((row, ceiling)) if count(slot.pod, row, call) => {
            call.flags |= flag::COUNTED;
            if u32::from(call.class) > ceiling {
                slot.strange += 1;
            }
        }
        _ => slot.strange += 1,
    }
}

/// Row and ceiling of the slot's context, when it is familiar.
#[inline(always)]
fn row_of(slot: &ThreadSlot) -> Option<(u32, u32)> {
    let key = context_key(slot.context, slot.window.header.cgroup);
    for probe in 0..FAMILIAR_PROBES as u64 {
        let at = (key.wrapping_add(probe) & (FAMILIAR_ENTRIES as u64 - 1)) as u32;
        let entry = FAMILIAR.get_value(slot.pod, &at)?;
        if entry.key == key {
            return Some((entry.row, entry.ceiling));
        }
        if entry.key == 0 {
            return None;
        }
    }
    None
}

/// Counts a call in its row. False when the row is not there.
#[inline(always)]
fn count(pod: u32, row: u32, call: &CallRecord) -> bool {
    if row >= COUNT_ROWS as u32 {
        return false;
    }
    // SAFETY: helper without arguments.
    let processor = unsafe { bpf_get_smp_processor_id() };
    let at = processor * COUNT_ROWS as u32 + row;
    let Some(counts) = COUNTS.get_value_ptr_mut(pod, &at) else {
        return false;
    };
    let class = (call.class as usize).min(COUNT_CLASSES - 1);
    // SAFETY: a row of this processor, which runs one program at a time.
    let counts = unsafe { &mut *counts };
    counts.calls += 1;
    counts.waited_ns = counts.waited_ns.wrapping_add(call.waited_ns);
    counts.classes[class] = counts.classes[class].wrapping_add(1);
    true
}
