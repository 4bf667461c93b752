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
    assert_eq!(name(Token::UNKNOWN_CALL, -2), "unknown:ENOENT");
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
