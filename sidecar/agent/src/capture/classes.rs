//! What the kernel programs do at each call, by the call's name.

use stethos_events::{CALL_NUMBERS, class};
use stethos_patterns::{
    Role,
    descriptors::{Action, action},
    names::{self, CallTable},
};

/// `CALL_CLASS` for this machine's call numbers.
pub fn table() -> Vec<u32> {
    let calls = names::table(std::env::consts::ARCH);
    (0..CALL_NUMBERS)
        .map(|nr| u16::try_from(nr).map_or(0, |nr| of(calls, nr)))
        .collect()
}

/// `class` bits of one call of this machine.
pub fn of_number(nr: u16) -> u32 {
    static TABLE: std::sync::LazyLock<Vec<u32>> = std::sync::LazyLock::new(table);
    TABLE.get(usize::from(nr)).copied().unwrap_or(0)
}

fn of(calls: &CallTable, nr: u16) -> u32 {
    let mut bits = 0;
    if calls.is_wait(nr) {
        bits |= class::WAIT;
    }
    if calls.takes_descriptor(nr) {
        bits |= class::DESCRIPTOR;
    }
    bits |= match action(calls, nr) {
        Action::Make(Role::File) => class::MAKE_FILE,
        Action::Make(_) => class::MAKE_OTHER,
        Action::Accept => class::ACCEPT,
        Action::Listen => class::LISTEN,
        Action::Connect => class::CONNECT,
        Action::Duplicate => class::DUPLICATE,
        Action::Close => class::CLOSE,
        Action::Read => class::RECEIVE,
        Action::Write => class::SEND,
        Action::FileWork => class::FILE_WORK,
        Action::Control => class::CONTROL,
        Action::Nothing => 0,
    };
    bits | match calls.name(nr) {
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
        "getsockopt" => class::SOCKET_ERROR,
        "exit" | "exit_group" => class::EXIT,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use syscalls::Sysno;

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
            ("io_uring_enter", class::WAIT | class::DESCRIPTOR),
            ("accept4", class::ACCEPT | class::DESCRIPTOR),
            ("sendfile", class::SEND | class::DESCRIPTOR),
            ("pread64", class::FILE_WORK),
            ("getsockopt", class::SOCKET_ERROR | class::DESCRIPTOR),
        ] {
            let Ok(call) = name.parse::<Sysno>() else {
                continue;
            };
            assert_eq!(table[call.id() as usize] & bit, bit, "{name}");
        }
    }

    #[test]
    fn getppid_has_no_class() {
        assert_eq!(table()[Sysno::getppid.id() as usize], 0);
    }
}
