//! The commands, one a file.

pub mod args;
mod config;
mod control;
mod doctor;
mod import;
mod learning;
mod measured;
mod node;
mod plugin;
mod record;
mod recorder;
mod replay;
mod run;
mod score;
mod terminated;
mod train;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

pub use args::Cli;
use args::Command;

use crate::{
    capture::{self, kernel::Capacity},
    config::{CaptureConfig, Config, DiagnosisSettings, LogLevel, TraceConfig, process_variables},
    diagnosis::observation::DiagnosisConfig,
};

/// Does what the command line asks for.
pub fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    let config = || {
        Config::load(
            cli.common.config.as_deref(),
            &process_variables(),
            &cli.flags(),
        )
        .map_err(anyhow::Error::from)
    };
    // These two say themselves what is wrong with a configuration.
    match &cli.command {
        Command::Config(command) => return config::run(*command, config()),
        Command::Plugin(command) => return plugin::run(command),
        _ => {}
    }
    let config = match config() {
        // The doctor's 1 means that something works.
        Err(error) if matches!(cli.command, Command::Doctor(_)) => {
            eprintln!("stethos: {error:#}");
            return Ok(ExitCode::from(2));
        }
        config => config?,
    };
    start_logging(config.log.level);
    match &cli.command {
        Command::Run(args) => run::run(&config, args)?,
        Command::Node(args) => node::run(&config, args)?,
        Command::Doctor(args) => return doctor::run(&config, args),
        Command::Accept(args) => control::accept(&config, args)?,
        Command::Mute(args) => control::mute(&config, args)?,
        Command::Record(args) => record::run(&config, args)?,
        Command::Replay(args) => replay::run(&config, args)?,
        Command::Import(args) => import::run(args)?,
        Command::Train(args) => train::run(args)?,
        Command::Score(args) => score::run(args)?,
        Command::Config(_) | Command::Plugin(_) => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn start_logging(level: LogLevel) {
    let filter = EnvFilter::new(format!("warn,stethos={}", level.name()));
    let format = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    // A second start (in tests) keeps the first subscriber.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(format)
        .try_init();
}

/// Where commands that work on recordings keep compiled plugins: the user's cache, if there is one.
fn compiled_cache() -> Option<PathBuf> {
    let folder = |name| {
        let value = std::env::var_os(name).map(PathBuf::from);
        value.filter(|path| path.is_absolute())
    };
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(cache.join("stethos").join("compiled"))
}

fn diagnosis_config(settings: &DiagnosisSettings) -> DiagnosisConfig {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    DiagnosisConfig {
        models: settings.models,
        false_alarms_per_day: settings.false_alarms_per_day,
        slowdown_ms: milliseconds(settings.slowdown),
        file_slowdown_ms: milliseconds(settings.file_slowdown),
        ..DiagnosisConfig::default()
    }
}

fn capture_settings(capture: &CaptureConfig, trace: &TraceConfig) -> capture::Settings {
    capture::Settings {
        capacity: Capacity {
            window_ring_bytes: u32::try_from(capture.ring_size.bytes()).unwrap_or(1 << 30),
            event_ring_bytes: 1 << 20,
            threads: capture.max_threads,
        },
        poll_interval: capture.poll_interval,
        snapshot_interval: capture.snapshot_interval,
        http: trace.http,
    }
}
