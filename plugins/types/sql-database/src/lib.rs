//! Keeps rows on disk.

mod table;

use stethos_plugin_sdk::{Plugin, Usage, export_plugin};

use table::TABLE;

struct SqlDatabase;

impl Plugin for SqlDatabase {
    const NAME: &'static str = "sql-database";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const APPLICATION_TYPE: &'static str = "sql-database";

    fn fit(usage: &Usage) -> f32 {
        TABLE.fit(usage)
    }
}

export_plugin!(SqlDatabase);
