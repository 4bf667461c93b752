//! `cargo xtask lint`: formatting and clippy with warnings as errors, over the workspace and the
//! crates outside it, each with the compiler that its target needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::build::{KERNEL_CRATES, wasm_crates};
use crate::compiler::WasmCompiler;
use crate::setup::{self, Plan, Scope};
use crate::step;
use crate::workspace::{Workspace, shown};

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut format = workspace.cargo();
    step::run(
        workspace,
        "cargo fmt --check",
        format.args(["fmt", "--all", "--check"]),
    )?;
    for folder in outside(workspace)? {
        let title = format!("cargo fmt --check in {}", shown(workspace, &folder));
        let mut format = workspace.cargo();
        format.args(["fmt", "--check"]).current_dir(&folder);
        step::run(workspace, &title, &mut format)?;
    }

    let plan = setup::run(workspace, Scope::Build)?;
    let mut clippy = workspace.cargo();
    clippy.args(["clippy", "--release", "--workspace", "--all-targets"]);
    step::run(workspace, "cargo clippy", clippy.args(["--", "-Dwarnings"]))?;
    for folder in kernel_crates(workspace) {
        let subcommand = debian_lint();
        let mut lint = plan.kernel.cargo(subcommand, &plan.bpf_linker);
        outside_step(workspace, &folder, "ebpf", subcommand, &mut lint)?;
    }
    for folder in wasm_crates(workspace)? {
        let subcommand = wasm_lint(&plan);
        let mut lint = plan.wasm.cargo(subcommand);
        outside_step(workspace, &folder, "wasm", subcommand, &mut lint)?;
    }
    Ok(())
}

fn outside_step(
    workspace: &Workspace,
    folder: &Path,
    target: &str,
    subcommand: &str,
    lint: &mut Command,
) -> Result<()> {
    let title = format!("cargo {subcommand} in {}", shown(workspace, folder));
    lint.arg("--target-dir")
        .arg(workspace.target.join(target))
        .current_dir(folder);
    if subcommand == "clippy" {
        lint.args(["--", "-Dwarnings"]);
    }
    let lines = step::captured(workspace, &title, lint)?;
    let warnings: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("warning"))
        .collect();
    if let Some(first) = warnings.first() {
        bail!("{title}: {} warnings, first: {first}", warnings.len());
    }
    Ok(())
}

/// Debian's clippy is no dependency of the build: without it `check` shows rustc's warnings.
fn debian_lint() -> &'static str {
    if Path::new("/usr/bin/cargo-clippy").exists() {
        "clippy"
    } else {
        "check"
    }
}

fn wasm_lint(plan: &Plan) -> &'static str {
    match plan.wasm {
        WasmCompiler::Installed => "clippy",
        WasmCompiler::Debian => debian_lint(),
    }
}

fn kernel_crates(workspace: &Workspace) -> Vec<PathBuf> {
    KERNEL_CRATES
        .iter()
        .map(|folder| workspace.root.join(folder))
        .filter(|folder| folder.join("Cargo.toml").exists())
        .collect()
}

fn outside(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let mut crates = kernel_crates(workspace);
    crates.extend(wasm_crates(workspace)?);
    Ok(crates)
}
