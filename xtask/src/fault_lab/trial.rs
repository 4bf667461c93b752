//! One trial: a pod is watched, broken, and well again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::bundles::Bundles;
use super::choice::Trial;
use super::effect::{self, Effect, Served};
use super::judge::{self, Broken, Said};
use super::pod::{POD, Pod};
use super::record::{Record, SidecarUse};
use super::script::Script;
use super::spec::{App, Applied, Bound, EFFECT, Fault, INJECT, Setting, UNDO};
use super::variables::WORK;
use crate::lab::{Inside, Lab, Line, Sidecar, SidecarOptions, not_interrupted};

/// From a bundle to watching.
const WATCHING_LIMIT: Duration = Duration::from_secs(60);
/// Undisturbed time before a fault, and up to so much more, by chance.
const NORMAL: (Duration, Duration) = (Duration::from_secs(12), Duration::from_secs(6));
/// From the end of a fault on, Stethos may still confirm what it saw.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// From the end of a fault on.
const RECOVERY_LIMIT: Duration = Duration::from_secs(15);
const STEP: Duration = Duration::from_millis(100);
/// Expected while a fault lasts.
const LEAST_REQUESTS: f64 = 12.0;
/// A diagnosis of an immediate class is in time before this, in nineteen of twenty.
const IMMEDIATE: f64 = 5.0;
/// After a time-out.
const AFTER_TIMEOUT: f64 = 2.0;

/// What all trials of a run share.
pub(super) struct Place {
    /// Of `lab.sh` and clients.
    pub(super) library: PathBuf,
    pub(super) binaries: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) bundles: Bundles,
}

/// A pod with its clients and a sidecar.
pub(super) struct Watched<'a> {
    pub(super) pod: Pod<'a>,
    sidecar: Sidecar,
    said: Vec<Said>,
    lines: Vec<Value>,
    /// The last of each container's counts.
    calls: BTreeMap<String, Value>,
    watching: BTreeSet<String>,
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
        rate: f64,
        seed: u64,
    ) -> Result<Self> {
        let started_at = now();
        let cache = place.bundles.cache(app)?;
        let mut pod = Pod::start(lab, app, &place.library, &cache, &place.binaries, seed)?;
        pod.start_load(rate)?;
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
                self.said.push(Said {
                    at,
                    confirmed: diagnosis.state == "confirmed",
                    hypotheses: judge::hypotheses(&all, &diagnosis.class),
                    incident: diagnosis.incident,
                    class: diagnosis.class,
                    confidence: diagnosis.confidence,
                    message: diagnosis.message,
                });
                all["lab.heard_at"] = at.into();
                self.lines.push(all);
            }
        }
        Ok(())
    }

    fn uses(&self) -> Result<SidecarUse> {
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

/// A fault or change that is done to a pod.
pub(super) struct Doing<'t> {
    pub(super) fault: &'t Fault,
    applied: &'t Applied,
    setting: &'t Setting,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) injected_at: f64,
    pub(super) undone_at: f64,
    /// How long it lasts.
    pub(super) seconds: f64,
    /// What `effect.sh` said, and whether it saw the effect.
    effect: Option<(bool, String)>,
    /// Tells its notes from those of others in the same pod.
    number: usize,
}

impl<'t> Doing<'t> {
    pub(super) fn new(
        fault: &'t Fault,
        applied: &'t Applied,
        setting: &'t Setting,
        number: usize,
    ) -> Self {
        Self {
            fault,
            applied,
            setting,
            parameters: BTreeMap::new(),
            injected_at: 0.0,
            undone_at: 0.0,
            seconds: fault.seconds,
            effect: None,
            number,
        }
    }

    /// A fault meets some requests, however rare they are.
    fn at_rate(mut self, rate: f64) -> Self {
        self.seconds = self.seconds.max(LEAST_REQUESTS / rate);
        self
    }

    fn notes(&self) -> String {
        format!("notes-{}", self.number)
    }

    /// Tells scripts what it is about.
    fn enter(&mut self, watched: &mut Watched, lab: &Lab) -> Result<()> {
        let app = watched.pod.app();
        let first = app.containers.first().map(|one| one.name.as_str());
        let target = self.applied.target.as_deref().or(first);
        let target = target.context("there is no container")?.to_owned();
        let is_container = app.containers.iter().any(|one| one.name == target);
        let group = format!("{}/{target}", if is_container { POD } else { "outside" });
        fs::create_dir_all(watched.pod.work.join(self.notes()))?;
        let variables = &mut watched.pod.variables;
        variables.set("LAB_NAME", &target);
        variables.set("LAB_FAULT", self.fault.folder.display());
        variables.set("LAB_NOTES", format!("{WORK}/{}", self.notes()));
        variables.set("LAB_CGROUP", lab.cgroup(&group).display());
        for controller in ["cpu", "memory", "pids"] {
            let path = lab.controller(controller, &group);
            variables.set_of("CGROUP_", controller, path.display());
        }
        let given = self
            .setting
            .parameters
            .iter()
            .chain(&self.applied.parameters);
        for (name, value) in given {
            let value = variables.fill(&value.to_string())?;
            variables.set_of("P_", name, &value);
            self.parameters.insert(name.clone(), value);
        }
        Ok(())
    }

    /// When the script said that the fault took force.
    fn noted(&self, watched: &Watched) -> Option<f64> {
        let path = watched.pod.work.join(self.notes()).join("injected");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }
}

