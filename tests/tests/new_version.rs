//! A new version of an image, learned by two real sidecars that share a store: it becomes normal once both
//! have seen it healthy. What the containers are is read from a container runtime's files.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};
use stethos_tests::{
    asking::asks,
    broker::Site,
    cgroup::Cgroup,
    server::Server,
    sidecar::{Running, Sidecar},
    skip::kernel_or_skip,
};

/// A training runs at the lowest priority: beside other work it takes its time.
const LIMIT: Duration = Duration::from_secs(300);

/// The folders of one test, the server that all replicas ask, and their broker's socket.
struct Node {
    site: Site,
    root: PathBuf,
    server: Server,
    outside: Cgroup,
}

/// A pod of the workload with the container `client`, and its sidecar.
struct Replica {
    _pod: Cgroup,
    _client: Running,
    sidecar: Sidecar,
}

impl Node {
    /// The files of containerd that say what a container is.
    fn describe(&self, id: &str, version: u8) {
        let task = "run/containerd/io.containerd.runtime.v2.task/k8s.io";
        let folder = self.root.join(task).join(id);
        fs::create_dir_all(&folder).unwrap();
        let digest = format!("{version:02x}").repeat(32);
        let config = json!({ "annotations": {
            "io.kubernetes.cri.container-name": "client",
            "io.kubernetes.cri.image-name": format!("shop/client@sha256:{digest}"),
        }});
        fs::write(folder.join("config.json"), config.to_string()).unwrap();
    }

    /// `number` is unique among the replicas of all versions.
    fn replica(&self, number: u8, version: u8) -> Replica {
        let id = format!("{number:02x}").repeat(32);
        self.describe(&id, version);
        let pod = Cgroup::new(&format!("version-{number}")).unwrap();
        let container = pod.child(&format!("cri-containerd-{id}.scope")).unwrap();
        let folder = self.site.folder.path();
        let address = self.server.address.to_string();
        let client = asks(&container, &address, folder, 100);
        let state = folder.join(format!("state-{number}"));
        let log = folder.join(format!("sidecar-{number}.log"));
        let sidecar = Sidecar::start(&self.outside, &pod, &state, &log, |command| {
            command
                .env("STETHOS_EXPORT_OTLP", "false")
                .env("STETHOS_CAPTURE_NODE_SOCKET", self.site.socket())
                .env("STETHOS_LEARNING_MIN_DURATION", "3s")
                .env("STETHOS_LEARNING_STORE_URL", url(&folder.join("store")))
                .env("STETHOS_LEARNING_STORE_WORKLOAD", "shop")
                .env("K8S_POD_UID", format!("pod-{number}"));
        });
        Replica {
            _pod: pod,
            _client: client,
            sidecar: sidecar.unwrap(),
        }
    }
}

fn url(store: &Path) -> String {
    fs::create_dir_all(store).unwrap();
    format!("file://{}", store.display())
}

impl Replica {
    fn phase(&mut self, phase: &str) -> Value {
        self.sidecar
            .wait(phase, LIMIT, |line| line["stethos.phase"] == phase)
    }

    fn model(&mut self, source: &str) -> Value {
        let line = self.phase("watching");
        assert_eq!(line["source"], source, "{line}");
        line["stethos.model.id"].clone()
    }

    /// It learns a version of its image that is new to all, and has the older one's models until then.
    fn learns_a_new_version(&mut self, older: &Value) {
        let learning = self.sidecar.wait("older models", LIMIT, |line| {
            line["stethos.phase"] == "learning" && line["model"] == "older"
        });
        assert_eq!(&learning["stethos.model.id"], older);
        self.phase("proving");
    }
}

#[test]
fn a_new_version_is_normal_once_two_replicas_have_seen_it_healthy() {
    if !kernel_or_skip("a_new_version_is_normal_once_two_replicas_have_seen_it_healthy") {
        return;
    }
    let site = Site::new();
    let root = site.folder.path().join("node");
    let settings = site.folder.path().join("node.yaml");
    fs::write(&settings, format!("node: {{ root: {} }}\n", root.display())).unwrap();
    let settings = settings.to_str().unwrap().to_owned();
    let _broker = site.broker(&["--allow-any-target", "--config", &settings], false);
    let node = Node {
        root,
        server: Server::start("127.0.0.1:0").unwrap(),
        outside: Cgroup::new("version-outside").unwrap(),
        site,
    };
    let mut first = node.replica(1, 1);
    let older = first.model("trained");
    let stored = &["learned models are there for other replicas"];
    first.sidecar.logged(stored, LIMIT);
    first.sidecar.end();

    let mut second = node.replica(2, 2);
    second.learns_a_new_version(&older);
    // Alone it does not make it normal.
    let mut third = node.replica(3, 2);
    third.learns_a_new_version(&older);
    let newer = third.model("store");
    assert_ne!(newer, older);
    assert_eq!(second.model("store"), newer);
    third.sidecar.end();
    second.sidecar.end();

    // It is known from now on.
    let mut last = node.replica(4, 2);
    assert_eq!(last.model("store"), newer);
    last.sidecar.end();
}
