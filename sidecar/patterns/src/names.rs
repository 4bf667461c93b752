//! What call numbers and error numbers are called, and what kind of work a call does.
//!
//! Numbers differ between architectures, names do not: a call is classified by its name, once
//! per architecture, into a table that is indexed by number.

use std::sync::LazyLock;

use syscalls::{Errno, aarch64, x86, x86_64};

use crate::token::{Outcome, Token};

/// The main thing a call does. Every call has exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallKind {
    /// Waits for something that another party does: [`CallTable::is_wait`] without `accept`.
    Wait,
    Read,
    Write,
    /// Opens or creates a file.
    Open,
    Close,
    Socket,
    Connect,
    Accept,
    /// Makes earlier writes durable.
    Sync,
    /// Other work on files and folders: stat, rename, unlink, …
    File,
    Memory,
    /// Makes, replaces, waits for or ends processes and threads, and signals.
    Process,
    Other,
}

/// Names and classes of one architecture's calls.
#[derive(Debug)]
pub struct CallTable {
    calls: Vec<Option<Entry>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: &'static str,
    kind: CallKind,
    waits: bool,
    takes_descriptor: bool,
}

static X86_64: LazyLock<CallTable> =
    LazyLock::new(|| CallTable::new(x86_64::Sysno::iter().map(|call| (call.id(), call.name()))));
static AARCH64: LazyLock<CallTable> =
    LazyLock::new(|| CallTable::new(aarch64::Sysno::iter().map(|call| (call.id(), call.name()))));
static I386: LazyLock<CallTable> =
    LazyLock::new(|| CallTable::new(x86::Sysno::iter().map(|call| (call.id(), call.name()))));
static NO_CALLS: CallTable = CallTable { calls: Vec::new() };

/// The table of `x86_64`, `aarch64` (`arm64`) or `i386` (`i686`, `x86`); for any other name a
/// table without calls, in which nothing has a name or a class.
pub fn table(arch: &str) -> &'static CallTable {
    match arch {
        "x86_64" => &X86_64,
        "aarch64" | "arm64" => &AARCH64,
        "i386" | "i686" | "x86" => &I386,
        _ => &NO_CALLS,
    }
}

const UNKNOWN_CALL: &str = "unknown";

impl CallTable {
    fn new(calls: impl Iterator<Item = (i32, &'static str)>) -> Self {
        let mut table = CallTable { calls: Vec::new() };
        for (nr, name) in calls {
            let Ok(nr) = u16::try_from(nr) else { continue };
            let index = usize::from(nr);
            if table.calls.len() <= index {
                table.calls.resize(index + 1, None);
            }
            table.calls[index] = Some(Entry {
                name,
                kind: kind_of(name),
                waits: waits(name),
                takes_descriptor: starts_with_descriptor(name),
            });
        }
        table
    }

    fn entry(&self, nr: u16) -> Option<&Entry> {
        self.calls.get(usize::from(nr))?.as_ref()
    }

    /// `unknown` for a number without a name.
    pub fn name(&self, nr: u16) -> &'static str {
        self.entry(nr).map_or(UNKNOWN_CALL, |entry| entry.name)
    }

    /// The number of a call by its name on this architecture.
    pub fn number(&self, name: &str) -> Option<u16> {
        let index = self
            .calls
            .iter()
            .position(|entry| entry.is_some_and(|e| e.name == name))?;
        u16::try_from(index).ok()
    }

