//! Under which span threads work, as their processes publish it.

#[cfg(feature = "user")]
use bytemuck::{Pod, Zeroable};

/// Where the threads of one process keep the pointer of OTEP 4947 (`otel_thread_ctx_v1`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct ContextPlace {
    /// From the thread pointer; within the thread's block of the module, when there is one.
    pub offset: i64,
    /// The entry of the thread's vector (DTV) that points to that block; 0: none is needed.
    pub module: u64,
}

/// The span that a thread works for; all 0: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct TraceContext {
    /// As they stand in memory: bytes in the order of W3C Trace Context.
    pub trace_id: [u64; 2],
    pub span_id: u64,
    /// `trace-flags`, where the source tells them.
    pub flags: u32,
    /// One of `context_source`.
    pub source: u32,
}

/// Values of `TraceContext::source`.
pub mod context_source {
    /// The thread's own record (OTEP 4947).
    pub const THREAD: u32 = 1;
    /// The map that OpenTelemetry's eBPF instrumentation (OBI) shares. It tells no flags.
    pub const OBI: u32 = 2;
}

/// What the programs remember of a thread's context.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
pub struct ThreadTrace {
    /// Address of the thread's pointer; 0: not known.
    pub pointer: u64,
    pub place: ContextPlace,
    /// What was told last, while everything was shipped.
    pub told: TraceContext,
    /// `CONTEXT_SETTINGS` as of when the place was looked up.
    pub generation: u32,
    /// Bits of `context_state`.
    pub state: u32,
    /// Changes that the ring refused.
    pub lost: u32,
    /// `Reduction::epoch` as of when `told` was told.
    pub epoch: u32,
}

/// Bits of `ThreadTrace::state`.
pub mod context_state {
    /// The process publishes contexts of its threads.
    pub const PUBLISHED: u32 = 1 << 0;
    /// The shared map is asked.
    pub const SHARED: u32 = 1 << 1;
    /// `told` was told, and in this epoch holds until the next change is told.
    pub const CONTINUES: u32 = 1 << 2;
}

/// Indices into `CONTEXT_SETTINGS`.
pub mod context_setting {
    /// Changes with every entry of `CONTEXT_PLACES`; 0: no process publishes anything.
    pub const GENERATION: u32 = 0;
    /// Not 0: `SHARED_CONTEXTS` holds a map.
    pub const SHARED: u32 = 1;
    pub const COUNT: u32 = 2;
}

/// Processes whose place is known at one time.
pub const CONTEXT_PLACES: u32 = 16_384;

#[cfg(feature = "user")]
// SAFETY: repr(C) without padding, valid for any bytes.
unsafe impl aya::Pod for ContextPlace {}
