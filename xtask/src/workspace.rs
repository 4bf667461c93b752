//! Where the checkout and its build folder are, and how cargo is called on it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The checkout that `cargo xtask` was called in.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// Folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's build folder; it may lie outside the checkout and serve several.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Asks cargo for both folders, so that `CARGO_TARGET_DIR` and cargo's configuration count.
    pub(crate) fn find() -> Result<Self> {
        let mut command = host_cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        if let Some(here) = std::env::var_os("CARGO_MANIFEST_DIR") {
            command.current_dir(here);
        }
        let output = command.output().context("cannot start cargo")?;
        if !output.status.success() {
            bail!(
                "cargo metadata failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let metadata: Value =
            serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
        let folder = |key: &str| {
            metadata[key]
                .as_str()
                .map(PathBuf::from)
                .with_context(|| format!("cargo metadata names no {key}"))
        };
        Ok(Self {
            root: folder("workspace_root")?,
            target: folder("target_directory")?,
        })
    }

    /// Cargo for the workspace's own crates: the toolchain that runs this program.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = host_cargo();
        command.current_dir(&self.root);
        command
    }

    /// What the sidecar embeds: `stethos.bpf.o` and `generic.wasm`.
    pub(crate) fn artifacts(&self) -> PathBuf {
        self.target.join("artifacts")
    }

    /// What only tests load: kernel programs (`*.bpf.o`) and guests (`*.wasm`).
    pub(crate) fn test_artifacts(&self) -> PathBuf {
        self.target.join("test-artifacts")
    }

    /// Tools that set-up brings and no system package holds.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// Full output of the last run of every step.
    pub(crate) fn logs(&self) -> PathBuf {
        self.target.join("xtask-logs")
    }

    /// `stethos`, without variables that are meant for others: it refuses those that it does not know.
    pub(crate) fn stethos(&self) -> Command {
        let mut command = Command::new(self.binary("stethos"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("STETHOS_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// A binary of the workspace in the release profile.
    pub(crate) fn binary(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }
}

fn host_cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if is_set_by_cargo_run(&name) {
            command.env_remove(name);
        }
    }
    command
}

/// Variables that describe the running crate. Build scripts watch some of them, so passing them
/// on would rebuild dependencies whenever cargo is called by hand in between.
fn is_set_by_cargo_run(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    matches!(
        name.as_ref(),
        "CARGO"
            | "CARGO_MANIFEST_DIR"
            | "CARGO_MANIFEST_PATH"
            | "CARGO_CRATE_NAME"
            | "CARGO_BIN_NAME"
            | "CARGO_PRIMARY_PACKAGE"
            | "OUT_DIR"
    ) || name.starts_with("CARGO_PKG_")
        || name.starts_with("CARGO_BIN_EXE_")
}

/// Variables that steer one toolchain and would mislead another one: everything of cargo,
/// rustc and rustup except where crates come from and how output looks.
pub(crate) fn steers_toolchain(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let kept = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUST_BACKTRACE",
        "RUSTUP_HOME",
    ];
    let toolchain = name.starts_with("CARGO")
        || name.starts_with("RUST")
        || matches!(name.as_ref(), "OUT_DIR" | "LD_LIBRARY_PATH");
    toolchain && !kept.iter().any(|prefix| name.starts_with(prefix))
}

/// The folder of `path` as text for messages, relative to the checkout where it lies inside.
pub(crate) fn shown(workspace: &Workspace, path: &Path) -> String {
    path.strip_prefix(&workspace.root)
        .unwrap_or(path)
        .display()
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_toolchain_keeps_registry_and_home_only() {
        for kept in ["CARGO_HOME", "CARGO_REGISTRIES_X_INDEX", "PATH", "HOME"] {
            assert!(!steers_toolchain(OsStr::new(kept)), "{kept}");
        }
        for dropped in [
            "CARGO",
            "CARGO_TARGET_DIR",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTC",
            "RUSTFLAGS",
            "RUSTUP_TOOLCHAIN",
            "RUSTC_WRAPPER",
        ] {
            assert!(steers_toolchain(OsStr::new(dropped)), "{dropped}");
        }
    }

    #[test]
    fn the_users_build_settings_reach_the_workspaces_cargo() {
        assert!(!is_set_by_cargo_run(OsStr::new("CARGO_TARGET_DIR")));
        assert!(!is_set_by_cargo_run(OsStr::new("CARGO_BUILD_JOBS")));
        assert!(is_set_by_cargo_run(OsStr::new("CARGO_PKG_NAME")));
    }
}
