//! A state directory that is full, and one in which sidecars that ended have left what they learned.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    time::Duration,
};

use stethos::{
    capture::recording::RecordingReader,
    learning::notebook::Notebook,
    record::{Call, CallWindow, ContainerInfo, Header, ProcessInfo, Record, Tick, WindowEnd},
};
use stethos_tests::{asking::Asking, disk::SmallDisk, sidecar::Sidecar, skip::kernel_or_skip};

const KIB: u64 = 1024;
const SECOND: u64 = 1_000_000_000;

fn header() -> Header {
    Header {
        arch: "x86_64".to_owned(),
        kernel: "6.1.0".to_owned(),
        unix_offset_ns: 0,
        capture_mode: "self-contained".to_owned(),
        target: "pid=1".to_owned(),
    }
}

fn process(pid: u32, at_ns: u64) -> Record {
    Record::Process(ProcessInfo {
        at_ns,
        container: 0,
        pid,
        executable: format!("/bin/program-{pid}"),
        command_line: vec![],
        environment: vec![],
        listens: vec![],
    })
}

/// What two threads do in a second; hardly compressible.
fn work(second: u64) -> Vec<Record> {
    let mut noise = second;
    let mut number = || {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        noise >> 33
    };
    let mut records = Vec::new();
    for sequence in 0..20 {
        let calls = (0..32).map(|_| Call {
            nr: (number() % 300) as u16,
            fd: (number() % 1000) as i32,
            ret: number() as i64,
            enter_ns: second * SECOND + number() % SECOND,
            duration_ns: number() % SECOND,
            no_return: false,
            counted: false,
        });
        records.push(Record::Window(CallWindow {
            container: 0,
            pid: 10,
            tid: 10 + (sequence % 2) as u32,
            sequence: second * 20 + sequence,
            lost_before: 0,
            counted_before: 0,
            weight: 1,
            context: 0,
            calls: calls.collect(),
            end: WindowEnd::Full,
        }));
    }
    records.push(Record::Tick(Tick {
        at_ns: (second + 1) * SECOND,
        accounts: vec![],
        skipped_recursion: 0,
    }));
    records
}

fn read(path: &Path) -> Vec<Record> {
    let file = BufReader::new(File::open(path).unwrap());
    let mut records = Vec::new();
    for record in RecordingReader::new(file, "notebook").unwrap() {
        match record {
            Ok(record) => records.push(record),
            Err(error) => assert!(error.is_truncated(), "{error}"),
        }
    }
    records
}

fn calls(records: &[Record]) -> u64 {
    let calls = records.iter().map(|record| match record {
        Record::Window(window) => window.calls.len() as u64,
        _ => 0,
    });
    calls.sum()
}

#[test]
fn a_notebook_on_a_full_disk_keeps_what_it_has_and_goes_on_when_there_is_room() {
    if !kernel_or_skip("a_notebook_on_a_full_disk_keeps_what_it_has") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path(), 64 * KIB).unwrap();
    let mut notebook = Notebook::new(disk.path(), &header());
    let take = |notebook: &mut Notebook, records: &[Record]| {
        for record in records {
            notebook.take(record, true);
        }
    };
    let container = Record::Container(ContainerInfo {
        at_ns: 1,
        container: 0,
        name: "api".to_owned(),
        id: None,
        cgroup_path: "/api".to_owned(),
        image: None,
        image_digest: None,
    });
    take(&mut notebook, &[container, process(10, 1)]);
    for second in 1..20 {
        take(&mut notebook, &work(second));
    }
    let path = notebook.flush().unwrap().to_owned();
    let before = read(&path);
    assert_eq!(calls(&before), notebook.calls(0));
    assert!(
        (640..19 * 640).contains(&notebook.calls(0)),
        "{}",
        notebook.calls(0)
    );

    take(&mut notebook, &[process(20, 20 * SECOND)]);
    disk.resize(1024 * KIB).unwrap();
    for second in 20..24 {
        take(&mut notebook, &work(second));
    }
    notebook.flush().unwrap();
    let after = read(&path);
    assert!(after.starts_with(&before));
    let later = &after[before.len()..];
    assert_eq!(calls(&after), notebook.calls(0));
    assert!(later.contains(&process(20, 20 * SECOND)));
    let marked = |tid| {
        let mut windows = later.iter().filter_map(|record| match record {
            Record::Window(window) if window.tid == tid => Some(window.lost_before),
            _ => None,
        });
        (windows.next(), windows.all(|lost| lost == 0))
    };
    assert_eq!((marked(10), marked(11)), ((Some(1), true), (Some(1), true)));
    drop(notebook);
    assert!(!path.exists());
}

