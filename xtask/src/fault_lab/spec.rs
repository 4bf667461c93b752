//! What describes an application, a fault or a normal change: a folder with a TOML file and
//! scripts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(super) const APP_FILE: &str = "app.toml";
pub(super) const FAULT_FILE: &str = "fault.toml";
pub(super) const CHANGE_FILE: &str = "change.toml";
pub(super) const INJECT: &str = "inject.sh";
pub(super) const UNDO: &str = "undo.sh";
pub(super) const EFFECT: &str = "effect.sh";

/// Values of any kind, as scripts see them: text.
pub(super) type Parameters = BTreeMap<String, Word>;

/// A text, number or truth.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Word {
    Text(String),
    Whole(i64),
    Number(f64),
    Truth(bool),
}

impl std::fmt::Display for Word {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Whole(number) => number.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Truth(truth) => truth.fmt(f),
        }
    }
}

/// `app.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct App {
    /// The folder's name.
    #[serde(skip)]
    pub(super) name: String,
    #[serde(skip)]
    pub(super) folder: PathBuf,
    pub(super) about: String,
    /// Programs that have to be on the path.
    #[serde(default)]
    pub(super) needs: Vec<String>,
    /// Kept apart from what thresholds and rules were tuned on.
    #[serde(default)]
    pub(super) held_out: bool,
    /// Where clients connect.
    pub(super) port: u16,
    /// Bytes of a disk of its own at `$LAB_DATA`; none, and that is a plain folder.
    #[serde(default)]
    pub(super) disk: Option<u64>,
    /// A script that makes configuration and data before anything starts.
    #[serde(default)]
    pub(super) prepare: Option<String>,
    /// A script that ends with 0 when the application is well; none, and its port is tried.
    #[serde(default)]
    pub(super) probe: Option<String>,
    #[serde(rename = "container")]
    pub(super) containers: Vec<Process>,
    #[serde(default, rename = "dependency")]
    pub(super) dependencies: Vec<Process>,
    pub(super) load: LoadSpec,
    #[serde(default, rename = "variant")]
    pub(super) variants: Vec<Variant>,
    #[serde(default, rename = "fault")]
    pub(super) faults: Vec<Applied>,
    #[serde(default, rename = "normal")]
    pub(super) changes: Vec<Applied>,
}

/// A container of the pod, or a server outside of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Process {
    pub(super) name: String,
    pub(super) command: Vec<String>,
    #[serde(default)]
    pub(super) user: Option<String>,
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// Where it listens: waited for at the start. A dependency is asked there.
    #[serde(default)]
    pub(super) port: Option<u16>,
    /// A dependency only: connections go through a relay, and `$LAB_LISTEN` is where it listens.
    #[serde(default)]
    pub(super) relay: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LoadSpec {
    /// The client; it prints a line of JSON a second.
    pub(super) command: Vec<String>,
    /// Requests per second while learning, and of the variant `usual`.
    pub(super) rate: f64,
}

/// Another rate of requests.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Variant {
    pub(super) name: String,
    pub(super) rate: f64,
}

/// A fault or change of an application.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Applied {
    /// Name of its folder.
    pub(super) name: String,
    /// In the file of a fault: the application that it is for.
    #[serde(default)]
    pub(super) app: Option<String>,
    /// The container or dependency that it is about; the first container if none is named.
    #[serde(default)]
    pub(super) target: Option<String>,
    /// Rates that it is tried at.
    #[serde(default = "usual")]
    pub(super) variants: Vec<String>,
    /// Over those of the setting.
    #[serde(default)]
    pub(super) parameters: Parameters,
    /// Names of the settings that make sense here; all if none is named.
    #[serde(default)]
    pub(super) settings: Vec<String>,
    /// Classes that are right here, beside those of the fault.
    #[serde(default)]
    pub(super) also: Vec<String>,
}

pub(super) const USUAL: &str = "usual";

fn usual() -> Vec<String> {
    vec![USUAL.to_owned()]
}

/// How soon a diagnosis has to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
pub(super) enum Bound {
    /// Two seconds after the first affected call.
    #[serde(rename = "i")]
    Immediate,
    /// Two seconds after the time-out.
    #[serde(rename = "t")]
    Timeout,
    /// Before something is exhausted: while the fault lasts.
    #[serde(rename = "b")]
    Before,
    /// Once rates are significant: while the fault lasts.
    #[serde(rename = "r")]
    Rate,
}

/// `fault.toml`, and `change.toml` with neither class nor bound.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    #[serde(skip)]
    pub(super) name: String,
    #[serde(skip)]
    pub(super) folder: PathBuf,
    pub(super) about: String,
    /// `error.type` that is right.
    #[serde(default)]
    pub(super) class: Option<String>,
    /// Classes that are right as well.
    #[serde(default)]
    pub(super) also: Vec<String>,
    #[serde(default)]
    pub(super) bound: Option<Bound>,
    /// Of the application or its clients, for the bound `t`.
    #[serde(default)]
    pub(super) timeout_seconds: f64,
    /// How long it lasts.
    pub(super) seconds: f64,
    /// Programs that have to be on the path.
    #[serde(default)]
    pub(super) needs: Vec<String>,
    /// Parameters that the application has to give.
    #[serde(default)]
    pub(super) parameters: BTreeSet<String>,
    /// Nothing else runs meanwhile, because it takes the machine from others.
    #[serde(default)]
    pub(super) alone: bool,
    #[serde(rename = "setting")]
    pub(super) settings: Vec<Setting>,
    /// Applications that it is for, beside those that name it.
    #[serde(default)]
    pub(super) applies: Vec<Applied>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Setting {
    pub(super) name: String,
    #[serde(default)]
    pub(super) held_out: bool,
    #[serde(flatten)]
    pub(super) parameters: Parameters,
}

