//! Learned from recordings of real servers by `cargo xtask bench learning --write-types`.

use stethos_plugin_sdk::fit::{Figure, Table};

#[rustfmt::skip]
pub(crate) const TABLE: Table = Table {
    bias: -13.303,
    weights: &[
        (Figure::HttpServed, -4.397),
        (Figure::Used, -1.527),
        (Figure::Calls(&["pread64", "pwrite64", "lseek", "preadv", "pwritev", "io_uring_enter", "io_submit"]), 9.576),
        (Figure::Calls(&["fsync", "fdatasync", "sync_file_range", "msync"]), 7.098),
        (Figure::OnFiles(&["write", "sendto", "writev", "sendmsg", "pwrite64", "pwritev", "sendfile", "sendmmsg", "splice"]), 4.797),
        (Figure::ReturningWrites, -9.642),
        (Figure::Runtime, -2.409),
    ],
};
