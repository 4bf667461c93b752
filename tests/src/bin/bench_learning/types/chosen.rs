//! Which figures speak for each application type, and in which direction.

use stethos_plugin_sdk::fit::{Figure, READS, WRITES};

/// What the weight of a figure may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Plus,
    Minus,
    Any,
}

/// An application type and what it is told by.
pub(super) struct Chosen {
    pub(super) kind: &'static str,
    /// For runtimes nothing is chosen: every call counts.
    pub(super) figures: Option<&'static [(Figure, Sign)]>,
}

const TRANSFERS: &[&str] = &[
    "read", "recvfrom", "readv", "recvmsg", "write", "sendto", "writev", "sendmsg",
];
const STREAMED: &[&str] = &["read", "readv"];
/// Bytes of a file without a copy through the program, or from a place in it.
const IN_PLACE: &[&str] = &["sendfile", "mmap", "pread64", "preadv", "splice"];
const POSITIONED: &[&str] = &[
    "pread64",
    "pwrite64",
    "lseek",
    "preadv",
    "pwritev",
    "io_uring_enter",
    "io_submit",
];
const SYNCED: &[&str] = &["fsync", "fdatasync", "sync_file_range", "msync"];
const OPENED: &[&str] = &["open", "openat", "openat2", "creat"];
const STARTED: &[&str] = &["clone", "clone3", "fork", "vfork", "wait4", "exit"];
const FUTEX: &[&str] = &["futex"];

use Sign::{Minus, Plus};

pub(super) const TYPES: [Chosen; 8] = [
    Chosen {
        kind: "http-server",
        figures: Some(&[
            (Figure::HttpServed, Plus),
            (Figure::Used, Minus),
            (Figure::Calls(IN_PLACE), Plus),
            (Figure::OnFiles(STREAMED), Minus),
            (Figure::OnFiles(WRITES), Plus),
            (Figure::OnOthers(TRANSFERS), Minus),
            (Figure::OnUnknown(READS), Minus),
            (Figure::Calls(STARTED), Minus),
            (Figure::Runtime, Minus),
        ]),
    },
    Chosen {
        kind: "key-value-cache",
        figures: Some(&[
            (Figure::HttpServed, Minus),
            (Figure::Used, Minus),
            (Figure::Calls(OPENED), Minus),
            (Figure::OnFiles(READS), Minus),
            (Figure::Calls(POSITIONED), Minus),
            (Figure::ReturningWrites, Minus),
            (Figure::FurtherReads, Minus),
            (Figure::Calls(FUTEX), Minus),
            (Figure::Runtime, Minus),
        ]),
    },
    Chosen {
        kind: "sql-database",
        figures: Some(&[
            (Figure::HttpServed, Minus),
            (Figure::Used, Minus),
            (Figure::Calls(POSITIONED), Plus),
            (Figure::Calls(SYNCED), Plus),
            (Figure::OnFiles(READS), Plus),
            (Figure::OnFiles(WRITES), Plus),
            (Figure::ReturningWrites, Minus),
            (Figure::Runtime, Minus),
        ]),
    },
    Chosen {
        kind: "message-broker",
        figures: Some(&[
            (Figure::HttpServed, Minus),
            (Figure::Used, Minus),
            (Figure::FurtherWrites, Plus),
            (Figure::ReturningWrites, Plus),
            (Figure::Calls(POSITIONED), Minus),
            (Figure::Calls(SYNCED), Minus),
            (Figure::Runtime, Minus),
        ]),
    },
    Chosen {
        kind: "reverse-proxy",
        figures: Some(&[
            (Figure::HttpServed, Plus),
            (Figure::HttpUsed, Plus),
            (Figure::Used, Plus),
            (Figure::PassedOn, Plus),
            (Figure::Calls(OPENED), Minus),
            (Figure::Runtime, Minus),
        ]),
    },
    Chosen {
        kind: "jvm",
        figures: None,
    },
    Chosen {
        kind: "node",
        figures: None,
    },
    Chosen {
        kind: "python",
        figures: None,
    },
];
