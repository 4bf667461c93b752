//! Records that the kernel programs write and the sidecar reads.
//!
//! Everything is `repr(C)` without implicit padding, in the machine's byte order. Times are
//! nanoseconds of `bpf_ktime_get_ns` (CLOCK_MONOTONIC).
#![no_std]

#[cfg(feature = "user")]
use bytemuck::{Pod, Zeroable};

/// Number of this layout. Another one for every change to records, maps or bits: programs and
/// readers of different numbers do not understand each other.
pub const RECORD_VERSION: u32 = 2;
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
pub const COUNT_ROWS: usize = 128;
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

/// What the programs do at a call: bits of `CALL_CLASS[nr]`, written by user space.
pub mod class {
    /// The call waits: the thread's window ends before it.
    pub const WAIT: u32 = 1 << 0;
    /// The first argument is a descriptor.
    pub const DESCRIPTOR: u32 = 1 << 1;
    /// The first argument is a path; shipped when the call fails.
    pub const PATH_0: u32 = 1 << 2;
    /// The second argument is a path; shipped when the call fails.
    pub const PATH_1: u32 = 1 << 3;
    /// The second argument is a socket address, the third its length; shipped always.
    pub const ADDRESS_1: u32 = 1 << 4;
    /// The second argument is a buffer that was filled (`ret` bytes).
    pub const READ: u32 = 1 << 5;
    /// The second argument is a buffer that was sent (`ret` bytes).
    pub const WRITE: u32 = 1 << 6;
    /// With `READ` or `WRITE`: the second argument is an array of `iovec`.
    pub const VECTOR: u32 = 1 << 7;
    /// With `READ` or `WRITE`: the second argument is a `msghdr`.
    pub const MESSAGE: u32 = 1 << 8;
    /// `exit` or `exit_group`: the first argument is the exit code.
    pub const EXIT: u32 = 1 << 9;
    /// With `PATH_0` or `PATH_1`: shipped when the call succeeds, too.
    pub const OPEN: u32 = 1 << 10;
    /// Gives a descriptor of a file.
    pub const MAKE_FILE: u32 = 1 << 11;
    /// Gives a descriptor that is neither a file nor a connection.
    pub const MAKE_OTHER: u32 = 1 << 12;
    /// Gives a descriptor of an accepted connection.
    pub const ACCEPT: u32 = 1 << 13;
    pub const LISTEN: u32 = 1 << 14;
    pub const CONNECT: u32 = 1 << 15;
    pub const CLOSE: u32 = 1 << 16;
    /// Gives a copy of its descriptor.
    pub const DUPLICATE: u32 = 1 << 17;
    /// Receives from its descriptor.
    pub const RECEIVE: u32 = 1 << 18;
    /// Sends through its descriptor.
    pub const SEND: u32 = 1 << 19;
    /// Succeeds on files only.
    pub const FILE_WORK: u32 = 1 << 20;
    /// All calls that the table of descriptors follows.
    pub const FOLLOWED: u32 = MAKE_FILE
        | MAKE_OTHER
        | ACCEPT
        | LISTEN
        | CONNECT
        | CLOSE
        | DUPLICATE
        | RECEIVE
        | SEND
        | FILE_WORK;
}

/// What a descriptor stands for: values of `DescriptorEntry::role`.
pub mod role {
    /// Not known, or closed.
    pub const NONE: u32 = 0;
    pub const FILE: u32 = 1;
    /// A socket that the process connected.
    pub const CLIENT: u32 = 2;
    /// A socket that the process accepted.
    pub const SERVER: u32 = 3;
    pub const LISTENER: u32 = 4;
    pub const OTHER: u32 = 5;
}

/// Low bits of `DescriptorEntry::turn`; the rest is the time, in steps of 8 ns.
pub mod turn {
    pub const MASK: u64 = 7;
    /// The last transfer was a send.
    pub const SENT: u64 = 1;
    /// The last transfer was a receipt.
    pub const RECEIVED: u64 = 2;
    /// It happened while the pod was reduced: the kernel times the exchange.
    pub const REDUCED: u64 = 4;
}

/// How an exchange ended: values of `Event::extra[1]` of an `EXCHANGE`.
pub mod ended {
    pub const ANSWERED: u32 = 0;
    /// The peer closed, or the receipt failed: the event's `ret` says which.
    pub const FAILED: u32 = 1;
    /// This side closed.
    pub const ABANDONED: u32 = 2;
}

