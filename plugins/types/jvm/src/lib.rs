//! A program on the Java virtual machine.

mod table;

use stethos_plugin_sdk::{Plugin, Usage, export_plugin};

use table::TABLE;

struct Jvm;

impl Plugin for Jvm {
    const NAME: &'static str = "jvm";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const APPLICATION_TYPE: &'static str = "jvm";

    fn fit(usage: &Usage) -> f32 {
        TABLE.fit_runtime(Self::APPLICATION_TYPE, usage)
    }
}

export_plugin!(Jvm);
