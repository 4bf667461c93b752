//! A cgroup of one test, and processes that start inside it.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use crate::said::Said;

/// A cgroup (v2) that is removed, with its processes, when dropped. What a killed test left is
/// removed by the next one.
pub struct Cgroup {
    path: PathBuf,
    /// A child goes away with its parent.
    child: bool,
}

const PREFIX: &str = "stethos-test-";

impl Cgroup {
    pub fn new(name: &str) -> io::Result<Self> {
        let mount = mount()?;
        remove_stale(&mount);
        let path = mount.join(self::name(name));
        fs::create_dir_all(&path)?;
        Ok(Self { path, child: false })
    }

    /// A cgroup below this one.
    pub fn child(&self, name: &str) -> io::Result<Self> {
        let path = self.path.join(name);
        fs::create_dir_all(&path)?;
        Ok(Self { path, child: true })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a program inside; it is killed when this thread ends.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let procs = std::ffi::CString::new(
            self.path
                .join("cgroup.procs")
                .into_os_string()
                .into_encoded_bytes(),
        )?;
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                let fd = libc::open(procs.as_ptr(), libc::O_WRONLY);
                let written = libc::write(fd, b"0".as_ptr().cast(), 1);
                libc::close(fd);
                if written == 1 {
                    Ok(())
                } else {
                    Err(io::Error::last_os_error())
                }
            })
        };
        command.spawn()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if !self.child {
            remove(&self.path);
        }
    }
}

/// What a cgroup of this test process is called.
pub(crate) fn name(name: &str) -> String {
    format!("{PREFIX}{}-{name}", std::process::id())
}

/// Removes a cgroup with what is in it.
pub(crate) fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let until = Instant::now() + Duration::from_secs(5);
    while fs::remove_dir(path).is_err() && path.exists() && Instant::now() < until {
        let procs = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
        for pid in procs
            .lines()
            .filter_map(|pid| pid.parse::<libc::pid_t>().ok())
        {
            // SAFETY: a process of this test's own cgroup.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Removes cgroups of tests whose process is gone.
pub(crate) fn remove_stale(mount: &Path) {
    for entry in fs::read_dir(mount).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if let Some(owner) = owner
            && !Path::new(&format!("/proc/{owner}")).exists()
        {
            remove(&entry.path());
        }
    }
}

fn mount() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&"cgroup2"))
        .map(|fields| PathBuf::from(fields[1]))
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "cgroup v2 is not mounted"))
}

/// A program that says `ready`, does its part at every line that it is given, and says `done`.
pub struct Stepped {
    pub child: Child,
    input: ChildStdin,
    said: Said,
}

impl Stepped {
    pub fn start(cgroup: &Cgroup, program: &str, arguments: &[&str]) -> io::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = cgroup.spawn(&mut command)?;
        let missing = || io::Error::from(io::ErrorKind::BrokenPipe);
        let input = child.stdin.take().ok_or_else(missing)?;
        let said = Said::by(&mut child)?;
        let started = Self { child, input, said };
        started.expect("ready")?;
        Ok(started)
    }

    /// Has it begin its part, without waiting for the end.
    pub fn begin(mut self) -> io::Result<Self> {
        self.input.write_all(b"go\n")?;
        Ok(self)
    }

    pub fn step(&mut self) -> io::Result<()> {
        self.input.write_all(b"go\n")?;
        self.expect("done")
    }

    /// Whether it has not said yet that its part is done. Not to be asked again then.
    pub fn is_busy(&self) -> bool {
        self.said.is_silent()
    }

    /// Lets the program end by itself.
    pub fn finish(mut self) -> io::Result<()> {
        drop(self.input);
        self.child.wait().map(drop)
    }

    fn expect(&self, word: &str) -> io::Result<()> {
        let line = self.said.next()?;
        if line.trim() == word {
            Ok(())
        } else {
            Err(io::Error::other(format!("expected {word:?}, got {line:?}")))
        }
    }
}
