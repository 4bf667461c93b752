//! The plugin host with the guests of `tests/guests` and with the built-in plugin.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../../tests/guests/component.rs"]
mod guests;

mod failures;
mod generic;
mod loading;
mod results;
mod types;

use std::sync::Arc;
use std::time::Duration;

use guests::component_of;
use stethos::plugin::{HostConfig, LoadedModel, Plugin, PluginHost, TokenWindow};

fn component(name: &str) -> Vec<u8> {
    component_of(name, |text| text)
}

fn config() -> HostConfig {
    HostConfig {
        backoff: Duration::from_millis(50),
        ..HostConfig::default()
    }
}

fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A guest of `tests/guests` with a model loaded.
fn started(name: &str, config: HostConfig) -> (Plugin, LoadedModel) {
    let plugin = PluginHost::new(config)
        .unwrap()
        .load(name, &component(name))
        .unwrap();
    let model = run(plugin.load_model(Arc::new([]))).unwrap();
    (plugin, model)
}

fn window(tokens: &[u16]) -> TokenWindow {
    TokenWindow {
        pattern: None,
        tokens: tokens.to_vec(),
    }
}
