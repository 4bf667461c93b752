//! What descriptors of processes stand for, and how long exchanges on them take.
//!
//! An exchange of a client is from its last send to the first receipt after it, one of a server from
//! its last receipt to the start of the first send after it. Those that began while the pod was reduced are
//! counted in the row of their peer; one that is not familiar, or failed, is told of.

use stethos_events::{
    CallRecord, DESCRIPTOR_PROBES, DESCRIPTORS, DescriptorEntry, Event, SERVICE_CONTEXT,
    ThreadSlot, class, descriptor_key, descriptor_place, duration_class, ended, exchange_context,
    kind, lost, role, turn,
};

use crate::{
    contexts, events, familiar,
    maps::{DESCRIPTORS_OF, count_lost},
};

/// `read` or `write` failed because of what is at the other end, not because it has to wait.
#[inline(always)]
fn failed(ret: i64) -> bool {
    const EINTR: i64 = -4;
    const EAGAIN: i64 = -11;
    const EALREADY: i64 = -114;
    const EINPROGRESS: i64 = -115;
    ret < 0 && ret > -512 && !matches!(ret, EINTR | EAGAIN | EALREADY | EINPROGRESS)
}

/// Follows the call that just returned (`slot.last`), other than a `connect`. True when it sent to or
/// received from what is known to be a file.
#[inline(always)]
pub fn follow(slot: &ThreadSlot, class: u32, now: u64) -> bool {
    if class & (class::SEND | class::RECEIVE) != 0 {
        return exchange(slot, class, now);
    }
    change(slot, class, now);
    false
}

/// Bytes came or went.
#[inline(never)]
fn exchange(slot: &ThreadSlot, class: u32, now: u64) -> bool {
    let Some(entry) = find(slot, slot.last.fd) else {
        return false;
    };
    transfer(slot, entry, class, now);
    // SAFETY: an array entry.
    unsafe { (*entry).role == role::FILE }
}

/// What a descriptor stands for changed, or showed.
#[inline(never)]
fn change(slot: &ThreadSlot, class: u32, now: u64) {
    let CallRecord { ret, fd, .. } = slot.last;
    if class & class::CLOSE != 0 {
        if let Some(entry) = find(slot, fd) {
            close(slot, entry, now);
        }
        return;
    }
    if class & (class::LISTEN | class::ACCEPT) != 0 {
        learn(slot, fd, role::LISTENER);
    }
    if class & class::FILE_WORK != 0 {
        if ret >= 0 {
            learn(slot, fd, role::FILE);
        }
        return;
    }
    if ret < 0 {
        return;
    }
    let made = if class & class::MAKE_FILE != 0 {
        role::FILE
    } else if class & class::MAKE_OTHER != 0 {
        role::OTHER
    } else if class & class::ACCEPT != 0 {
        role::SERVER
    } else if class & class::DUPLICATE != 0 {
        let Some(entry) = find(slot, fd) else {
            return;
        };
        // SAFETY: an array entry.
        let (role, peer) = unsafe { ((*entry).role, (*entry).peer) };
        begin(slot, ret as i32, role, peer, now);
        return;
    } else {
        return;
    };
    begin(slot, ret as i32, made, 0, now);
}

/// A `connect` to the peer with this hash returned.
#[inline(always)]
pub fn connected(slot: &ThreadSlot, peer: u64, now: u64) {
    const EALREADY: i64 = -114;
    const EISCONN: i64 = -106;
    if matches!(slot.last.ret, EALREADY | EISCONN) {
        return;
    }
    begin(slot, slot.last.fd, role::CLIENT, peer, now);
}

/// A socket handed out how its `connect` failed, which did not wait. Told of while calls are only
/// counted: whom it was to is not known otherwise by then.
#[inline(never)]
pub fn connect_failed(slot: &ThreadSlot, now: u64) {
    let Some(entry) = find(slot, slot.last.fd) else {
        return;
    };
    // SAFETY: an array entry.
    let entry = unsafe { &*entry };
    if entry.role == role::CLIENT && familiar::sample(slot.pod) != 0 {
        tell(slot, entry, entry.since_ns, now, ended::FAILED);
    }
}

