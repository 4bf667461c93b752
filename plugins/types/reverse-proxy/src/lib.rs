//! Passes requests on to servers behind it.

mod table;

use stethos_plugin_sdk::{Plugin, Usage, export_plugin};

use table::TABLE;

struct ReverseProxy;

impl Plugin for ReverseProxy {
    const NAME: &'static str = "reverse-proxy";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const APPLICATION_TYPE: &'static str = "reverse-proxy";

    fn fit(usage: &Usage) -> f32 {
        TABLE.fit(usage)
    }
}

export_plugin!(ReverseProxy);