/// Bits of `CallRecord::flags`.
pub mod flag {
    /// Never returned: the thread ended inside it.
    pub const NO_RETURN: u8 = 1 << 0;
    /// The thread's first: how long it waited is not known.
    pub const FIRST: u8 = 1 << 1;
    /// `fd` holds a descriptor.
    pub const DESCRIPTOR: u8 = 1 << 2;
    /// Counted in a `CountRow`.
    pub const COUNTED: u8 = 1 << 3;
}

/// One finished call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct CallRecord {
    /// When it returned.
    pub exit_ns: u64,
    /// How long the thread was off the processor of its own accord since its call before this
    /// one returned: neither running nor ready to run. Calls that do not wait have 0.
    pub waited_ns: u64,
    pub ret: i64,
    /// First argument, cut to 32 bits; a descriptor when the flag says so.
    pub fd: i32,
    pub nr: u16,
    /// `duration_class(waited_ns)`.
    pub class: u8,
    /// Bits of `flag`.
    pub flags: u8,
}

/// Class of a duration: 0 for none, 1 below 1 024 ns, then four classes an octave, 217 at most.
#[inline(always)]
pub const fn duration_class(ns: u64) -> u8 {
    if ns == 0 {
        return 0;
    }
    if ns < 1024 {
        return 1;
    }
    let octave = 63 - ns.leading_zeros() as u64;
    let quarter = (ns >> (octave - 2)) & 3;
    // The last octave of 64 bits is 53 octaves above the first: 2 + 4 * 53 + 3 = 217.
    (2 + (octave - 10) * 4 + quarter) as u8
}

/// The shortest duration of a class, in ns.
pub const fn class_floor(class: u8) -> u64 {
    match class {
        0 => 0,
        1 => 1,
        218.. => u64::MAX,
        _ => {
            let (octave, quarter) = ((class as u64 - 2) / 4, (class as u64 - 2) % 4);
            (4 + quarter) << (octave + 8)
        }
    }
}

/// Why a window was handed over.
pub mod end {
    pub const WAIT: u32 = 1;
    pub const FULL: u32 = 2;
    pub const THREAD_EXIT: u32 = 3;
}

#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct WindowHeader {
    /// Container: the cgroup directly below the target's, or the target's own.
    pub cgroup: u64,
    pub pid: u32,
    pub tid: u32,
    /// Number of this window among the thread's, from 0.
    pub sequence: u64,
    /// Calls of this thread lost directly before this window.
    pub lost_before: u32,
    /// Entries of `calls` that hold a call.
    pub count: u32,
    /// One of `end`; 0 while the thread is still filling it.
    pub end: u32,
    /// Windows that this one stands for: itself, and familiar ones of its pod that were only
    /// counted. 0 while the thread is still filling it.
    pub weight: u32,
    /// Calls of this thread that were only counted, directly before this window.
    pub counted_before: u64,
    /// `ThreadSlot::context` before the first call.
    pub context: u64,
}

/// What travels through a pod's ring of windows: the header and its first `count` calls.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Window {
    pub header: WindowHeader,
    pub calls: [CallRecord; WINDOW_CALLS],
}

/// Clocks of the scheduler for one thread, in ns of the run queue's clock.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct SchedClocks {
    /// `se.exec_start`: when its running time was last added up.
    pub exec_start: u64,
    /// `se.sum_exec_runtime`: what it ran, up to `exec_start`.
    pub ran: u64,
    /// `sched_info.run_delay`: what it waited while ready to run.
    pub run_delay: u64,
}

impl SchedClocks {
    /// Time off the processor by own will between `before` and `self`:
    /// `Δexec_start − Δran − Δrun_delay`, at least 0.
    #[inline(always)]
    pub fn waited_since(&self, before: &Self) -> u64 {
        let passed = self.exec_start.wrapping_sub(before.exec_start);
        let spent = self
            .ran
            .wrapping_sub(before.ran)
            .wrapping_add(self.run_delay.wrapping_sub(before.run_delay));
        if passed > spent && passed <= u64::MAX / 2 {
            passed - spent
        } else {
            0
        }
    }
}

/// What the poll program found a thread doing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Polled {
    /// When; 0: never looked at.
    pub at_ns: u64,
    /// Since when it has been off the processor, when it is.
    pub since_ns: u64,
    /// First argument of the call that it is inside.
    pub arg_0: u64,
    /// Number of the call that it is inside, as of its registers; meaningful when it sleeps.
    pub nr: i32,
    /// One of `run_state`.
    pub state: u32,
    /// `ThreadSlot::seen` at that time: what was polled is stale when it differs.
    pub seen: u64,
}