/// The entry of a descriptor of the slot's process.
#[inline(always)]
fn find(slot: &ThreadSlot, fd: i32) -> Option<*mut DescriptorEntry> {
    let key = descriptor_key(slot.window.header.pid, fd);
    let place = descriptor_place(key);
    for probe in 0..DESCRIPTOR_PROBES as u64 {
        let at = (place.wrapping_add(probe) & (DESCRIPTORS as u64 - 1)) as u32;
        let entry = DESCRIPTORS_OF.get_value_ptr_mut(slot.pod, &at)?;
        // SAFETY: an array entry.
        if unsafe { (*entry).key } == key {
            return Some(entry);
        }
    }
    None
}

/// The descriptor begins a life.
#[inline(never)]
fn begin(slot: &ThreadSlot, fd: i32, role: u32, peer: u64, now: u64) {
    let key = descriptor_key(slot.window.header.pid, fd);
    let place = descriptor_place(key);
    let mut free: Option<*mut DescriptorEntry> = None;
    for probe in 0..DESCRIPTOR_PROBES as u64 {
        let at = (place.wrapping_add(probe) & (DESCRIPTORS as u64 - 1)) as u32;
        let Some(entry) = DESCRIPTORS_OF.get_value_ptr_mut(slot.pod, &at) else {
            return;
        };
        // SAFETY: an array entry.
        let (held, role) = unsafe { ((*entry).key, (*entry).role) };
        if held == key {
            free = Some(entry);
            // SAFETY: an array entry.
            unsafe { silence(slot, &mut *entry, now) };
            break;
        }
        if free.is_none() && (held == 0 || role == role::NONE) {
            free = Some(entry);
        }
    }
    let Some(entry) = free else {
        count_lost(slot.pod, lost::NO_DESCRIPTOR, 1);
        return;
    };
    // SAFETY: an array entry; what another thread writes at the same time is worth as much.
    let entry = unsafe { &mut *entry };
    entry.role = role::NONE;
    entry.turn = 0;
    entry.asked_ns = 0;
    entry.since_ns = now;
    entry.peer = peer;
    entry.tid = slot.window.header.tid;
    entry.container = slot.window.header.cgroup;
    entry.spoke_ns = 0;
    entry.key = key;
    entry.role = role;
}

/// An HTTP head was seen on the descriptor; `server` where it shows that the process serves there.
#[inline(always)]
pub fn speaks(slot: &ThreadSlot, server: bool, now: u64) {
    if server {
        learn(slot, slot.last.fd, role::SERVER);
    }
    if let Some(entry) = find(slot, slot.last.fd) {
        // SAFETY: an array entry.
        unsafe { (*entry).spoke_ns = now };
    }
}

/// Tells that what was said on the descriptor is over.
#[inline(always)]
fn silence(slot: &ThreadSlot, entry: &mut DescriptorEntry, now: u64) {
    if entry.spoke_ns != 0 {
        entry.spoke_ns = 0;
        events::closed(slot, entry.fd(), now);
    }
}

/// The call shows what its descriptor stands for.
#[inline(always)]
fn learn(slot: &ThreadSlot, fd: i32, role: u32) {
    match find(slot, fd) {
        // SAFETY: an array entry.
        Some(entry) => unsafe {
            if (*entry).role == role::NONE || (*entry).role == role::OTHER {
                (*entry).role = role;
            }
        },
        None => begin(slot, fd, role, 0, 0),
    }
}

