//! Once a real server is learned, `stethos run` has what is familiar only counted, and still sees
//! what breaks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use stethos_tests::{
    asking::asks,
    cgroup::Cgroup,
    sidecar::{Running, Sidecar},
    skip::{Need, kernel_or_skip, skip},
};

/// While the machine is slower than it was when the server was learned, everything is shipped.
const LIMIT: Duration = Duration::from_secs(300);
/// Questions a second: some thousand calls, which are worth counting.
const RATE: u32 = 400;
/// Keeps a redis-server busy for some 20 ms.
const SCRIPT: &str = "for i = 1, 3000000 do end";

fn capturing(line: &Value) -> bool {
    line["stethos.phase"] == "capturing"
}

fn total(line: &Value, what: &str) -> u64 {
    line[what].as_u64().unwrap()
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

/// A redis-server in a cgroup, and its address.
fn redis(cgroup: &Cgroup, folder: &Path) -> (Running, SocketAddr) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut redis = Command::new("redis-server");
    redis
        .args(["--port", &address.port().to_string()])
        .args(["--save", "", "--bind", "127.0.0.1"])
        .current_dir(folder)
        .stdout(Stdio::null());
    let redis = Running::start(cgroup, &mut redis, &folder.join("redis.log")).unwrap();
    while TcpStream::connect(address).is_err() {
        std::thread::sleep(Duration::from_millis(50));
    }
    (redis, address)
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
    let folder = tempfile::tempdir().unwrap();
    let pod = Cgroup::new("attention").unwrap();
    let outside = Cgroup::new("attention-outside").unwrap();
    let (redis, address) = redis(&pod.child("redis").unwrap(), folder.path());
    let _load = asks(&outside, &address.to_string(), folder.path(), RATE);

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
    sidecar.end();
}

/// The kernel times what the clients ask; somebody else's scripts keep the server busy later.
#[test]
fn a_server_that_becomes_slow_is_seen_by_clients_whose_calls_are_counted() {
    const TEST: &str = "a_server_that_becomes_slow_is_seen_by_clients_whose_calls_are_counted";
    if !kernel_or_skip(TEST) || !redis_or_skip(TEST) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pod = Cgroup::new("slow").unwrap();
    let outside = Cgroup::new("slow-outside").unwrap();
    let (_redis, address) = redis(&outside, folder.path());
    let client = pod.child("client").unwrap();
    let _asks = asks(&client, &address.to_string(), folder.path(), RATE);

    let mut sidecar = sidecar(&outside, &pod, folder.path());
    sidecar.watching(1, LIMIT);
    sidecar.wait("reduction", LIMIT, reduced);
    let mut scripts = Command::new("redis-benchmark");
    scripts
        .args(["-p", &address.port().to_string()])
        .args(["-c", "1", "-l", "-q", "eval", SCRIPT, "0"])
        .stdout(Stdio::null());
    let log = folder.path().join("scripts.log");
    let _scripts = Running::start(&outside, &mut scripts, &log).unwrap();
    let diagnosis = sidecar.confirmed(&["dependency.slow"]);
    assert_eq!(diagnosis["container.name"], "client", "{diagnosis}");
    let culprit = diagnosis["stethos.fault.culprit"].as_str().unwrap();
    assert!(culprit.contains(&address.to_string()), "{diagnosis}");
    let why = ["every call is shipped", "answers are slow"];
    sidecar.logged(&why, Duration::from_secs(5));
    sidecar.end();
}
