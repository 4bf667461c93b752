//! A collector that is away while something breaks, and a sidecar that is killed meanwhile: what was
//! diagnosed arrives all the same.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use stethos_tests::{
    cgroup::Cgroup,
    collector::Collector,
    shop::free_port,
    sidecar::{Running, Sidecar},
    skip::{Need, kernel_or_skip, skip},
};

const TEST: &str = "what_was_diagnosed_outlives_the_collectors_absence_and_the_sidecar";

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).map(|entries| {
        let names = entries.flatten().map(|entry| entry.file_name());
        names
            .filter(|name| name.to_string_lossy().ends_with(".otlp"))
            .count()
    });
    entries.unwrap_or_default()
}

#[test]
fn what_was_diagnosed_outlives_the_collectors_absence_and_the_sidecar() {
    if !kernel_or_skip(TEST) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (state, log) = (
        folder.path().join("state"),
        folder.path().join("stethos.log"),
    );
    let outside = Cgroup::new("outside").unwrap();
    let pod = Cgroup::new("outage").unwrap();
    let start = |endpoint: String| {
        Sidecar::start(&outside, &pod, &state, &log, |command| {
            command
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
                .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf");
        })
        .unwrap()
    };
    let mut sidecar = start(format!("http://127.0.0.1:{}", free_port().unwrap()));
    sidecar.logged(&["capturing"], Duration::from_secs(20));
    // No learning is needed to know that a full disk is none of an application's normal work.
    let mut writer = Command::new("sh");
    writer.args(["-c", "while :; do echo x >/dev/full; sleep 0.1; done"]);
    let writer = Running::start(&pod, &mut writer, &folder.path().join("writer.log")).unwrap();
    let confirmed = sidecar.confirmed(&["disk.full"]);
    let incident = confirmed["stethos.incident.id"]
        .as_str()
        .unwrap()
        .to_owned();
    let (logs, spans) = (state.join("outbox/logs"), state.join("outbox/traces"));
    let until = Instant::now() + Duration::from_secs(10);
    while files(&logs) == 0 || files(&spans) == 0 {
        assert!(Instant::now() < until, "nothing waits: {}", sidecar.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    sidecar.running.signal(libc::SIGKILL);
    drop((sidecar, writer));

    let Some(mut collector) = Collector::start() else {
        skip(Need::Tool, TEST, "no collector: STETHOS_ROTEL is not set");
        return;
    };
    let mut again = start(collector.http_endpoint());
    let record = collector.wait("the diagnosis", Duration::from_secs(30), |received| {
        let mut records = received.logs.iter();
        let of_incident = |key: &str| key == incident;
        records
            .find(|record| {
                record.severity == "ERROR"
                    && record
                        .attribute("stethos.incident.id")
                        .is_some_and(of_incident)
            })
            .cloned()
    });
    assert_eq!(record.attribute("error.type"), Some("disk.full"));
    collector.wait("its span", Duration::from_secs(30), |received| {
        let name = "stethos.fault.confirmed disk.full";
        received
            .spans
            .iter()
            .any(|span| span.name == name)
            .then_some(())
    });
    again.logged(&["capturing"], Duration::from_secs(20));
    let until = Instant::now() + Duration::from_secs(10);
    while files(&logs) + files(&spans) > 0 {
        assert!(Instant::now() < until, "what was delivered still waits");
        std::thread::sleep(Duration::from_millis(50));
    }
    again.end();
    collector.end();
}
