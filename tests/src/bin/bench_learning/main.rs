//! How well what is learned tells faults from normal time, on data with labels, for `cargo xtask
//! bench learning`. Prints one JSON object a figure: name, value, unit.
//!
//! - `sequences FOLDER` judges windows of the corpus in FOLDER, by the GRU and by simple models;
//!   `sequences-variants FOLDER` tries other settings of the GRU there
//! - `profiles FOLDER` judges its profiles, and says what training takes
//! - `types FOLDER` learns application types there and says how often they are told right;
//!   `types-write FOLDER` writes what it learns into the plugins' sources
//! - `cache FOLDER` says how many windows of its normal time the plugin has scored before
//! - `chaosorca FILE.zip` judges profiles on the ChaosOrca experiments; `chaosorca-variants FILE.zip`
//!   tries other settings of the autoencoder there

#![allow(clippy::print_stdout, reason = "its standard output is read by xtask")]

mod cache;
mod chaosorca;
mod corpus;
mod deviations;
mod figures;
mod judge;
mod metrics;
mod profiles;
mod sequences;
mod simple;
mod training;
mod types;

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::bail;

use figures::Figures;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [part, data] = &arguments[..] else {
        bail!("bench-learning PART DATA");
    };
    let data = Path::new(data);
    let figures = match part.as_str() {
        "sequences" => sequences::run(data)?,
        "sequences-variants" => sequences::variants(data)?,
        "types" => types::run(data)?,
        "types-write" => {
            types::write(data, &workspace())?;
            Figures::default()
        }
        "profiles" => profiles::run(data)?,
        "cache" => cache::run(data)?,
        "chaosorca" => chaosorca::run(data)?,
        "chaosorca-variants" => chaosorca::variants(data)?,
        _ => bail!("{part} is no part of bench-learning"),
    };
    for line in figures.lines() {
        println!("{line}");
    }
    Ok(())
}

/// The repository that this program was built from.
fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}
