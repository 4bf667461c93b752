//! Events beside the windows: what arguments pointed at.

use core::sync::atomic::Ordering;

use aya_ebpf::{bindings::BPF_RB_NO_WAKEUP, helpers::generated};
use stethos_events::{
    BYTES_MAX, EVENT_HEAD, Event, HEADS, KeptHead, PEER_BYTES, ThreadSlot, class, exchange_context,
    kind, lost, peer_hash,
};

use crate::{
    descriptors, familiar, kernel,
    maps::{EVENT_SCRATCH, EVENTS, HEADS_OF, REDUCTION, count_lost},
};

/// Classes of calls that may ship an event.
pub const CLASSES: u32 =
    class::PATH_0 | class::PATH_1 | class::ADDRESS_1 | class::READ | class::WRITE;

/// Longest socket address that travels (`sockaddr_un`).
const ADDRESS_MAX: u64 = 110;
const _: () = assert!(ADDRESS_MAX as usize <= PEER_BYTES);
const _: () = assert!(EVENT_HEAD % align_of::<u64>() == 0);
const PATH_MAX: u32 = 256;
/// `HTTP/1.x NNN` and what ends it. What is shorter is no message of HTTP/1.
const STATUS_BYTES: i64 = 16;
/// The shortest frame of HTTP/2 with headers: they may be one byte.
const FRAME_BYTES: u32 = 10;
/// What is read of a message to tell what it is.
type Start = [u32; FRAME_BYTES.div_ceil(4) as usize];
/// How an answer starts.
const ANSWER: u32 = word(b"HTTP");

/// The call that just returned: its class and its arguments.
#[derive(Clone, Copy)]
struct Returned {
    class: u32,
    args: [u64; 3],
}

/// Ships what the call that just returned (`slot.last`) pointed at. The path of a familiar call
/// and the address of a familiar connect are known.
#[inline(always)]
pub fn of_call(slot: &ThreadSlot, class: u32, args: [u64; 3], now: u64, familiar: bool) {
    let returned = Returned { class, args };
    if class & (class::READ | class::WRITE) != 0 {
        if slot.last.ret >= i64::from(FRAME_BYTES) {
            http(slot, returned, now);
        }
    } else if class & class::ADDRESS_1 != 0 {
        address(slot, returned, now, familiar);
    } else if !familiar && (slot.last.ret < 0 || class & class::OPEN != 0) {
        path(slot, returned, now);
    }
}

/// Room for an event of the current thread, with its head filled in.
#[inline(always)]
pub fn event(slot: &ThreadSlot, now: u64, kind: u32) -> Option<&'static mut Event> {
    let event = EVENT_SCRATCH.get_ptr_mut(0)?;
    // SAFETY: per-CPU room; the programs that use it do not nest on one CPU.
    let event = unsafe { &mut *event };
    fill(event, slot, now, kind);
    Some(event)
}

#[inline(always)]
fn fill(event: &mut Event, slot: &ThreadSlot, now: u64, kind: u32) {
    let (header, call) = (&slot.window.header, &slot.last);
    event.at_ns = now;
    event.cgroup = header.cgroup;
    event.pid = header.pid;
    event.tid = header.tid;
    event.kind = kind;
    event.ret = call.ret;
    event.fd = call.fd;
    event.nr = u32::from(call.nr);
    event.len = 0;
    event.extra = [0, 0];
}

/// False when the ring refused it.
#[inline(always)]
pub fn ship(pod: u32, event: &mut Event, len: u64) -> bool {
    if len > BYTES_MAX as u64 {
        return false;
    }
    event.len = len as u32;
    let refused = match EVENTS.get(pod) {
        // SAFETY: head and `len` ≤ BYTES_MAX bytes lie within the event.
        Some(ring) => unsafe {
            generated::bpf_ringbuf_output(
                core::ptr::from_ref(ring).cast_mut().cast(),
                (event as *mut Event).cast(),
                EVENT_HEAD as u64 + len,
                u64::from(BPF_RB_NO_WAKEUP),
            )
        },
        None => -1,
    };
    if refused != 0 {
        count_lost(pod, lost::EVENT_RING_FULL, 1);
    }
    refused == 0
}

