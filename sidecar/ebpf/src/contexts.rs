//! Under which span the current thread works, as its process publishes it (OTEP 4947), or as another
//! program on this node says (OBI's shared map).
//!
//! While everything is shipped, every change is told. While calls are only counted, the context of each call
//! that is not familiar, and of each exchange that is told, is told with the time of that call, and says nothing
//! about others.

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_probe_read_user, generated};
use stethos_events::{
    Event, ThreadSlot, TraceContext, context_setting, context_source, context_state, kind,
};

use crate::{
    events, familiar,
    kernel::Current,
    maps::{CONTEXT_PLACES, CONTEXT_SETTINGS, SHARED_CONTEXTS},
};

/// The part of a record of OTEP 4947 that every record has.
#[repr(C)]
#[derive(Clone, Copy)]
struct Published {
    trace_id: [u64; 2],
    span_id: u64,
    valid: u8,
    flags: u8,
    attributes: u16,
}

const PUBLISHED_BYTES: u32 = 28;
const _: () = assert!(core::mem::offset_of!(Published, valid) == 24);
const CONTEXT_BYTES: usize = size_of::<TraceContext>();

const NONE: TraceContext = TraceContext {
    trace_id: [0, 0],
    span_id: 0,
    flags: 0,
    source: 0,
};

/// Whether anything says under which span this thread works.
#[inline(always)]
pub fn are_told(slot: &mut ThreadSlot, current: Current) -> bool {
    let generation = setting(context_setting::GENERATION);
    if generation != slot.trace.generation {
        look_up(slot, current, generation);
    }
    slot.trace.state & (context_state::PUBLISHED | context_state::SHARED) != 0
}

#[inline(always)]
fn setting(index: u32) -> u32 {
    CONTEXT_SETTINGS.get(index).copied().unwrap_or(0)
}

#[inline(never)]
fn look_up(slot: &mut ThreadSlot, current: Current, generation: u32) {
    let trace = &mut slot.trace;
    trace.generation = generation;
    trace.state &= context_state::CONTINUES;
    trace.pointer = 0;
    let base = current.thread_pointer();
    // SAFETY: plain integers, copied at once.
    let place = unsafe { CONTEXT_PLACES.get(slot.window.header.pid) }.copied();
    if let Some(place) = place
        && base != 0
    {
        trace.place = place;
        trace.state |= context_state::PUBLISHED;
        if place.module == 0 {
            trace.pointer = base.wrapping_add_signed(place.offset);
        }
    } else if setting(context_setting::SHARED) != 0 {
        trace.state |= context_state::SHARED;
    }
}

/// Tells of the current thread's context at the call that just returned.
#[inline(never)]
pub fn tell(slot: &mut ThreadSlot, now: u64) {
    if familiar::sample(slot.pod) != 0 {
        let tid = slot.window.header.tid;
        tell_once(slot, tid, now);
        return;
    }
    let context = read(slot);
    let epoch = familiar::epoch(slot.pod);
    let told = slot.trace.state & context_state::CONTINUES != 0 && slot.trace.epoch == epoch;
    if told && is_same(&slot.trace.told, &context) {
        return;
    }
    let Some(event) = events::event(slot, now, kind::CONTEXT) else {
        return;
    };
    if ship(slot, event, &context, 1) {
        slot.trace.told = context;
        slot.trace.epoch = epoch;
        slot.trace.state |= context_state::CONTINUES;
    } else {
        slot.trace.lost = slot.trace.lost.wrapping_add(1);
        slot.trace.state &= !context_state::CONTINUES;
    }
}

/// Tells of the current thread's context for one moment only, as that of the thread `tid`.
#[inline(never)]
pub fn tell_once(slot: &ThreadSlot, tid: u32, now: u64) {
    if slot.trace.state & (context_state::PUBLISHED | context_state::SHARED) == 0 {
        return;
    }
    let context = read(slot);
    if context.span_id == 0 {
        return;
    }
    if let Some(event) = events::event(slot, now, kind::CONTEXT) {
        event.tid = tid;
        ship(slot, event, &context, 0);
    }
}

#[inline(always)]
fn ship(slot: &ThreadSlot, event: &mut Event, context: &TraceContext, continues: u32) -> bool {
    event.extra = [slot.trace.lost, continues];
    // SAFETY: the bytes begin at a multiple of 8, and there are more than these.
    unsafe { core::ptr::write(event.bytes.as_mut_ptr().cast(), *context) };
    events::ship(slot.pod, event, CONTEXT_BYTES as u64)
}

#[inline(always)]
fn is_same(one: &TraceContext, other: &TraceContext) -> bool {
    one.span_id == other.span_id
        && one.trace_id[0] == other.trace_id[0]
        && one.trace_id[1] == other.trace_id[1]
        && one.flags == other.flags
}

#[inline(always)]
fn read(slot: &ThreadSlot) -> TraceContext {
    if slot.trace.state & context_state::PUBLISHED != 0 {
        published(slot)
    } else {
        shared()
    }
}

#[inline(always)]
fn published(slot: &ThreadSlot) -> TraceContext {
    let pointer = match slot.trace.pointer {
        0 => in_block(slot),
        pointer => pointer,
    };
    let mut record = Published {
        trace_id: [0, 0],
        span_id: 0,
        valid: 0,
        flags: 0,
        attributes: 0,
    };
    // SAFETY: the helpers check the user addresses; the destination has the size asked for.
    let failed = unsafe {
        match bpf_probe_read_user(pointer as *const u64) {
            Ok(0) | Err(_) => return NONE,
            Ok(address) => generated::bpf_probe_read_user(
                (&raw mut record).cast(),
                PUBLISHED_BYTES,
                address as *const _,
            ),
        }
    };
    let without_trace = record.trace_id[0] | record.trace_id[1] == 0;
    if failed != 0 || record.valid != 1 || record.span_id == 0 || without_trace {
        return NONE;
    }
    TraceContext {
        trace_id: record.trace_id,
        span_id: record.span_id,
        flags: u32::from(record.flags),
        source: context_source::THREAD,
    }
}

/// Where the pointer lies in the thread's block of its module; the loader makes the block when the thread
/// first uses it.
#[inline(always)]
fn in_block(slot: &ThreadSlot) -> u64 {
    /// Of the vector's address, from the thread pointer.
    const VECTOR: u64 = 8;
    /// Bytes of one entry of the vector.
    const ENTRY: u64 = 16;
    let place = slot.trace.place;
    let base = Current::get().thread_pointer();
    // SAFETY: the helper checks the user addresses.
    let block = unsafe {
        let Ok(vector) = bpf_probe_read_user((base + VECTOR) as *const u64) else {
            return 0;
        };
        let entry = vector.wrapping_add(place.module.wrapping_mul(ENTRY));
        bpf_probe_read_user(entry as *const u64).unwrap_or(0)
    };
    match block {
        0 | u64::MAX => 0,
        block => block.wrapping_add_signed(place.offset),
    }
}

#[inline(always)]
fn shared() -> TraceContext {
    let Some(contexts) = SHARED_CONTEXTS.get(0) else {
        return NONE;
    };
    // SAFETY: plain integers, copied at once.
    match unsafe { contexts.get(bpf_get_current_pid_tgid()) }.copied() {
        Some([first, second, span_id]) if span_id != 0 && first | second != 0 => TraceContext {
            trace_id: [first, second],
            span_id,
            flags: 0,
            source: context_source::OBI,
        },
        _ => NONE,
    }
}
