//! The `stethos` binary: parse, run, say what went wrong.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = stethos::cli::Cli::parse();
    match stethos::cli::dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stethos: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes; many messages name their cause already.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |line, cause| {
        let cause = cause.to_string();
        match line.is_empty() {
            true => cause,
            false if line.contains(&cause) => line,
            false => format!("{line}: {cause}"),
        }
    })
}