fn watch(asking: &Asking, state: &Path, log: &Path, duration: &str) -> Sidecar {
    Sidecar::start(&asking.outside, &asking.pod, state, log, |command| {
        command
            .env("STETHOS_EXPORT_OTLP", "false")
            .env("STETHOS_LEARNING_MIN_DURATION", duration);
    })
    .unwrap()
}

/// The files of `folder` whose names begin so.
fn files(folder: &Path, begin: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(begin));
    named.map(|entry| entry.path()).collect()
}

#[test]
fn a_sidecar_learns_once_there_is_room_and_keeps_what_it_learned() {
    if !kernel_or_skip("a_sidecar_learns_once_there_is_room_and_keeps_what_it_learned") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let disk = SmallDisk::mount(&state, 64 * KIB).unwrap();
    let asking = Asking::start("full", folder.path());
    disk.fill().unwrap();
    let log = folder.path().join("stethos.log");
    let mut sidecar = watch(&asking, &state, &log, "3s");
    let limit = Duration::from_secs(60);
    sidecar.logged(&["learning keeps what is recorded", "No space left"], limit);
    sidecar.logged(&["training waits for recorded calls", "client"], limit);

    disk.free().unwrap();
    sidecar.logged(&["recording for learning goes on"], limit);
    sidecar.wait("training", limit, |line| {
        line["stethos.phase"] == "training"
    });
    disk.fill().unwrap();
    // A training runs at the lowest priority: beside other work it takes its time.
    let watching = sidecar.watching(1, Duration::from_secs(300));
    assert_eq!(watching[0]["source"], "trained");
    sidecar.logged(&["in force but not kept yet", "No space left"], limit);
    assert_eq!(files(&state.join("bundles"), ""), [] as [PathBuf; 0]);
    disk.resize(4096 * KIB).unwrap();
    let log = sidecar.end();
    assert!(log.contains("the learned models are kept now"), "{log}");
    assert_eq!(files(&state, "learning-"), [] as [PathBuf; 0]);

    let mut again = watch(&asking, &state, &folder.path().join("again.log"), "3s");
    assert_eq!(again.watching(1, limit)[0]["source"], "state_dir");
    again.end();
}

/// Recordings that learning sidecars write or left.
fn notebooks(state: &Path) -> Vec<PathBuf> {
    let mut found = files(state, "learning-");
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rec"));
    found
}

#[test]
fn what_a_sidecar_learned_until_it_ended_is_gone_on_with() {
    if !kernel_or_skip("what_a_sidecar_learned_until_it_ended_is_gone_on_with") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let asking = Asking::start("killed", folder.path());
    let limit = Duration::from_secs(60);
    let start = |name: &str, duration: &str| {
        let mut sidecar = watch(&asking, &state, &folder.path().join(name), duration);
        sidecar.wait("learning", limit, |line| {
            line["stethos.phase"] == "learning"
        });
        sidecar
    };
    let resumed = |sidecar: &mut Sidecar| {
        let line = sidecar.wait("what went before", limit, |line| {
            line["resumed_calls"].is_u64()
        });
        assert_eq!(line["container"], "client");
        line["resumed_calls"].as_u64().unwrap()
    };
    let mut killed = start("killed.log", "10m");
    killed.wait("enough calls", limit, |line| {
        line["calls"].as_u64().is_some_and(|calls| calls > 500)
    });
    // What was seen until now is on disk a little later.
    std::thread::sleep(Duration::from_secs(6));
    let left = notebooks(&state);
    assert_eq!(left.len(), 1, "{left:?}");
    let living = start("living.log", "10m");
    drop(killed);

    let mut stopped = start("stopped.log", "10m");
    let before = resumed(&mut stopped);
    assert!(before > 500, "{before}");
    stopped.end();
    assert!(left[0].exists());
    assert_eq!(notebooks(&state).len(), 3);

    let mut last = start("last.log", "1s");
    assert!(resumed(&mut last) >= before);
    let training = last.wait("training", limit, |line| {
        line["stethos.phase"] == "training"
    });
    assert!(training["calls"].as_u64().unwrap() > before, "{training}");
    let watching = last.watching(1, Duration::from_secs(300));
    assert_eq!(watching[0]["source"], "trained");
    // That of the one that lives is left.
    assert_eq!(notebooks(&state).len(), 1);
    assert!(!left[0].exists());
    last.end();
    living.end();
}
