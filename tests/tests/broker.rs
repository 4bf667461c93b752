//! The node broker on the running kernel: sidecars without rights get exactly their own pod's
//! calls, and nobody else's anything.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use stethos::{
    capture::{self, NodeSocket, targets::Target},
    record::{Account, ContainerIndex, Record},
};
use stethos_tests::{
    broker::{Kept, Site, wait},
    cgroup::{Cgroup, Stepped},
    collector::Collector,
    live::{Checked as _, by_thread, finish, is, last_accounts, settings, windows},
    skip::kernel_or_skip,
};
use syscalls::Sysno;

const KNOWN_CALLS: &str = env!("CARGO_BIN_EXE_known-calls");

/// A pod with a program that makes known calls.
struct Pod {
    cgroup: Cgroup,
    program: Stepped,
    threads: usize,
    rounds: usize,
}

impl Pod {
    fn new(name: &str, threads: usize, rounds: usize) -> Self {
        let cgroup = Cgroup::new(name).unwrap();
        let app = cgroup.child("app").unwrap();
        let (of_threads, of_rounds) = (threads.to_string(), rounds.to_string());
        let arguments = ["sequence", &of_threads, &of_rounds];
        let program = Stepped::start(&app, KNOWN_CALLS, &arguments).unwrap();
        Self {
            cgroup,
            program,
            threads,
            rounds,
        }
    }

    fn pid(&self) -> u32 {
        self.program.child.id()
    }
}

