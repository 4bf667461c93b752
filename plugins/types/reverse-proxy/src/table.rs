//! Learned from recordings of real servers by `cargo xtask bench learning --write-types`.

use stethos_plugin_sdk::fit::{Figure, Table};

#[rustfmt::skip]
pub(crate) const TABLE: Table = Table {
    bias: -9.022,
    weights: &[
        (Figure::HttpUsed, 2.927),
        (Figure::Used, 2.143),
        (Figure::PassedOn, 12.965),
        (Figure::Runtime, -1.867),
    ],
};
