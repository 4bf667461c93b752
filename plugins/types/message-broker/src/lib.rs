//! Passes messages on to those who asked for them.

mod table;

use stethos_plugin_sdk::{Plugin, Usage, export_plugin};

use table::TABLE;

struct MessageBroker;

impl Plugin for MessageBroker {
    const NAME: &'static str = "message-broker";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const APPLICATION_TYPE: &'static str = "message-broker";

    fn fit(usage: &Usage) -> f32 {
        TABLE.fit(usage)
    }
}

export_plugin!(MessageBroker);
