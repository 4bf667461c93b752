//! How well what is learned tells faults from normal time, on data with labels, for `cargo xtask
//! bench learning`. Prints one JSON object a figure: name, value, unit.
//!
//! `bench-learning sequences FOLDER` judges windows of the corpus in FOLDER, by the GRU and by simple
//! models; `bench-learning profiles FOLDER` its profiles, and says what training takes.

#![allow(clippy::print_stdout, reason = "its standard output is read by xtask")]

mod corpus;
mod deviations;
mod figures;
mod judge;
mod metrics;
mod profiles;
mod sequences;
mod simple;
mod training;

use std::{env, path::Path};

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let figures = match arguments.as_slice() {
        ["sequences", folder] => sequences::run(Path::new(folder))?,
        ["profiles", folder] => profiles::run(Path::new(folder))?,
        _ => bail!("bench-learning sequences FOLDER | profiles FOLDER"),
    };
    for line in figures.lines() {
        println!("{line}");
    }
    Ok(())
}
