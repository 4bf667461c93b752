//! Learned from recordings of real servers by `cargo xtask bench learning --write-types`.

use stethos_plugin_sdk::fit::{Figure, Table};

#[rustfmt::skip]
pub(crate) const TABLE: Table = Table {
    bias: -16.979,
    weights: &[
        (Figure::HttpServed, 12.323),
        (Figure::Used, -18.931),
        (Figure::Calls(&["sendfile", "mmap", "pread64", "preadv", "splice"]), 11.053),
        (Figure::OnFiles(&["read", "readv"]), -3.957),
        (Figure::OnFiles(&["write", "sendto", "writev", "sendmsg", "pwrite64", "pwritev", "sendfile", "sendmmsg"]), 1.915),
        (Figure::OnOthers(&["read", "recvfrom", "readv", "recvmsg", "write", "sendto", "writev", "sendmsg"]), -2.214),
        (Figure::OnUnknown(&["read", "recvfrom", "readv", "recvmsg", "pread64", "preadv", "recvmmsg"]), -1.955),
        (Figure::Calls(&["clone", "clone3", "fork", "vfork", "wait4", "exit"]), -1.65),
        (Figure::Runtime, -4.041),
    ],
};
