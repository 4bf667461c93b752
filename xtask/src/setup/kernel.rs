//! Debian's kernels for the tests' virtual machines.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;

use super::install::apt_get;
use crate::step;
use crate::workspace::Workspace;

/// Small kernels with BTF and everything built in that the tests need.
const FLAVOUR: &str = "-cloud-amd64-unsigned";

/// Makes `folder/vmlinuz` the newest kernel of `version` that apt offers. Without one, set-up goes
/// on: `folder/missing` says why, and the next set-up tries again.
pub(super) fn fetch(workspace: &Workspace, version: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let missing = folder.join("missing");
    let fetched = newest_fetched(workspace, version, folder).or_else(|first| {
        if !geteuid().is_root() {
            return Err(first);
        }
        // What apt knows may be older than what the mirror has.
        step::run(workspace, "apt-get update", &mut apt_get(&["update"]))?;
        newest_fetched(workspace, version, folder)
    });
    match fetched {
        Ok(package) => {
            eprintln!("kernel {version} for the tests: {package}");
            if missing.exists() {
                fs::remove_file(&missing)?;
            }
        }
        Err(error) => {
            let reason = format!("no kernel {version}: {error:#}");
            eprintln!("{reason}; its tests will be skipped");
            fs::write(&missing, reason + "\n")?;
        }
    }
    Ok(())
}

/// Gives the package's name. The kernel gets its name last, so that an interrupted set-up leaves
/// none that is not whole.
fn newest_fetched(workspace: &Workspace, version: &str, folder: &Path) -> Result<String> {
    let package = newest(&offered(version)?)
        .with_context(|| format!("apt offers no linux-image-{version}.*{FLAVOUR}"))?;
    let download = folder.join("download");
    if download.exists() {
        fs::remove_dir_all(&download)?;
    }
    fs::create_dir_all(&download)?;
    eprintln!("fetching {package} with apt, for the tests only");
    let mut get = apt_get(&["download", &package]);
    let title = format!("kernel {version}, download");
    step::run(workspace, &title, get.current_dir(&download))?;
    let archive = file_in(&download, |name| name.ends_with(".deb"))?;
    let unpacked = download.join("unpacked");
    let mut unpack = Command::new("dpkg-deb");
    let title = format!("kernel {version}, unpack");
    step::run(
        workspace,
        &title,
        unpack.arg("--extract").arg(&archive).arg(&unpacked),
    )?;
    let kernel = file_in(&unpacked.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    fs::rename(kernel, folder.join("vmlinuz"))?;
    fs::remove_dir_all(&download)?;
    Ok(package)
}

fn offered(version: &str) -> Result<Vec<String>> {
    let output = Command::new("apt-cache")
        .args(["pkgnames", &format!("linux-image-{version}.")])
        .output()
        .context("cannot start apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

/// The highest of the packages of the wanted flavour, by the numbers in their names.
fn newest(packages: &[String]) -> Option<String> {
    packages
        .iter()
        .filter(|name| name.ends_with(FLAVOUR))
        .max_by_key(|name| numbers(name))
        .cloned()
}

fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn file_in(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let entry = entry?;
        if wanted(&entry.file_name().to_string_lossy()) {
            return Ok(entry.path());
        }
    }
    bail!("{} holds no such file", folder.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_told_by_its_numbers() {
        let names = [
            "linux-image-6.12.9+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb12-amd64-unsigned",
            "linux-image-6.12.118+deb12-cloud-amd64-dbg",
        ];
        let names = names.map(str::to_owned);
        assert_eq!(newest(&names).as_ref(), Some(&names[1]));
        assert_eq!(newest(&names[2..]), None);
    }
}
