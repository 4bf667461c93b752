//! A program on Python.

mod table;

use stethos_plugin_sdk::{Plugin, Usage, export_plugin};

use table::TABLE;

struct Python;

impl Plugin for Python {
    const NAME: &'static str = "python";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const APPLICATION_TYPE: &'static str = "python";

    fn fit(usage: &Usage) -> f32 {
        TABLE.fit_runtime(Self::APPLICATION_TYPE, usage)
    }
}

export_plugin!(Python);
