//! `cargo xtask config`: the reference configuration, as the `stethos` binary prints it.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

const REFERENCE: &str = "stethos.reference.yaml";

#[derive(Debug, clap::Args)]
pub(crate) struct ConfigOptions {
    /// Change nothing; fail when the file is not what the program prints.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(workspace: &Workspace, options: &ConfigOptions) -> Result<()> {
    let mut stethos = workspace.cargo();
    stethos.args([
        "run",
        "--release",
        "--quiet",
        "--package",
        "stethos",
        "--bin",
        "stethos",
    ]);
    let output = stethos
        .args(["--", "config", "reference"])
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!(
            "stethos config reference: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let path = workspace.root.join(REFERENCE);
    if fs::read(&path).is_ok_and(|current| current == output.stdout) {
        println!("{REFERENCE} is current");
        return Ok(());
    }
    if options.check {
        bail!("{REFERENCE} is not current: run `cargo xtask config`");
    }
    fs::write(&path, &output.stdout).with_context(|| format!("cannot write {REFERENCE}"))?;
    println!("{REFERENCE} written");
    Ok(())
}
