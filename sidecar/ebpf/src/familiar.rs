//! Which calls are familiar: those are only counted.

use aya_ebpf::helpers::{bpf_get_prandom_u32, bpf_get_smp_processor_id};
use stethos_events::{
    CONTEXT_TOKENS, COUNT_CLASSES, COUNT_ROWS, CallRecord, FAMILIAR_ENTRIES, FAMILIAR_PROBES,
    ThreadSlot, context_key, flag, token,
};

use crate::maps::{COUNTS, FAMILIAR, REDUCTION};

const _: () = assert!(CONTEXT_TOKENS * size_of::<u16>() == size_of::<u64>());

/// Of how many familiar windows one is shipped; 0 when all windows are.
#[inline(always)]
pub fn sample(pod: u32) -> u32 {
    REDUCTION
        .get_value(pod, &0)
        .map_or(0, |reduction| reduction.sample)
}

/// Changes whenever `sample` does.
#[inline(always)]
pub fn epoch(pod: u32) -> u32 {
    REDUCTION
        .get_value(pod, &0)
        .map_or(0, |reduction| reduction.epoch)
}

/// Takes the call into its thread's context. When the pod is reduced: counts the call if its kind
/// has a row, and notes in the slot when it was not familiar. True for a familiar call.
#[inline(always)]
pub fn judge(slot: &mut ThreadSlot, call: &mut CallRecord) -> bool {
    slot.context = slot.context << 16 | u64::from(token(call.nr, call.ret));
    if sample(slot.pod) == 0 {
        slot.strange += 1;
        return false;
    }
    let familiar = match row_of(slot.pod, slot.context, slot.window.header.cgroup) {
        Some((row, ceiling)) if count(slot.pod, row, call.class, call.waited_ns) => {
            call.flags |= flag::COUNTED;
            u32::from(call.class) <= ceiling
        }
        _ => false,
    };
    if !familiar {
        slot.strange += 1;
    }
    familiar
}

/// Row and ceiling of a context, or of what stands in its place, when it is familiar.
#[inline(always)]
pub fn row_of(pod: u32, context: u64, container: u64) -> Option<(u32, u32)> {
    let key = context_key(context, container);
    for probe in 0..FAMILIAR_PROBES as u64 {
        let at = (key.wrapping_add(probe) & (FAMILIAR_ENTRIES as u64 - 1)) as u32;
        let entry = FAMILIAR.get_value(pod, &at)?;
        if entry.key == key {
            return Some((entry.row, entry.ceiling));
        }
        if entry.key == 0 {
            return None;
        }
    }
    None
}

/// Counts a duration in its row. False when the row is not there.
#[inline(always)]
pub fn count(pod: u32, row: u32, class: u8, ns: u64) -> bool {
    if row >= COUNT_ROWS as u32 {
        return false;
    }
    // SAFETY: helper without arguments.
    let processor = unsafe { bpf_get_smp_processor_id() };
    let at = processor * COUNT_ROWS as u32 + row;
    let Some(counts) = COUNTS.get_value_ptr_mut(pod, &at) else {
        return false;
    };
    let class = (class as usize).min(COUNT_CLASSES - 1);
    // SAFETY: a row of this processor, which runs one program at a time.
    let counts = unsafe { &mut *counts };
    counts.calls += 1;
    counts.waited_ns = counts.waited_ns.wrapping_add(ns);
    counts.classes[class] = counts.classes[class].wrapping_add(1);
    true
}

/// How many familiar windows make the next one that is shipped: evenly spread between 1 and
/// twice `sample` less one, so that what repeats in a rhythm is not always missed.
#[inline(always)]
pub fn next_sample(sample: u32) -> u32 {
    // SAFETY: helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    let span = sample.wrapping_mul(2).wrapping_sub(1);
    if span == 0 { 1 } else { 1 + random % span }
}
