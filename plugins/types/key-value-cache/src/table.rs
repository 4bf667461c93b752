//! Learned from recordings of real servers by `cargo xtask bench learning --write-types`.

use stethos_plugin_sdk::fit::{Figure, Table};

#[rustfmt::skip]
pub(crate) const TABLE: Table = Table {
    bias: 10.287,
    weights: &[
        (Figure::HttpServed, -9.539),
        (Figure::Used, -3.438),
        (Figure::Calls(&["open", "openat", "openat2", "creat"]), -4.877),
        (Figure::OnFiles(&["read", "recvfrom", "readv", "recvmsg", "pread64", "preadv", "recvmmsg"]), -0.034),
        (Figure::Calls(&["pread64", "pwrite64", "lseek", "preadv", "pwritev", "io_uring_enter", "io_submit"]), -7.752),
        (Figure::ReturningWrites, -9.965),
        (Figure::FurtherReads, -13.691),
        (Figure::Calls(&["futex"]), -9.338),
        (Figure::Runtime, -1.145),
    ],
};