    /// Every number that has a name, in order.
    pub fn numbers(&self) -> impl Iterator<Item = u16> + '_ {
        (0..=u16::MAX)
            .zip(&self.calls)
            .filter(|(_, entry)| entry.is_some())
            .map(|(nr, _)| nr)
    }

    pub fn kind(&self, nr: u16) -> CallKind {
        self.entry(nr).map_or(CallKind::Other, |entry| entry.kind)
    }

    /// True for calls whose purpose is to wait until something happens (`epoll_wait`, `futex`,
    /// `nanosleep`, `accept`, …). A blocking `read` waits too, but not by its name.
    pub fn is_wait(&self, nr: u16) -> bool {
        self.entry(nr).is_some_and(|entry| entry.waits)
    }

    /// True when the first argument is the descriptor that the call works on (`openat`'s folder
    /// is not).
    pub fn takes_descriptor(&self, nr: u16) -> bool {
        self.entry(nr).is_some_and(|entry| entry.takes_descriptor)
    }

    pub fn is_read_like(&self, nr: u16) -> bool {
        self.kind(nr) == CallKind::Read
    }

    pub fn is_write_like(&self, nr: u16) -> bool {
        self.kind(nr) == CallKind::Write
    }

    pub fn is_open(&self, nr: u16) -> bool {
        self.kind(nr) == CallKind::Open
    }

    pub fn is_close(&self, nr: u16) -> bool {
        self.kind(nr) == CallKind::Close
    }

    pub fn is_connect(&self, nr: u16) -> bool {
        self.kind(nr) == CallKind::Connect
    }

    pub fn is_accept(&self, nr: u16) -> bool {
        self.kind(nr) == CallKind::Accept
    }

    /// `connect:ECONNREFUSED`, `read:ok`, `futex:interrupted`, `exit_group:no_return`, `gap`;
    /// `call_470:ok` for a number without a name.
    pub fn token_name(&self, token: &Token) -> String {
        if *token == Token::GAP {
            return "gap".to_owned();
        }
        let outcome = match token.outcome {
            Outcome::Ok => "ok",
            Outcome::Interrupted => "interrupted",
            Outcome::NoReturn => "no_return",
            Outcome::Errno(errno) => match known_errno(errno) {
                Some(name) => name,
                None => return format!("{}:E{errno}", self.call_label(token.call)),
            },
        };
        format!("{}:{outcome}", self.call_label(token.call))
    }

    fn call_label(&self, nr: u16) -> String {
        self.entry(nr)
            .map_or_else(|| format!("call_{nr}"), |entry| entry.name.to_owned())
    }
}

/// Name of a call; `unknown` for a number or an architecture that has none.
pub fn call_name(arch: &str, nr: u16) -> &'static str {
    table(arch).name(nr)
}

/// See [`CallTable::token_name`].
pub fn token_name(arch: &str, token: &Token) -> String {
    table(arch).token_name(token)
}

/// `ECONNREFUSED`; `unknown` for a number without a name.
pub fn errno_name(errno: u8) -> &'static str {
    known_errno(errno).unwrap_or("unknown")
}

fn known_errno(errno: u8) -> Option<&'static str> {
    Errno::new(i32::from(errno)).name()
}

pub fn takes_descriptor(arch: &str, nr: u16) -> bool {
    table(arch).takes_descriptor(nr)
}

pub fn is_wait(arch: &str, nr: u16) -> bool {
    table(arch).is_wait(nr)
}

pub fn is_read_like(arch: &str, nr: u16) -> bool {
    table(arch).is_read_like(nr)
}

pub fn is_write_like(arch: &str, nr: u16) -> bool {
    table(arch).is_write_like(nr)
}

pub fn is_open(arch: &str, nr: u16) -> bool {
    table(arch).is_open(nr)
}

pub fn is_close(arch: &str, nr: u16) -> bool {
    table(arch).is_close(nr)
}

pub fn is_connect(arch: &str, nr: u16) -> bool {
    table(arch).is_connect(nr)
}

pub fn is_accept(arch: &str, nr: u16) -> bool {
    table(arch).is_accept(nr)
}

fn waits(name: &str) -> bool {
    matches!(kind_of(name), CallKind::Wait | CallKind::Accept) || matches!(name, "wait4" | "waitid" | "waitpid")
}

