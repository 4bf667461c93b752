//! A program that asks a server, in a cgroup that can be watched.
#![allow(clippy::unwrap_used, reason = "a step that fails ends the test")]

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{cgroup::Cgroup, programs::binary, server::Server, sidecar::Running};

/// The program in the container `client` of a pod, its server in the test.
pub struct Asking {
    /// For whoever watches the pod.
    pub outside: Cgroup,
    pub pod: Cgroup,
    pub server: Server,
    _asks: Running,
}

impl Asking {
    pub fn start(name: &str, folder: &Path) -> Self {
        let outside = Cgroup::new(&format!("outside-{name}")).unwrap();
        let pod = Cgroup::new(name).unwrap();
        let server = Server::start("127.0.0.1:0").unwrap();
        let client = pod.child("client").unwrap();
        let asks = asks(&client, &server.address.to_string(), folder, 100);
        Self {
            outside,
            pod,
            server,
            _asks: asks,
        }
    }
}

/// Asks the server at `address`, which may be a redis-server, `rate` times a second.
pub fn asks(cgroup: &Cgroup, address: &str, folder: &Path, rate: u32) -> Running {
    let file = folder.join("prices");
    fs::write(&file, "7 12.50\n").unwrap();
    let mut asks = Command::new(binary("asks"));
    asks.arg(address).arg(&file).arg(rate.to_string());
    let log = folder.join("asks.log");
    Running::start(cgroup, asks.stdout(Stdio::null()), &log).unwrap()
}
