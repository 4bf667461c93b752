//! One trial: a pod is watched, broken, and well again.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::bundles::{self, Company};
use super::choice::Trial;
use super::doing::Doing;
use super::effect::{self, Effect, Served};
use super::judge::{self, Broken};
use super::record::{Kept, Record};
use super::spec::{App, Bound};
use super::watched::{Place, Watched, now};
use crate::lab::Lab;

/// From a bundle to watching; longer than learning, for where Stethos does not take the bundle.
pub(super) const WATCHING_LIMIT: Duration = Duration::from_secs(300);
/// Undisturbed time before a fault, and up to so much more, by chance.
const NORMAL: (Duration, Duration) = (Duration::from_secs(12), Duration::from_secs(6));
/// From the end of a fault on, Stethos may still confirm what it saw.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// From the end of a fault on.
const RECOVERY_LIMIT: Duration = Duration::from_secs(15);
/// A diagnosis of an immediate class is in time before this, in nineteen of twenty.
const IMMEDIATE: f64 = 5.0;
/// Where clients note what became of their requests, among the logs.
const REQUESTS: &str = "requests.jsonl";
/// After a time-out.
const AFTER_TIMEOUT: f64 = 2.0;

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
    let (app, company) = (&trial.app, Company::of(&trial.fault));
    let state = place.bundles.state(lab, app, company)?;
    record.kept = kept(place, app, company, &trial.id())?;
    let recording = record.kept.as_ref().map(|kept| kept.recording.as_path());
    let load = (trial.rate, trial.seed);
    let mut watched = Watched::start(place, lab, app, &state, logs, load, recording)?;
    let played = play_on(&mut watched, lab, trial, record);
    watched.keep_logs(logs);
    if let Some(kept) = &mut record.kept {
        keep_requests(logs, kept)?;
    }
    played.map_err(|error| anyhow!("{error:#} (logs in {})", logs.display()))
}

/// Where a trial's recording goes, with the models of its application.
pub(super) fn kept(
    place: &Place,
    app: &App,
    company: Company,
    trial: &str,
) -> Result<Option<Kept>> {
    let Some(folder) = &place.recordings else {
        return Ok(None);
    };
    let name = trial.replace('/', "_");
    Ok(Some(Kept {
        recording: folder.join(format!("{name}.rec")),
        models: bundles::keep(&place.bundles, app, company, folder)?,
        requests: None,
    }))
}

/// Keeps what the clients noted of their requests beside a recording.
fn keep_requests(logs: &Path, kept: &mut Kept) -> Result<()> {
    let noted = logs.join(REQUESTS);
    if noted.exists() {
        let beside = kept.recording.with_extension("requests");
        fs::copy(&noted, &beside).with_context(|| beside.display().to_string())?;
        kept.requests = Some(beside);
    }
    Ok(())
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
    let span = (watched.watching_at, record.ended_at);
    record.judged = judge::judge(&watched.said, broken, span, &watched.pressure);
    record.pressure = watched.pressure.clone();
    record.diagnoses = watched.lines.clone();
    record.sidecar = watched.uses()?;
    Ok(())
}

/// Of plain normal time with changes in it.
pub(super) fn finish_normal(watched: &mut Watched, record: &mut Record) -> Result<()> {
    record.started_at = watched.started_at;
    record.watching_at = watched.watching_at;
    record.ended_at = now();
    let span = (watched.watching_at, record.ended_at);
    record.judged = judge::judge(&watched.said, None, span, &watched.pressure);
    record.pressure = watched.pressure.clone();
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
