//! Learned from recordings of real servers by `cargo xtask bench learning --write-types`.

use stethos_plugin_sdk::fit::{Figure, Table};

#[rustfmt::skip]
pub(crate) const TABLE: Table = Table {
    bias: 10.299,
    weights: &[
        (Figure::HttpServed, -9.478),
        (Figure::Used, -3.716),
        (Figure::Calls(&["open", "openat", "openat2", "creat"]), -4.896),
        (Figure::OnFiles(&["read", "recvfrom", "readv", "recvmsg", "pread64", "preadv", "recvmmsg"]), -0.013),
        (Figure::Calls(&["pread64", "pwrite64", "lseek", "preadv", "pwritev", "io_uring_enter", "io_submit"]), -7.786),
        (Figure::ReturningWrites, -9.985),
        (Figure::FurtherReads, -13.724),
        (Figure::Calls(&["futex"]), -9.305),
        (Figure::Runtime, -1.154),
    ],
};