/// Reads every folder below `root` that has a `file`, by name.
pub(super) fn apps(root: &Path) -> Result<BTreeMap<String, App>> {
    read_all(root, APP_FILE, |name, folder, mut app: App| {
        app.name = name;
        app.folder = folder;
        app.check()?;
        Ok(app)
    })
}

pub(super) fn faults(root: &Path) -> Result<BTreeMap<String, Fault>> {
    read_faults(root, FAULT_FILE)
}

pub(super) fn changes(root: &Path) -> Result<BTreeMap<String, Fault>> {
    read_faults(root, CHANGE_FILE)
}

fn read_faults(root: &Path, file: &str) -> Result<BTreeMap<String, Fault>> {
    read_all(root, file, |name, folder, mut fault: Fault| {
        fault.name = name;
        fault.folder = folder;
        fault.check(file == FAULT_FILE)?;
        Ok(fault)
    })
}

fn read_all<T: DeserializeOwned>(
    root: &Path,
    file: &str,
    finish: impl Fn(String, PathBuf, T) -> Result<T>,
) -> Result<BTreeMap<String, T>> {
    let root = fs::canonicalize(root).with_context(|| root.display().to_string())?;
    let entries = fs::read_dir(&root).with_context(|| root.display().to_string())?;
    let mut found = BTreeMap::new();
    for entry in entries {
        let folder = entry?.path();
        let path = folder.join(file);
        if !path.is_file() {
            continue;
        }
        let name = folder.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{}: not UTF-8", folder.display()))?;
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let parsed: T = toml::from_str(&text).map_err(|error| {
            let place = error.span().map_or_else(String::new, |span| {
                let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
                format!(":{line}")
            });
            anyhow::anyhow!("{}{place}: {}", path.display(), error.message())
        })?;
        let finished = finish(name.to_owned(), folder.clone(), parsed);
        found.insert(
            name.to_owned(),
            finished.with_context(|| path.display().to_string())?,
        );
    }
    ensure!(
        !found.is_empty(),
        "{}: no folder with a {file}",
        root.display()
    );
    Ok(found)
}

impl App {
    fn check(&self) -> Result<()> {
        ensure!(!self.containers.is_empty(), "there is no [[container]]");
        let mut names = BTreeSet::new();
        for process in self.containers.iter().chain(&self.dependencies) {
            let name = &process.name;
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            ensure!(
                !name.is_empty() && name.chars().all(plain),
                "name {name:?}: lower-case letters, digits and - only"
            );
            ensure!(
                names.insert(name),
                "two containers or dependencies are called {name}"
            );
            ensure!(!process.command.is_empty(), "{name} has no command");
        }
        for dependency in &self.dependencies {
            ensure!(
                dependency.port.is_some(),
                "dependency {} has no port",
                dependency.name
            );
        }
        if let Some(relayed) = self.containers.iter().find(|one| one.relay) {
            bail!("container {}: only a dependency has a relay", relayed.name);
        }
        for script in self.prepare.iter().chain(&self.probe) {
            ensure!(self.folder.join(script).is_file(), "there is no {script}");
        }
        for (name, rate) in self.variants.iter().map(|one| (&one.name, one.rate)) {
            ensure!(rate > 0.0, "variant {name}: rate {rate} is not above 0");
        }
        for applied in self.faults.iter().chain(&self.changes) {
            self.check_applied(applied)?;
        }
        Ok(())
    }

    /// Whether what is applied names parts of this application.
    pub(super) fn check_applied(&self, applied: &Applied) -> Result<()> {
        if let Some(target) = &applied.target {
            let mut processes = self.containers.iter().chain(&self.dependencies);
            ensure!(
                processes.any(|process| process.name == *target),
                "{}: no container or dependency is called {target}",
                applied.name
            );
        }
        for variant in &applied.variants {
            self.rate(variant)
                .with_context(|| format!("{}: no variant {variant}", applied.name))?;
        }
        Ok(())
    }

    /// Requests per second.
    pub(super) fn rate(&self, variant: &str) -> Option<f64> {
        let named = self.variants.iter().find(|one| one.name == variant);
        let usual = (variant == USUAL).then_some(self.load.rate);
        named.map(|variant| variant.rate).or(usual)
    }
}

impl Fault {
    fn check(&self, is_fault: bool) -> Result<()> {
        if is_fault {
            ensure!(self.class.is_some(), "class is missing");
            ensure!(self.bound.is_some(), "bound is missing: i, t, b or r");
        } else {
            ensure!(self.class.is_none(), "a normal change has no class");
        }
        ensure!(self.seconds > 0.0, "seconds is not above 0");
        ensure!(!self.settings.is_empty(), "there is no [[setting]]");
        let script = self.folder.join(INJECT);
        ensure!(script.is_file(), "there is no {INJECT} beside it");
        Ok(())
    }

    /// Whether an application gives all that the scripts ask for.
    pub(super) fn check_applied(&self, applied: &Applied) -> Result<()> {
        for name in &self.parameters {
            ensure!(
                applied.parameters.contains_key(name),
                "parameter {name} of {} is missing",
                self.name
            );
        }
        for setting in &applied.settings {
            ensure!(
                self.settings.iter().any(|known| known.name == *setting),
                "{} has no setting {setting}",
                self.name
            );
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
