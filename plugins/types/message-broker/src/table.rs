//! Learned from recordings of real servers by `cargo xtask bench learning --write-types`.

use stethos_plugin_sdk::fit::{Figure, Table};

#[rustfmt::skip]
pub(crate) const TABLE: Table = Table {
    bias: -2.715,
    weights: &[
        (Figure::HttpServed, -16.381),
        (Figure::Used, -26.978),
        (Figure::FurtherWrites, 28.446),
        (Figure::ReturningWrites, 7.051),
        (Figure::Calls(&["pread64", "pwrite64", "lseek", "preadv", "pwritev", "io_uring_enter", "io_submit"]), -0.368),
        (Figure::Runtime, -3.894),
    ],
};