/// Values of `Polled::state`.
pub mod run_state {
    /// Not there any more.
    pub const GONE: u32 = 0;
    /// Running or ready to run.
    pub const RUNNING: u32 = 1;
    /// Asleep until a signal or what it waits for.
    pub const SLEEPING: u32 = 2;
    /// Asleep until what it waits for, mostly a disk.
    pub const BLOCKED: u32 = 3;
    /// Stopped by a signal or a debugger.
    pub const STOPPED: u32 = 4;
    /// Frozen with its cgroup.
    pub const FROZEN: u32 = 5;
}

/// State of one thread in the kernel, in a bank of its pod.
///
/// Written by the thread's own calls; `polled` by the poll program. Readable in place: the calls
/// that `window.header.count` covers are complete, and a window that was handed over in the
/// meantime has another `sequence`.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct ThreadSlot {
    /// `header.tid` is 0 in a free slot.
    pub window: Window,
    /// Addresses of its `task_struct` and of its user registers; compared and read, never
    /// followed without check.
    pub task: u64,
    pub regs: u64,
    /// As of its last return.
    pub clocks: SchedClocks,
    /// The last call that returned.
    pub last: CallRecord,
    /// Calls finished since the slot was made.
    pub seen: u64,
    /// Calls of windows that the ring refused.
    pub lost: u64,
    /// Calls of windows that were only counted.
    pub counted: u64,
    /// The last tokens, the newest in the low bits: see `token`.
    pub context: u64,
    /// Calls of the unfinished window that were not familiar.
    pub strange: u32,
    /// Familiar windows since the last one that was shipped.
    pub familiar_windows: u32,
    /// How many familiar windows make the next one that is shipped; 0: not decided.
    pub sample_at: u32,
    pub reserved: u32,
    pub polled: Polled,
    pub pod: u32,
    /// The thread that has or had the slot.
    pub owner: u32,
    /// The thread's last calls: number `n` (from 0) at `n % RECENT_CALLS`.
    pub recent: [CallRecord; RECENT_CALLS],
}

/// A call and its outcome in 16 bits: 9 bits of number, 7 of outcome. Outcomes are 0 for success, the
/// errno up to 123, 124 for the kernel's restart codes, and 125 for any other error.
#[inline(always)]
pub const fn token(nr: u16, ret: i64) -> u16 {
    let outcome = if ret >= 0 || ret < -4095 {
        0
    } else if ret >= -123 {
        -ret as u16
    } else if ret <= -512 && ret >= -516 {
        124
    } else {
        125
    };
    (nr & 0x1ff) << 7 | outcome
}

/// The key of a context in a container: never 0.
#[inline(always)]
pub const fn context_key(context: u64, container: u64) -> u64 {
    // Odd multipliers (splitmix64): distinct contexts of one container have distinct keys.
    let mixed = (context ^ container.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = mixed ^ (mixed >> 31);
    if key == 0 { 1 } else { key }
}

/// One familiar context, in its pod's table. A sidecar writes its pod's, key last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct FamiliarEntry {
    /// `context_key`; 0 in a free entry.
    pub key: u64,
    /// Row that the call is counted in.
    pub row: u32,
    /// Highest `duration_class` that is familiar.
    pub ceiling: u32,
}

/// What a descriptor stands for and whose turn it is on it, in its pod's table.
///
/// Written by the calls of the process, whose threads may race: an entry is an estimate. A sidecar
/// may write its pod's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct DescriptorEntry {
    /// `descriptor_key`; 0 in a free entry.
    pub key: u64,
    /// When this life of the number began; 0: before it was followed.
    pub since_ns: u64,
    /// `peer_hash` of whom a client socket was connected to; 0 where not known.
    pub peer: u64,
    /// The last transfer: time and `turn` bits; 0: none in this life.
    pub turn: u64,
    /// A client's first send since the last answer; 0: none is open.
    pub asked_ns: u64,
    /// Thread of the last transfer.
    pub tid: u32,
    /// One of `role`.
    pub role: u32,
    /// Cgroup of the container.
    pub container: u64,
}

impl DescriptorEntry {
    pub const fn pid(&self) -> u32 {
        (self.key >> 32) as u32
    }

    pub const fn fd(&self) -> i32 {
        self.key as u32 as i32
    }
}

/// Key of a descriptor of a process: never 0, as no process has id 0.
#[inline(always)]
pub const fn descriptor_key(pid: u32, fd: i32) -> u64 {
    (pid as u64) << 32 | fd as u32 as u64
}