#[inline(never)]
fn path(slot: &ThreadSlot, returned: Returned, now: u64) {
    let Some(event) = event(slot, now, kind::PATH) else {
        return;
    };
    let address = if returned.class & class::PATH_0 != 0 {
        returned.args[0]
    } else {
        returned.args[1]
    };
    // SAFETY: PATH_MAX bytes fit; the helper checks the user address.
    let read = unsafe {
        generated::bpf_probe_read_user_str(
            (&raw mut event.bytes).cast(),
            PATH_MAX,
            address as *const _,
        )
    };
    let len = if read < 0 { 0 } else { read as u64 };
    // At most PATH_MAX; the mask, which the compiler may not see through, proves it to verifiers
    // that lose the bound above.
    ship(
        slot.pod,
        event,
        core::hint::black_box(len) & (2 * u64::from(PATH_MAX) - 1),
    );
}

#[inline(never)]
fn address(slot: &ThreadSlot, returned: Returned, now: u64, familiar: bool) {
    let Some(event) = event(slot, now, kind::ADDRESS) else {
        return;
    };
    event.bytes[..PEER_BYTES].fill(0);
    let mut len = returned.args[2] & 0xff;
    if len > ADDRESS_MAX {
        len = ADDRESS_MAX;
    }
    // SAFETY: ADDRESS_MAX bytes fit; the helper checks the user address.
    let failed = unsafe {
        generated::bpf_probe_read_user(
            (&raw mut event.bytes).cast(),
            len as u32,
            returned.args[1] as *const _,
        )
    };
    if failed != 0 {
        len = 0;
    }
    if returned.class & class::CONNECT != 0 && len > 0 {
        // SAFETY: the bytes begin at a multiple of 8, and PEER_BYTES of them are there.
        let words = unsafe { &*event.bytes.as_ptr().cast::<[u64; PEER_BYTES / 8]>() };
        let peer = peer_hash(words);
        descriptors::connected(slot, peer, now);
        let container = slot.window.header.cgroup;
        if familiar && familiar::row_of(slot.pod, exchange_context(peer), container).is_some() {
            return;
        }
    }
    ship(slot.pod, event, len);
}

/// `iovec` of the calling process.
#[repr(C)]
#[derive(Clone, Copy)]
struct IoVec {
    base: u64,
    len: u64,
}

/// The part of `user_msghdr` up to its vector.
#[repr(C)]
#[derive(Clone, Copy)]
struct MessageHead {
    name: u64,
    name_len: u64,
    vector: u64,
}

#[inline(always)]
fn http(slot: &ThreadSlot, returned: Returned, now: u64) {
    if !kernel::ship_http() {
        return;
    }
    let Some((base, room)) = buffer(returned) else {
        return;
    };
    let mut start = Start::default();
    // SAFETY: so many bytes fit; the helper checks the user address.
    let failed = unsafe {
        generated::bpf_probe_read_user((&raw mut start).cast(), FRAME_BYTES, base as *const _)
    };
    let message = slot.last.ret >= STATUS_BYTES && looks_like_http(start[0]);
    if failed != 0 || !(message || looks_like_frames(start)) {
        return;
    }
    let (received, answer) = (returned.class & class::READ != 0, start[0] == ANSWER);
    descriptors::speaks(slot, message && received != answer, now);
    // Of an answer, nothing but its status is read.
    let most = if answer { STATUS_BYTES as u64 } else { room };
    ship_http(
        slot,
        returned.class,
        now,
        base,
        if room < most { room } else { most },
    );
}

#[inline(never)]
fn ship_http(slot: &ThreadSlot, class: u32, now: u64, base: u64, room: u64) {
    let kind = if class & class::READ != 0 {
        kind::HTTP_IN
    } else {
        kind::HTTP_OUT
    };
    let Some((event, kept)) = head(slot, now, kind) else {
        return;
    };
    let mut len = slot.last.ret as u64;
    if len > room {
        len = room;
    }
    if len > BYTES_MAX as u64 {
        len = BYTES_MAX as u64;
    }
    // SAFETY: `len` ≤ BYTES_MAX bytes fit; the helper checks the user address.
    let failed = unsafe {
        generated::bpf_probe_read_user((&raw mut event.bytes).cast(), len as u32, base as *const _)
    };
    if failed != 0 {
        return;
    }
    tell_head(slot.pod, event, kept, len);
}

/// The descriptor that heads were seen on is another one's now.
#[inline(never)]
pub fn closed(slot: &ThreadSlot, fd: i32, now: u64) {
    if let Some((event, kept)) = head(slot, now, kind::CLOSED) {
        event.fd = fd;
        tell_head(slot.pod, event, kept, 0);
    }
}

/// Where a head is kept, and its number.
type Kept = Option<(*mut KeptHead, u64)>;

