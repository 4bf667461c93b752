//! Serves files over HTTP.

mod table;

use stethos_plugin_sdk::{Plugin, Usage, export_plugin};

use table::TABLE;

struct HttpServer;

impl Plugin for HttpServer {
    const NAME: &'static str = "http-server";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const APPLICATION_TYPE: &'static str = "http-server";

    fn fit(usage: &Usage) -> f32 {
        TABLE.fit(usage)
    }
}

export_plugin!(HttpServer);
