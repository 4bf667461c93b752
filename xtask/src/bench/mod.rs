//! `cargo xtask bench`: measured figures, side by side in one run, against their goals.

mod agent;
mod capture;
mod figure;
mod plugin;
mod rounds;
mod units;

use anyhow::{Result, bail};

use crate::build;
use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use figure::Figure;

#[derive(Debug, clap::Args)]
pub(crate) struct BenchOptions {
    /// What to measure; all of them when none is named.
    #[arg(value_enum)]
    benches: Vec<Bench>,
    /// One JSON object a line: name, value, unit, goal (text or null), met (bool or null).
    #[arg(long)]
    json: bool,
    /// Interleaved rounds; every variant runs once in each.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Bench {
    /// Cost of a system call under capture, against an empty pair of programs.
    Capture,
    /// The sidecar's CPU and memory under the demo's load.
    Agent,
    /// Windows a second through the model in the guest.
    Plugin,
    /// Ways to cut the calls of real servers into units of work; only when it is named.
    Units,
}

const ALL: [Bench; 3] = [Bench::Capture, Bench::Agent, Bench::Plugin];

pub(crate) fn run(workspace: &Workspace, options: &BenchOptions) -> Result<()> {
    let plan = setup::run(workspace, Scope::Demo)?;
    build::test_artifacts(workspace, &plan)?;
    build::run(workspace, &plan, Scope::Demo)?;

    let benches = if options.benches.is_empty() {
        &ALL[..]
    } else {
        &options.benches
    };
    let mut failed = Vec::new();
    for bench in benches {
        let figures = match bench {
            Bench::Capture => capture::run(workspace, options.rounds),
            Bench::Agent => agent::run(workspace),
            Bench::Plugin => plugin::run(workspace, options.rounds),
            Bench::Units => units::run(workspace, options.json),
        };
        match figures {
            Ok(figures) => print(&figures, options.json),
            Err(error) => {
                eprintln!("{bench:?} was not measured: {error:#}");
                failed.push(format!("{bench:?}"));
            }
        }
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}

fn print(figures: &[Figure], json: bool) {
    for figure in figures {
        if json {
            println!("{}", figure.json());
        } else {
            println!("{figure}");
        }
    }
}
