//! Maps. Those of one pod stand in maps of maps under the pod's index, so that a sidecar can be
//! given its own and no other's.

use aya_ebpf::{
    bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array as BtfArray, ArrayOfMaps, LruHashMap, RingBuf},
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap},
};
use stethos_events::{
    BANK_SLOTS, BANKS, CALL_NUMBERS, COUNT_ROWS, ContextPlace, CountRow, DECISIONS, DESCRIPTORS,
    DescriptorEntry, EndedAccount, Event, FAMILIAR_ENTRIES, FamiliarEntry, HEADS, KeptHead, PODS,
    PidScope, PodEntry, Reduction, SelfFound, ThreadSlot, Window, context_setting, lost,
};

/// `class` bits by call number.
#[map]
pub static CALL_CLASS: Array<u32> = Array::with_max_entries(CALL_NUMBERS as u32, 0);

/// What was decided about a thread, under the low bits of its tid: `tid << 32 | verdict`, the
/// verdict being 0 for a thread out of scope, or 1 + the number of its slot. An entry may be
/// overwritten at any time: it is then decided again. User space clears all of them whenever the
/// scope changes, and once a second.
#[map]
pub static DECISIONS_BY_TID: Array<u64> = Array::with_max_entries(DECISIONS as u32, BPF_F_MMAPABLE);

/// Pods by the cgroup id of their target.
#[map]
pub static SCOPE: HashMap<u64, u32> = HashMap::with_max_entries(1024, 0);

/// Processes of targets named by pid, and their descendants.
#[map]
pub static SCOPE_PIDS: HashMap<u32, PidScope> = HashMap::with_max_entries(16384, BPF_F_NO_PREALLOC);

/// Stethos's own processes, with the pod that they serve: never captured.
#[map]
pub static EXCLUDED: HashMap<u32, u32> = HashMap::with_max_entries(8192, 0);

#[map]
pub static POD_TABLE: Array<PodEntry> = Array::with_max_entries(PODS as u32, 0);

/// Which thread has a slot, by the slot's number: what makes taking one atomic.
#[map]
pub static CLAIMS: HashMap<u32, u32> =
    HashMap::with_max_entries((BANK_SLOTS * BANKS) as u32, BPF_F_NO_PREALLOC);

/// Thread slots by bank.
#[btf_map]
pub static SLOTS: ArrayOfMaps<
    BtfArray<ThreadSlot, BANK_SLOTS, { BPF_F_MMAPABLE as usize }>,
    BANKS,
> = ArrayOfMaps::new();

/// Windows by pod.
#[btf_map]
pub static WINDOWS: ArrayOfMaps<RingBuf<u64, { 1 << 26 }>, PODS> = ArrayOfMaps::new();

/// Events by pod.
#[btf_map]
pub static EVENTS: ArrayOfMaps<RingBuf<u64, { 1 << 26 }>, PODS> = ArrayOfMaps::new();

/// Familiar contexts by pod, written by its sidecar.
#[btf_map]
pub static FAMILIAR: ArrayOfMaps<
    BtfArray<FamiliarEntry, FAMILIAR_ENTRIES, { BPF_F_MMAPABLE as usize }>,
    PODS,
> = ArrayOfMaps::new();

/// What pods' sidecars ask for.
#[btf_map]
pub static REDUCTION: ArrayOfMaps<BtfArray<Reduction, 1, { BPF_F_MMAPABLE as usize }>, PODS> =
    ArrayOfMaps::new();

/// Counts by pod: `COUNT_ROWS` rows for every processor, so that each row has one writer.
#[btf_map]
pub static COUNTS: ArrayOfMaps<
    BtfArray<CountRow, COUNT_ROWS, { (BPF_F_MMAPABLE | BPF_F_INNER_MAP) as usize }>,
    PODS,
> = ArrayOfMaps::new();

/// Descriptors of the processes of pods.
#[btf_map]
pub static DESCRIPTORS_OF: ArrayOfMaps<
    BtfArray<DescriptorEntry, DESCRIPTORS, { BPF_F_MMAPABLE as usize }>,
    PODS,
> = ArrayOfMaps::new();

/// The last HTTP heads of pods that are reduced.
#[btf_map]
pub static HEADS_OF: ArrayOfMaps<BtfArray<KeptHead, HEADS, { BPF_F_MMAPABLE as usize }>, PODS> =
    ArrayOfMaps::new();

/// Where processes keep the contexts of their threads, by process.
#[map]
pub static CONTEXT_PLACES: HashMap<u32, ContextPlace> =
    HashMap::with_max_entries(stethos_events::CONTEXT_PLACES, BPF_F_NO_PREALLOC);

/// By `context_setting`.
#[map]
pub static CONTEXT_SETTINGS: Array<u32> = Array::with_max_entries(context_setting::COUNT, 0);

/// The map that another program on this node shares: trace id and span id by `pid << 32 | tid`.
#[btf_map]
pub static SHARED_CONTEXTS: ArrayOfMaps<LruHashMap<u64, [u64; 3], 16384>, 1> = ArrayOfMaps::new();

/// Accounts of ended threads by container cgroup.
#[map]
pub static ENDED: PerCpuHashMap<u64, EndedAccount> = PerCpuHashMap::with_max_entries(4096, 0);

/// Counters by `pod * lost::COUNT + lost` index.
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(PODS as u32 * lost::COUNT, 0);

/// Room to build an event in.
#[map]
pub static EVENT_SCRATCH: PerCpuArray<Event> = PerCpuArray::with_max_entries(1, 0);

/// The answer of `discover`.
#[map]
pub static SELF: Array<SelfFound> = Array::with_max_entries(1, 0);

#[inline(always)]
pub fn count_lost(pod: u32, cause: u32, amount: u64) {
    if let Some(counter) = LOST.get_ptr_mut(pod * lost::COUNT + cause) {
        // SAFETY: a per-CPU entry; programs on one CPU do not nest on the same counter in a way
        // that tears a 64-bit add.
        unsafe { *counter += amount };
    }
}

/// The slot with this number.
#[inline(always)]
pub fn slot(number: u32) -> Option<*mut ThreadSlot> {
    SLOTS.get_value_ptr_mut(number / BANK_SLOTS as u32, &(number % BANK_SLOTS as u32))
}

const _: () = assert!(core::mem::size_of::<Window>() == 56 + 64 * 32);
