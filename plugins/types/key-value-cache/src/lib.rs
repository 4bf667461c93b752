//! Keeps values in memory.

mod table;

use stethos_plugin_sdk::{Plugin, Usage, export_plugin};

use table::TABLE;

struct KeyValueCache;

impl Plugin for KeyValueCache {
    const NAME: &'static str = "key-value-cache";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const APPLICATION_TYPE: &'static str = "key-value-cache";

    fn fit(usage: &Usage) -> f32 {
        TABLE.fit(usage)
    }
}

export_plugin!(KeyValueCache);
