//! Kernel programs of Stethos.
//!
//! `sys_exit` fills one window of calls per thread, in the thread's slot, and hands it over whole
//! through its pod's ring before a call that waits, when the window is full, and when the thread
//! ends. Nothing runs when a call is entered: its arguments are still in the registers when it
//! returns, how long it waited is in the scheduler's clocks, and calls that have not returned are
//! polled.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod contexts;
mod descriptors;
mod events;
mod familiar;
mod kernel;
mod lifecycle;
mod maps;
mod poll;
mod registers;
mod scope;
mod threads;

use aya_ebpf::{
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};

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

/// The victim by pid; which of the two programs a kernel calls for, its BTF tells.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn oom_victim_pid(ctx: RawTracePointContext) -> i32 {
    lifecycle::oom_kill(ctx.arg::<i32>(0) as u32);
    0
}

/// The victim by task.
#[raw_tracepoint(tracepoint = "mark_victim")]
pub fn oom_victim_task(ctx: RawTracePointContext) -> i32 {
    lifecycle::oom_kill_task(ctx.arg(0));
    0
}

/// Run by the loader: who it is and where its cgroup stands.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn discover(_ctx: RawTracePointContext) -> i32 {
    scope::discover();
    0
}

/// Run by the loader a few times a second: what threads are doing, from the slot number in the
/// first argument on.
#[raw_tracepoint(tracepoint = "sys_enter")]
pub fn poll(ctx: RawTracePointContext) -> i32 {
    poll::slots(ctx.arg::<u64>(0) as u32);
    0
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
