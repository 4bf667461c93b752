//! Once a real server is learned, `stethos run` has what is familiar only counted, and still sees
//! what breaks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    net::TcpListener,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use stethos_tests::{
    cgroup::Cgroup,
    sidecar::{Running, Sidecar},
    skip::{Need, kernel_or_skip, skip},
};

const TEST: &str = "a_learned_server_is_counted_and_its_freeze_is_seen";

fn capturing(line: &Value) -> bool {
    line["stethos.phase"] == "capturing"
}

fn total(line: &Value, what: &str) -> u64 {
    line[what].as_u64().unwrap()
}

#[test]
fn a_learned_server_is_counted_and_its_freeze_is_seen() {
    if !kernel_or_skip(TEST) {
        return;
    }
    for program in ["redis-server", "redis-benchmark"] {
        let mut command = Command::new(program);
        if command.arg("--version").output().is_err() {
            skip(Need::Tool, TEST, &format!("no {program}"));
            return;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let pod = Cgroup::new("attention").unwrap();
    let outside = Cgroup::new("attention-outside").unwrap();
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port().to_string()
    };

    let mut redis = Command::new("redis-server");
    redis
        .args(["--port", &port, "--save", "", "--bind", "127.0.0.1"])
        .current_dir(folder.path())
        .stdout(Stdio::null());
    let app = pod.child("redis").unwrap();
    let redis = Running::start(&app, &mut redis, &folder.path().join("redis.log")).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let mut load = Command::new("redis-benchmark");
    load.args([
        "-p", &port, "-c", "4", "-r", "1000", "-t", "get", "-l", "-q", "-n", "1000000",
    ])
    .stdout(Stdio::null());
    let load = Running::start(&outside, &mut load, &folder.path().join("load.log")).unwrap();

    let log = folder.path().join("stethos.log");
    let mut sidecar = Sidecar::start(&outside, &pod, &folder.path().join("state"), &log, |set| {
        set.env("STETHOS_EXPORT_OTLP", "false")
            .env("STETHOS_LEARNING_MIN_DURATION", "5s");
    })
    .unwrap();
    sidecar.watching(1, Duration::from_secs(120));
    let limit = Duration::from_secs(120);
    let reduced = |line: &Value| capturing(line) && line["reduced"] == true;
    let first = sidecar.wait("reduction", limit, reduced);
    let later = sidecar.wait("more of it", limit, reduced);
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
