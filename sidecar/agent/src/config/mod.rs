//! Configuration: defaults, a YAML file over them, `STETHOS_*` variables over that, flags over
//! those. `docs/configuration.md` has the rules as users meet them.
//!
//! - `sections`, `values`: what can be set
//! - `keys`: every key with its documentation, read off the types
//! - `layers`: where values come from; `check`: whether they can be taken
//! - `error`: what is wrong, where, and what would be right
//! - `reference`: the reference file

mod check;
mod error;
mod keys;
mod layers;
mod reference;
mod sections;
#[cfg(test)]
mod tests;
mod values;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use error::{ConfigError, Place, Problem};
pub use layers::{Flag, Variables, process_variables};
pub use reference::reference;
pub use sections::*;
pub use values::{LogLevel, Size};

use crate::capture::targets::Target;

/// Names the configuration file where `--config` does not.
pub const FILE_VARIABLE: &str = "STETHOS_CONFIG";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What to watch: `self-pod` (the containers of this pod), `cgroup=PATH` (a cgroup v2
    /// directory and all below it) or `pid=N` (a process and its descendants).
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub target: Vec<Target>,
    /// Directory of learned models and of diagnoses that wait for the collector.
    pub state_dir: PathBuf,
    /// Whether to print every diagnosis as a line of JSON on standard output.
    pub json: bool,
    /// Capture of system calls.
    pub capture: CaptureConfig,
    /// The node broker (`stethos node`).
    pub node: NodeConfig,
    /// Learning what is normal.
    pub learning: LearningConfig,
    /// Pattern plugins (WebAssembly components).
    pub plugins: PluginsConfig,
    /// From signals to diagnoses.
    pub diagnosis: DiagnosisSettings,
    /// What leaves the sidecar.
    pub export: ExportSettings,
    /// Finding the application's own trace.
    pub trace: TraceConfig,
    /// Stethos's own log.
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            target: vec![Target::SelfPod],
            state_dir: "/var/lib/stethos".into(),
            json: false,
            capture: CaptureConfig::default(),
            node: NodeConfig::default(),
            learning: LearningConfig::default(),
            plugins: PluginsConfig::default(),
            diagnosis: DiagnosisSettings::default(),
            export: ExportSettings::default(),
            trace: TraceConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Config {
    /// Reads `file` (or, without it, the one that `STETHOS_CONFIG` names, or none), and puts
    /// `variables` and then `flags` over it. The error holds everything found wrong, not only the
    /// first.
    pub fn load(
        file: Option<&Path>,
        variables: &Variables,
        flags: &[Flag],
    ) -> Result<Config, ConfigError> {
        let named = variables
            .get(FILE_VARIABLE)
            .filter(|name| !name.is_empty())
            .map(Path::new);
        let text = match file.or(named) {
            None => None,
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Some((path.display().to_string(), text)),
                Err(error) => {
                    let file = path.display().to_string();
                    return Err(Problem::Read { file, error }.into());
                }
            },
        };
        let file = text
            .as_ref()
            .map(|(name, text)| (name.as_str(), text.as_str()));
        layers::merge(file, variables, flags)
    }
}

/// The address of a collector, as the pass-through is given it.
pub(crate) fn upstream(address: &str) -> Option<hyper::Uri> {
    let uri: hyper::Uri = address.parse().ok()?;
    let scheme = uri.scheme_str()?;
    (["http", "https"].contains(&scheme) && uri.authority().is_some()).then_some(uri)
}

/// What ranges of single keys cannot say. Gives the key at fault and what is wrong with it.
fn cross_checks(config: &Config) -> Vec<(&'static str, String, String)> {
    let mut wrong = Vec::new();
    let ring = config.capture.ring_size;
    if !ring.bytes().is_power_of_two() {
        wrong.push((
            "capture.ring_size",
            ring.to_string(),
            "a power of two".to_string(),
        ));
    }
    let through = &config.trace.passthrough;
    for (key, address) in [
        ("trace.passthrough.grpc", &through.grpc),
        ("trace.passthrough.http", &through.http),
    ] {
        if !address.is_empty() && upstream(address).is_none() {
            let expected = "http://HOST:PORT or https://HOST:PORT".to_string();
            wrong.push((key, address.clone(), expected));
        }
    }
    if !through.listen.is_empty() && through.grpc.is_empty() && through.http.is_empty() {
        let expected = "empty, or one of grpc and http beside it".to_string();
        let listen: Vec<String> = through.listen.iter().map(ToString::to_string).collect();
        wrong.push(("trace.passthrough.listen", listen.join(", "), expected));
    }
    let socket = &config.capture.node_socket;
    if !["auto", "off"].contains(&socket.as_str()) && !socket.starts_with('/') {
        wrong.push((
            "capture.node_socket",
            socket.clone(),
            "auto, off or an absolute path".to_string(),
        ));
    }
    let LearningConfig {
        min_duration,
        ceiling,
        ..
    } = config.learning;
    if min_duration > ceiling {
        let value = humantime_serde::re::humantime::format_duration(min_duration).to_string();
        wrong.push((
            "learning.min_duration",
            value,
            "at most learning.ceiling".to_string(),
        ));
    }
    let store = &config.learning.store;
    let schemes = ["file:///", "s3://", "gs://", "az://"];
    if !store.url.is_empty() && !schemes.iter().any(|scheme| store.url.starts_with(scheme)) {
        let allowed = "empty, or file:///…, s3://…, gs://… or az://…";
        wrong.push(("learning.store.url", store.url.clone(), allowed.to_string()));
    }
    if store.tenant.is_empty() {
        wrong.push((
            "learning.store.tenant",
            "empty".to_string(),
            "a name".to_string(),
        ));
    }
    wrong
}