fn kind_of(name: &str) -> CallKind {
    match name {
        "epoll_wait"
        | "epoll_pwait"
        | "epoll_pwait2"
        | "epoll_wait_old"
        | "poll"
        | "ppoll"
        | "ppoll_time64"
        | "select"
        | "_newselect"
        | "pselect6"
        | "pselect6_time64"
        | "nanosleep"
        | "clock_nanosleep"
        | "clock_nanosleep_time64"
        | "futex"
        | "futex_time64"
        | "futex_wait"
        | "futex_waitv"
        | "pause"
        | "rt_sigtimedwait"
        | "rt_sigtimedwait_time64"
        | "rt_sigsuspend"
        | "sigsuspend"
        | "io_getevents"
        | "io_pgetevents"
        | "io_pgetevents_time64"
        | "restart_syscall" => CallKind::Wait,
        "read" | "readv" | "pread64" | "preadv" | "preadv2" | "recv" | "recvfrom" | "recvmsg"
        | "recvmmsg" | "recvmmsg_time64" => CallKind::Read,
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" | "send" | "sendto"
        | "sendmsg" | "sendmmsg" | "sendfile" | "sendfile64" => CallKind::Write,
        "open" | "openat" | "openat2" | "creat" | "open_by_handle_at" => CallKind::Open,
        "close" => CallKind::Close,
        "socket" | "socketpair" | "bind" | "listen" | "shutdown" | "setsockopt" | "getsockopt"
        | "getsockname" | "getpeername" | "socketcall" => CallKind::Socket,
        "connect" => CallKind::Connect,
        "accept" | "accept4" => CallKind::Accept,
        "fsync" | "fdatasync" | "sync" | "syncfs" | "sync_file_range" | "msync" => CallKind::Sync,
        "mmap" | "mmap2" | "munmap" | "mremap" | "mprotect" | "brk" | "madvise" | "mlock"
        | "mlock2" | "mlockall" | "munlock" | "munlockall" | "mincore" | "membarrier"
        | "memfd_create" | "process_madvise" => CallKind::Memory,
        "clone" | "clone3" | "fork" | "vfork" | "execve" | "execveat" | "exit" | "exit_group"
        | "wait4" | "waitid" | "waitpid" | "kill" | "tkill" | "tgkill" | "rt_sigaction"
        | "rt_sigprocmask" | "rt_sigreturn" | "sigaltstack" | "set_tid_address"
        | "set_robust_list" | "rseq" | "prctl" | "arch_prctl" | "sched_yield" | "pidfd_open"
        | "pidfd_send_signal" | "setns" | "unshare" => CallKind::Process,
        "stat" | "stat64" | "fstat" | "fstat64" | "lstat" | "lstat64" | "newfstatat"
        | "fstatat" | "fstatat64" | "statx" | "statfs" | "statfs64" | "fstatfs" | "fstatfs64"
        | "access" | "faccessat" | "faccessat2" | "lseek" | "_llseek" | "getdents"
        | "getdents64" | "getcwd" | "chdir" | "fchdir" | "rename" | "renameat" | "renameat2"
        | "mkdir" | "mkdirat" | "rmdir" | "link" | "linkat" | "unlink" | "unlinkat" | "symlink"
        | "symlinkat" | "readlink" | "readlinkat" | "chmod" | "fchmod" | "fchmodat"
        | "fchmodat2" | "chown" | "fchown" | "lchown" | "fchownat" | "truncate" | "ftruncate"
        | "truncate64" | "ftruncate64" | "fallocate" | "flock" | "fadvise64" | "readahead"
        | "copy_file_range" | "utimensat" | "mknod" | "mknodat" | "inotify_add_watch" => {
            CallKind::File
        }
        _ => CallKind::Other,
    }
}

