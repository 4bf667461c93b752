//! The `stethos` binary: parse, run, say what went wrong.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = stethos::cli::Cli::parse();
    match stethos::cli::dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stethos: {error:#}");
            ExitCode::FAILURE
        }
    }
}
