//! What a sidecar without a broker may do while it runs: no more than it needs then.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::Duration,
};

use stethos_tests::{
    asking::Asking,
    cgroup::Cgroup,
    programs::{binary, stethos},
    sidecar::Sidecar,
    skip::kernel_or_skip,
};

const DAC_READ_SEARCH: u64 = 1 << 2;
const SYS_PTRACE: u64 = 1 << 19;
const LIMIT: Duration = Duration::from_secs(60);

/// What one thread may do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rights {
    inheritable: u64,
    permitted: u64,
    effective: u64,
    bounding: u64,
    ambient: u64,
    no_new_privileges: bool,
}

fn rights(status: &str) -> Option<Rights> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).ok()
    };
    Some(Rights {
        inheritable: field("CapInh")?,
        permitted: field("CapPrm")?,
        effective: field("CapEff")?,
        bounding: field("CapBnd")?,
        ambient: field("CapAmb")?,
        no_new_privileges: field("NoNewPrivs")? == 1,
    })
}

/// Of every thread of a process.
fn of_threads(pid: u32) -> Vec<Rights> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    tasks
        .flatten()
        .flatten()
        .filter_map(|task| rights(&fs::read_to_string(task.path().join("status")).ok()?))
        .collect()
}

/// Looks at what a process starts for as long as it is there: command and rights.
struct Children {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<(String, Rights)>>,
}

impl Children {
    fn of(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stopped.load(Relaxed) {
                let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
                for task in tasks.flatten().flatten() {
                    let children = fs::read_to_string(task.path().join("children"));
                    for child in children.unwrap_or_default().split_whitespace() {
                        let read = |file: &str| fs::read(format!("/proc/{child}/{file}"));
                        let (Ok(command), Ok(status)) = (read("cmdline"), read("status")) else {
                            continue;
                        };
                        // In the middle of an exec: the old rights, and no command line yet.
                        if command.is_empty() {
                            continue;
                        }
                        let command = String::from_utf8_lossy(&command).into_owned();
                        let word = command.split('\0').nth(1).unwrap_or_default().to_owned();
                        let found = rights(&String::from_utf8_lossy(&status));
                        seen.extend(found.map(|rights| (word, rights)));
                    }
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            seen
        });
        Self { stop, thread }
    }

    fn seen(self) -> BTreeSet<(String, Rights)> {
        self.stop.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

/// A folder that anybody may write to, and `stethos` in it, where anybody reaches it.
fn reachable() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = folder.path().join("stethos");
    fs::copy(binary("stethos"), &program).unwrap();
    (folder, program)
}

fn with(capabilities: &str, program: &Path) -> Command {
    let mut command = Command::new(binary("few-rights"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STETHOS_") {
            command.env_remove(name);
        }
    }
    command.arg(capabilities).arg(program);
    command
}

/// Runs a sidecar until it watches. All of its threads have `kept` by then, and what it starts has
/// nothing.
fn watches(asking: &Asking, folder: &Path, command: Command, kept: u64) -> Vec<Rights> {
    let (state, log) = (folder.join("state"), folder.join("stethos.log"));
    let set = |command: &mut Command| {
        command
            .env("STETHOS_EXPORT_OTLP", "false")
            .env("STETHOS_CAPTURE_NODE_SOCKET", "off")
            .env("STETHOS_LEARNING_MIN_DURATION", "2s");
    };
    let (outside, pod) = (&asking.outside, &asking.pod);
    let mut sidecar = Sidecar::start_by(command, outside, pod, &state, &log, set).unwrap();
    let pid = sidecar.running.0.id();
    let children = Children::of(pid);
    sidecar.wait("learning", LIMIT, |line| {
        line["stethos.phase"] == "learning"
    });
    let learning = of_threads(pid);
    sidecar.watching(1, LIMIT);
    let watching = of_threads(pid);
    let children = children.seen();
    let log = sidecar.end();
    assert!(!log.contains("does not answer"), "{log}");

    // Pipeline, runtime and reader at least.
    assert!(learning.len() > 2, "{learning:?}");
    for thread in learning.iter().chain(&watching) {
        assert_eq!(thread.effective, kept, "{thread:x?}\n{log}");
        assert_eq!(thread.permitted, kept, "{thread:x?}");
        let more = thread.inheritable | thread.ambient;
        assert_eq!((more, thread.no_new_privileges), (0, true), "{thread:x?}");
    }
    let trained = children.iter().filter(|(command, _)| command == "train");
    assert!(trained.count() > 0, "{children:?}");
    // Before it executes something, a child is still the sidecar.
    for (command, child) in children.iter().filter(|(command, _)| command != "run") {
        let all = child.inheritable | child.permitted | child.effective | child.ambient;
        let expected = (0, true);
        assert_eq!((all, child.no_new_privileges), expected, "{command}");
    }
    watching
}

#[test]
fn a_sidecar_of_no_special_user_watches_without_what_it_was_given() {
    if !kernel_or_skip("a_sidecar_of_no_special_user_watches_without_what_it_was_given") {
        return;
    }
    let (folder, program) = reachable();
    let asking = Asking::start("few-rights", folder.path());
    let command = with("CAP_BPF,CAP_PERFMON,CAP_SYS_PTRACE", &program);
    watches(&asking, folder.path(), command, SYS_PTRACE);
    let state = fs::read_dir(folder.path().join("state/bundles")).unwrap();
    assert_eq!(state.count(), 1);
}

#[test]
fn a_sidecar_of_root_watches_with_next_to_nothing() {
    if !kernel_or_skip("a_sidecar_of_root_watches_with_next_to_nothing") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let asking = Asking::start("all-rights", folder.path());
    let kept = DAC_READ_SEARCH | SYS_PTRACE;
    for thread in watches(&asking, folder.path(), stethos(), kept) {
        assert_eq!(thread.bounding, 0, "{thread:x?}");
    }
}

#[test]
fn a_missing_capability_is_named() {
    if !kernel_or_skip("a_missing_capability_is_named") {
        return;
    }
    let (folder, program) = reachable();
    let pod = Cgroup::new("missing-rights").unwrap();
    let target = format!("cgroup={}", pod.path().display());
    let state = folder.path().join("state");
    for (has, misses) in [
        ("", &["CAP_BPF", "CAP_PERFMON"][..]),
        ("CAP_BPF", &["CAP_PERFMON"]),
        ("CAP_PERFMON", &["CAP_BPF"]),
    ] {
        let said = |arguments: &[&str]| {
            let mut command = with(has, &program);
            command
                .args(arguments)
                .env("STETHOS_CAPTURE_NODE_SOCKET", "off")
                .env("STETHOS_EXPORT_OTLP", "false")
                .env("STETHOS_STATE_DIR", &state);
            let output = command.output().unwrap();
            assert!(!output.status.success(), "{has}: {arguments:?}");
            let text = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&text).into_owned()
        };
        let run = said(&["run", "--target", &target]);
        let doctor = said(&["doctor"]);
        let asked = format!("add {}", misses.join(" and "));
        assert!(doctor.contains(&asked), "{has}: {doctor}");
        let needed = format!("capture needs {},", misses.join(" and "));
        assert!(run.contains(&needed), "{has}: {run}");
    }
}
