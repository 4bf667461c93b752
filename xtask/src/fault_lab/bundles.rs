//! What was learned of applications, kept between trials.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use super::choice::fnv;
use super::spec::{APP_FILE, App, Fault};
use super::watched::{Place, Watched};
use crate::lab::Lab;

/// Longer than the ceiling of learning.
const LEARNING_LIMIT: Duration = Duration::from_secs(400);
/// Watched after learning, so that what was learned is saved.
const SETTLING: Duration = Duration::from_secs(3);
const SEED: u64 = 0;

/// Who else has the machine's processors. What is normal beside other pods is not what is normal without
/// them: a fault that is tried alone is held against what was learned alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    Others,
    Alone,
}

impl Company {
    pub(super) fn of(fault: &Fault) -> Self {
        match fault.alone {
            true => Self::Alone,
            false => Self::Others,
        }
    }
}

/// One folder an application, its files and the sidecar's binary.
pub(super) struct Bundles {
    folder: PathBuf,
    binary: PathBuf,
    crowd: u32,
    /// Held while one is learned; what failed is not tried again.
    learning: Mutex<BTreeMap<PathBuf, Arc<Mutex<Option<String>>>>>,
}

impl Bundles {
    pub(super) fn new(folder: PathBuf, binary: PathBuf, crowd: u32) -> Self {
        Self {
            folder,
            binary,
            crowd,
            learning: Mutex::default(),
        }
    }

    /// Where an application's scripts may keep what does not change from trial to trial.
    pub(super) fn cache(&self, app: &App) -> Result<PathBuf> {
        let folder = self.of(app)?.join("cache");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }

    fn of(&self, app: &App) -> Result<PathBuf> {
        // What is tried on it makes no other application of it.
        let mut described = format!(
            "{:?} {:?} {:?} {:?} {:?}",
            app.containers, app.dependencies, app.load, app.prepare, app.disk
        );
        if self.crowd > 0 {
            described += &format!(" {}", self.crowd);
        }
        let mut files = Vec::new();
        list(&app.folder, &mut files)?;
        files.retain(|file| !file.ends_with(APP_FILE));
        files.sort();
        for file in files {
            let text = fs::read(&file).with_context(|| file.display().to_string())?;
            described += &format!("{} {}\n", file.display(), String::from_utf8_lossy(&text));
        }
        let binary = fs::metadata(&self.binary);
        let binary = binary.with_context(|| self.binary.display().to_string())?;
        let modified = binary.modified()?.duration_since(UNIX_EPOCH)?.as_nanos();
        described += &format!("{} {modified}", binary.len());
        Ok(self
            .folder
            .join(format!("{}-{:016x}", app.name, fnv(&described))))
    }

    fn learned(&self, app: &App, company: Company) -> Result<PathBuf> {
        Ok(self.of(app)?.join(match company {
            Company::Others => "state",
            Company::Alone => "state-alone",
        }))
    }

    /// Learns an application, unless that was done.
    pub(super) fn learn(
        &self,
        place: &Place,
        lab: &Lab,
        app: &App,
        company: Company,
    ) -> Result<()> {
        let kept = self.learned(app, company)?;
        let lock = {
            let mut all = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(kept.clone()).or_default())
        };
        let mut failed = lock.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.exists() {
            return Ok(());
        }
        if let Some(failed) = &*failed {
            bail!("{failed}");
        }
        let learned = Self::learn_into(&kept, place, lab, app);
        *failed = learned.as_ref().err().map(|error| format!("{error:#}"));
        learned
    }

    fn learn_into(kept: &Path, place: &Place, lab: &Lab, app: &App) -> Result<()> {
        let state = lab.folder("learning")?;
        let logs = place.logs.join(format!("{}_learning", app.name));
        let mut watched =
            Watched::start(place, lab, app, &state, &logs, (app.load.rate, SEED), None)?;
        watched.wait_for_watching(app.containers.len(), LEARNING_LIMIT)?;
        watched.follow(SETTLING)?;
        ensure!(watched.pod.is_well(), "it is not well after learning");
        let took = watched.watching_at - watched.started_at;
        watched.stop()?;
        let new = kept.with_extension("new");
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        copy(&state, &new)?;
        fs::rename(&new, kept).with_context(|| kept.display().to_string())?;
        eprintln!("{:<16} learned in {took:.0} s", app.name);
        Ok(())
    }

    /// A state directory for one trial, with what was learned.
    pub(super) fn state(&self, lab: &Lab, app: &App, company: Company) -> Result<PathBuf> {
        let state = lab.path("state");
        copy(&self.learned(app, company)?, &state)?;
        Ok(state)
    }
}

/// Copies the models of an application to where recordings are kept, unless they are there.
pub(super) fn keep(
    bundles: &Bundles,
    app: &App,
    company: Company,
    folder: &Path,
) -> Result<PathBuf> {
    let learned = bundles.learned(app, company)?;
    let of = learned.parent().and_then(Path::file_name);
    let mut name = of.context("no name")?.to_owned();
    if company == Company::Alone {
        name.push("-alone");
    }
    let kept = folder.join(name);
    let _one = bundles
        .learning
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if !kept.exists() {
        copy(&learned.join("bundles"), &kept)?;
    }
    Ok(kept)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    }
    let status = Command::new("cp").arg("-a").args([from, to]).status();
    let status = status.context("cp")?;
    ensure!(
        status.success(),
        "cannot copy {} to {}: {status}",
        from.display(),
        to.display()
    );
    Ok(())
}
