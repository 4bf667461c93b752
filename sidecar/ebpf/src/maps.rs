//! Maps. Capacities of `THREADS` and the rings are set by the loader.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use stethos_events::{
    CALL_NUMBERS, EndedAccount, Event, SelfFound, Settings, ThreadSlot, Window, lost,
};

#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// `class` bits by call number.
#[map]
pub static CALL_CLASS: Array<u32> = Array::with_max_entries(CALL_NUMBERS as u32, 0);

/// Cgroup ids of the targets.
#[map]
pub static SCOPE: HashMap<u64, u32> = HashMap::with_max_entries(256, 0);

/// Processes of targets named by pid, with the cgroup id that stands for the target.
#[map]
pub static SCOPE_PIDS: HashMap<u32, u64> = HashMap::with_max_entries(4096, 0);

/// Stethos's own processes: never captured.
#[map]
pub static EXCLUDED: HashMap<u32, u32> = HashMap::with_max_entries(256, 0);

/// Threads in scope by tid. Not evicting: when it is full, further threads are counted as lost.
#[map]
pub static THREADS: HashMap<u32, ThreadSlot> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

/// Accounts of ended threads by container cgroup.
#[map]
pub static ENDED: PerCpuHashMap<u64, EndedAccount> = PerCpuHashMap::with_max_entries(1024, 0);

#[map]
pub static WINDOWS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Counters by `lost` index.
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(lost::COUNT, 0);

/// An all-zero slot to start threads from; never written.
#[map]
pub static EMPTY_SLOT: Array<ThreadSlot> = Array::with_max_entries(1, 0);

/// Room to build an event in.
#[map]
pub static EVENT_SCRATCH: PerCpuArray<Event> = PerCpuArray::with_max_entries(1, 0);

/// The answer of `discover`.
#[map]
pub static SELF: Array<SelfFound> = Array::with_max_entries(1, 0);

pub fn count_lost(cause: u32, amount: u64) {
    if let Some(counter) = LOST.get_ptr_mut(cause) {
        // SAFETY: a per-CPU entry; programs on one CPU do not nest on the same counter in a way
        // that tears a 64-bit add.
        unsafe { *counter += amount };
    }
}

const _: () = assert!(core::mem::size_of::<Window>() == 40 + 64 * 32);
