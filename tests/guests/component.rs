//! Components of the guests beside this file, for the tests that include it.

use std::fs;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WIT: &str = include_str!("../../wit/stethos-plugin-0.1/plugin.wit");

/// Makes a component of a guest, with `change` made to its WIT and its text.
pub(crate) fn component_of(name: &str, change: impl Fn(String) -> String) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("tests/guests"))
        .find(|folder| folder.is_dir())
        .unwrap();
    let part = |name: &str| fs::read_to_string(folder.join(format!("{name}.wat"))).unwrap();
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
