//! Learned from recordings of real servers by `cargo xtask bench learning --write-types`.

use stethos_plugin_sdk::fit::{Figure, Table};

#[rustfmt::skip]
pub(crate) const TABLE: Table = Table {
    bias: -2.776,
    weights: &[
        (Figure::HttpServed, -16.393),
        (Figure::Used, -27.768),
        (Figure::FurtherWrites, 28.753),
        (Figure::ReturningWrites, 7.262),
        (Figure::Calls(&["pread64", "pwrite64", "lseek", "preadv", "pwritev", "io_uring_enter", "io_submit"]), -0.37),
        (Figure::Runtime, -3.984),
    ],
};
