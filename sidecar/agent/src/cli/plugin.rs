//! `stethos plugin`: what a component says of itself.

use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use anyhow::Context as _;
use serde_json::json;

use super::args::PluginCommand;
use crate::plugin::{CONTRACT, GENERIC_COMPONENT, HostConfig, PluginHost};

pub(super) fn run(command: &PluginCommand) -> anyhow::Result<ExitCode> {
    match command {
        PluginCommand::Compile { file, into } => compile(file.as_deref(), into),
        PluginCommand::Inspect { file, json } => inspect(file, *json),
    }
}

fn compile(file: Option<&Path>, into: &Path) -> anyhow::Result<ExitCode> {
    let host = PluginHost::new(HostConfig {
        compiled: Some(into.to_owned()),
        ..HostConfig::default()
    })?;
    match file {
        None => host.load("generic", GENERIC_COMPONENT)?,
        Some(file) => {
            let name = file.display().to_string();
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
            host.load(&name, &bytes)?
        }
    };
    Ok(ExitCode::SUCCESS)
}

fn inspect(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let host = PluginHost::new(HostConfig::default())?;
    let plugin = host.load(&file.display().to_string(), &bytes)?;
    let about = plugin.description();
    let mut out = io::stdout();
    if json {
        let about = json!({
            "name": about.name,
            "version": about.version,
            "application_type": about.application_type,
            "contract": CONTRACT,
            "bytes": bytes.len(),
        });
        writeln!(out, "{about}")?;
    } else {
        writeln!(out, "name              {}", about.name)?;
        writeln!(out, "version           {}", about.version)?;
        writeln!(out, "application type  {}", about.application_type)?;
        writeln!(out, "contract          {CONTRACT}")?;
        writeln!(out, "size              {} bytes", bytes.len())?;
    }
    Ok(ExitCode::SUCCESS)
}