fn starts_with_descriptor(name: &str) -> bool {
    match kind_of(name) {
        CallKind::Read
        | CallKind::Write
        | CallKind::Close
        | CallKind::Connect
        | CallKind::Accept => true,
        CallKind::Socket => !matches!(name, "socket" | "socketpair" | "socketcall"),
        CallKind::Sync => !matches!(name, "sync" | "msync"),
        CallKind::Wait => name.starts_with("epoll_"),
        CallKind::Process => matches!(name, "pidfd_send_signal" | "setns"),
        CallKind::File => matches!(
            name,
            "fstat"
                | "fstat64"
                | "fstatfs"
                | "fstatfs64"
                | "lseek"
                | "_llseek"
                | "getdents"
                | "getdents64"
                | "fchdir"
                | "fchmod"
                | "fchown"
                | "ftruncate"
                | "ftruncate64"
                | "fallocate"
                | "flock"
                | "fadvise64"
                | "readahead"
                | "copy_file_range"
                | "inotify_add_watch"
        ),
        CallKind::Open | CallKind::Memory => false,
        CallKind::Other => matches!(
            name,
            "dup"
                | "dup2"
                | "dup3"
                | "fcntl"
                | "fcntl64"
                | "ioctl"
                | "epoll_ctl"
                | "epoll_ctl_old"
                | "splice"
                | "tee"
                | "vmsplice"
                | "fgetxattr"
                | "fsetxattr"
                | "flistxattr"
                | "fremovexattr"
                | "timerfd_settime"
                | "timerfd_gettime"
                | "timerfd_settime64"
                | "timerfd_gettime64"
                | "inotify_rm_watch"
                | "io_uring_enter"
                | "io_uring_register"
                | "finit_module"
                | "mq_timedsend"
                | "mq_timedreceive"
                | "mq_timedsend_time64"
                | "mq_timedreceive_time64"
                | "mq_notify"
                | "mq_getsetattr"
                | "pidfd_getfd"
                | "fanotify_mark"
                | "cachestat"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_the_names_people_know() {
        let name = |nr, ret| token_name("x86_64", &Token::new(nr, ret));
        assert_eq!(name(42, -111), "connect:ECONNREFUSED");
        assert_eq!(name(0, 12), "read:ok");
        assert_eq!(name(0, -11), "read:EAGAIN");
        assert_eq!(name(202, -512), "futex:interrupted");
        assert_eq!(name(202, -4), "futex:interrupted");
        assert_eq!(name(9999, 0), "call_9999:ok");
        assert_eq!(token_name("x86_64", &Token::GAP), "gap");
        let ended = Token {
            call: 231,
            outcome: Outcome::NoReturn,
        };
        assert_eq!(token_name("x86_64", &ended), "exit_group:no_return");
        assert_eq!(
            token_name(
                "x86_64",
                &Token {
                    call: 0,
                    outcome: Outcome::Errno(200)
                }
            ),
            "read:E200"
        );
    }

    #[test]
    fn errors_have_their_names() {
        let names = [1, 2, 11, 13, 24, 28, 30, 98, 104, 110, 111, 113, 115, 122].map(errno_name);
        assert_eq!(
            names.join(" "),
            "EPERM ENOENT EAGAIN EACCES EMFILE ENOSPC EROFS EADDRINUSE ECONNRESET ETIMEDOUT \
             ECONNREFUSED EHOSTUNREACH EINPROGRESS EDQUOT"
        );
        assert_eq!(errno_name(0), "unknown");
    }

    #[test]
    fn numbers_follow_the_architecture() {
        assert_eq!(call_name("x86_64", 0), "read");
        assert_eq!(call_name("aarch64", 63), "read");
        assert_eq!(call_name("i386", 3), "read");
        assert_eq!(call_name("s390x", 3), "unknown");
        for arch in ["x86_64", "aarch64", "i386"] {
            let table = table(arch);
            for nr in table.numbers() {
                assert_eq!(
                    table.number(table.name(nr)),
                    Some(nr),
                    "{arch} {}",
                    table.name(nr)
                );
            }
        }
    }

    /// Names in the classification that no architecture has are spelling mistakes.
    #[test]
    fn classes_agree_on_both_architectures() {
        let (x, a) = (table("x86_64"), table("aarch64"));
        for nr in x.numbers() {
            if let Some(other) = a.number(x.name(nr)) {
                assert_eq!(x.kind(nr), a.kind(other), "{}", x.name(nr));
                assert_eq!(x.takes_descriptor(nr), a.takes_descriptor(other));
            }
        }
    }

    #[test]
    fn waits_are_known() {
        let table = table("x86_64");
        for name in [
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
            "wait4",
            "waitid",
            "pause",
            "rt_sigtimedwait",
            "rt_sigsuspend",
            "accept",
            "accept4",
            "io_getevents",
        ] {
            assert!(table.is_wait(table.number(name).unwrap()), "{name}");
        }
        for name in [
            "read",
            "write",
            "openat",
            "connect",
            "epoll_ctl",
            "clone",
            "sched_yield",
        ] {
            assert!(!table.is_wait(table.number(name).unwrap()), "{name}");
        }
    }

    #[test]
    fn descriptors_come_first_in_these_and_not_in_those() {
        let table = table("x86_64");
        for name in [
            "read",
            "write",
            "close",
            "fsync",
            "connect",
            "accept4",
            "bind",
            "listen",
            "sendto",
            "recvmsg",
            "epoll_wait",
            "epoll_ctl",
            "fcntl",
            "ioctl",
            "dup",
            "dup2",
            "ftruncate",
            "getsockopt",
            "shutdown",
            "sendfile",
            "pwrite64",
            "getdents64",
            "fallocate",
        ] {
            assert!(
                table.takes_descriptor(table.number(name).unwrap()),
                "{name}"
            );
        }
        for name in [
            "openat",
            "newfstatat",
            "poll",
            "select",
            "futex",
            "socket",
            "mmap",
            "pipe2",
            "sync",
            "execve",
            "unlinkat",
            "close_range",
            "pselect6",
            "nanosleep",
        ] {
            assert!(
                !table.takes_descriptor(table.number(name).unwrap()),
                "{name}"
            );
        }
    }
}