/// Where the entry of a descriptor is looked for first.
#[inline(always)]
pub const fn descriptor_place(key: u64) -> u64 {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) & (DESCRIPTORS as u64 - 1)
}

/// A socket address as eight bytes: never 0. Addresses are compared by this alone. `address` holds the
/// address and zeros after it, as a little-endian machine has them in memory.
#[inline(always)]
pub fn peer_hash(address: &[u64; PEER_BYTES / 8]) -> u64 {
    const INET: u64 = 2;
    const INET6: u64 = 10;
    const FAMILY_AND_PORT: u64 = 0xffff_ffff;
    let (words, first) = match address[0] & 0xffff {
        INET => (1, u64::MAX),
        // Without the flow label, and up to the end of the address.
        INET6 => (3, FAMILY_AND_PORT),
        _ => (PEER_BYTES / 8, u64::MAX),
    };
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (index, word) in address.iter().enumerate() {
        if index >= words {
            break;
        }
        let word = if index == 0 { word & first } else { *word };
        hash = (hash ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash ^= hash >> 31;
    }
    if hash == 0 { 1 } else { hash }
}

/// Stands in the place of a context for the exchanges with a peer: `context_key` of it is the key
/// of their entry in the table of familiar contexts.
#[inline(always)]
pub const fn exchange_context(peer: u64) -> u64 {
    peer.wrapping_mul(0x94d0_49bb_1331_11eb) ^ 0x5851_f42d_4c95_7f2d
}

/// The same for a container's own answers.
pub const SERVICE_CONTEXT: u64 = 0xd134_2543_de82_ef95;

/// What a sidecar asks for, in the one entry of its pod's `REDUCTION`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Reduction {
    /// Of so many familiar windows of a thread one is shipped on average, with the number that it
    /// stands for as its weight; 0: every window is shipped and nothing is counted.
    pub sample: u32,
    pub reserved: u32,
    /// HTTP heads kept so far: the next one stands at this number modulo `HEADS`.
    pub heads: u64,
}

/// An HTTP head of a reduced pod, kept in place until it is overwritten.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct KeptHead {
    /// Number of the head, plus one; 0 while it is written.
    pub number: u64,
    pub event: Event,
}

/// Counts of one kind of call on one processor since the pod's start. All wrap.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct CountRow {
    pub calls: u64,
    pub waited_ns: u64,
    /// Calls by `duration_class`.
    pub classes: [u32; COUNT_CLASSES],
}

/// What one target has, in `PODS` under its index.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct PodEntry {
    pub first_bank: u32,
    /// Slots in its banks: a power of two times `BANK_SLOTS`; 0 for an index not in use.
    pub slots: u32,
}

/// A process that was named as a target, or a descendant of one.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct PidScope {
    /// The made-up cgroup id that stands for the target.
    pub container: u64,
    pub pod: u32,
    pub reserved: u32,
}

/// Account of the ended threads of one container, in the map `ENDED` under its cgroup.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct EndedAccount {
    pub seen: u64,
    pub lost: u64,
    pub counted: u64,
    pub threads: u32,
    /// Whose they were; without meaning while `threads` is 0.
    pub pod: u32,
}

/// What an argument pointed at, or what happened to a process: travels through a pod's ring of events
/// cut to `len` bytes.
#[repr(C)]
#[derive(Clone, Copy)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Event {
    pub at_ns: u64,
    pub cgroup: u64,
    pub ret: i64,
    /// One of `kind`.
    pub kind: u32,
    pub pid: u32,
    pub tid: u32,
    pub fd: i32,
    pub nr: u32,
    /// Bytes used in `bytes`.
    pub len: u32,
    /// `FORK`: child's pid and tid. `EXIT`: what the process ends with as of `wait(2)`, and 1 when
    /// this was its last thread.
    pub extra: [u32; 2],
    pub bytes: [u8; BYTES_MAX],
}

/// Bytes of `Event` before `bytes`.
pub const EVENT_HEAD: usize = core::mem::size_of::<Event>() - BYTES_MAX;

