//! Learned from recordings of real servers by `cargo xtask bench learning --write-types`.

use stethos_plugin_sdk::fit::{Figure, Table};

#[rustfmt::skip]
pub(crate) const TABLE: Table = Table {
    bias: -17.0,
    weights: &[
        (Figure::HttpServed, 12.363),
        (Figure::Used, -18.666),
        (Figure::Calls(&["sendfile", "mmap", "pread64", "preadv", "splice"]), 11.1),
        (Figure::OnFiles(&["read", "readv"]), -4.033),
        (Figure::OnFiles(&["write", "sendto", "writev", "sendmsg", "pwrite64", "pwritev", "sendfile", "sendmmsg", "splice"]), 1.808),
        (Figure::OnOthers(&["read", "recvfrom", "readv", "recvmsg", "write", "sendto", "writev", "sendmsg"]), -2.264),
        (Figure::OnUnknown(&["read", "recvfrom", "readv", "recvmsg", "pread64", "preadv", "recvmmsg"]), -1.842),
        (Figure::Calls(&["clone", "clone3", "fork", "vfork", "wait4", "exit"]), -1.613),
        (Figure::Runtime, -4.14),
    ],
};
