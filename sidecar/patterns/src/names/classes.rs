//! Calls by their names: every architecture has the same ones.

use super::CallKind;

pub(super) fn waits(name: &str) -> bool {
    matches!(kind_of(name), CallKind::Wait | CallKind::Accept)
        || matches!(name, "wait4" | "waitid" | "waitpid")
}

pub(super) fn kind_of(name: &str) -> CallKind {
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
        | "io_uring_enter"
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

pub(super) fn starts_with_descriptor(name: &str) -> bool {
    match kind_of(name) {
        CallKind::Read
        | CallKind::Write
        | CallKind::Close
        | CallKind::Connect
        | CallKind::Accept => true,
        CallKind::Socket => !matches!(name, "socket" | "socketpair" | "socketcall"),
        CallKind::Sync => !matches!(name, "sync" | "msync"),
        CallKind::Wait => name.starts_with("epoll_") || name == "io_uring_enter",
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
