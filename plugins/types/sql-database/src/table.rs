//! Learned from recordings of real servers by `cargo xtask bench learning --write-types`.

use stethos_plugin_sdk::fit::{Figure, Table};

#[rustfmt::skip]
pub(crate) const TABLE: Table = Table {
    bias: -13.408,
    weights: &[
        (Figure::HttpServed, -4.429),
        (Figure::Used, -1.436),
        (Figure::Calls(&["pread64", "pwrite64", "lseek", "preadv", "pwritev", "io_uring_enter", "io_submit"]), 9.668),
        (Figure::Calls(&["fsync", "fdatasync", "sync_file_range", "msync"]), 7.06),
        (Figure::OnFiles(&["write", "sendto", "writev", "sendmsg", "pwrite64", "pwritev", "sendfile", "sendmmsg"]), 4.813),
        (Figure::ReturningWrites, -9.442),
        (Figure::Runtime, -2.383),
    ],
};
