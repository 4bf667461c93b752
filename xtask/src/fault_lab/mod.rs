//! `cargo xtask lab`: applications are learned, broken in every way that applies to them, and well
//! again; what Stethos says of it is held against what was done.

mod again;
mod bundles;
mod cases;
mod choice;
mod doing;
mod effect;
mod joined;
mod judge;
mod load;
mod namespaces;
mod normal;
mod pod;
mod pressure;
mod record;
mod script;
mod spec;
mod tables;
mod trial;
mod variables;
mod watched;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::build;
use crate::lab::{Lab, is_installed, is_interrupted, listen_for_interrupts};
use crate::setup::{self, Scope};
use crate::workspace::Workspace;
use again::Again;
use bundles::{Bundles, Company};
use choice::{Catalogue, Trial};
use record::Record;
use spec::Fault;
use watched::Place;

/// Where the repository has them.
const LAB: &str = "tests/lab";

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LabOptions {
    /// Folder of applications, a folder each [default: tests/lab/apps]
    #[arg(long, value_name = "DIR")]
    apps: Option<PathBuf>,
    /// Folder of faults, a folder each; faults of other folders are not injected then
    /// [default: tests/lab/faults]
    #[arg(long, value_name = "DIR")]
    faults: Option<PathBuf>,
    /// Folder of normal changes, a folder each [default: tests/lab/normal]
    #[arg(long, value_name = "DIR")]
    changes: Option<PathBuf>,
    /// Only these applications, faults, changes and classes; `normal` means all changes
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Decides what is left to chance, and which of a fault's settings is tried
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Try everything with so many seeds, from --seed on
    #[arg(long, default_value_t = 1, value_name = "N")]
    rounds: u64,
    /// Where a line of JSON is added for each trial
    #[arg(long, value_name = "FILE", required_unless_present_any = ["tables", "list", "again", "joined"])]
    json: Option<PathBuf>,
    /// Leave out trials that stand in the file already
    #[arg(long)]
    resume: bool,
    /// Pods at once
    #[arg(long, default_value_t = 2, value_name = "N")]
    parallel: usize,
    /// Instead of faults, so many pod-hours of normal time with normal changes in it
    #[arg(long, value_name = "HOURS")]
    normal: Option<f64>,
    /// Clients ask so many things at once, of applications that speak HTTP; each fault at its usual rate
    #[arg(long, value_name = "N", default_value_t = 0)]
    crowd: u32,
    /// Keep a recording of every trial there, and the models of its application
    #[arg(long, value_name = "FOLDER")]
    record: Option<PathBuf>,
    /// Instead of running trials, judge those of these files again by the recordings that they left
    #[arg(long, num_args = 1.., value_name = "FILES", requires = "json")]
    again: Vec<PathBuf>,
    /// With --again: by rules alone, without models
    #[arg(long, requires = "again")]
    without_models: bool,
    /// With --again: write what was right as cases that the tests replay, one for each class and
    /// application
    #[arg(long, value_name = "FOLDER", requires = "again")]
    cases: Option<PathBuf>,
    /// Instead of running trials, hold the traces of affected calls in recordings of these files against
    /// the requests that failed
    #[arg(long, num_args = 1.., value_name = "FILES")]
    joined: Vec<PathBuf>,
    /// Only print the tables of these files
    #[arg(long, num_args = 1.., value_name = "FILES")]
    tables: Vec<PathBuf>,
    /// Only print which trials would run
    #[arg(long)]
    list: bool,
    /// Folder of the binaries [default: the release folder of this workspace]
    #[arg(long, value_name = "FOLDER")]
    binaries: Option<PathBuf>,
}