/// Checks that `records` hold exactly what the pod's program did in `steps`, and nothing of others.
fn exactly(records: &[Record], pid: u32, threads: usize, rounds: usize, steps: usize) -> Account {
    let pids: BTreeSet<u32> = windows(records).map(|window| window.pid).collect();
    assert_eq!(pids, BTreeSet::from([pid]));
    // One that was first seen while the broker was away is named later.
    let names: BTreeMap<ContainerIndex, &str> = records
        .iter()
        .filter_map(|record| match record {
            Record::Container(info) => Some((info.container, info.name.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(names, BTreeMap::from([(0, "app")]));
    let expected = [
        Sysno::getppid,
        Sysno::getuid,
        Sysno::close,
        Sysno::openat,
        Sysno::connect,
    ];
    let mut exact = 0;
    for calls in by_thread(records).values() {
        let known: Vec<_> = calls
            .iter()
            .skip_while(|call| !is(call, Sysno::getppid))
            .take(rounds * expected.len())
            .collect();
        if known.is_empty() {
            continue;
        }
        assert_eq!(known.len(), rounds * expected.len());
        for (index, call) in known.iter().enumerate() {
            assert!(is(call, expected[index % expected.len()]), "call {index}");
        }
        exact += 1;
    }
    assert_eq!(exact, threads * steps);
    let account = last_accounts(records)[&0];
    assert_eq!(account.seen, account.accounted(), "{account:?}");
    assert_eq!(
        (account.held, account.seen - account.delivered),
        (0, 0),
        "{account:?}"
    );
    account
}

#[test]
fn two_pods_get_exactly_their_own_calls_without_any_right() {
    if !kernel_or_skip("two_pods_get_exactly_their_own_calls_without_any_right") {
        return;
    }
    let site = Site::new();
    let broker = site.broker(&[], true);
    let mut first = Pod::new("broker-first", 4, 1000);
    let mut second = Pod::new("broker-second", 3, 700);
    let sidecars = [
        site.recorder(&first.cgroup, "first"),
        site.recorder(&second.cgroup, "second"),
    ];
    broker.serves(2);
    let kept = site.kept();
    assert_eq!((kept.scope, kept.pods, kept.pinned), (2, 2, 2));
    first.program.step().unwrap();
    second.program.step().unwrap();
    let pods = [&first, &second].map(|pod| (pod.pid(), pod.threads, pod.rounds));
    first.program.finish().unwrap();
    second.program.finish().unwrap();
    for (sidecar, (pid, threads, rounds)) in sidecars.into_iter().zip(pods) {
        let (header, records) = sidecar.recording();
        assert_eq!(header.capture_mode, "broker");
        exactly(&records, pid, threads, rounds, 1);
    }
    broker.serves(0);
    assert_eq!(site.kept(), Kept::default());
}

#[test]
fn a_killed_sidecar_leaves_nothing_and_its_place_to_the_next_one() {
    if !kernel_or_skip("a_killed_sidecar_leaves_nothing_and_its_place_to_the_next_one") {
        return;
    }
    let site = Site::new();
    let broker = site.broker(&[], true);
    let mut pod = Pod::new("broker-kill", 4, 100);
    let sidecar = site.recorder(&pod.cgroup, "one");
    broker.serves(1);
    pod.program.step().unwrap();
    wait("a slot that is taken", || {
        (site.kept().claims > 0).then_some(())
    });

    let mut second = site.refused(&pod.cgroup, "two");
    let status = second.child.wait().unwrap();
    assert!(!status.success());
    assert!(second.log().contains("served already"), "{}", second.log());

    sidecar.signal(libc::SIGKILL);
    broker.serves(0);
    wait("room that is given back", || {
        (site.kept() == Kept::default()).then_some(())
    });

    let third = site.recorder(&pod.cgroup, "three");
    broker.serves(1);
    pod.program.step().unwrap();
    let (pid, threads, rounds) = (pod.pid(), pod.threads, pod.rounds);
    pod.program.finish().unwrap();
    let (_, records) = third.recording();
    exactly(&records, pid, threads, rounds, 1);
}

#[test]
fn capture_goes_on_without_its_broker_and_nothing_is_missed() {
    if !kernel_or_skip("capture_goes_on_without_its_broker_and_nothing_is_missed") {
        return;
    }
    let site = Site::new();
    let broker = site.broker(&[], true);
    let mut pod = Pod::new("broker-restart", 4, 500);
    let sidecar = site.recorder(&pod.cgroup, "one");
    broker.serves(1);
    pod.program.step().unwrap();
    broker.end(libc::SIGKILL);
    pod.program.step().unwrap();
    wait("a sidecar that misses its broker", || {
        sidecar.log().contains("joining it again").then_some(())
    });
    let broker = site.broker(&[], true);
    broker.serves(1);
    pod.program.step().unwrap();
    // An upgrade: it is asked to end.
    broker.end(libc::SIGTERM);
    pod.program.step().unwrap();
    let broker = site.broker(&[], true);
    broker.serves(1);
    assert!(broker.log().contains("taken over"), "{}", broker.log());
    let (pid, threads, rounds) = (pod.pid(), pod.threads, pod.rounds);
    pod.program.finish().unwrap();
    let log = sidecar.log();
    let (_, records) = sidecar.recording();
    assert!(log.contains("nothing was missed"), "{log}");
    exactly(&records, pid, threads, rounds, 4);
    broker.serves(0);
    assert_eq!(site.kept(), Kept::default());
    // A person ends it.
    broker.end(libc::SIGINT);
    assert!(!site.pins().exists(), "pins are left");
}

#[test]
fn without_pins_a_sidecar_goes_on_with_new_maps_and_says_so() {
    if !kernel_or_skip("without_pins_a_sidecar_goes_on_with_new_maps_and_says_so") {
        return;
    }
    let site = Site::new();
    let broker = site.broker(&[], false);
    let mut pod = Pod::new("broker-unpinned", 2, 300);
    let sidecar = site.recorder(&pod.cgroup, "one");
    broker.serves(1);
    pod.program.step().unwrap();
    broker.end(libc::SIGKILL);
    let broker = site.broker(&[], false);
    broker.serves(1);
    wait("a sidecar that uses the new maps", || {
        sidecar
            .log()
            .contains("the maps were replaced")
            .then_some(())
    });
    pod.program.step().unwrap();
    let pid = pod.pid();
    let known = 2 * pod.threads * pod.rounds;
    pod.program.finish().unwrap();
    let (_, records) = sidecar.recording();
    let calls = windows(&records).flat_map(|window| &window.calls);
    assert_eq!(calls.filter(|call| is(call, Sysno::getppid)).count(), known);
    assert!(windows(&records).all(|window| window.pid == pid));
    // The main thread lived through it: its stream says that it was cut.
    assert!(windows(&records).any(|window| window.tid == pid && window.lost_before > 0));
    let account = last_accounts(&records)[&0];
    assert_eq!(account.seen, account.accounted(), "{account:?}");
}

#[test]
fn other_programs_replace_what_was_pinned() {
    if !kernel_or_skip("other_programs_replace_what_was_pinned") {
        return;
    }
    let site = Site::new();
    let broker = site.broker(&[], true);
    let mut pod = Pod::new("broker-other", 2, 100);
    let sidecar = site.recorder(&pod.cgroup, "one");
    broker.serves(1);
    pod.program.step().unwrap();
    broker.end(libc::SIGTERM);
    let before = site.builds();
    // Programs that look at no HTTP are others.
    let config = site.folder.path().join("other.yaml");
    std::fs::write(&config, "trace: { http: false }\n").unwrap();
    let broker = site.broker(&["--config", config.to_str().unwrap()], true);
    broker.serves(1);
    wait("a sidecar that uses the new maps", || {
        sidecar
            .log()
            .contains("the maps were replaced")
            .then_some(())
    });
    let after = site.builds();
    assert!(before.len() == 1 && after.len() == 1 && before != after);
    pod.program.step().unwrap();
    let known = 2 * pod.threads * pod.rounds;
    pod.program.finish().unwrap();
    let (_, records) = sidecar.recording();
    let calls = windows(&records).flat_map(|window| &window.calls);
    assert_eq!(calls.filter(|call| is(call, Sysno::getppid)).count(), known);
    let account = last_accounts(&records)[&0];
    assert_eq!(account.seen, account.accounted(), "{account:?}");
    broker.serves(0);
    // Without a broker that runs.
    broker.end(libc::SIGTERM);
    assert_eq!(site.builds(), after);
    let unloaded = stethos_tests::programs::stethos()
        .args(["node", "--unload"])
        .env("STETHOS_NODE_PINS", site.pins())
        .status();
    assert!(unloaded.unwrap().success());
    assert!(!site.pins().exists());
}

#[test]
fn a_second_broker_leaves_the_firsts_pins_alone() {
    if !kernel_or_skip("a_second_broker_leaves_the_firsts_pins_alone") {
        return;
    }
    let site = Site::new();
    let broker = site.broker(&[], true);
    let builds = site.builds();
    let other = site.folder.path().join("other.sock");
    let mut second = stethos_tests::programs::stethos();
    second.args(["node", "--socket"]).arg(&other);
    let mut unload = stethos_tests::programs::stethos();
    unload.args(["node", "--unload"]);
    for (command, says) in [(&mut second, "another broker"), (&mut unload, "is running")] {
        let output = command
            .env("STETHOS_NODE_PINS", site.pins())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(says), "{said}");
    }
    assert_eq!(site.builds(), builds);
    broker.serves(0);
    broker.end(libc::SIGINT);
    assert!(!site.pins().exists());
}

#[test]
fn a_socket_of_its_own_says_which_pod_it_is() {
    if !kernel_or_skip("a_socket_of_its_own_says_which_pod_it_is") {
        return;
    }
    let site = Site::new();
    let pods = site.folder.path().join("pods");
    std::fs::create_dir_all(pods.join("one")).unwrap();
    let directory = pods.to_str().unwrap();
    let broker = site.broker(&["--socket-dir", directory], false);
    let mut pod = Pod::new("broker-socket", 2, 100);
    let mount = capture::targets::cgroup_mount().unwrap();
    let below = pod.cgroup.path().strip_prefix(&mount).unwrap();
    std::fs::write(pods.join("one.cgroup"), format!("/{}\n", below.display())).unwrap();
    // This process is in no pod: the socket alone says whose it is.
    let node = NodeSocket::At(pods.join("one/node.sock"));
    let settings = settings(4 << 20, 512, 10);
    let live = capture::start_with(&node, &[Target::SelfPod], settings).unwrap();
    broker.serves(1);
    pod.program.step().unwrap();
    let (pid, threads, rounds) = (pod.pid(), pod.threads, pod.rounds);
    pod.program.finish().unwrap();
    exactly(&finish(live), pid, threads, rounds, 1);
    broker.serves(0);

    let shared = NodeSocket::At(site.socket());
    let refused = capture::start_with(&shared, &[Target::SelfPod], settings);
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("lies in no pod"), "{error}");
}

#[test]
fn a_sidecar_without_rights_learns_diagnoses_and_says_how_it_captures() {
    if !kernel_or_skip("a_sidecar_without_rights_learns_diagnoses_and_says_how_it_captures") {
        return;
    }
    let site = Site::new();
    let broker = site.broker(&[], true);
    let mut pod = Pod::new("broker-run", 2, 200);
    let config = site.folder.path().join("stethos.yaml");
    // Without a collector, what leaves is looked at on standard output alone.
    let collector = Collector::start();
    let otlp = collector.is_some();
    let endpoint = collector.as_ref().map(Collector::http_endpoint);
    std::fs::write(
        &config,
        format!(
            "export: {{ otlp: {otlp} }}\n\
             learning: {{ min_duration: 0s, ceiling: 3s, min_calls: 0 }}\n"
        ),
    )
    .unwrap();
    let command = ["run", "--json", "--config", config.to_str().unwrap()];
    let environment = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            endpoint.as_deref().unwrap_or_default(),
        ),
    ];
    let sidecar = site.sidecar(&pod.cgroup, "run", &command, &environment);
    broker.serves(1);
    wait("a container that is watched", || {
        pod.program.step().unwrap();
        sidecar.output().contains("\"watching\"").then_some(())
    });
    // SAFETY: the program that this test started.
    let stopped = unsafe { libc::kill(pod.pid() as libc::pid_t, libc::SIGSTOP) };
    assert_eq!(stopped, 0);
    let diagnosis = wait("a diagnosis", || {
        let output = sidecar.output();
        let line = output
            .lines()
            .find(|line| line.contains("process.frozen"))?;
        Some(serde_json::from_str::<serde_json::Value>(line).unwrap())
    });
    assert_eq!(diagnosis["stethos.capture.mode"], "broker");
    // What only the broker can look up.
    assert_eq!(diagnosis["process.executable.name"], "known-calls");
    if let Some(collector) = &collector {
        collector.wait("diagnosis", Duration::from_secs(30), |received| {
            received.logs.iter().find(|log| {
                log.attribute("error.type") == Some("process.frozen")
                    && log.attribute("stethos.capture.mode") == Some("broker")
            })?;
            Some(())
        });
    }
    sidecar.signal(libc::SIGTERM);
    broker.serves(0);
}
