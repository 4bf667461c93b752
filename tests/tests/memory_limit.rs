//! A process that takes more memory than its container may, until the kernel kills it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::os::unix::process::ExitStatusExt as _;

use stethos::{
    capture::{self, NodeSocket, targets::Target},
    config::PluginsConfig,
    diagnosis::observation::DiagnosisConfig,
    export,
    models::Models,
    pipeline::Pipeline,
    record::{Header, LifecycleEvent, Record},
};
use stethos_tests::{
    cgroup::{Cgroup, Stepped},
    live::{finish, settings},
    memory::MemoryLimit,
    skip::{Need, kernel_or_skip, skip},
};

const KNOWN_CALLS: &str = env!("CARGO_BIN_EXE_known-calls");
const TEST: &str = "a_kill_for_lack_of_memory_is_seen_and_diagnosed";
const LIMIT: u64 = 32 << 20;

/// Classes that the records' diagnoses give, with what they are about.
fn diagnosed(header: Header, records: &[Record]) -> Vec<(String, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let models = Models::for_replay(&PluginsConfig::default(), None).unwrap();
        let diagnosis = DiagnosisConfig::default();
        let mut pipeline = Pipeline::new(header, models, None, Some(diagnosis));
        let published = pipeline.on_batch(records).await.published;
        let lines = published.iter().filter_map(export::to_json);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        lines
            .map(|line| (text(&line["error.type"]), text(&line["body"])))
            .collect()
    })
}

#[test]
fn a_kill_for_lack_of_memory_is_seen_and_diagnosed() {
    if !kernel_or_skip(TEST) {
        return;
    }
    let pod = Cgroup::new("memory").unwrap();
    let Some(limit) = MemoryLimit::new("memory", &pod, LIMIT).unwrap() else {
        skip(Need::Kernel, TEST, "no memory controller");
        return;
    };
    let app = pod.child("greedy").unwrap();
    let twice = (2 * LIMIT).to_string();
    let program = Stepped::start(&app, KNOWN_CALLS, &["grow", "1", &twice]).unwrap();
    let pid = program.child.id();
    limit.take(pid).unwrap();
    let target = Target::Cgroup(pod.path().to_owned());
    let settings = settings(1 << 20, 512, 10);
    let live = capture::start_with(&NodeSocket::Own, &[target], settings).unwrap();
    let header = live.header.clone();
    let mut program = program.begin().unwrap();
    let ended = program.child.wait().unwrap();
    // What comes of it is told within a second.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let records = finish(live);

    assert_eq!(ended.signal(), Some(libc::SIGKILL), "{ended}");
    let events = |wanted: LifecycleEvent| {
        let found = records.iter().filter(|record| {
            matches!(record, Record::Lifecycle(seen) if seen.event == wanted && seen.pid == pid)
        });
        found.count()
    };
    // The kernel may choose a victim again while it dies.
    assert!(events(LifecycleEvent::OomKill) >= 1);
    let killed = LifecycleEvent::Exit {
        code: libc::SIGKILL,
        group_dead: true,
    };
    assert_eq!(events(killed), 1);
    let diagnosed = diagnosed(header, &records);
    assert!(
        diagnosed
            .iter()
            .any(|(class, body)| class == "memory.limit" && body.contains("greedy")),
        "{diagnosed:?}"
    );
}
