//! What begins while the node broker is away.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use serde_json::Value;
use stethos_tests::{
    broker::{Sidecar, Site, wait},
    cgroup::{Cgroup, Stepped},
    skip::kernel_or_skip,
};

const KNOWN_CALLS: &str = env!("CARGO_BIN_EXE_known-calls");

fn start(pod: &Cgroup) -> Stepped {
    let app = pod.child("app").unwrap();
    Stepped::start(&app, KNOWN_CALLS, &["sequence", "2", "200"]).unwrap()
}

/// Whose models came into force, from disk or not, in order.
fn watched(sidecar: &Sidecar) -> Vec<(String, bool)> {
    let output = sidecar.output();
    let lines = output
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["stethos.phase"] == "watching")
        .map(|line| {
            let container = line["container"].as_str().unwrap_or_default();
            (container.to_owned(), line["source"] == "state_dir")
        })
        .collect()
}

#[test]
fn a_container_that_starts_while_the_broker_is_away_gets_its_models_when_it_is_back() {
    if !kernel_or_skip("a_container_that_starts_while_the_broker_is_away_gets_its_models") {
        return;
    }
    let site = Site::new();
    let broker = site.broker(&[], true);
    let pod = Cgroup::new("broker-late").unwrap();
    let config = site.folder.path().join("stethos.yaml");
    let settings = "export: { otlp: false }\n\
        learning: { min_duration: 0s, ceiling: 3s, min_calls: 0 }\n";
    std::fs::write(&config, settings).unwrap();
    let mut program = start(&pod);
    let command = ["run", "--json", "--config", config.to_str().unwrap()];
    let sidecar = site.sidecar(&pod, "run", &command, &[]);
    broker.serves(1);
    wait("a container that is watched", || {
        program.step().unwrap();
        (watched(&sidecar) == [("app".to_owned(), false)]).then_some(())
    });
    program.finish().unwrap();
    std::fs::remove_dir(pod.path().join("app")).unwrap();

    broker.end(libc::SIGKILL);
    let mut program = start(&pod);
    wait("a sidecar that misses its broker", || {
        program.step().unwrap();
        sidecar.log().contains("joining it again").then_some(())
    });
    program.step().unwrap();
    let broker = site.broker(&[], true);
    broker.serves(1);
    let known = wait("models of the second container", || {
        let known = watched(&sidecar);
        (known.len() > 1 && known.last()?.0 == "app").then_some(known)
    });
    // Where the broker was away for very long, others were learned meanwhile.
    let learned_meanwhile = known.iter().any(|(container, _)| container != "app");
    assert!(learned_meanwhile || known[1].1, "{known:?}");
    program.finish().unwrap();
    sidecar.signal(libc::SIGTERM);
    broker.serves(0);
}
