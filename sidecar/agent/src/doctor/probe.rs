//! Looks at the machine. Nothing is judged, and nothing is left changed.

use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::bpf::{self, Answer};
use super::broker::{self, Broker};
use super::collector::{self, Endpoint};
use super::{Export, Setup, parse};

/// The id of the first PID namespace, the one that kernel programs see.
const FIRST_PID_NAMESPACE: &str = "pid:[4026531836]";

/// What was found here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probes {
    /// `uname -r`.
    pub kernel: String,
    pub arch: &'static str,
    pub gvisor: bool,
    /// A reason when the kernel's type information cannot be read.
    pub btf: Result<(), String>,
    pub cgroup2: Option<PathBuf>,
    pub cgroup1: bool,
    /// Names of the effective capabilities among those that Stethos knows; none when unreadable.
    pub capabilities: Option<Vec<&'static str>>,
    pub bpf_map: Answer,
    pub bpf_ring: Answer,
    pub bpf_program: Answer,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u8>,
    /// Lockdown mode, where securityfs shows it.
    pub lockdown: Option<String>,
    pub pressure: bool,
    /// Whether the kernel keeps how long threads are ready to run.
    pub run_delay: bool,
    /// Controllers, in either version of cgroups.
    pub cpu_controller: bool,
    pub memory_controller: bool,
    pub bpffs: Option<PathBuf>,
    /// Whether `/proc` shows the process ids that kernel programs see.
    pub first_pid_namespace: bool,
    /// `kernel.io_uring_disabled`: 0 open to all, 1 to a group, 2 to nobody.
    pub io_uring_disabled: Option<u8>,
    pub kernel_programs: usize,
    pub generic_plugin: usize,
    pub broker: Broker,
    pub state_dir: StateDir,
    pub export: Export,
    /// The endpoints of `export`, tried.
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StateDir {
    pub path: PathBuf,
    pub exists: bool,
    /// Why nothing can be kept there, if so.
    pub failure: Option<String>,
}

/// Looks at everything. Takes at most a few seconds, when a collector does not answer.
pub fn probe(setup: &Setup) -> Probes {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let number = |path: &str| text(path).trim().parse().ok();
    let mounts = text("/proc/self/mounts");
    let kernel = text("/proc/sys/kernel/osrelease").trim().to_string();
    Probes {
        arch: std::env::consts::ARCH,
        gvisor: parse::is_gvisor(&kernel, &text("/proc/version")),
        kernel,
        btf: fs::File::open("/sys/kernel/btf/vmlinux")
            .map(drop)
            .map_err(|e| e.to_string()),
        cgroup2: parse::mount(&mounts, "cgroup2"),
        cgroup1: parse::mount(&mounts, "cgroup").is_some(),
        capabilities: parse::capabilities(&text("/proc/self/status")),
        bpf_map: bpf::create_map(),
        bpf_ring: bpf::create_ring(),
        bpf_program: bpf::load_program(),
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        lockdown: parse::lockdown(&text("/sys/kernel/security/lockdown")).map(str::to_string),
        pressure: fs::read_to_string("/proc/pressure/cpu").is_ok(),
        run_delay: fs::read_to_string("/proc/self/schedstat").is_ok(),
        cpu_controller: has_controller(&mounts, "cpu"),
        memory_controller: has_controller(&mounts, "memory"),
        bpffs: parse::mount(&mounts, "bpf"),
        first_pid_namespace: fs::read_link("/proc/self/ns/pid")
            .is_ok_and(|link| link == Path::new(FIRST_PID_NAMESPACE)),
        io_uring_disabled: number("/proc/sys/kernel/io_uring_disabled"),
        kernel_programs: setup.kernel_programs,
        generic_plugin: setup.generic_plugin,
        broker: broker::probe(setup.node_socket.as_deref()),
        state_dir: state_dir(&setup.state_dir),
        export: setup.export.clone(),
        endpoints: match &setup.export {
            Export::To(endpoints) => collector::probe(endpoints),
            _ => Vec::new(),
        },
    }
}

fn has_controller(mounts: &str, name: &str) -> bool {
    let of_version_2 = parse::mount(mounts, "cgroup2").is_some_and(|mount| {
        let names = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
        names.split_whitespace().any(|one| one == name)
    });
    of_version_2 || parse::has_option(mounts, "cgroup", name)
}

fn state_dir(path: &Path) -> StateDir {
    let exists = path.is_dir();
    let result = if exists {
        write_and_remove(path)
    } else {
        can_be_made(path)
    };
    StateDir {
        path: path.to_path_buf(),
        exists,
        failure: result.err().map(|e| e.to_string()),
    }
}

fn write_and_remove(folder: &Path) -> io::Result<()> {
    let path = folder.join(format!(".doctor-{}", std::process::id()));
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .open(&path)?;
    let written = file
        .write_all(b"stethos doctor\n")
        .and_then(|()| file.sync_all());
    fs::remove_file(&path)?;
    written
}

/// Whether the nearest folder above `path` that exists takes new entries.
fn can_be_made(path: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(path)?;
    let above = absolute.ancestors().skip(1).find(|folder| folder.exists());
    let above = above.unwrap_or(Path::new("/"));
    if !above.is_dir() || absolute.exists() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let name = CString::new(above.as_os_str().as_bytes())?;
    // SAFETY: `name` is a string ended by a zero byte and outlives the call.
    match unsafe { libc::access(name.as_ptr(), libc::W_OK | libc::X_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_folder_is_tried_and_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let found = state_dir(folder.path());
        assert!(found.exists && found.failure.is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let below = folder.path().join("a/b");
        let found = state_dir(&below);
        assert!(!found.exists && found.failure.is_none());
        assert!(!folder.path().join("a").exists());
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(state_dir(&folder.path().join("file")).failure.is_some());
        assert!(state_dir(&folder.path().join("file/b")).failure.is_some());
    }
}
