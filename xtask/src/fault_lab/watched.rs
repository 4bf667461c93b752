//! A pod under load with a sidecar beside it, and what that says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::bundles::Bundles;
use super::doing::Doing;
use super::judge::Said;
use super::pod::{POD, Pod};
use super::pressure::Pressure;
use super::record::SidecarUse;
use super::script::Script;
use super::spec::{App, EFFECT, INJECT, UNDO};
use crate::lab::{Inside, Lab, Line, Sidecar, SidecarOptions, not_interrupted};

const STEP: Duration = Duration::from_millis(100);

/// What all trials of a run share.
pub(super) struct Place {
    /// Of `lab.sh` and clients.
    pub(super) library: PathBuf,
    pub(super) binaries: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) bundles: Bundles,
    /// Requests that come at once; 0: each by itself.
    pub(super) crowd: u32,
    /// Where recordings of trials are kept.
    pub(super) recordings: Option<PathBuf>,
}

/// A pod with its clients and a sidecar.
pub(super) struct Watched<'a> {
    pub(super) pod: Pod<'a>,
    sidecar: Sidecar,
    pub(super) said: Vec<Said>,
    /// What it printed of incidents.
    pub(super) lines: Vec<Value>,
    /// The last of each container's counts.
    calls: BTreeMap<String, Value>,
    watching: BTreeSet<String>,
    pub(super) pressure: Pressure,
    pub(super) started_at: f64,
    pub(super) watching_at: f64,
}

impl<'a> Watched<'a> {
    /// Starts all of it.
    pub(super) fn start(
        place: &Place,
        lab: &'a Lab,
        app: &'a App,
        state: &Path,
        logs: &Path,
        (rate, seed): (f64, u64),
        recording: Option<&Path>,
    ) -> Result<Self> {
        let started_at = now();
        let cache = place.bundles.cache(app)?;
        let mut pod = Pod::start(lab, app, &place.library, &cache, &place.binaries, seed)?;
        pod.start_load(rate, place.crowd)?;
        fs::create_dir_all(logs).with_context(|| logs.display().to_string())?;
        let network = pod.inside.try_clone()?.network;
        let sidecar = Sidecar::start(
            lab,
            SidecarOptions {
                binary: &place.binaries.join("stethos"),
                pod: &lab.cgroup(POD),
                state,
                logs,
                endpoint: None,
                recording,
                settings: &[
                    ("STETHOS_CAPTURE_NODE_SOCKET", "off"),
                    ("STETHOS_LEARNING_CEILING", "4m"),
                ],
                inside: &Inside {
                    network,
                    ..Inside::default()
                },
            },
        )?;
        Ok(Self {
            pod,
            sidecar,
            said: Vec::new(),
            lines: Vec::new(),
            calls: BTreeMap::new(),
            watching: BTreeSet::new(),
            pressure: Pressure::default(),
            started_at,
            watching_at: 0.0,
        })
    }

    /// Follows Stethos until it watches every container.
    pub(super) fn wait_for_watching(&mut self, containers: usize, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while self.watching.len() < containers {
            ensure!(
                Instant::now() < end,
                "Stethos watches only {:?} of {containers} containers after {} s; {}",
                self.watching,
                limit.as_secs(),
                self.sidecar.last_words()
            );
            self.follow(STEP)?;
        }
        self.watching_at = now();
        self.sidecar.measure_from_now()
    }

    /// Keeps the pod going and hears what Stethos says.
    pub(super) fn follow(&mut self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        loop {
            not_interrupted()?;
            self.pod.supervise()?;
            self.pressure.look(now())?;
            if let Some(load) = &mut self.pod.load {
                load.check()?;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.hear(left.min(STEP))?;
        }
    }

    fn hear(&mut self, wait: Duration) -> Result<()> {
        let heard = match self.sidecar.lines.recv_timeout(wait) {
            Ok(heard) => heard,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("stethos ended by itself; {}", self.sidecar.last_words())
            }
        };
        let mut all: Value = serde_json::from_str(&heard.text)?;
        match heard.line {
            Line::Phase(phase) if phase.is_watching() => {
                self.watching.insert(phase.container);
            }
            Line::Phase(_) => {}
            Line::Capturing(capturing) => {
                self.calls.insert(capturing.container, all);
            }
            Line::Diagnosis(diagnosis) => {
                let at = seconds(heard.at);
                self.said.push(Said::new(at, *diagnosis, &all));
                all["lab.heard_at"] = at.into();
                self.lines.push(all);
            }
        }
        Ok(())
    }

    pub(super) fn uses(&self) -> Result<SidecarUse> {
        let watched_seconds = now() - self.watching_at;
        let usage = self.sidecar.usage()?;
        let mut calls = BTreeMap::new();
        for counts in self.calls.values() {
            for key in ["seen", "delivered", "counted", "held", "lost"] {
                let count = counts[key].as_u64().unwrap_or_default();
                *calls.entry(key.to_owned()).or_default() += count;
            }
        }
        Ok(SidecarUse {
            cpu_seconds: usage.core * watched_seconds,
            watched_seconds,
            resident_peak_bytes: usage.resident_peak,
            calls,
        })
    }

    /// Ends the sidecar in an orderly way.
    pub(super) fn stop(&mut self) -> Result<()> {
        self.sidecar.stop()
    }

    /// Keeps what the pod's processes and scripts printed.
    pub(super) fn keep_logs(&self, logs: &Path) {
        let entries = fs::read_dir(self.pod.work.join("logs"));
        for entry in entries.into_iter().flatten().flatten() {
            // For people; the trial goes on without it.
            let _ = fs::copy(entry.path(), logs.join(entry.file_name()));
        }
    }

    /// Injects, holds and undoes a fault or change.
    pub(super) fn disturb(&mut self, doing: &mut Doing, lab: &Lab) -> Result<()> {
        doing.enter(self, lab)?;
        doing.injected_at = now();
        let injected = self
            .pod
            .script(&Script::file(&doing.fault.folder.join(INJECT)));
        injected.context("the fault is not injected")?;
        if let Some(at) = doing.noted(self) {
            doing.injected_at = at;
        }
        let began = Instant::now();
        let span = Duration::from_secs_f64(doing.seconds);
        // The effect is looked at late, while the fault still lasts.
        self.follow(span.mul_f64(0.8))?;
        let script = doing.fault.folder.join(EFFECT);
        if script.is_file() {
            let said = self.pod.script(&Script::file(&script));
            doing.effect = Some(match said {
                Ok(said) => (true, said),
                Err(error) => (false, format!("{error:#}")),
            });
        }
        self.follow(span.saturating_sub(began.elapsed()))?;
        let undo = doing.fault.folder.join(UNDO);
        if undo.is_file() {
            let undone = self.pod.script(&Script::file(&undo));
            undone.context("the fault is not undone")?;
        }
        doing.undone_at = now();
        Ok(())
    }
}

pub(super) fn now() -> f64 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
