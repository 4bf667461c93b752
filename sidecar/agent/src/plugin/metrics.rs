use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counters of one plugin since it was loaded.
#[derive(Debug, Default)]
pub(super) struct PluginMetrics {
    pub(super) calls: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) windows: AtomicU64,
    pub(super) cache_hits: AtomicU64,
    pub(super) cache_misses: AtomicU64,
    pub(super) unjudged: AtomicU64,
    pub(super) traps: AtomicU64,
    pub(super) timeouts: AtomicU64,
    pub(super) memory_refusals: AtomicU64,
    pub(super) invalid_answers: AtomicU64,
    pub(super) refusals: AtomicU64,
    pub(super) restarts: AtomicU64,
    pub(super) guest_nanos: AtomicU64,
    pub(super) memory_bytes: AtomicU64,
    pub(super) quarantined: AtomicBool,
}

/// What a plugin has done and cost since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginSnapshot {
    /// Requests of any kind.
    pub calls: u64,
    /// Calls into the guest that scored or assessed.
    pub batches: u64,
    /// Windows asked for, cached or not.
    pub windows: u64,
    /// Windows answered without the guest.
    pub cache_hits: u64,
    /// Windows that went to the guest.
    pub cache_misses: u64,
    /// Windows that stayed without an answer.
    pub unjudged: u64,
    pub traps: u64,
    pub timeouts: u64,
    /// Failures after the guest asked for more memory than it may have.
    pub memory_refusals: u64,
    /// Answers of the wrong length or with values that are no numbers.
    pub invalid_answers: u64,
    /// Orderly errors of the guest.
    pub refusals: u64,
    /// Times that the guest was started again after a failure.
    pub restarts: u64,
    /// Time inside the guest.
    pub guest_time: Duration,
    /// Bytes of the guest's memories after its last call.
    pub memory_bytes: u64,
    pub quarantined: bool,
}

impl PluginMetrics {
    pub(super) fn snapshot(&self) -> PluginSnapshot {
        PluginSnapshot {
            calls: self.calls.load(Relaxed),
            batches: self.batches.load(Relaxed),
            windows: self.windows.load(Relaxed),
            cache_hits: self.cache_hits.load(Relaxed),
            cache_misses: self.cache_misses.load(Relaxed),
            unjudged: self.unjudged.load(Relaxed),
            traps: self.traps.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            memory_refusals: self.memory_refusals.load(Relaxed),
            invalid_answers: self.invalid_answers.load(Relaxed),
            refusals: self.refusals.load(Relaxed),
            restarts: self.restarts.load(Relaxed),
            guest_time: Duration::from_nanos(self.guest_nanos.load(Relaxed)),
            memory_bytes: self.memory_bytes.load(Relaxed),
            quarantined: self.quarantined.load(Relaxed),
        }
    }
}
