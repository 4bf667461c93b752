//! Kernel programs of Stethos.
//!
//! `sys_enter` and `sys_exit` fill one window of calls per thread, in the thread's slot in
//! `THREADS`, and hand it over whole through `WINDOWS` when the thread is about to wait, when the
//! window is full, or when the thread ends. Scope is decided in the first instructions of
//! `sys_enter`; `sys_exit` acts only on threads that have a slot.
#![no_std]
#![no_main]

mod events;
mod lifecycle;
mod maps;
mod scope;
mod threads;

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};

#[btf_tracepoint(function = "sys_enter")]
pub fn sys_enter(ctx: BtfTracePointContext) -> i32 {
    threads::enter(ctx.arg(0), ctx.arg(1));
    0
}

#[btf_tracepoint(function = "sys_exit")]
pub fn sys_exit(ctx: BtfTracePointContext) -> i32 {
    threads::exit(ctx.arg(0), ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn process_fork(ctx: RawTracePointContext) -> i32 {
    lifecycle::fork(ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(ctx: RawTracePointContext) -> i32 {
    lifecycle::exec(ctx.arg(1));
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn process_exit(_ctx: RawTracePointContext) -> i32 {
    lifecycle::exit();
    0
}

/// The victim by pid: kernels before 6.8.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn oom_victim_pid(ctx: RawTracePointContext) -> i32 {
    lifecycle::oom_kill(ctx.arg(0));
    0
}

/// The victim by task: kernels from 6.8 on.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn oom_victim_task(ctx: RawTracePointContext) -> i32 {
    lifecycle::oom_kill_task(ctx.arg(0));
    0
}

/// Answers the sidecar's own `prctl(DISCOVERY_OPTION)`: who it is and where its cgroup stands.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn discover(ctx: RawTracePointContext) -> i32 {
    scope::discover(ctx.arg(0), ctx.arg(1));
    0
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
