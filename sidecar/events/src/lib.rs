//! Records that the kernel programs write and the sidecar reads.
//!
//! Everything is `repr(C)` without implicit padding, in the machine's byte order. Times are
//! nanoseconds of `bpf_ktime_get_ns` (CLOCK_MONOTONIC).
#![no_std]

mod call;
mod context;
mod descriptor;
mod event;
mod familiar;
mod pod;
mod thread;

pub use call::*;
pub use context::*;
pub use descriptor::*;
pub use event::*;
pub use familiar::*;
pub use pod::*;
pub use thread::*;

/// Number of this layout. Another one for every change to records, maps or bits: programs and
/// readers of different numbers do not understand each other.
pub const RECORD_VERSION: u32 = 7;
/// Calls in one window at most.
pub const WINDOW_CALLS: usize = 64;
/// Bytes of a path, an address or an HTTP head that travel at most.
pub const BYTES_MAX: usize = 1024;
/// Call numbers that have a class; higher ones have none.
pub const CALL_NUMBERS: usize = 512;
/// Ancestor levels of a thread's cgroup that are compared with the scope, from the root down.
pub const SCOPE_LEVELS: usize = 16;
/// Targets that one set of programs serves at most.
pub const PODS: usize = 128;
/// Index of no pod.
pub const NO_POD: u32 = PODS as u32;
/// Thread slots in one bank.
pub const BANK_SLOTS: usize = 512;
/// Banks of all pods at most.
pub const BANKS: usize = 1024;
/// Slots that are tried for a thread before it counts as one without a slot.
pub const PROBES: usize = 16;
/// Entries of `DECISIONS`.
pub const DECISIONS: usize = 1 << 16;
/// Calls of a thread that its slot remembers, whether or not they were handed over.
pub const RECENT_CALLS: usize = 128;
/// Tokens that make a context: a call and its outcome, with the three before it.
pub const CONTEXT_TOKENS: usize = 4;
/// Entries of a pod's table of familiar contexts; a power of two.
pub const FAMILIAR_ENTRIES: usize = 8192;
/// Entries that are tried for a context.
pub const FAMILIAR_PROBES: usize = 8;
/// Kinds of calls that a pod can have counted.
pub const COUNT_ROWS: usize = 256;
/// Duration classes that are counted apart; longer durations are in the last one.
pub const COUNT_CLASSES: usize = 128;
/// Entries of a pod's table of descriptors; a power of two.
pub const DESCRIPTORS: usize = 8192;
/// Entries that are tried for a descriptor.
pub const DESCRIPTOR_PROBES: usize = 4;
/// HTTP heads that a reduced pod keeps; a power of two.
pub const HEADS: usize = 256;
/// Bytes of a socket address that make its `peer_hash`.
pub const PEER_BYTES: usize = 112;
/// Slots that one run of the poll program looks at.
pub const POLL_SLOTS: usize = 128;
