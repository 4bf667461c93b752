//! A node broker of one test, sidecars without rights, and what is left in the kernel.
#![allow(clippy::unwrap_used, reason = "a step that fails ends the test")]

use std::{
    fs::{self, File},
    io::{self, BufReader},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use aya::maps::{Array, HashMap, Map, MapData, PerCpuHashMap};
use stethos::{
    capture::{
        broker::{client, protocol::Status},
        recording::RecordingReader,
    },
    record::{Header, Record},
};
use stethos_events::{EndedAccount, PODS, PodEntry};

use crate::{
    cgroup::Cgroup,
    programs::{binary, stethos},
};

/// What is waited for comes within this time, or the test fails.
const LIMIT: Duration = Duration::from_secs(90);

/// Mounts a BPF file system that only this thread and what it starts can see.
///
/// # Panics
/// When it cannot be mounted.
pub fn mount_bpf(at: &Path) {
    let path = std::ffi::CString::new(at.as_os_str().as_encoded_bytes()).unwrap();
    let none = std::ptr::null();
    // SAFETY: strings that are ended; the mount namespace is this thread's own.
    unsafe {
        assert_eq!(libc::unshare(libc::CLONE_NEWNS), 0);
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let made = libc::mount(none, c"/".as_ptr(), none, private, none.cast());
        assert_eq!(made, 0);
        let bpf = c"bpf".as_ptr();
        assert_eq!(libc::mount(bpf, path.as_ptr(), bpf, 0, none.cast()), 0);
    }
}

/// A folder with a BPF file system that only this thread and what it starts can see.
pub struct Site {
    pub folder: tempfile::TempDir,
}

impl Site {
    /// # Panics
    /// When the file system cannot be mounted.
    pub fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mount = folder.path().join("bpf");
        fs::create_dir(&mount).unwrap();
        mount_bpf(&mount);
        Self { folder }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("node.sock")
    }

    pub fn pins(&self) -> PathBuf {
        self.folder.path().join("bpf/stethos")
    }

    /// A folder that a sidecar without rights may write to.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn writable(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        path
    }

    /// # Panics
    /// When the broker does not answer within the limit.
    pub fn broker(&self, arguments: &[&str], pinned: bool) -> Broker {
        let mut command = stethos();
        command
            .args(["node", "--socket"])
            .arg(self.socket())
            .args(arguments)
            .env(
                "STETHOS_NODE_PINS",
                if pinned { self.pins() } else { "off".into() },
            )
            .stdin(Stdio::null());
        let log = self.folder.path().join("broker.log");
        let child = logged(&mut command, &log).spawn().unwrap();
        let broker = Broker {
            child,
            socket: self.socket(),
            log,
        };
        wait("a broker that answers", || {
            client::status(&broker.socket).ok()
        });
        broker
    }

    /// A sidecar without rights, in a cgroup of its own below the pod's.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn sidecar(
        &self,
        pod: &Cgroup,
        name: &str,
        command: &[&str],
        environment: &[(&str, &str)],
    ) -> Sidecar {
        let own = pod.child(&format!("sidecar-{name}")).unwrap();
        let folder = self.writable(name);
        let mut rightless = Command::new(binary("rightless"));
        rightless
            .arg(&folder)
            .arg(binary("stethos"))
            .args(command)
            .env_clear()
            .env("STETHOS_CAPTURE_NODE_SOCKET", self.socket())
            .env("STETHOS_CAPTURE_POLL_INTERVAL", "10ms")
            .env("STETHOS_CAPTURE_SNAPSHOT_INTERVAL", "100ms")
            .env("STETHOS_STATE_DIR", &folder)
            .envs(environment.iter().copied())
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(File::create(folder.join("out")).unwrap());
        let log = self.folder.path().join(format!("{name}.log"));
        rightless.stderr(log_file(&log));
        let child = own.spawn(&mut rightless).unwrap();
        Sidecar { child, folder, log }
    }

    /// A sidecar that records what it captures of its pod; waits until it does.
    pub fn recorder(&self, pod: &Cgroup, name: &str) -> Sidecar {
        let sidecar = self.refused(pod, name);
        wait("a sidecar that records", || {
            sidecar.log().contains("recording").then_some(())
        });
        sidecar
    }

    /// The same, when it is expected to be refused.
    pub fn refused(&self, pod: &Cgroup, name: &str) -> Sidecar {
        let command = ["record", "--target", "self-pod", "-o", "rec"];
        self.sidecar(pod, name, &command, &[])
    }

    /// Folders of the programs that are pinned.
    pub fn builds(&self) -> Vec<String> {
        let entries = fs::read_dir(self.pins()).into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// What the kernel programs keep for pods.
    ///
    /// # Panics
    /// When the maps cannot be read.
    pub fn kept(&self) -> Kept {
        let left = fs::read_dir(self.pins()).unwrap().flatten().next().unwrap();
        let maps = left.path().join("maps");
        let map =
            |name: &str| Map::from_map_data(MapData::from_pin(maps.join(name)).unwrap()).unwrap();
        let scope: HashMap<_, u64, u32> = map("SCOPE").try_into().unwrap();
        let claims: HashMap<_, u32, u32> = map("CLAIMS").try_into().unwrap();
        let ended: PerCpuHashMap<_, u64, EndedAccount> = map("ENDED").try_into().unwrap();
        let table: Array<_, PodEntry> = map("POD_TABLE").try_into().unwrap();
        let taken = |index: &u32| table.get(index, 0).unwrap().slots != 0;
        Kept {
            scope: scope.keys().count(),
            claims: claims.keys().count(),
            ended: ended.keys().count(),
            pods: (0..PODS as u32).filter(taken).count(),
            pinned: fs::read_dir(left.path().join("pods")).unwrap().count(),
        }
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let mount = self.folder.path().join("bpf");
        if let Ok(path) = std::ffi::CString::new(mount.as_os_str().as_encoded_bytes()) {
            // SAFETY: a string that is ended.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// Entries of the programs' maps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub scope: usize,
    pub claims: usize,
    pub ended: usize,
    pub pods: usize,
    pub pinned: usize,
}

pub struct Broker {
    pub child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Broker {
    /// # Panics
    /// When the broker does not answer.
    pub fn status(&self) -> Status {
        client::status(&self.socket).unwrap().1
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it serves this many pods.
    pub fn serves(&self, pods: u32) {
        wait(&format!("a broker that serves {pods} pods"), || {
            let (_, status) = client::status(&self.socket).ok()?;
            (status.pods_served == pods && status.pods_waiting == 0).then_some(())
        });
    }

    /// How often this was refused.
    pub fn refused(&self, cause: &str) -> u64 {
        let all = self.status().refused;
        all.iter()
            .find(|(name, _)| name == cause)
            .map_or(0, |(_, count)| *count)
    }

    /// # Panics
    /// When it has ended already.
    pub fn signal(&self, signal: libc::c_int) {
        send_signal(&self.child, signal);
    }

    pub fn end(mut self, signal: libc::c_int) {
        self.signal(signal);
        let _ = self.child.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Sidecar {
    pub child: Child,
    folder: PathBuf,
    log: PathBuf,
}

impl Sidecar {
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn output(&self) -> String {
        fs::read_to_string(self.folder.join("out")).unwrap_or_default()
    }

    /// # Panics
    /// When it has ended already.
    pub fn signal(&self, signal: libc::c_int) {
        send_signal(&self.child, signal);
    }

    /// Ends a recorder and gives what it recorded.
    ///
    /// # Panics
    /// When the recording is not whole.
    pub fn recording(mut self) -> (Header, Vec<Record>) {
        // Slots are read once they stood for 100 ms, in snapshots 100 ms apart.
        std::thread::sleep(Duration::from_millis(400));
        self.signal(libc::SIGTERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {}", self.log());
        let file = File::open(self.folder.join("rec")).unwrap();
        let reader = RecordingReader::new(BufReader::new(file), "rec").unwrap();
        let header = reader.header().clone();
        (header, reader.map(Result::unwrap).collect())
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send_signal(child: &Child, signal: libc::c_int) {
    // SAFETY: a process that this test started and has not waited for.
    assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, signal) }, 0);
}

/// Lets a child end with this thread, and its standard error go to a file.
fn logged<'a>(command: &'a mut Command, log: &Path) -> &'a mut Command {
    // SAFETY: an async-signal-safe call between fork and exec.
    unsafe {
        command.pre_exec(
            || match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            },
        )
    };
    command.stderr(log_file(log))
}

fn log_file(path: &Path) -> File {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap()
}

/// Waits until `found` finds something.
///
/// # Panics
/// When it does not within the limit.
pub fn wait<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LIMIT;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < until, "no {what} within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
