//! Calls and errors by the names that other tools have for them.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use stethos_patterns::{
    Token,
    names::{self, CallTable},
};
use syscalls::Errno;

use super::{Arch, Counts, error::short};

/// Unknown names that are kept to be told.
const MAX_TOLD: usize = 5;

/// Call numbers by name; counts what it does not know.
pub(super) struct Names {
    pub(super) table: &'static CallTable,
    numbers: HashMap<&'static str, u16>,
    unknown: u64,
    first_unknown: Vec<String>,
}

/// Names of one call, of which an architecture has one.
const SAME: [&[&str]; 13] = [
    &["pread64", "pread"],
    &["pwrite64", "pwrite"],
    &["umount2", "umount"],
    &["prlimit64", "prlimit"],
    &["eventfd2", "eventfd"],
    &["signalfd4", "signalfd"],
    &["newfstatat", "fstatat", "fstatat64"],
    &["_llseek", "llseek", "lseek"],
    &["select", "_newselect", "oldselect"],
    &["_sysctl", "sysctl"],
    &["fadvise64", "fadvise64_64"],
    &["sendfile", "sendfile64"],
    &["mmap", "mmap2", "old_mmap"],
];

impl Names {
    pub(super) fn new(arch: Arch) -> Self {
        let table = names::table(arch.name());
        Names {
            table,
            numbers: table.numbers().map(|nr| (table.name(nr), nr)).collect(),
            unknown: 0,
            first_unknown: Vec::new(),
        }
    }

    /// [`Token::UNKNOWN_CALL`] for a name that the architecture does not have.
    pub(super) fn number(&mut self, name: &str) -> u16 {
        let known = self.numbers.get(name).copied();
        let other = || {
            let same = SAME.iter().find(|names| names.contains(&name))?;
            same.iter().find_map(|name| self.numbers.get(name).copied())
        };
        // What strace prints for a number that it does not know.
        let raw = || {
            let digits = name.strip_prefix("syscall_")?;
            let nr = match digits.strip_prefix("0x") {
                Some(digits) => u16::from_str_radix(digits, 16),
                None => digits.parse(),
            };
            nr.ok().filter(|nr| *nr < Token::UNKNOWN_CALL)
        };
        known.or_else(other).or_else(raw).unwrap_or_else(|| {
            self.unknown(name);
            Token::UNKNOWN_CALL
        })
    }

    /// Counts a call without a name or a number.
    pub(super) fn unknown(&mut self, what: &str) {
        self.unknown += 1;
        if self.first_unknown.len() < MAX_TOLD {
            let what = short(what);
            if !self.first_unknown.contains(&what) {
                self.first_unknown.push(what);
            }
        }
    }

    pub(super) fn counts(self) -> Counts {
        Counts {
            unknown: self.unknown,
            first_unknown: self.first_unknown,
            ..Counts::default()
        }
    }
}

/// Opened files that are told, once each.
const MAX_OPENED: usize = 8192;

/// The files that were opened so far.
#[derive(Default)]
pub(super) struct Opened(HashSet<String>);

impl Opened {
    /// True the first time, as long as there is room.
    pub(super) fn is_first(&mut self, path: &str) -> bool {
        self.0.len() < MAX_OPENED && self.0.insert(path.to_owned())
    }
}

pub(super) fn is_exec(name: &str) -> bool {
    matches!(name, "execve" | "execveat")
}

/// Error numbers by name, those of restarts included, which only tracers see.
static ERRNOS: LazyLock<HashMap<&'static str, i64>> = LazyLock::new(|| {
    let named = (1..=133).filter_map(|nr| Some((Errno::new(nr).name()?, i64::from(nr))));
    let others = [
        ("EWOULDBLOCK", 11),
        ("EDEADLOCK", 35),
        ("ENOTSUP", 95),
        ("ERESTARTSYS", 512),
        ("ERESTARTNOINTR", 513),
        ("ERESTARTNOHAND", 514),
        ("ENOIOCTLCMD", 515),
        ("ERESTART_RESTARTBLOCK", 516),
        ("ENOTSUPP", 524),
    ];
    named.chain(others).collect()
});

pub(super) fn errno(name: &str) -> Option<i64> {
    ERRNOS.get(name).copied()
}

/// Signals 1 to 31, in order.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The number of a signal; none for one that is not known.
pub(super) fn signal(name: &str) -> Option<i32> {
    let place = SIGNALS.iter().position(|known| *known == name)?;
    i32::try_from(place + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_tools_are_the_same_calls() {
        let mut x86_64 = Names::new(Arch::X86_64);
        for (name, nr) in [
            ("read", 0),
            ("pread", 17),
            ("pwrite64", 18),
            ("fstatat64", 262),
            ("syscall_0x1c3", 451),
            ("syscall_700", 700),
        ] {
            assert_eq!(x86_64.number(name), nr, "{name}");
        }
        assert_eq!(Names::new(Arch::I386).number("oldselect"), 82);
        assert_eq!(Names::new(Arch::I386).number("mmap"), 90);
        assert_eq!(Names::new(Arch::Aarch64).number("newfstatat"), 79);
    }

    #[test]
    fn unknown_names_are_counted_and_some_told() {
        let mut names = Names::new(Arch::X86_64);
        for name in ["<unknown>", "readd", "readd", "syscall_65535"] {
            assert_eq!(names.number(name), Token::UNKNOWN_CALL, "{name}");
        }
        let counts = names.counts();
        assert_eq!(counts.unknown, 4);
        assert_eq!(counts.first_unknown.len(), 3);
    }

    #[test]
    fn errors_and_signals_have_their_numbers() {
        assert_eq!(errno("ENOENT"), Some(2));
        assert_eq!(errno("EHWPOISON"), Some(133));
        assert_eq!(errno("ERESTARTSYS"), Some(512));
        assert_eq!(errno("ENONE"), None);
        let numbers = ["SIGKILL", "SIGSEGV", "SIGTERM", "SIGSYS"].map(signal);
        assert_eq!(numbers, [Some(9), Some(11), Some(15), Some(31)]);
        assert_eq!(signal("SIGRT_3"), None);
    }
}
