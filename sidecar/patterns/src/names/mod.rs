//! What call numbers and error numbers are called, and what kind of work a call does.
//!
//! Numbers differ between architectures, names do not: a call is classified by its name, once
//! per architecture, into a table that is indexed by number.

mod classes;

use std::sync::LazyLock;

use syscalls::{Errno, aarch64, x86, x86_64};

use crate::token::{Outcome, Token};
use classes::{kind_of, starts_with_descriptor, waits};

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

    /// Whether a call has this number.
    pub fn knows(&self, nr: u16) -> bool {
        self.entry(nr).is_some()
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
    /// `call_470:ok` for a number without a name, `unknown:ok` for [`Token::UNKNOWN_CALL`].
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
        match self.entry(nr) {
            Some(entry) => entry.name.to_owned(),
            None if nr == Token::UNKNOWN_CALL => UNKNOWN_CALL.to_owned(),
            None => format!("call_{nr}"),
        }
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

#[cfg(test)]
mod tests;
