//! Programs of this build.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

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
