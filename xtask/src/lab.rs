//! Lab primitives: a cgroup tree, processes in it, a small disk that can fill, a relay that can be
//! slow; all of it gone when the runner is gone, however it went.

mod descriptors;
mod inside;
mod interrupt;
mod relay;
mod report;
mod server;
mod sidecar;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::unistd::{Pid, getpid, getppid};

pub(crate) use descriptors::{descriptor_limit, lowest_free_descriptor, set_descriptor_limit};
pub(crate) use inside::{Inside, User};
pub(crate) use interrupt::{is_interrupted, listen_for_interrupts, not_interrupted};
pub(crate) use relay::{Relay, RelayState, Settings as RelaySettings};
pub(crate) use report::{Capturing, Diagnosis, Line, Phase};
pub(crate) use server::{is_installed, processes_in, system_path, wait_for_end, wait_for_listener};
pub(crate) use sidecar::{Sidecar, SidecarOptions, Usage, collector, without_build_variables};

/// Waits for end of file on standard input, which comes when the runner is gone, then takes
/// everything down. Arguments: the cgroup and the folder of a lab, where cgroup v1
/// hierarchies are mounted, and the lab's name in them.
const TAKE_DOWN: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
if [ -d "$1" ]; then
    [ -e "$1/cgroup.kill" ] && echo 1 >"$1/cgroup.kill"
    for round in $(seq 100); do
        grep -q 'populated 0' "$1/cgroup.events" && break
        find "$1" -name cgroup.procs -exec cat {} + | xargs -r kill -9 2>/dev/null
        sleep 0.05
    done
    find "$1" -depth -type d -exec rmdir {} \;
