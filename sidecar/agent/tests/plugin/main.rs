//! The plugin host with the guests of `tests/guests` and with the built-in plugin.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failures;
mod generic;
mod loading;
mod results;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use stethos::plugin::{HostConfig, LoadedModel, Plugin, PluginHost, TokenWindow};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WIT: &str = include_str!("../../../../wit/stethos-plugin-0.1/plugin.wit");

/// Makes a component of a guest of `tests/guests`, with `change` made to its WIT and its text.
fn component_of(name: &str, change: impl Fn(String) -> String) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/guests");
    let part = |name: &str| fs::read_to_string(format!("{folder}/{name}.wat")).unwrap();
    let text = format!("(module\n{}\n{})", part(name), part("common"));
    let mut module = wat::parse_str(change(text)).unwrap();
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", &change(WIT.into())).unwrap();
    let world = resolve
        .select_world(&[package], Some("pattern-plugin"))
        .unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .validate(true)
        .encode()
        .unwrap()
}

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
