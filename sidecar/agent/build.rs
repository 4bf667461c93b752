//! Hands the agent what it embeds: `OUT_DIR/stethos.bpf.o` and the built-in plugins.
//!
//! `cargo xtask build` makes them beforehand, with compilers for other targets, into `artifacts`
//! below cargo's build folder; `STETHOS_ARTIFACTS` names another folder. One that is not there is
//! embedded as an empty file, so that `cargo check` works on any machine.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const EMBEDDED: [&str; 10] = [
    "stethos.bpf.o",
    "generic.wasm",
    "http-server.wasm",
    "key-value-cache.wasm",
    "sql-database.wasm",
    "message-broker.wasm",
    "reverse-proxy.wasm",
    "jvm.wasm",
    "node.wasm",
    "python.wasm",
];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-env-changed=STETHOS_ARTIFACTS");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?);
    let artifacts = match env::var_os("STETHOS_ARTIFACTS") {
        Some(folder) => PathBuf::from(folder),
        None => build_folder(&out)?.join("artifacts"),
    };
    // A path that does not exist would make this script run for every build.
    fs::create_dir_all(&artifacts)?;
    for name in EMBEDDED {
        let source = artifacts.join(name);
        let found = source.exists();
        let watched = if found { &source } else { &artifacts };
        println!("cargo::rerun-if-changed={}", watched.display());
        let bytes = if found {
            fs::read(&source)?
        } else {
            Vec::new()
        };
        fs::write(out.join(name), bytes)?;
    }
    Ok(())
}

/// Cargo marks a build folder that it made, which holds `OUT_DIR`, with a cache tag; in one that
/// was there before, `OUT_DIR` is `PROFILE/build/PACKAGE/out`.
fn build_folder(out: &Path) -> io::Result<&Path> {
    out.ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .or_else(|| out.ancestors().nth(4))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "OUT_DIR lies in no build folder"))
}
