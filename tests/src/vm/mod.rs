//! Test binaries on another kernel: a virtual machine without disk or network, whose first process
//! runs tests one by one and says how each ended. Needs no right on the machine.

mod boot;
mod image;
mod report;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

pub use boot::End;
pub use report::{Job, Layout, Outcome, Report};

use boot::Machine;

/// What a machine did: how it ended, what its first process said, what its kernel printed.
pub struct Run {
    pub end: End,
    pub report: Report,
    pub console: String,
}

/// The kernel that set-up fetched below `STETHOS_KERNELS`, or why there is none.
pub fn kernel(version: &str) -> Result<PathBuf, String> {
    let folder = env::var_os("STETHOS_KERNELS")
        .ok_or("STETHOS_KERNELS is not set: run `cargo xtask test`")?;
    let folder = Path::new(&folder).join(version);
    let image = folder.join("vmlinuz");
    if image.is_file() {
        return Ok(image);
    }
    let reason = fs::read_to_string(folder.join("missing"));
    Err(reason.map_or_else(
        |_| format!("no kernel at {}", image.display()),
        |reason| reason.trim().to_owned(),
    ))
}

/// The test binary called `name` of this build, from `STETHOS_TEST_BINARIES`; none when that is
/// not set.
///
/// # Errors
/// The variable names other binaries only.
pub fn suite(name: &str) -> Result<Option<PathBuf>> {
    let Some(binaries) = env::var_os("STETHOS_TEST_BINARIES") else {
        return Ok(None);
    };
    let found = env::split_paths(&binaries).find(|path| {
        let stem = path.file_name().unwrap_or_default().to_string_lossy();
        stem.rsplit_once('-').map_or(&*stem, |(name, _)| name) == name
    });
    match found {
        Some(path) => Ok(Some(path)),
        None => bail!("STETHOS_TEST_BINARIES names no {name}"),
    }
}

/// The tests of a binary that are not ignored.
pub fn tests_of(binary: &Path) -> Result<Vec<String>> {
    let ignored = listed(binary, &["--ignored"])?;
    let all = listed(binary, &[])?;
    Ok(all
        .into_iter()
        .filter(|test| !ignored.contains(test))
        .collect())
}

fn listed(binary: &Path, arguments: &[&str]) -> Result<Vec<String>> {
    let output = Command::new(binary)
        .args(["--list", "--format", "terse"])
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    if !output.status.success() {
        bail!("{} --list: {}", binary.display(), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

/// Boots `kernel`, runs `jobs` there with `programs` at the paths that they have here, and waits for
/// the machine's end, at most for `limit`. Jobs of one layout belong together: in between, cgroups
/// are mounted anew.
pub fn run(kernel: &Path, programs: &[PathBuf], jobs: &[Job], limit: Duration) -> Result<Run> {
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("initramfs");
    image::write(&archive, programs, jobs).context("cannot make the initramfs")?;
    let mut machine = Machine::boot(kernel, &archive, folder.path())?;
    let end = machine.wait(limit)?;
    Ok(Run {
        end,
        report: Report::parse(&machine.results()),
        console: machine.console(),
    })
}
