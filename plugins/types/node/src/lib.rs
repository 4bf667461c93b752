//! A program on Node.

mod table;

use stethos_plugin_sdk::{Plugin, Usage, export_plugin};

use table::TABLE;

struct Node;

impl Plugin for Node {
    const NAME: &'static str = "node";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const APPLICATION_TYPE: &'static str = "node";

    fn fit(usage: &Usage) -> f32 {
        TABLE.fit_runtime(Self::APPLICATION_TYPE, usage)
    }
}

export_plugin!(Node);
