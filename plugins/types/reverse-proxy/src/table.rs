//! Learned from recordings of real servers by `cargo xtask bench learning --write-types`.

use stethos_plugin_sdk::fit::{Figure, Table};

#[rustfmt::skip]
pub(crate) const TABLE: Table = Table {
    bias: -9.102,
    weights: &[
        (Figure::HttpServed, 2.905),
        (Figure::HttpUsed, 10.206),
        (Figure::Used, 9.308),
        (Figure::Calls(&["open", "openat", "openat2", "creat"]), -1.166),
        (Figure::Runtime, -2.678),
    ],
};
