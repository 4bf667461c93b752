//! Faults that raise no error, for hours: they stay faults.

use std::{path::Path, time::Duration};

use stethos_patterns::{Role, baseline::BaselineBuilder, descriptors::Exchange, names};

use super::*;
use crate::{
    diagnosis::report::{FaultClass, IncidentState},
    learning::{
        Settings, Workload,
        progress::Bounds,
        store::{Key, Store},
    },
    record::{Call, CallWindow, Detail, ProcessInfo, Subject, WindowEnd},
};

const SECOND: Nanos = 1_000_000_000;
const MS: Nanos = 1_000_000;
const PEER: &str = "10.0.0.9:80";
const EXECUTABLE: &str = "/bin/api";

/// Learned from a container that runs one program and gets its answers in a millisecond.
fn normal() -> Bundle {
    let mut baseline = BaselineBuilder::new();
    baseline.observed_time(60 * SECOND);
    baseline.executable(EXECUTABLE);
    baseline.connect(PEER, 0);
    for n in 0..1000 {
        baseline.exchange(&Exchange {
            pid: 10,
            tid: 10,
            fd: 7,
            role: Role::Client,
            peer: Some(PEER.to_owned()),
            sent_ns: n * SECOND,
            received_ns: n * SECOND + MS,
            failed: None,
        });
    }
    Bundle {
        baseline: baseline.finish(),
        ..bundle(1)
    }
}

fn learning(state_dir: &Path) -> Learning {
    let settings = Settings {
        bounds: Bounds {
            unseen: 0.01,
            min_duration: Duration::from_secs(20),
            min_calls: 1,
            ceiling: Duration::from_secs(600),
        },
        state_dir: state_dir.to_owned(),
        time_limit: Duration::from_secs(1),
        nice: 0,
        memory: 1 << 30,
        tenant: "default".to_owned(),
        replica: state_dir.display().to_string(),
        workload: Workload::Named("shop.api".to_owned()),
    };
    Learning::new(settings, &header()).unwrap()
}

fn call(name: &str, fd: i32, ret: i64, enter_ns: Nanos, duration_ns: Nanos) -> Call {
    Call {
        nr: names::table("x86_64").number(name).unwrap(),
        fd,
        ret,
        enter_ns,
        duration_ns,
        no_return: false,
        counted: false,
    }
}

fn window(pid: u32, sequence: u64, calls: Vec<Call>) -> Record {
    Record::Window(CallWindow {
        container: 0,
        pid,
        tid: pid,
        sequence,
        lost_before: 0,
        counted_before: 0,
        weight: 1,
        context: 0,
        calls,
        end: WindowEnd::Wait,
    })
}

fn begins() -> Vec<Record> {
    let connect = call("connect", 7, 0, SECOND, 0);
    vec![
        Record::Container(ContainerInfo {
            at_ns: SECOND,
            container: 0,
            name: "api".to_owned(),
            id: None,
            cgroup_path: "/api".to_owned(),
            image: None,
            image_digest: None,
        }),
        Record::Process(ProcessInfo {
            at_ns: SECOND,
            container: 0,
            pid: 10,
            executable: EXECUTABLE.to_owned(),
            command_line: vec![],
            environment: vec![],
            listens: vec![],
        }),
        Record::Detail(Detail {
            at_ns: SECOND,
            container: 0,
            pid: 10,
            tid: 10,
            nr: connect.nr,
            fd: 7,
            ret: 0,
            subject: Subject::Peer(PEER.to_owned()),
        }),
        window(10, 0, vec![connect]),
    ]
}

/// Ten answers that take `waits_ns` each.
fn asks(second: u64, waits_ns: Nanos) -> impl Iterator<Item = Record> {
    (0..10).map(move |n| {
        let at_ns = second * SECOND + n * SECOND / 10;
        let calls = vec![
            call("sendto", 7, 30, at_ns, 0),
            call("recvfrom", 7, 90, at_ns + 1000, waits_ns),
        ];
        window(10, second * 10 + n, calls)
    })
}

/// A program that computes: no call of it fails.
fn mines(second: u64) -> Vec<Record> {
    let started = (second == 30).then(|| {
        Record::Lifecycle(crate::record::Lifecycle {
            at_ns: second * SECOND,
            container: 0,
            pid: 99,
            tid: 99,
            event: LifecycleEvent::Exec {
                executable: "miner".to_owned(),
            },
        })
    });
    let calls = (0..64).map(|n| call("sched_yield", -1, 0, second * SECOND + n * MS, 0));
    let works = (second >= 30).then(|| window(99, second, calls.collect()));
    started.into_iter().chain(works).collect()
}

/// Three hours of `fault` after the container has come up; gives what was said of it.
async fn three_hours(fault: impl Fn(u64) -> Vec<Record>) -> Vec<(FaultClass, IncidentState)> {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let key = Key::new("api", "x86_64", EXECUTABLE, &[]);
    let learned = normal().write().unwrap();
    store.save(&key, &learned).unwrap();
    let models = Models::for_replay(&PluginsConfig::default(), None).unwrap();
    let learning = learning(folder.path());
    let diagnosis = Some(DiagnosisConfig::default());
    let mut pipeline = Pipeline::new(header(), models, Some(learning), diagnosis);
    let mut said = Vec::new();
    let mut changes = Vec::new();
    for second in 1..3 * 3600 {
        let mut batch = if second == 1 { begins() } else { fault(second) };
        batch.push(Record::Tick(Tick {
            at_ns: (second + 1) * SECOND,
            accounts: vec![],
            skipped_recursion: 0,
        }));
        let outcome = pipeline.on_batch(&batch).await;
        changes.extend(outcome.changes);
        said.extend(
            outcome
                .published
                .iter()
                .filter_map(|one| match &one.report {
                    Report::Diagnosis(diagnosis) => Some((diagnosis.class, diagnosis.state)),
                    Report::Affected(_) => None,
                }),
        );
    }
    assert!(
        matches!(
            changes[..],
            [Change::Watching {
                source: Source::StateDirectory,
                ..
            }]
        ),
        "{changes:?}"
    );
    let engine = pipeline.engine.as_ref().unwrap();
    assert_eq!(engine.open_incidents().count(), 1, "{said:?}");
    drop(pipeline);
    assert_eq!(std::fs::read(store.path(&key)).unwrap(), learned);
    said
}

#[tokio::test]
async fn a_slowdown_is_never_learned() {
    let said = three_hours(|second| {
        let waits = if second < 60 { MS } else { 80 * MS };
        asks(second, waits).collect()
    });
    let said = said.await;
    let slow = |state| (FaultClass::DependencySlow, state);
    assert!(said.contains(&slow(IncidentState::Confirmed)), "{said:?}");
    assert!(!said.contains(&slow(IncidentState::Resolved)), "{said:?}");
}

#[tokio::test]
async fn a_miner_is_never_learned() {
    let said = three_hours(|second| asks(second, MS).chain(mines(second)).collect());
    let expected = (FaultClass::ExecUnexpected, IncidentState::Confirmed);
    assert_eq!(said.await, [expected]);
}
