//! The compilers for the targets that stable cargo alone cannot build.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::setup::LLVM;
use crate::workspace::steers_toolchain;

const BPF_TARGET: &str = "bpfel-unknown-none";
const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Compiles kernel programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KernelCompiler {
    /// Debian's rustc-web with its ready core library for BPF.
    Debian,
    /// A rustup nightly with rust-src, which builds the core library.
    Nightly { toolchain: String },
}

impl fmt::Display for KernelCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Debian => write!(f, "Debian's rustc-web"),
            Self::Nightly { toolchain } => write!(f, "rustup's {toolchain} with rust-src"),
        }
    }
}

impl KernelCompiler {
    /// `cargo SUBCOMMAND` for kernel programs, to be run in the crate's folder.
    pub(crate) fn cargo(&self, subcommand: &str, linker: &Path) -> Command {
        let mut command = match self {
            Self::Debian => debian_cargo(),
            Self::Nightly { toolchain } => rustup_cargo(toolchain),
        };
        command
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker)
            // Maps of maps are described by type information.
            .env(
                "CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS",
                "-Clink-arg=--btf",
            )
            .args([subcommand, "--release", "--target", BPF_TARGET]);
        if let Self::Nightly { .. } = self {
            command.arg("-Zbuild-std=core");
        }
        command
    }
}

/// Compiles plugins and test guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WasmCompiler {
    /// The running toolchain has the target.
    Installed,
    /// Debian's rustc-web, which builds the standard library from rust-web-src.
    Debian,
}

impl fmt::Display for WasmCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Installed => write!(f, "the running toolchain's wasm32-unknown-unknown"),
            Self::Debian => write!(f, "Debian's rustc-web with rust-web-src"),
        }
    }
}

impl WasmCompiler {
    /// `cargo SUBCOMMAND` for guests, to be run in the crate's folder.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = match self {
            Self::Installed => running_cargo(),
            Self::Debian => {
                let mut command = debian_cargo();
                command.env(
                    "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
                    Path::new(LLVM).join("wasm-ld"),
                );
                command
            }
        };
        command
            .env(
                "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS",
                "-Ctarget-feature=+simd128",
            )
            .args([subcommand, "--release", "--target", WASM_TARGET]);
        if *self == Self::Debian {
            command.arg("-Zbuild-std=std,panic_abort");
        }
        command
    }
}

/// Debian's cargo and rustc; nightly features are on, because both targets need them.
fn debian_cargo() -> Command {
    let mut command = unsteered("/usr/bin/cargo");
    command
        .env("RUSTC", "/usr/bin/rustc")
        .env("RUSTC_BOOTSTRAP", "1");
    command
}

fn rustup_cargo(toolchain: &str) -> Command {
    let mut command = unsteered("cargo");
    command.env("RUSTUP_TOOLCHAIN", toolchain);
    command
}

fn running_cargo() -> Command {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = unsteered(&program);
    for name in ["RUSTUP_TOOLCHAIN", "RUSTC"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn unsteered(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if steers_toolchain(&name) {
            command.env_remove(name);
        }
    }
    command
}
