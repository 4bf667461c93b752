//! The contract's types, and the check that a component fits it.

use wasmtime::Engine;
use wasmtime::component::Component;

use super::error::PluginError;

#[allow(missing_docs, unreachable_pub)]
#[allow(clippy::all, clippy::unwrap_used, clippy::expect_used)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit/stethos-plugin-0.1",
        world: "pattern-plugin",
    });
}

pub(super) use bindings::{PatternPlugin, PatternPluginPre};

pub use bindings::exports::stethos::plugin::plugin::Window as TokenWindow;
pub use bindings::exports::stethos::plugin::plugin::{Assessment, Description, ModelShape};
pub(super) use bindings::exports::stethos::plugin::plugin::{Role, Turns, Usage, UsageCall};

/// The exported interface that makes a component a plugin of this contract version.
pub const CONTRACT: &str = "stethos:plugin/plugin@0.1.0";

/// Refuses a component that imports anything or speaks another contract version.
pub(super) fn check(engine: &Engine, name: &str, component: &Component) -> Result<(), PluginError> {
    let name = name.to_owned();
    let ty = component.component_type();
    let imports: Vec<String> = ty
        .imports(engine)
        .map(|(import, _)| import.to_owned())
        .collect();
    let exports: Vec<&str> = ty.exports(engine).map(|(export, _)| export).collect();
    if !exports.contains(&CONTRACT) {
        let interface = CONTRACT.split('@').next().unwrap_or(CONTRACT);
        let other = exports
            .iter()
            .find(|export| export.split('@').next() == Some(interface));
        return Err(match other {
            Some(found) => PluginError::OtherContract {
                name,
                found: (*found).to_owned(),
                expected: CONTRACT,
            },
            None => PluginError::NoContract {
                name,
                expected: CONTRACT,
            },
        });
    }
    if !imports.is_empty() {
        return Err(PluginError::Imports { name, imports });
    }
    Ok(())
}
