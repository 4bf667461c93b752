//! What the kernel programs do at each call, by the call's name.

use stethos_events::{CALL_NUMBERS, class};
use syscalls::Sysno;

/// `CALL_CLASS` for this machine's call numbers.
pub fn table() -> Vec<u32> {
    (0..CALL_NUMBERS)
        .map(|nr| Sysno::new(nr).map_or(0, |call| of(call.name())))
        .collect()
}

/// `class` bits of one call of this machine.
pub fn of_number(nr: u16) -> u32 {
    static TABLE: std::sync::LazyLock<Vec<u32>> = std::sync::LazyLock::new(table);
    TABLE.get(usize::from(nr)).copied().unwrap_or(0)
}

fn of(name: &str) -> u32 {
    let mut bits = 0;
    if WAITS.contains(&name) {
        bits |= class::WAIT;
    }
    if DESCRIPTORS.contains(&name) {
        bits |= class::DESCRIPTOR;
    }
    bits | match name {
        "open" | "creat" => class::PATH_0 | class::OPEN,
        "openat" | "openat2" => class::PATH_1 | class::OPEN,
        "stat" | "lstat" | "access" | "execve" | "unlink" | "mkdir" | "rmdir" | "rename"
        | "chdir" | "truncate" | "chmod" | "readlink" | "statfs" => class::PATH_0,
        "newfstatat" | "statx" | "faccessat" | "faccessat2" | "execveat" | "unlinkat"
        | "mkdirat" | "renameat" | "renameat2" | "readlinkat" => class::PATH_1,
        "connect" | "bind" => class::ADDRESS_1,
        "read" | "recvfrom" => class::READ,
        "write" | "sendto" => class::WRITE,
        "readv" => class::READ | class::VECTOR,
        "writev" => class::WRITE | class::VECTOR,
        "recvmsg" => class::READ | class::MESSAGE,
        "sendmsg" => class::WRITE | class::MESSAGE,
        "exit" | "exit_group" => class::EXIT,
        _ => 0,
    }
}

/// Calls whose purpose is to wait.
const WAITS: &[&str] = &[
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "nanosleep",
    "clock_nanosleep",
    "futex",
    "futex_wait",
    "futex_waitv",
    "wait4",
    "waitid",
    "pause",
    "rt_sigtimedwait",
    "rt_sigsuspend",
    "accept",
    "accept4",
    "io_getevents",
    "io_pgetevents",
    "io_uring_enter",
];

/// Calls whose first argument is a descriptor that is worked on (not a directory to start from).
const DESCRIPTORS: &[&str] = &[
    "read",
    "write",
    "close",
    "fstat",
    "lseek",
    "ioctl",
    "pread64",
    "pwrite64",
    "readv",
    "writev",
    "preadv",
    "pwritev",
    "preadv2",
    "pwritev2",
    "sendfile",
    "connect",
    "accept",
    "accept4",
    "sendto",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "sendmmsg",
    "recvmmsg",
    "shutdown",
    "bind",
    "listen",
    "getsockname",
    "getpeername",
    "setsockopt",
    "getsockopt",
    "fcntl",
    "flock",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "ftruncate",
    "fallocate",
    "getdents",
    "getdents64",
    "fchmod",
    "fchown",
    "fstatfs",
    "fadvise64",
    "readahead",
    "dup",
    "dup2",
    "dup3",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_ctl",
    "splice",
    "tee",
    "timerfd_settime",
    "timerfd_gettime",
    "copy_file_range",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_call_exists_or_belongs_to_another_architecture() {
        let table = table();
        for (name, bit) in [
            ("epoll_wait", class::WAIT),
            ("connect", class::ADDRESS_1),
            ("openat", class::PATH_1),
            ("sendmsg", class::MESSAGE),
            ("exit_group", class::EXIT),
            ("pwrite64", class::DESCRIPTOR),
        ] {
            let Ok(call) = name.parse::<Sysno>() else {
                continue;
            };
            assert_ne!(table[call.id() as usize] & bit, 0, "{name}");
        }
    }

    #[test]
    fn getppid_has_no_class() {
        assert_eq!(table()[Sysno::getppid.id() as usize], 0);
    }
}