/// # Errors
/// When a file is wrong, before anything starts; when the lab cannot be built up. Trials that went
/// wrong are in the results.
pub(crate) fn run(workspace: &Workspace, options: &LabOptions) -> Result<()> {
    if !options.tables.is_empty() {
        return tables::print(&read_all(&options.tables)?);
    }
    if !options.again.is_empty() {
        return judge_again(workspace, options);
    }
    if !options.joined.is_empty() {
        let binary = binaries(workspace, options)?.join("stethos");
        return joined::print(&read_all(&options.joined)?, &binary);
    }
    let catalogue = catalogue(workspace, options)?;
    let seeds: Vec<u64> = (options.seed..options.seed + options.rounds).collect();
    let mut trials = catalogue.trials(&options.only, &seeds)?;
    if options.crowd > 0 {
        choice::in_crowds(&mut trials, options.crowd);
        ensure!(
            !trials.is_empty(),
            "--crowd: no application of these trials speaks HTTP"
        );
    }
    if options.list {
        let mut out = std::io::stdout().lock();
        for trial in &trials {
            let (id, app, fault) = (trial.id(), &trial.app.about, &trial.fault.about);
            writeln!(out, "{id:<64} {app}: {fault}").context("standard output")?;
        }
        return Ok(());
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "the lab makes cgroups and namespaces and loads kernel programs: run it as root"
    );
    let json = options.json.clone().context("--json is missing")?;
    if options.resume && json.exists() {
        let done = record::done(&record::read(&json)?);
        trials.retain(|trial| !done.contains(&trial.id()));
    }
    // All files are right; only now is anything installed or built.
    let plan = setup::run(workspace, Scope::Lab)?;
    if options.binaries.is_none() {
        build::run(workspace, &plan, Scope::Lab)?;
    }
    check_programs(&trials)?;
    listen_for_interrupts()?;
    let place = place(workspace, options)?;
    let results = Results::open(&json)?;
    match options.normal {
        Some(hours) => {
            let apps = normal::apps(&catalogue, &options.only)?;
            normal::run(&place, &catalogue, &apps, hours, options, &results)?;
        }
        None => run_trials(&place, trials, options.parallel, &results)?,
    }
    ensure!(!is_interrupted(), "interrupted");
    tables::print(&record::read(&json)?)
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for path in paths {
        records.extend(record::read(path)?);
    }
    Ok(records)
}

fn judge_again(workspace: &Workspace, options: &LabOptions) -> Result<()> {
    let records = read_all(&options.again)?;
    let json = options.json.clone().context("--json is missing")?;
    if options.binaries.is_none() {
        let plan = setup::run(workspace, Scope::Lab)?;
        build::run(workspace, &plan, Scope::Lab)?;
    }
    listen_for_interrupts()?;
    let again = Again {
        binary: &binaries(workspace, options)?.join("stethos"),
        without_models: options.without_models,
        parallel: options.parallel,
    };
    let without = again.run(records, &Results::open(&json)?)?;
    ensure!(!is_interrupted(), "interrupted");
    if without > 0 {
        eprintln!("{without} trials left no recording");
    }
    if let Some(folder) = &options.cases {
        let written = cases::write(&record::read(&json)?, folder)?;
        eprintln!("{} cases in {}", written.len(), folder.display());
    }
    tables::print(&record::read(&json)?)
}

fn binaries(workspace: &Workspace, options: &LabOptions) -> Result<PathBuf> {
    let release = || workspace.target.join("release");
    let binaries = options.binaries.clone().unwrap_or_else(release);
    fs::canonicalize(&binaries).with_context(|| binaries.display().to_string())
}

fn place(workspace: &Workspace, options: &LabOptions) -> Result<Place> {
    let binaries = binaries(workspace, options)?;
    let logs = workspace.logs().join("lab");
    fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
    let folder = workspace.target.join("lab-bundles");
    let recordings = options.record.as_ref().map(|folder| {
        fs::create_dir_all(folder)
            .and_then(|()| fs::canonicalize(folder))
            .with_context(|| folder.display().to_string())
    });
    Ok(Place {
        recordings: recordings.transpose()?,
        library: workspace.root.join(LAB).join("lib"),
        bundles: Bundles::new(folder, binaries.join("stethos"), options.crowd),
        crowd: options.crowd,
        binaries,
        logs,
    })
}

/// Reads all files; says what is wrong with any.
fn catalogue(workspace: &Workspace, options: &LabOptions) -> Result<Catalogue> {
    let own = |name: &str| workspace.root.join(LAB).join(name);
    let folder = |given: &Option<PathBuf>, name| given.clone().unwrap_or_else(|| own(name));
    let mut left_out = BTreeSet::new();
    if options.faults.is_some() {
        left_out.extend(spec::faults(&own("faults"))?.into_keys());
    }
    if options.changes.is_some() {
        left_out.extend(spec::changes(&own("normal"))?.into_keys());
    }
    let shared = |faults: BTreeMap<String, Fault>| {
        let arc = |(name, fault)| (name, Arc::new(fault));
        faults.into_iter().map(arc).collect()
    };
    let apps = spec::apps(&folder(&options.apps, "apps"))?;
    Ok(Catalogue {
        apps: apps
            .into_iter()
            .map(|(name, app)| (name, Arc::new(app)))
            .collect(),
        faults: shared(spec::faults(&folder(&options.faults, "faults"))?),
        changes: shared(spec::changes(&folder(&options.changes, "normal"))?),
        left_out,
    })
}

