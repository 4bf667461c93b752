//! Programs of this build.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::skip::{Need, skip};

/// A program that `cargo xtask build` makes, beside the folder of the running test.
///
/// # Panics
/// When it was not built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let found = beside(&test, name);
    assert!(found.is_some(), "{name} is missing: run `cargo xtask test`");
    found.unwrap_or_default()
}

/// A program of the build that made the test binary `test`.
pub fn beside(test: &Path, name: &str) -> Option<PathBuf> {
    test.ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// Compiles a file of `tests/programs` (C) with these arguments; otherwise says why `test` is skipped.
///
/// # Panics
/// When it does not compile.
pub fn compile_or_skip(test: &str, source: &str, arguments: &[&str]) -> bool {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("programs")
        .join(source);
    let compiled = Command::new(&compiler)
        .args(["-O1", "-x", "c"])
        .arg(source)
        .args(["-x", "none"])
        .args(arguments)
        .output();
    match compiled {
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{arguments:?}: {errors}");
            true
        }
        Err(error) => {
            skip(Need::Tool, test, &format!("{compiler}: {error}"));
            false
        }
    }
}

/// `stethos` without the variables that belong to the tests, not to it.
pub fn stethos() -> Command {
    let mut command = Command::new(binary("stethos"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STETHOS_") {
            command.env_remove(name);
        }
    }
    command
}
