//! Whom the node broker serves, and how many.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{collections::BTreeSet, fs, path::Path};

use stethos::capture::{
    broker::{
        client::{BrokerError, BrokerNode},
        protocol::Join,
    },
    node::Node as _,
    targets::{Target, cgroup_mount},
};
use stethos_events::{PODS, RECORD_VERSION};
use stethos_tests::{
    broker::{Kept, Site, wait},
    cgroup::{Cgroup, Stepped},
    live::{is, last_accounts, windows},
    skip::kernel_or_skip,
};
use syscalls::Sysno;

const KNOWN_CALLS: &str = env!("CARGO_BIN_EXE_known-calls");

/// The cgroup's path below the mount.
fn below_mount(cgroup: &Cgroup) -> String {
    let mount = cgroup_mount().unwrap();
    let path = cgroup.path().strip_prefix(mount).unwrap();
    Path::new("/").join(path).to_str().unwrap().to_owned()
}

/// Joins for the pod that the socket is of, with the least room.
fn join(socket: &Path) -> Result<BrokerNode, BrokerError> {
    let wish = Join {
        record_version: RECORD_VERSION,
        targets: vec![Target::SelfPod],
        window_ring_bytes: 1,
        event_ring_bytes: 1,
        threads: 1,
        has: None,
    };
    BrokerNode::join(socket, wish).map(|(node, _)| node)
}

#[test]
fn as_many_pods_are_served_as_there_are_places() {
    if !kernel_or_skip("as_many_pods_are_served_as_there_are_places") {
        return;
    }
    let site = Site::new();
    let folder = site.folder.path().join("pods");
    let all = Cgroup::new("broker-many").unwrap();
    for index in 0..PODS {
        let name = format!("pod-{index}");
        fs::create_dir_all(folder.join(&name)).unwrap();
        let cgroup = below_mount(&all.child(&name).unwrap());
        fs::write(folder.join(format!("{name}.cgroup")), cgroup + "\n").unwrap();
    }
    // It starts before this process is a sidecar, which with all that it starts is left out.
    let another = Cgroup::new("broker-another").unwrap();
    let app = another.child("app").unwrap();
    let mut program = Stepped::start(&app, KNOWN_CALLS, &["sequence", "2", "100"]).unwrap();
    let broker = site.broker(&["--socket-dir", folder.to_str().unwrap()], true);
    let mut nodes = Vec::new();
    for index in 0..PODS {
        let socket = folder.join(format!("pod-{index}/node.sock"));
        nodes.push(wait("a socket that serves", || match join(&socket) {
            // Too slow: what it began is given up before it is tried again.
            Err(BrokerError::Refused(reason)) => {
                assert!(reason.contains("served already"), "{reason}");
                None
            }
            joined => joined.ok(),
        }));
        // One that asks nothing for long is taken for gone.
        if index.is_multiple_of(16) {
            nodes
                .iter_mut()
                .for_each(|node| node.poll_threads().unwrap());
        }
    }
    broker.serves(PODS as u32);
    assert_eq!(site.kept().pods, PODS);

    // Another pod, by the socket of all.
    let mut refused = site.refused(&another, "one");
    assert!(!refused.child.wait().unwrap().success());
    let log = refused.log();
    let reason = "no room for another pod: all 128 places are taken";
    assert!(log.contains(reason), "{log}");
    assert_eq!(broker.refused("no room"), 1);

    nodes.swap_remove(40);
    broker.serves(PODS as u32 - 1);
    let sidecar = site.recorder(&another, "two");
    broker.serves(PODS as u32);
    program.step().unwrap();
    program.finish().unwrap();
    let (_, records) = sidecar.recording();
    let calls = windows(&records).flat_map(|window| &window.calls);
    assert_eq!(calls.filter(|call| is(call, Sysno::getppid)).count(), 200);
    drop(nodes);
    broker.serves(0);
    assert_eq!(site.kept(), Kept::default());
}

#[test]
fn only_pods_below_the_cgroups_that_are_named_are_served() {
    if !kernel_or_skip("only_pods_below_the_cgroups_that_are_named_are_served") {
        return;
    }
    let site = Site::new();
    let served = Cgroup::new("broker-below").unwrap();
    let beside = Cgroup::new("broker-below-not").unwrap();
    let config = site.folder.path().join("node.yaml");
    let below = below_mount(&served);
    fs::write(&config, format!("node: {{ below: [{below}] }}\n")).unwrap();
    let broker = site.broker(&["--config", config.to_str().unwrap()], false);
    let pod = served.child("pod").unwrap();
    let sidecar = site.recorder(&pod, "within");
    broker.serves(1);
    let mut refused = site.refused(&beside, "beside");
    assert!(!refused.child.wait().unwrap().success());
    let log = refused.log();
    let reason = "lies below none of the cgroups that this broker serves";
    assert!(log.contains(reason), "{log}");
    assert_eq!(broker.refused("identity"), 1);
    sidecar.recording();
    broker.serves(0);
}

#[test]
fn a_broker_that_allows_any_target_lets_a_sidecar_watch_another_pod() {
    if !kernel_or_skip("a_broker_that_allows_any_target_lets_a_sidecar_watch_another_pod") {
        return;
    }
    let site = Site::new();
    let broker = site.broker(&["--allow-any-target"], false);
    assert!(broker.log().contains("may watch any cgroup"));
    let own = Cgroup::new("broker-any-own").unwrap();
    let other = Cgroup::new("broker-any-other").unwrap();
    let app = other.child("app").unwrap();
    let mut program = Stepped::start(&app, KNOWN_CALLS, &["sequence", "2", "300"]).unwrap();
    let target = format!("cgroup={}", below_mount(&other));
    let command = ["record", "--target", &target, "-o", "rec"];
    let sidecar = site.sidecar(&own, "any", &command, &[]);
    wait("a sidecar that records", || {
        sidecar.log().contains("recording").then_some(())
    });
    broker.serves(1);
    program.step().unwrap();
    let pid = program.child.id();
    program.finish().unwrap();
    let (_, records) = sidecar.recording();
    let pids: BTreeSet<u32> = windows(&records).map(|window| window.pid).collect();
    assert_eq!(pids, BTreeSet::from([pid]));
    let calls = windows(&records).flat_map(|window| &window.calls);
    assert_eq!(calls.filter(|call| is(call, Sysno::getppid)).count(), 600);
    let account = last_accounts(&records)[&0];
    assert_eq!(account.seen, account.delivered, "{account:?}");
    broker.serves(0);
}
