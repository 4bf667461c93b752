//! `stethos plugin`: what a component says of itself.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use serde_json::json;

use super::{args::PluginCommand, compiled_cache};
use crate::config::{PluginEntry, PluginSelector, PluginsConfig};
use crate::learning::training_set;
use crate::models::{
    Models,
    application::{self, Fit},
};
use crate::plugin::{CONTRACT, GENERIC_COMPONENT, HostConfig, PluginHost, TYPE_COMPONENTS};

pub(super) fn run(command: &PluginCommand) -> anyhow::Result<ExitCode> {
    match command {
        PluginCommand::Compile { file, into } => compile(file.as_deref(), into),
        PluginCommand::Inspect { file, json } => inspect(file, *json),
        PluginCommand::Fit {
            recordings,
            container,
            plugins,
            json,
        } => fit(recordings, container.as_deref(), plugins, *json),
    }
}

fn compile(file: Option<&Path>, into: &Path) -> anyhow::Result<ExitCode> {
    let host = PluginHost::new(HostConfig {
        compiled: Some(into.to_owned()),
        ..HostConfig::default()
    })?;
    match file {
        None => {
            host.load("generic", GENERIC_COMPONENT)?;
            for (name, component) in TYPE_COMPONENTS {
                host.load(name, component)?;
            }
        }
        Some(file) => {
            let name = file.display().to_string();
            let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
            host.load(&name, &bytes)?;
        }
    }
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
            "models": about.models,
            "contract": CONTRACT,
            "bytes": bytes.len(),
        });
        writeln!(out, "{about}")?;
    } else {
        writeln!(out, "name              {}", about.name)?;
        writeln!(out, "version           {}", about.version)?;
        writeln!(out, "application type  {}", about.application_type)?;
        let models = if about.models { "its own" } else { "none" };
        writeln!(out, "models            {models}")?;
        writeln!(out, "contract          {CONTRACT}")?;
        writeln!(out, "size              {} bytes", bytes.len())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// How well every plugin fits what a container does in recordings, best first.
fn fit(
    recordings: &[PathBuf],
    container: Option<&str>,
    plugins: &[PathBuf],
    json: bool,
) -> anyhow::Result<ExitCode> {
    let set = training_set::read(recordings, container)?;
    let entry = |file: &PathBuf| PluginEntry {
        file: file.clone(),
        serves: PluginSelector::default(),
    };
    let config = PluginsConfig {
        load: plugins.iter().map(entry).collect(),
        ..PluginsConfig::default()
    };
    let models = Models::for_replay(&config, compiled_cache())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let fits = runtime.block_on(models.fits(&set.usage));
    let best = application::best(&fits);
    let mut out = io::stdout();
    if json {
        let fits = fits
            .iter()
            .map(|one| (one.application_type.clone(), json!(one.fit)));
        let fits: serde_json::Map<_, _> = fits.collect();
        let line = json!({
            "container": set.container,
            "stethos.application.type": best,
            "fits": fits,
        });
        writeln!(out, "{line}")?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "{}: {best}", set.container)?;
    for Fit {
        application_type,
        fit,
    } in &fits
    {
        writeln!(out, "  {application_type:20} {fit:.3}")?;
    }
    Ok(ExitCode::SUCCESS)
}
