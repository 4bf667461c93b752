//! Once a real server is learned, `stethos run` has what is familiar only counted, and still sees
//! what breaks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::Value;
use stethos_tests::{
    cgroup::Cgroup,
    sidecar::{Running, Sidecar},
    skip::{Need, kernel_or_skip, skip},
};

const LIMIT: Duration = Duration::from_secs(120);

fn capturing(line: &Value) -> bool {
    line["stethos.phase"] == "capturing"
}

fn total(line: &Value, what: &str) -> u64 {
    line[what].as_u64().unwrap()
}

/// Each of the tests keeps a processor busy; side by side they learn for minutes.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reduced(line: &Value) -> bool {
    capturing(line) && line["reduced"] == true
}

/// False, said as skipped, where redis is not installed.
fn redis_or_skip(test: &str) -> bool {
    for program in ["redis-server", "redis-benchmark"] {
        let mut command = Command::new(program);
        if command.arg("--version").output().is_err() {
            skip(Need::Tool, test, &format!("no {program}"));
            return false;
        }
    }
    true
}

/// A redis-server in a cgroup, and its port.
fn redis(cgroup: &Cgroup, folder: &Path) -> (Running, String) {
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let mut redis = Command::new("redis-server");
    redis
        .args(["--port", &port.to_string()])
        .args(["--save", "", "--bind", "127.0.0.1"])
        .current_dir(folder)
        .stdout(Stdio::null());
    let redis = Running::start(cgroup, &mut redis, &folder.join("redis.log")).unwrap();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        std::thread::sleep(Duration::from_millis(50));
    }
    (redis, port.to_string())
}

/// Clients of a redis-server that go on until the test ends.
fn clients(cgroup: &Cgroup, folder: &Path, port: &str, arguments: &[&str]) -> Running {
    let mut load = Command::new("redis-benchmark");
    load.args(["-p", port, "-l", "-q", "-n", "1000000"]);
    load.args(arguments).stdout(Stdio::null());
    Running::start(cgroup, &mut load, &folder.join("load.log")).unwrap()
}

fn sidecar(outside: &Cgroup, pod: &Cgroup, folder: &Path) -> Sidecar {
    let log = folder.join("stethos.log");
    Sidecar::start(outside, pod, &folder.join("state"), &log, |set| {
        set.env("STETHOS_EXPORT_OTLP", "false")
            .env("STETHOS_LEARNING_MIN_DURATION", "5s");
    })
    .unwrap()
}

#[test]
fn a_learned_server_is_counted_and_its_freeze_is_seen() {
    const TEST: &str = "a_learned_server_is_counted_and_its_freeze_is_seen";
    if !kernel_or_skip(TEST) || !redis_or_skip(TEST) {
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let pod = Cgroup::new("attention").unwrap();
    let outside = Cgroup::new("attention-outside").unwrap();
    let (redis, port) = redis(&pod.child("redis").unwrap(), folder.path());
    let gets = ["-c", "4", "-r", "1000", "-t", "get"];
    let load = clients(&outside, folder.path(), &port, &gets);

    let mut sidecar = sidecar(&outside, &pod, folder.path());
    sidecar.watching(1, LIMIT);
    let first = sidecar.wait("reduction", LIMIT, reduced);
    let later = sidecar.wait("more of it", LIMIT, reduced);
    let seen = total(&later, "seen") - total(&first, "seen");
    let shipped = total(&later, "delivered") - total(&first, "delivered");
    // 0.7 % on a quiet machine; what is slow because others run is shipped beside it.
    assert!(shipped * 5 < seen, "{shipped} of {seen} calls were shipped");
    assert!(total(&later, "counted") > 0);

    redis.signal(libc::SIGSTOP);
    let diagnosis = sidecar.confirmed(&["process.frozen"]);
    redis.signal(libc::SIGCONT);
    assert_eq!(diagnosis["container.name"], "redis", "{diagnosis}");
    sidecar.logged(&["every call is shipped"], Duration::from_secs(5));
    drop(load);
    sidecar.end();
}

/// The kernel times what the clients ask; somebody else's scripts keep the server busy later.
#[test]
fn a_server_that_becomes_slow_is_seen_by_clients_whose_calls_are_counted() {
    const TEST: &str = "a_server_that_becomes_slow_is_seen_by_clients_whose_calls_are_counted";
    if !kernel_or_skip(TEST) || !redis_or_skip(TEST) {
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let pod = Cgroup::new("slow").unwrap();
    let outside = Cgroup::new("slow-outside").unwrap();
    let (_redis, port) = redis(&outside, folder.path());
    let gets = ["-c", "4", "-r", "1000", "-t", "get"];
    let app = pod.child("client").unwrap();
    let _app = clients(&app, folder.path(), &port, &gets);

    let mut sidecar = sidecar(&outside, &pod, folder.path());
    sidecar.watching(1, LIMIT);
    sidecar.wait("reduction", LIMIT, reduced);
    let script = "for i = 1, 3000000 do end";
    let _busy = clients(
        &outside,
        folder.path(),
        &port,
        &["-c", "1", "eval", script, "0"],
    );
    let diagnosis = sidecar.confirmed(&["dependency.slow"]);
    assert_eq!(diagnosis["container.name"], "client", "{diagnosis}");
    let culprit = diagnosis["stethos.fault.culprit"].as_str().unwrap();
    assert!(culprit.contains(&port), "{diagnosis}");
    let why = ["every call is shipped", "answers are slow"];
    sidecar.logged(&why, Duration::from_secs(5));
    sidecar.end();
}