fi
for controllers in "$3"/*; do
    [ -d "$controllers/$4" ] && find "$controllers/$4" -depth -type d -exec rmdir {} \;
done
awk -v folder="$2/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | xargs -r -n 1 umount -l
rm -rf --one-file-system -- "$2"
"#;

/// One run's cgroup tree and folder, both named `<prefix>-<pid of the runner>`.
pub(crate) struct Lab {
    name: String,
    cgroup: PathBuf,
    folder: PathBuf,
    /// Runs `TAKE_DOWN`; this process holds the writing end of its standard input.
    watchdog: Child,
}

impl Lab {
    /// Takes down what killed runs left behind, and starts an empty lab.
    ///
    /// # Errors
    /// Without cgroup v2, or without the right to make cgroups.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts").context("/proc/mounts")?;
        let cgroups = cgroup2_mount(&mounts).context(
            "no cgroup v2 is mounted: `mount -t cgroup2 none /sys/fs/cgroup` where nothing else is",
        )?;
        let folders = std::env::temp_dir();
        for name in leftovers(prefix, &[&cgroups, &folders])? {
            let mut take_down = take_down(&cgroups.join(&name), &folders.join(&name));
            let status = take_down.stdin(Stdio::null()).status();
            ensure!(status.context("sh")?.success(), "cannot take down {name}");
        }
        let name = format!("{prefix}-{}", getpid());
        let (cgroup, folder) = (cgroups.join(&name), folders.join(&name));
        let watchdog = take_down(&cgroup, &folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .spawn()
            .context("sh")?;
        fs::create_dir(&cgroup)
            .with_context(|| format!("cannot make cgroup {} (root can)", cgroup.display()))?;
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self {
            name,
            cgroup,
            folder,
            watchdog,
        })
    }

    /// The cgroup `name` (`pod/api`) of the tree, which need not exist yet.
    pub(crate) fn cgroup(&self, name: &str) -> PathBuf {
        self.cgroup.join(name)
    }

    /// Where cgroup `name` of the tree is limited by `controller`: its twin below a cgroup v1
    /// hierarchy where there is one, else itself.
    pub(crate) fn controller(&self, controller: &str, name: &str) -> PathBuf {
        inside::hierarchy(controller).map_or_else(
            || self.cgroup(name),
            |root| root.join(&self.name).join(name),
        )
    }

    /// A file in the lab's folder, which need not exist yet.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A new folder of the lab.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// A new folder on a disk of its own, `bytes` large.
    pub(crate) fn disk(&self, name: &str, bytes: u64) -> Result<PathBuf> {
        let folder = self.folder(name)?;
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
        let size = format!("size={bytes}");
        mount(
            Some("lab"),
            &folder,
            Some("tmpfs"),
            flags,
            Some(size.as_str()),
        )
        .with_context(|| format!("cannot mount a tmpfs on {}", folder.display()))?;
        Ok(folder)
    }

    /// Kills every process of cgroup `group` and below, if it exists.
    pub(crate) fn kill(&self, group: &str) -> Result<()> {
        let kill = self.cgroup(group).join("cgroup.kill");
        match fs::write(&kill, "1") {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            written => written.with_context(|| kill.display().to_string()),
        }
    }

    /// Starts `command` inside cgroup `group` of the tree, in a process group of its own. It dies
    /// with the calling thread: call this from one that lives as long as the lab.
    pub(crate) fn spawn(&self, group: &str, command: &mut Command) -> Result<Child> {
        self.spawn_inside(group, &Inside::default(), command)
    }

    /// The same in namespaces, as a user, under controllers.
    pub(crate) fn spawn_inside(
        &self,
        group: &str,
        inside: &Inside,
        command: &mut Command,
    ) -> Result<Child> {
        let procs = open_cgroup(&self.cgroup(group))?;
        let runner = getpid();
        let inside = inside.entrance(&self.name, group)?;
        // SAFETY: between fork and exec this only makes system calls on values made before the
        // fork; it allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(move || {
                (&procs).write_all(b"0")?;
                inside.enter()?;
                die_with(runner)
            })
        };
        command
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // Nothing is left to do when the watchdog was killed: the next lab takes this one down.
        let _ = self.watchdog.wait();
    }
}

/// After any change of user, which takes the wish back.
fn die_with(runner: Pid) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != runner {
        return Err(ErrorKind::BrokenPipe.into());
    }
    Ok(())
}

/// Makes a cgroup; whoever writes `0` to the file is in it.
fn open_cgroup(group: &Path) -> Result<File> {
    fs::create_dir_all(group).with_context(|| format!("cannot make cgroup {}", group.display()))?;
    let procs = group.join("cgroup.procs");
    let open = OpenOptions::new().write(true).open(&procs);
    open.with_context(|| procs.display().to_string())
}

fn take_down(cgroup: &Path, folder: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", TAKE_DOWN, "stethos-lab-take-down"]);
    command.args([cgroup, folder, Path::new(inside::CONTROLLERS)]);
    command.args(cgroup.file_name());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn cgroup2_mount(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let point = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(point))
    })
}

/// Names `<prefix>-<pid>` in `folders` whose process is gone.
fn leftovers(prefix: &str, folders: &[&Path]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            let pid = name
                .strip_prefix(prefix)
                .and_then(|rest| rest.strip_prefix('-'))
                .and_then(|pid| pid.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                names.push(name);
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// A TCP port on loopback that nobody uses now.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

pub(crate) fn send_signal(child: &Child, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(child.id().cast_signed());
    signal::kill(pid, signal).with_context(|| format!("cannot send {signal} to {pid}"))
}

/// Writes to `path` until its disk is full.
pub(crate) fn fill_disk(path: &Path) -> Result<()> {
    let mut filler = File::create(path).with_context(|| path.display().to_string())?;
    for block in [1 << 16, 1 << 12, 1] {
        loop {
            match filler.write(&vec![0; block]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context(path.display().to_string()),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_cgroup2_alone_or_beside_v1() {
        let beside = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2_mount(beside), Some("/sys/fs/cgroup/unified".into()));
        let alone = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        assert_eq!(cgroup2_mount(alone), Some("/sys/fs/cgroup".into()));
        assert_eq!(cgroup2_mount("proc /proc proc rw 0 0\n"), None);
    }

    #[test]
    fn only_what_a_gone_process_left_is_a_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let mine = format!("lab-{}", getpid());
        for name in ["lab-999999999", &mine, "lab-x", "other-999999999"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let found = leftovers("lab", &[folder.path(), folder.path()]).unwrap();
        assert_eq!(found, ["lab-999999999"]);
    }

    #[test]
    fn the_take_down_waits_for_its_runner() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("lab-1");
        fs::create_dir(&folder).unwrap();
        let mut watchdog = take_down(&parent.path().join("none"), &folder)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        assert!(watchdog.try_wait().unwrap().is_none() && folder.exists());
        drop(watchdog.stdin.take());
        assert!(watchdog.wait().unwrap().success() && !folder.exists());
    }
}
