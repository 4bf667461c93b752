//! Starts a program with few rights: `few-rights CAPABILITIES PROGRAM ARGUMENTS…` as uid 65534, with
//! the capabilities of the list (`CAP_BPF,CAP_PERFMON`) and no others, then or later.

use std::{env, io, os::unix::process::CommandExt as _, process::Command};

use caps::{CapSet, Capability, CapsHashSet};

const NOBODY: libc::uid_t = 65534;

fn main() -> io::Result<()> {
    let mut arguments = env::args_os().skip(1);
    let missing = || io::Error::other("few-rights CAPABILITIES PROGRAM ARGUMENTS…");
    let capabilities = arguments.next().ok_or_else(missing)?;
    let program = arguments.next().ok_or_else(missing)?;
    let kept: CapsHashSet = capabilities
        .to_string_lossy()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.parse::<Capability>().map_err(io::Error::other))
        .collect::<io::Result<_>>()?;
    for capability in caps::all().difference(&kept) {
        // Beyond the last one the kernel refuses.
        let _ = caps::drop(None, CapSet::Bounding, *capability);
    }
    become_nobody()?;
    keep(&kept).map_err(io::Error::other)?;
    Err(Command::new(program).args(arguments).exec())
}

fn become_nobody() -> io::Result<()> {
    // SAFETY: no memory arguments but an empty list.
    unsafe {
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0))?;
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(NOBODY, NOBODY, NOBODY))?;
        check(libc::setresuid(NOBODY, NOBODY, NOBODY))?;
        // A change of user takes this away.
        check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))
    }
}

fn keep(kept: &CapsHashSet) -> Result<(), caps::errors::CapsError> {
    caps::set(None, CapSet::Effective, kept)?;
    caps::set(None, CapSet::Permitted, kept)?;
    caps::set(None, CapSet::Inheritable, kept)?;
    caps::set(None, CapSet::Ambient, kept)
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
