//! `cargo xtask …`: what people and CI run in this repository.

#![allow(clippy::print_stdout, reason = "its standard output is read by people")]

mod bench;
mod build;
mod compiler;
mod config;
mod corpus;
mod demo;
mod fault_lab;
mod lab;
mod lint;
mod setup;
mod step;
mod test;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use setup::Scope;
use workspace::Workspace;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Set-up, build, demo, tests and benches of Stethos"
)]
struct CommandLine {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing for everything below, and say it.
    Setup,
    /// Build kernel programs, plugins and the workspace.
    Build,
    /// Start the shop, learn it, break it, and show what Stethos says.
    Demo(demo::DemoOptions),
    /// Break real applications in every way, and hold what Stethos says against it.
    Lab(fault_lab::LabOptions),
    /// Run every test; the last line counts them.
    Test(test::TestOptions),
    /// Check formatting and lints everywhere, warnings as errors.
    Lint,
    /// Measure, and print each figure beside its goal.
    Bench(bench::BenchOptions),
    /// Write the reference configuration anew.
    Config(config::ConfigOptions),
}

fn main() -> ExitCode {
    match run(CommandLine::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            let not_ready = error.downcast_ref::<setup::NotReady>().is_some();
            ExitCode::from(if not_ready { 2 } else { 1 })
        }
    }
}

fn run(task: Task) -> Result<()> {
    let workspace = Workspace::find()?;
    match task {
        Task::Setup => setup::run(&workspace, Scope::Test).map(drop),
        Task::Build => {
            let plan = setup::run(&workspace, Scope::Build)?;
            build::run(&workspace, &plan, Scope::Build).map(drop)
        }
        Task::Demo(options) => {
            let plan = setup::run(&workspace, Scope::Demo)?;
            build::run(&workspace, &plan, Scope::Demo)?;
            demo::run(options)
        }
        Task::Lab(options) => fault_lab::run(&workspace, &options),
        Task::Test(options) => test::run(&workspace, &options),
        Task::Lint => lint::run(&workspace),
        Task::Bench(options) => bench::run(&workspace, &options),
        Task::Config(options) => config::run(&workspace, &options),
    }
}