/// Kinds of `Event`.
pub mod kind {
    /// `bytes`: the path that a failed call, or an open, named.
    pub const PATH: u32 = 1;
    /// `bytes`: the socket address of a connect.
    pub const ADDRESS: u32 = 2;
    /// `bytes`: start of a buffer that was received and looks like an HTTP/1 message.
    pub const HTTP_IN: u32 = 3;
    /// The same, sent.
    pub const HTTP_OUT: u32 = 4;
    pub const FORK: u32 = 5;
    /// `bytes`: the thread's name.
    pub const EXEC: u32 = 6;
    pub const EXIT: u32 = 7;
    pub const OOM_KILL: u32 = 8;
    /// An exchange that is not familiar, of a descriptor that was followed while the pod was reduced:
    /// `at_ns` is when it ended, the first 8 bytes of `bytes` when it began, the next 8 the peer's
    /// hash, `extra` the role of the descriptor and one of `ended`.
    pub const EXCHANGE: u32 = 9;
}

/// Byte offsets within kernel structures, from the kernel's BTF. Part of the programs' read-only
/// data: the verifier sees constants.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct Offsets {
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_state: u32,
    pub task_jobctl: u32,
    pub task_exit_code: u32,
    pub task_signal: u32,
    pub task_exec_start: u32,
    pub task_ran: u32,
    /// 0 where the kernel does not keep it: waits then include the time ready to run.
    pub task_run_delay: u32,
    pub signal_live: u32,
    pub signal_flags: u32,
    pub signal_exit_code: u32,
}

/// Index into `LOST`, from `pod * lost::COUNT`: what did not travel, by cause.
pub mod lost {
    /// Calls of threads for which no slot was left.
    pub const NO_SLOT: u32 = 0;
    /// Windows refused by the ring (their calls are in `ThreadSlot::lost`).
    pub const WINDOW_RING_FULL: u32 = 1;
    /// Events refused by the ring.
    pub const EVENT_RING_FULL: u32 = 2;
    /// Children that could not be added to the scope.
    pub const NO_SCOPE_SLOT: u32 = 3;
    /// Accounts of ended threads that had no entry left.
    pub const NO_ACCOUNT: u32 = 4;
    /// Calls whose decision named a slot that was another thread's.
    pub const STALE_SLOT: u32 = 5;
    /// Descriptors that the table had no room for.
    pub const NO_DESCRIPTOR: u32 = 6;
    pub const COUNT: u32 = 8;
}

/// What the discovery program found out about the caller, in the one entry of `SELF`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct SelfFound {
    /// `pid << 32 | tid` in the initial PID namespace; 0 until found.
    pub pid_tgid: u64,
    /// Ids of the caller's cgroup and its ancestors from the root (0) down; 0 where there is none.
    pub ancestors: [u64; 16],
}

#[cfg(feature = "user")]
mod user {
    use super::{EndedAccount, Offsets, PidScope, PodEntry, SelfFound};

    // SAFETY: repr(C) without padding, valid for any bytes.
    unsafe impl aya::Pod for Offsets {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PodEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PidScope {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EndedAccount {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SelfFound {}
}

#[cfg(test)]
mod tests {
    use super::{PEER_BYTES, class_floor, duration_class, peer_hash};

    #[test]
    fn peers_are_told_apart_by_family_port_and_address() {
        let hash = |bytes: &[u8]| {
            let mut all = [0; PEER_BYTES];
            all[..bytes.len()].copy_from_slice(bytes);
            let words = core::array::from_fn(|word| {
                u64::from_le_bytes(core::array::from_fn(|byte| all[word * 8 + byte]))
            });
            peer_hash(&words)
        };
        let inet = [2, 0, 0x18, 0xeb, 127, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9];
        assert_eq!(hash(&inet), hash(&inet[..8]));
        assert_ne!(hash(&inet), hash(&[2, 0, 0x18, 0xec, 127, 0, 0, 1]));
        let mut inet6 = [7; 28];
        inet6[..4].copy_from_slice(&[10, 0, 0, 80]);
        let mut other_flow = inet6;
        other_flow[5] = 1;
        assert_eq!(hash(&inet6), hash(&other_flow));
        let mut other_address = inet6;
        other_address[23] = 1;
        assert_ne!(hash(&inet6), hash(&other_address));
        assert_ne!(hash(b"\x01\0/run/a.sock"), hash(b"\x01\0/run/b.sock"));
    }

    #[test]
    fn classes_of_durations_are_in_order_and_begin_where_they_say() {
        assert_eq!(
            [0, 1, 1023, 1024, 1280].map(duration_class),
            [0, 1, 1, 2, 3]
        );
        assert_eq!(duration_class(u64::MAX), 217);
        for class in 1..=217 {
            let floor = class_floor(class);
            assert_eq!(duration_class(floor), class);
            assert_eq!(duration_class(floor - 1), class - 1);
        }
    }
}
