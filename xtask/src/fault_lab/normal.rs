//! Normal time with normal changes in it, during which Stethos has to be silent.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::bundles::Company;
use super::choice::{Catalogue, fnv};
use super::doing::Doing;
use super::record::Record;
use super::spec::{App, USUAL};
use super::trial::{WATCHING_LIMIT, finish_normal, kept};
use super::watched::{Place, Watched, now};
use super::{LabOptions, Results, in_parallel, lab_of, told};
use crate::lab::{Lab, is_interrupted};

/// One pod lives at most so long; the next is new.
const SESSION: f64 = 900.0;
/// Pods come one after the other: many that start at once keep each other from the processors.
const APART: Duration = Duration::from_secs(15);
/// Undisturbed between two changes, and up to so much more by chance.
const REST: (f64, f64) = (15.0, 45.0);

/// Applications that `only` names, or all.
pub(super) fn apps(catalogue: &Catalogue, only: &[String]) -> Result<Vec<Arc<App>>> {
    let all = catalogue.apps.values();
    let chosen: Vec<Arc<App>> = all
        .filter(|app| only.is_empty() || only.contains(&app.name))
        .cloned()
        .collect();
    ensure!(!chosen.is_empty(), "--only names no application");
    Ok(chosen)
}

/// Sessions of all applications in turn, until their watched time makes `hours`.
pub(super) fn run(
    place: &Place,
    catalogue: &Catalogue,
    apps: &[Arc<App>],
    hours: f64,
    options: &LabOptions,
    results: &Results,
) -> Result<()> {
    let turn = Mutex::new((0_u64, hours * 3600.0));
    let next = || {
        let mut turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, left) = *turn;
        (left > 0.0 && !is_interrupted()).then(|| {
            let span = left.min(SESSION);
            *turn = (number + 1, left - span);
            (number, span)
        })
    };
    let work = |worker: usize| -> Result<()> {
        wait(APART * worker as u32);
        while let Some((number, span)) = next() {
            let app = &apps[number as usize % apps.len()];
            let turn = number / apps.len() as u64;
            let seed = options.seed + turn;
            let variant = variant(app, turn);
            let learned = place
                .bundles
                .learn(place, &lab_of(worker)?, app, Company::Others);
            learned.with_context(|| format!("{} is not learned", app.name))?;
            let record = session(
                place,
                &lab_of(worker)?,
                catalogue,
                app,
                (variant, seed),
                span,
            );
            if is_interrupted() {
                return Ok(());
            }
            results.add(&record)?;
            eprintln!("{:>6.0} s  {}", record.judged.normal_seconds, told(&record));
        }
        Ok(())
    };
    in_parallel(options.parallel, &work)
}

/// Shorter once interrupted.
fn wait(span: Duration) {
    let end = Instant::now() + span;
    while Instant::now() < end && !is_interrupted() {
        thread::sleep(Duration::from_millis(100));
    }
}

/// The application's usual load, and every second time another one that it has.
fn variant(app: &App, turn: u64) -> &str {
    let others = &app.variants;
    match (turn % 2, others.is_empty()) {
        (1, false) => &others[(turn / 2) as usize % others.len()].name,
        _ => USUAL,
    }
}

fn session(
    place: &Place,
    lab: &Lab,
    catalogue: &Catalogue,
    app: &App,
    (variant, seed): (&str, u64),
    span: f64,
) -> Record {
    let started_at = now();
    let mut record = Record {
        trial: format!("{}/{variant}/normal//{seed}/{started_at:.0}", app.name),
        app: app.name.clone(),
        app_held_out: app.held_out,
        variant: variant.to_owned(),
        rate: app.rate(variant).unwrap_or(app.load.rate),
        seed,
        started_at,
        ..Record::default()
    };
    if let Err(error) = live(place, lab, catalogue, app, span, &mut record) {
        record.error = Some(format!("{error:#}"));
        record.ended_at = now();
    }
    record
}

fn live(
    place: &Place,
    lab: &Lab,
    catalogue: &Catalogue,
    app: &App,
    span: f64,
    record: &mut Record,
) -> Result<()> {
    let state = place.bundles.state(lab, app, Company::Others)?;
    let logs = place.logs.join(record.trial.replace('/', "_"));
    record.kept = kept(place, app, Company::Others, &record.trial)?;
    let recording = record.kept.as_ref().map(|kept| kept.recording.as_path());
    let load = (record.rate, record.seed);
    let mut watched = Watched::start(place, lab, app, &state, &logs, load, recording)?;
    watched.wait_for_watching(app.containers.len(), WATCHING_LIMIT)?;
    let mut random = fastrand::Rng::with_seed(fnv(&record.trial));
    let changes = catalogue.changes_of(app)?;
    let end = watched.watching_at + span;
    for number in 0.. {
        let rest = REST.0 + REST.1 * random.f64();
        watched.follow(Duration::from_secs_f64(rest.min((end - now()).max(0.0))))?;
        if now() >= end {
            break;
        }
        if changes.is_empty() {
            continue;
        }
        let (applied, change) = &changes[random.usize(..changes.len())];
        let setting = &change.settings[random.usize(..change.settings.len())];
        if change.alone || now() + change.seconds > end {
            continue;
        }
        let mut doing = Doing::new(change, applied, setting, number);
        watched.disturb(&mut doing, lab)?;
        let made = (doing.injected_at, doing.undone_at);
        let names = (change.name.clone(), setting.name.clone());
        record.changes.push((names.0, names.1, made.0, made.1));
    }
    finish_normal(&mut watched, record)?;
    watched.stop()
}
