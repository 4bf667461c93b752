//! The initramfs: busybox, programs with their shared libraries, the list of jobs, `/init`.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use cpio::newc;

use super::report::Job;

const INIT: &str = include_str!("init.sh");
const FOLDERS: [&str; 5] = ["/dev", "/proc", "/sys", "/tmp", "/run"];
const DIRECTORY: u32 = 0o040_755;
const EXECUTABLE: u32 = 0o100_755;

/// Writes the archive. The binaries of `jobs` and the `programs` get the paths that they have here.
pub(super) fn write(archive: &Path, programs: &[PathBuf], jobs: &[Job]) -> Result<()> {
    let files = files(programs, jobs)?;
    let mut out = BufWriter::new(File::create(archive)?);
    for folder in folders(files.keys()) {
        out = entry(out, &folder, DIRECTORY, &[])?;
    }
    for (path, bytes) in &files {
        out = entry(out, path, EXECUTABLE, bytes)?;
    }
    newc::trailer(out)?.flush()?;
    Ok(())
}

/// Everything but folders, by absolute path.
fn files(programs: &[PathBuf], jobs: &[Job]) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let busybox = on_path("busybox")?;
    let programs: BTreeSet<&Path> = programs
        .iter()
        .map(PathBuf::as_path)
        .chain(jobs.iter().map(|job| job.binary.as_path()))
        .collect();
    let mut files = BTreeMap::new();
    files.insert("/init".into(), INIT.as_bytes().to_vec());
    files.insert("/jobs".into(), listed(jobs).into_bytes());
    files.insert("/bin/busybox".into(), read(&busybox)?);
    for program in programs.iter().copied().chain([busybox.as_path()]) {
        for library in shared_libraries(program)? {
            let bytes = read(&library)?;
            files.insert(library, bytes);
        }
    }
    for program in programs {
        files.insert(program.to_owned(), stripped(program)?);
    }
    Ok(files)
}

fn listed(jobs: &[Job]) -> String {
    let lines = jobs.iter().enumerate().map(|(index, job)| {
        let (layout, binary) = (job.layout.name(), job.binary.display());
        format!("{index} {layout} {binary} {}\n", job.test)
    });
    lines.collect()
}

/// Every folder that `files` lie in, parents first.
fn folders<'a>(files: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    let above = files.flat_map(|file| file.ancestors().skip(1));
    let root = Path::new("/");
    above
        .chain(FOLDERS.iter().map(Path::new))
        .filter(|folder| *folder != root)
        .map(Path::to_owned)
        .collect()
}

fn entry<W: Write>(out: W, path: &Path, mode: u32, bytes: &[u8]) -> Result<W> {
    let name = path.strip_prefix("/").unwrap_or(path);
    let Some(name) = name.to_str() else {
        bail!("{} is not UTF-8", path.display());
    };
    let size =
        u32::try_from(bytes.len()).with_context(|| format!("{} is too large", path.display()))?;
    let mut writer = newc::Builder::new(name).mode(mode).write(out, size);
    writer.write_all(bytes)?;
    Ok(writer.finish()?)
}

/// The program without its debug information, which is most of it.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let folder = tempfile::tempdir()?;
    let small = folder.path().join("stripped");
    let done = Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .arg(&small)
        .arg(program)
        .stderr(Stdio::null())
        .status();
    match done {
        Ok(status) if status.success() => read(&small),
        // Where there is no `strip`, the whole file does as well.
        _ => read(program),
    }
}

/// The libraries that the dynamic loader takes, and the loader; none for a static program.
fn shared_libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .env("LC_ALL", "C")
        .output()
        .context("cannot start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if let Some(line) = text.lines().find(|line| line.contains("not found")) {
        bail!("{}: {}", program.display(), line.trim());
    }
    Ok(loaded(&text))
}

/// Paths in what `ldd` prints: `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`.
fn loaded(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| {
            let found = line.split_once("=> ").map_or(line, |(_, path)| path);
            found.split_whitespace().next()
        })
        .filter(|path| path.starts_with('/') && !path.ends_with(':'))
        .map(PathBuf::from)
        .collect()
}

fn on_path(program: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    found.with_context(|| format!("no {program} on PATH; `cargo xtask setup` installs it"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::report::Layout;

    #[test]
    fn libraries_are_read_from_every_form_of_line() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1a)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f1b)\n";
        assert_eq!(
            loaded(text),
            [
                Path::new("/lib/x86_64-linux-gnu/libc.so.6"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
        assert_eq!(loaded("\tnot a dynamic executable\n"), [] as [&Path; 0]);
    }

    #[test]
    fn folders_stand_before_what_they_hold() {
        let files = [PathBuf::from("/a/b/c"), PathBuf::from("/a/d")];
        let folders: Vec<PathBuf> = folders(files.iter()).into_iter().collect();
        assert_eq!(folders[..2], [Path::new("/a"), Path::new("/a/b")]);
        assert!(!folders.contains(&PathBuf::from("/a/d")));
    }

    #[test]
    fn a_job_is_a_line() {
        let job = Job {
            layout: Layout::BesideV1,
            binary: "/t/capture-1".into(),
            test: "order".to_owned(),
        };
        assert_eq!(listed(&[job]), "0 beside-v1 /t/capture-1 order\n");
    }
}
