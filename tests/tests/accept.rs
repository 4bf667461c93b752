//! What an operator says to a running sidecar.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use serde_json::Value;
use stethos_tests::{
    asking::Asking,
    cgroup::Cgroup,
    programs::stethos,
    server::Server,
    sidecar::{Running, Sidecar},
    skip::kernel_or_skip,
};

const LIMIT: Duration = Duration::from_secs(60);

fn watch(asking: &Asking, state: &Path, log: &Path) -> Sidecar {
    Sidecar::start(&asking.outside, &asking.pod, state, log, |command| {
        command
            .env("STETHOS_EXPORT_OTLP", "false")
            .env("STETHOS_LEARNING_MIN_DURATION", "5s");
    })
    .unwrap()
}

/// What the command line says: on standard output where it succeeds, else on standard error.
fn say(state: &Path, words: &[&str]) -> Result<String, String> {
    let mut command = stethos();
    let said = command.args(words).arg("--state-dir").arg(state).output();
    let said = said.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match said.status.code() {
        Some(0) => Ok(text(&said.stdout)),
        code => {
            assert_eq!(code, Some(1), "{said:?}");
            Err(text(&said.stderr))
        }
    }
}

fn id(diagnosis: &Value) -> &str {
    diagnosis["stethos.incident.id"].as_str().unwrap()
}

/// A program that nobody has seen, in the container that is watched.
struct Stranger {
    container: Cgroup,
    program: PathBuf,
    log: PathBuf,
}

impl Stranger {
    fn new(asking: &Asking, folder: &Path) -> Self {
        let program = folder.join("stranger");
        fs::copy("/bin/sleep", &program).unwrap();
        Self {
            container: asking.pod.child("client").unwrap(),
            program,
            log: folder.join("stranger.log"),
        }
    }

    /// Runs it until what this gives is dropped.
    fn run(&self) -> Running {
        let mut command = std::process::Command::new(&self.program);
        command.arg("600").stdout(Stdio::null());
        Running::start(&self.container, &mut command, &self.log).unwrap()
    }
}

#[test]
fn what_is_accepted_stays_silent_and_nothing_else_does() {
    if !kernel_or_skip("what_is_accepted_stays_silent_and_nothing_else_does") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let mut asking = Asking::start("accept", folder.path());
    let stranger = Stranger::new(&asking, folder.path());
    let address = asking.server.address.to_string();
    let nobody = say(&state, &["accept", "7f3a"]).unwrap_err();
    let socket = state.join("control.sock").display().to_string();
    assert!(nobody.contains(&socket), "{nobody}");

    let mut sidecar = watch(&asking, &state, &folder.path().join("stethos.log"));
    sidecar.watching(1, LIMIT);
    std::thread::sleep(Duration::from_secs(3));
    asking.server.stop();
    let refused = sidecar.confirmed(&["dependency.refused"]);
    let unknown = say(&state, &["accept", "xyz"]).unwrap_err();
    assert!(
        unknown.contains("xyz") && unknown.contains(id(&refused)),
        "{unknown}"
    );
    let accepted = say(&state, &["accept", &id(&refused)[..5]]).unwrap();
    assert!(accepted.contains(id(&refused)), "{accepted}");
    let closed = sidecar.resolved();
    assert_eq!(id(&closed), id(&refused));
    let body = closed["body"].as_str().unwrap();
    assert!(body.starts_with("Accepted as normal after"), "{body}");
    // It goes on, for longer than a change of behaviour takes to be found, and comes again.
    sidecar.silent(Duration::from_secs(20));
    asking.server = Server::start(&address).unwrap();
    sidecar.silent(Duration::from_secs(5));
    asking.server.stop();
    sidecar.silent(Duration::from_secs(8));
    asking.server = Server::start(&address).unwrap();

    let running = stranger.run();
    let unexpected = sidecar.confirmed(&["exec.unexpected"]);
    let muted = say(&state, &["mute", id(&unexpected), "--for", "1h"]).unwrap();
    assert!(muted.contains("1 h"), "{muted}");
    drop(running);
    let running = stranger.run();
    sidecar.silent(Duration::from_secs(15));
    drop(running);
    sidecar.end();
    let gone = say(&state, &["mute", "7f3a", "--for", "1h"]).unwrap_err();
    assert!(gone.contains(&socket), "{gone}");

    // What was accepted is known to the next run; what was muted is not.
    let mut again = watch(&asking, &state, &folder.path().join("again.log"));
    assert_eq!(again.watching(1, LIMIT)[0]["source"], "state_dir");
    again.silent(Duration::from_secs(5));
    asking.server.stop();
    again.silent(Duration::from_secs(10));
    let _running = stranger.run();
    again.confirmed(&["exec.unexpected"]);
    again.end();
}