/// Everything that trials run is there before the first of them begins.
fn check_programs(trials: &[Trial]) -> Result<()> {
    let mut missing = BTreeSet::new();
    for trial in trials {
        for (needs, whose) in [
            (&trial.app.needs, &trial.app.name),
            (&trial.fault.needs, &trial.fault.name),
        ] {
            for program in needs.iter().filter(|program| !is_installed(program)) {
                missing.insert(format!("{program} (for {whose})"));
            }
        }
    }
    let missing: Vec<String> = missing.into_iter().collect();
    ensure!(
        missing.is_empty(),
        "this machine lacks: {}",
        missing.join(", ")
    );
    Ok(())
}

/// The file of results; a line is whole or not there.
pub(super) struct Results(Mutex<File>);

impl Results {
    fn open(path: &Path) -> Result<Self> {
        let file = File::options().create(true).append(true).open(path);
        Ok(Self(Mutex::new(
            file.with_context(|| path.display().to_string())?,
        )))
    }

    fn add(&self, record: &Record) -> Result<()> {
        let line = serde_json::to_string(record)? + "\n";
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).context("the results")
    }
}

fn run_trials(
    place: &Place,
    mut trials: Vec<Trial>,
    parallel: usize,
    results: &Results,
) -> Result<()> {
    // Before one that is alone, all others have to end: that is waited for once.
    trials.sort_by_key(|trial| trial.fault.alone);
    let (count, began) = (trials.len(), Instant::now());
    let queue = Mutex::new(VecDeque::from(trials));
    let alone = RwLock::new(());
    let next = || {
        queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    let work = |worker: usize| -> Result<()> {
        while let Some(trial) = next().filter(|_| !is_interrupted()) {
            let record = run_one(place, &trial, worker, &alone)?;
            if is_interrupted() {
                return Ok(());
            }
            results.add(&record)?;
            let left = queue.lock().unwrap_or_else(PoisonError::into_inner).len();
            let minutes = began.elapsed().as_secs_f64() / 60.0;
            eprintln!(
                "{:>4}/{count} {minutes:>5.1} min  {}",
                count - left,
                told(&record)
            );
        }
        Ok(())
    };
    in_parallel(parallel, &work)
}

/// Runs `work` in so many threads, each with its number.
pub(super) fn in_parallel(
    threads: usize,
    work: &(impl Fn(usize) -> Result<()> + Sync),
) -> Result<()> {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1))
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| match worker.join() {
                Ok(worked) => worked,
                Err(panic) => std::panic::resume_unwind(panic),
            })
    })
}

/// A lab of a worker's own; everything of it is gone when it is dropped.
pub(super) fn lab_of(worker: usize) -> Result<Lab> {
    Lab::new(&format!("stethos-lab{worker}"))
}

fn run_one(place: &Place, trial: &Trial, worker: usize, alone: &RwLock<()>) -> Result<Record> {
    let _shared;
    let _alone;
    if trial.fault.alone {
        _alone = alone.write().unwrap_or_else(PoisonError::into_inner);
    } else {
        _shared = alone.read().unwrap_or_else(PoisonError::into_inner);
    }
    let company = Company::of(&trial.fault);
    let learned = place
        .bundles
        .learn(place, &lab_of(worker)?, &trial.app, company);
    let lab = lab_of(worker)?;
    Ok(match learned {
        Ok(()) => trial::run(place, &lab, trial),
        Err(error) => trial::not_run(trial, &error.context("it is not learned")),
    })
}

/// One line for a person.
fn told(record: &Record) -> String {
    let judged = &record.judged;
    if let Some(error) = &record.error {
        let first = error.lines().next().unwrap_or_default();
        return format!("ERROR    {}: {first}", record.trial);
    }
    let outcome = format!("{:?}", judged.outcome).to_lowercase();
    let class = judged.class.clone().unwrap_or_default();
    let confidence = judged
        .confidence
        .map_or_else(String::new, |c| format!(" {c:.2}"));
    let delay = judged
        .delay_seconds
        .map_or_else(String::new, |d| format!(" {d:.1} s"));
    let alarms = match judged.false_alarms.as_slice() {
        [] => String::new(),
        all => {
            let classes: Vec<&str> = all.iter().map(|one| one.class.as_str()).collect();
            format!(" · false alarms: {}", classes.join(", "))
        }
    };
    let effect = match &record.effect {
        Some(effect) if effect.seen => format!(" · effect: {}", effect.by),
        Some(_) if record.class.is_some() => " · NO EFFECT".to_owned(),
        _ => String::new(),
    };
    let well = if record.recovered == Some(false) {
        " · NOT RECOVERED"
    } else {
        ""
    };
    format!(
        "{outcome:<8} {}  {class}{confidence}{delay}{effect}{alarms}{well}",
        record.trial
    )
}