/// Runs one trial from start to end. What fails is in the record.
pub(super) fn run(place: &Place, lab: &Lab, trial: &Trial) -> Record {
    let mut record = empty(trial);
    let logs = place.logs.join(trial.id().replace('/', "_"));
    if let Err(error) = play(place, lab, trial, &logs, &mut record) {
        record.error = Some(format!("{error:#}"));
        record.ended_at = now();
    }
    record
}

/// The record of one that could not begin.
pub(super) fn not_run(trial: &Trial, error: &anyhow::Error) -> Record {
    Record {
        error: Some(format!("{error:#}")),
        ended_at: now(),
        ..empty(trial)
    }
}

fn play(place: &Place, lab: &Lab, trial: &Trial, logs: &Path, record: &mut Record) -> Result<()> {
    let state = place.bundles.state(lab, &trial.app)?;
    let app = &trial.app;
    let mut watched = Watched::start(place, lab, app, &state, logs, trial.rate, trial.seed)?;
    let played = play_on(&mut watched, lab, trial, record);
    watched.keep_logs(logs);
    played.with_context(|| format!("logs in {}", logs.display()))
}

fn play_on(watched: &mut Watched, lab: &Lab, trial: &Trial, record: &mut Record) -> Result<()> {
    record.started_at = watched.started_at;
    let watching = watched.wait_for_watching(trial.app.containers.len(), WATCHING_LIMIT);
    record.watching_at = watched.watching_at;
    watching?;
    let mut random = trial.random();
    watched.follow(NORMAL.0 + NORMAL.1.mul_f64(random.f64()))?;
    ensure!(watched.pod.is_well(), "it is not well before the fault");
    let mut doing = Doing::new(&trial.fault, &trial.applied, &trial.setting, 0).at_rate(trial.rate);
    let disturbed = watched.disturb(&mut doing, lab);
    if matches!(record.bound, Some(Bound::Before | Bound::Rate)) {
        record.bound_seconds = Some(doing.seconds);
    }
    record.parameters = doing.parameters.clone();
    record.injected_at = Some(doing.injected_at);
    disturbed?;
    record.undone_at = Some(doing.undone_at);
    let recovery = Instant::now();
    record.recovered = Some(watched.pod.wait_well(RECOVERY_LIMIT)?);
    watched.follow(GRACE.saturating_sub(recovery.elapsed()))?;
    finish(watched, &doing, record)?;
    watched.stop()
}

/// What came of it.
fn finish(watched: &mut Watched, doing: &Doing, record: &mut Record) -> Result<()> {
    let load = watched.pod.load.as_ref().context("no clients")?.seconds();
    let before = Served::of(&load, watched.watching_at, doing.injected_at);
    let during = Served::of(&load, doing.injected_at + 1.0, doing.undone_at);
    let felt = effect::felt(&before, &during);
    let (by_script, said) = doing.effect.clone().unwrap_or_default();
    record.effect = Some(Effect {
        seen: felt.is_some() || by_script,
        by: felt
            .unwrap_or(if by_script { "script" } else { "" })
            .to_owned(),
        before,
        during,
        said: said.trim().to_owned(),
    });
    let affected = effect::affected_at(&load, doing.injected_at, &before);
    let affected = affected.filter(|at| *at <= doing.undone_at);
    record.affected_by = if affected.is_some() {
        "client"
    } else {
        "injection"
    }
    .to_owned();
    let affected_at = affected.unwrap_or(doing.injected_at);
    record.affected_at = Some(affected_at);
    record.ended_at = now();
    let broken = record.class.is_some().then(|| Broken {
        injected_at: doing.injected_at,
        affected_at,
        until: doing.undone_at + GRACE.as_secs_f64(),
        right: &record.right_classes,
    });
    record.judged = judge::judge(&watched.said, broken, watched.watching_at, record.ended_at);
    record.diagnoses = watched.lines.clone();
    record.sidecar = watched.uses()?;
    Ok(())
}

/// Of plain normal time with changes in it.
pub(super) fn finish_normal(watched: &mut Watched, record: &mut Record) -> Result<()> {
    record.started_at = watched.started_at;
    record.watching_at = watched.watching_at;
    record.ended_at = now();
    record.judged = judge::judge(&watched.said, None, watched.watching_at, record.ended_at);
    record.diagnoses = watched.lines.clone();
    record.sidecar = watched.uses()?;
    Ok(())
}

/// What is known of a trial before it runs.
fn empty(trial: &Trial) -> Record {
    let fault = &trial.fault;
    let right = fault
        .class
        .iter()
        .chain(&fault.also)
        .chain(&trial.applied.also);
    Record {
        trial: trial.id(),
        app: trial.app.name.clone(),
        app_held_out: trial.app.held_out,
        setting_held_out: trial.setting.held_out,
        variant: trial.variant.clone(),
        rate: trial.rate,
        seed: trial.seed,
        fault: fault.name.clone(),
        class: fault.class.clone(),
        right_classes: right.cloned().collect(),
        setting: trial.setting.name.clone(),
        bound: fault.bound,
        bound_seconds: fault.bound.map(|bound| match bound {
            Bound::Immediate => IMMEDIATE,
            Bound::Timeout => fault.timeout_seconds + AFTER_TIMEOUT,
            Bound::Before | Bound::Rate => fault.seconds,
        }),
        started_at: now(),
        ..Record::default()
    }
}

pub(super) fn now() -> f64 {
    seconds(SystemTime::now())
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
