//! `stethos config`: the reference file, and a check of the configuration in force.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use super::args::ConfigCommand;
use crate::config::{self, Config};

pub(super) fn run(
    command: ConfigCommand,
    loaded: anyhow::Result<Config>,
) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Reference => io::stdout().write_all(config::reference().as_bytes())?,
        ConfigCommand::Check => {
            loaded?;
            writeln!(io::stdout(), "the configuration is sound")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
