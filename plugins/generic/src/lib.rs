//! The plugin that serves every application without one of its own.

use stethos_plugin_sdk::{Plugin, export_plugin};

struct Generic;

impl Plugin for Generic {
    const NAME: &'static str = "generic";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const APPLICATION_TYPE: &'static str = "generic";
}

export_plugin!(Generic);
