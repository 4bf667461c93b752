//! Programs of this build.

use std::path::{Path, PathBuf};

/// A program that `cargo xtask build` makes, beside the folder of the running test.
///
/// # Panics
/// When it was not built.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let found = test
        .ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join(name))
        .find(is_file);
    assert!(found.is_some(), "{name} is missing: run `cargo xtask test`");
    found.unwrap_or_default()
}

fn is_file(path: &PathBuf) -> bool {
    Path::is_file(path)
}
