//! How well what is learned tells faults from normal time, on data with labels, for `cargo xtask
//! bench learning`. Prints one JSON object a figure: name, value, unit.
//!
//! `bench-learning chaosorca FILE.zip` judges profiles on the ChaosOrca experiments;
//! `bench-learning chaosorca-variants FILE.zip` tries other settings of the autoencoder there.

#![allow(clippy::print_stdout, reason = "its standard output is read by xtask")]

mod chaosorca;
mod figures;
mod metrics;

use std::{env, path::Path};

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let figures = match arguments.as_slice() {
        ["chaosorca", file] => chaosorca::run(Path::new(file))?,
        ["chaosorca-variants", file] => chaosorca::variants(Path::new(file))?,
        _ => bail!("bench-learning chaosorca FILE.zip | chaosorca-variants FILE.zip"),
    };
    for line in figures.lines() {
        println!("{line}");
    }
    Ok(())
}
