//! A running sidecar: the lines that it prints, and its own log.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{cgroup::Cgroup, programs::stethos};

/// A child process that ends with the test.
pub struct Running(pub Child);

impl Running {
    /// Starts `command` in `cgroup`; its standard error goes to `log`.
    pub fn start(cgroup: &Cgroup, command: &mut Command, log: &Path) -> io::Result<Self> {
        command.stdin(Stdio::null()).stderr(File::create(log)?);
        Ok(Self(cgroup.spawn(command)?))
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: a process that this test started and has not waited for.
        assert_eq!(unsafe { libc::kill(self.0.id() as libc::pid_t, signal) }, 0);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `stethos run --json`. What it waits for in vain ends the test.
pub struct Sidecar {
    pub running: Running,
    lines: Receiver<Value>,
    seen: Vec<Value>,
    log: PathBuf,
}

impl Sidecar {
    /// Watches `pod` from the cgroup `outside`, with more settings made by `set`.
    pub fn start(
        outside: &Cgroup,
        pod: &Cgroup,
        state: &Path,
        log: &Path,
        set: impl FnOnce(&mut Command),
    ) -> io::Result<Self> {
        Self::start_by(stethos(), outside, pod, state, log, set)
    }

    /// The same with a command that becomes `stethos`.
    pub fn start_by(
        mut command: Command,
        outside: &Cgroup,
        pod: &Cgroup,
        state: &Path,
        log: &Path,
        set: impl FnOnce(&mut Command),
    ) -> io::Result<Self> {
        command
            .args(["run", "--json", "--target"])
            .arg(format!("cgroup={}", pod.path().display()))
            .arg("--state-dir")
            .arg(state)
            .env("STETHOS_LEARNING_UNSEEN_BOUND", "0.01")
            .stdout(Stdio::piped());
        set(&mut command);
        let mut running = Running::start(outside, &mut command, log)?;
        let output = running.0.stdout.take();
        let output = BufReader::new(output.ok_or(io::ErrorKind::BrokenPipe)?);
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if let Ok(value) = serde_json::from_str(&line) {
                    let _ = sender.send(value);
                }
            }
        });
        Ok(Sidecar {
            running,
            lines,
            seen: Vec::new(),
            log: log.to_owned(),
        })
    }

    /// Waits for a line that `wanted` likes.
    ///
    /// # Panics
    /// When there is none within `limit`.
    pub fn wait(&mut self, what: &str, limit: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).ok();
            let (seen, log) = (&self.seen, &self.log);
            assert!(
                line.is_some(),
                "no {what} within {limit:?}; seen: {seen:#?}\n{}",
                text(log)
            );
            let line = line.unwrap_or_default();
            self.seen.push(line.clone());
            if wanted(&line) {
                return line;
            }
        }
    }

    /// All that it has said so far.
    pub fn said(&mut self) -> &[Value] {
        self.seen.extend(self.lines.try_iter());
        &self.seen
    }

    /// Waits until `containers` are watched; gives what was said of each.
    ///
    /// # Panics
    /// When one is not within `limit` after the one before.
    pub fn watching(&mut self, containers: usize, limit: Duration) -> Vec<Value> {
        let mut watching: Vec<Value> = Vec::new();
        while watching.len() < containers {
            let line = self.wait("watching", limit, |line| {
                line["stethos.phase"] == "watching"
            });
            watching.retain(|known| known["container"] != line["container"]);
            watching.push(line);
        }
        watching
    }

    /// # Panics
    /// When no such class is confirmed within half a minute.
    pub fn confirmed(&mut self, classes: &[&str]) -> Value {
        let what = format!("{classes:?}");
        self.wait(&what, Duration::from_secs(30), |line| {
            line["stethos.incident.state"] == "confirmed"
                && classes.iter().any(|class| line["error.type"] == *class)
        })
    }

    /// # Panics
    /// When no incident ends within a minute.
    pub fn resolved(&mut self) -> Value {
        self.wait("end", Duration::from_secs(60), |line| {
            line["stethos.incident.state"] == "resolved"
        })
    }

    /// # Panics
    /// When anything is diagnosed within `time`.
    pub fn silent(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                break;
            };
            let diagnosed = !line["stethos.incident.state"].is_null();
            assert!(!diagnosed, "{line:#}\n{}", text(&self.log));
            self.seen.push(line);
        }
        let ended = self.running.0.try_wait().ok().flatten();
        assert!(ended.is_none(), "ended: {ended:?}\n{}", text(&self.log));
    }

    /// What the sidecar has logged so far.
    pub fn log(&self) -> String {
        text(&self.log)
    }

    /// Waits for a line of the log that holds all of `words`.
    ///
    /// # Panics
    /// When there is none within `limit`, or the sidecar ends.
    pub fn logged(&mut self, words: &[&str], limit: Duration) -> String {
        let until = Instant::now() + limit;
        loop {
            let ended = self.running.0.try_wait().ok().flatten();
            let log = self.log();
            let found = log
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)));
            if let Some(line) = found {
                return line.to_owned();
            }
            assert!(ended.is_none(), "ended ({ended:?}) before {words:?}: {log}");
            assert!(
                Instant::now() < until,
                "no {words:?} within {limit:?}: {log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends the sidecar by SIGTERM; gives its log.
    ///
    /// # Panics
    /// When it does not end with success within a quarter of a minute.
    pub fn end(mut self) -> String {
        self.running.signal(libc::SIGTERM);
        let until = Instant::now() + Duration::from_secs(15);
        let status = loop {
            if let Ok(Some(status)) = self.running.0.try_wait() {
                break status;
            }
            assert!(Instant::now() < until, "the sidecar does not end");
            std::thread::sleep(Duration::from_millis(50));
        };
        let log = self.log();
        assert!(status.success(), "{status}: {log}");
        log
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
