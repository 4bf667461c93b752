//! Who runs where: the server or the caller on the highest processor that is allowed, its load on
//! the lowest.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

const THIS: Pid = Pid::from_raw(0);

/// One processor; the same one twice where only one is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Processor {
    Lowest,
    Highest,
}

/// Has `command` and what it starts run on one processor.
pub(super) fn pin(command: &mut Command, processor: Processor) -> Result<()> {
    let one = only(processor)?;
    // SAFETY: one system call on a value that was made before the fork.
    unsafe {
        command.pre_exec(move || sched_setaffinity(THIS, &one).map_err(io::Error::from));
    }
    Ok(())
}

fn only(processor: Processor) -> Result<CpuSet> {
    let allowed = sched_getaffinity(THIS)?;
    let mut processors = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let which = match processor {
        Processor::Lowest => processors.next(),
        Processor::Highest => processors.next_back(),
    };
    let mut one = CpuSet::new();
    one.set(which.context("no processor is allowed")?)?;
    Ok(one)
}