#[inline(always)]
fn transfer(slot: &ThreadSlot, entry: *mut DescriptorEntry, class: u32, now: u64) {
    // SAFETY: an array entry; what another thread writes at the same time is worth as much.
    let entry = unsafe { &mut *entry };
    let (before, of) = (entry.turn, entry.role);
    if of != role::CLIENT && of != role::SERVER {
        return;
    }
    let ret = slot.last.ret;
    let reduced = if familiar::sample(slot.pod) == 0 {
        0
    } else {
        turn::REDUCED
    };
    let timed = before & turn::REDUCED != 0;
    if class & class::SEND != 0 {
        if ret > 0 {
            if of == role::SERVER && timed && before & turn::RECEIVED != 0 {
                let end = now.wrapping_sub(slot.last.waited_ns);
                finish(slot, entry, end, ended::ANSWERED);
            }
            entry.turn = now & !turn::MASK | turn::SENT | reduced;
            entry.tid = slot.window.header.tid;
            if of == role::CLIENT && entry.asked_ns == 0 {
                entry.asked_ns = now;
            }
        } else if failed(ret) {
            fail(slot, entry, now);
        }
    } else if ret > 0 {
        if of == role::CLIENT && timed && before & turn::SENT != 0 {
            finish(slot, entry, now, ended::ANSWERED);
        }
        entry.turn = now & !turn::MASK | turn::RECEIVED | reduced;
        entry.tid = slot.window.header.tid;
        entry.asked_ns = 0;
    } else if ret == 0 || failed(ret) {
        fail(slot, entry, now);
    }
}

/// The exchange of a client ends without an answer.
#[inline(always)]
fn fail(slot: &ThreadSlot, entry: &mut DescriptorEntry, now: u64) {
    let before = entry.turn;
    if entry.role != role::CLIENT || before & turn::SENT == 0 {
        return;
    }
    if before & turn::REDUCED != 0 {
        finish(slot, entry, now, ended::FAILED);
    }
    entry.turn = 0;
    entry.asked_ns = 0;
}

#[inline(always)]
fn close(slot: &ThreadSlot, entry: *mut DescriptorEntry, now: u64) {
    const EBADF: i64 = -9;
    if slot.last.ret == EBADF {
        return;
    }
    // SAFETY: an array entry.
    let entry = unsafe { &mut *entry };
    let open = turn::SENT | turn::REDUCED;
    if entry.role == role::CLIENT && entry.turn & open == open {
        finish(slot, entry, now, ended::ABANDONED);
    }
    silence(slot, entry, now);
    entry.role = role::NONE;
    entry.turn = 0;
    entry.asked_ns = 0;
    entry.peer = 0;
    entry.since_ns = now;
}

/// Counts an exchange; tells of one that is not familiar.
#[inline(never)]
fn finish(slot: &ThreadSlot, entry: &DescriptorEntry, end: u64, how: u32) {
    let start = entry.turn & !turn::MASK;
    let lasted = end.saturating_sub(start);
    let context = if entry.role == role::CLIENT {
        exchange_context(entry.peer)
    } else {
        SERVICE_CONTEXT
    };
    let class = duration_class(lasted);
    let container = slot.window.header.cgroup;
    let familiar = match familiar::row_of(slot.pod, context, container) {
        // One without an answer is no exchange to be counted.
        Some((_, ceiling)) if how != ended::ANSWERED => {
            how == ended::ABANDONED && u32::from(class) <= ceiling
        }
        Some((row, ceiling)) => {
            familiar::count(slot.pod, row, class, lasted) && u32::from(class) <= ceiling
        }
        None => false,
    };
    if !familiar {
        tell(slot, entry, start, end, how);
    }
}

#[inline(always)]
fn tell(slot: &ThreadSlot, entry: &DescriptorEntry, start: u64, end: u64, how: u32) {
    let Some(event) = events::event(slot, end, kind::EXCHANGE) else {
        return;
    };
    let event: &mut Event = event;
    if entry.role == role::CLIENT {
        event.tid = entry.tid;
    }
    event.extra = [entry.role, how];
    event.bytes[..8].copy_from_slice(&start.to_ne_bytes());
    event.bytes[8..16].copy_from_slice(&entry.peer.to_ne_bytes());
    events::ship(slot.pod, event, 16);
    let tid = event.tid;
    contexts::tell_once(slot, tid, end);
}