/// Room for what is said of HTTP, in order: on its way, or kept in place while the pod is reduced.
#[inline(always)]
fn head(slot: &ThreadSlot, now: u64, kind: u32) -> Option<(&'static mut Event, Kept)> {
    if familiar::sample(slot.pod) == 0 {
        return Some((event(slot, now, kind)?, None));
    }
    let (head, number) = next_head(slot.pod)?;
    // SAFETY: an array entry; whoever is overtaken by `HEADS` heads reads nonsense at worst.
    unsafe { core::ptr::write_volatile(&raw mut (*head).number, 0) };
    // SAFETY: as above.
    let event = unsafe { &mut (*head).event };
    fill(event, slot, now, kind);
    Some((event, Some((head, number))))
}

#[inline(always)]
fn tell_head(pod: u32, event: &mut Event, kept: Kept, len: u64) {
    match kept {
        None => {
            ship(pod, event, len);
        }
        Some((head, number)) => {
            event.len = len as u32;
            core::sync::atomic::compiler_fence(Ordering::Release);
            // SAFETY: as in `head`; the number comes last.
            unsafe { core::ptr::write_volatile(&raw mut (*head).number, number + 1) };
        }
    }
}

/// Where the next head of a reduced pod is kept, and its number.
#[inline(always)]
fn next_head(pod: u32) -> Option<(*mut KeptHead, u64)> {
    let reduction = REDUCTION.get_value_ptr_mut(pod, &0)?;
    let mut number = 1u64;
    // SAFETY: an aligned member of an array entry; `core` has no atomic addition for this target.
    unsafe {
        core::arch::asm!(
            "{number} = atomic_fetch_add((u64 *)({heads} + 0), {number})",
            number = inout(reg) number,
            heads = in(reg) &raw mut (*reduction).heads,
        );
    }
    let at = (number & (HEADS as u64 - 1)) as u32;
    Some((HEADS_OF.get_value_ptr_mut(pod, &at)?, number))
}

/// Address and length of the (first) buffer of a read or write.
#[inline(always)]
fn buffer(inside: Returned) -> Option<(u64, u64)> {
    let mut vector = inside.args[1];
    if inside.class & (class::VECTOR | class::MESSAGE) == 0 {
        return Some((vector, u64::MAX));
    }
    if inside.class & class::MESSAGE != 0 {
        let mut head = MessageHead {
            name: 0,
            name_len: 0,
            vector: 0,
        };
        // SAFETY: the destination has the size asked for; the helper checks the user address.
        let failed = unsafe {
            generated::bpf_probe_read_user(
                (&raw mut head).cast(),
                size_of::<MessageHead>() as u32,
                vector as *const _,
            )
        };
        if failed != 0 {
            return None;
        }
        vector = head.vector;
    }
    let mut first = IoVec { base: 0, len: 0 };
    // SAFETY: as above.
    let failed = unsafe {
        generated::bpf_probe_read_user(
            (&raw mut first).cast(),
            size_of::<IoVec>() as u32,
            vector as *const _,
        )
    };
    (failed == 0).then_some((first.base, first.len))
}

const fn word(text: &[u8; 4]) -> u32 {
    u32::from_ne_bytes(*text)
}

/// First four bytes of a request by method, or of a response.
#[inline(always)]
fn looks_like_http(start: u32) -> bool {
    start == word(b"GET ")
        || start == word(b"POST")
        || start == word(b"PUT ")
        || start == word(b"HEAD")
        || start == word(b"DELE")
        || start == word(b"PATC")
        || start == word(b"OPTI")
        || start == word(b"PRI ")
        || start == ANSWER
}

/// First bytes of HTTP/2 frames that may have a head among them: of a head itself, or of what is small and
/// stands before one.
#[inline(always)]
fn looks_like_frames(start: Start) -> bool {
    const HEADERS: u32 = 1;
    const SETTINGS: u32 = 4;
    const PING: u32 = 6;
    const WINDOW_UPDATE: u32 = 8;
    const HEADERS_FLAGS: u32 = 0x2d;
    const MOST_SETTINGS: u32 = 240;
    let first = u32::from_be(start[0]);
    let second = u32::from_be(start[1]);
    let (length, kind) = (first >> 8, first & 0xff);
    let (flags, stream) = (second >> 24, second << 8 | u32::from_be(start[2]) >> 24);
    match kind {
        HEADERS => {
            length < 1 << 16 && flags & !HEADERS_FLAGS == 0 && stream != 0 && stream >> 31 == 0
        }
        SETTINGS => length <= MOST_SETTINGS && length % 6 == 0 && flags <= 1 && stream == 0,
        PING => length == 8 && flags <= 1 && stream == 0,
        WINDOW_UPDATE => length == 4 && flags == 0 && stream >> 31 == 0,
        _ => false,
    }
}
