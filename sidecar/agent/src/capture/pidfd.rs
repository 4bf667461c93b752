//! Handles of processes (`pidfd_open(2)`), and what they hold open (`pidfd_getfd(2)`).

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// A handle of the process that has this id now.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory arguments.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) })
}

/// A copy of a process's descriptor. Needs what `ptrace` does.
pub fn descriptor(process: &OwnedFd, fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory arguments.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })
}

/// True when the process has ended, though it may not have been waited for.
pub fn has_ended(process: &OwnedFd) -> bool {
    let mut poll = libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry. A handle becomes readable when its process ends.
    unsafe { libc::poll(&raw mut poll, 1, 0) != 0 }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that the kernel just made for this process.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}
