//! A fault or change of one pod, while it is done.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::pod::POD;
use super::spec::{Applied, Fault, Setting};
use super::variables::WORK;
use super::watched::Watched;
use crate::lab::Lab;

/// Expected while a fault lasts.
const LEAST_REQUESTS: f64 = 12.0;

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
    pub(super) effect: Option<(bool, String)>,
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
    pub(super) fn at_rate(mut self, rate: f64) -> Self {
        self.seconds = self.seconds.max(LEAST_REQUESTS / rate);
        self
    }

    fn notes(&self) -> String {
        format!("notes-{}", self.number)
    }

    /// Tells scripts what it is about.
    pub(super) fn enter(&mut self, watched: &mut Watched, lab: &Lab) -> Result<()> {
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
    pub(super) fn noted(&self, watched: &Watched) -> Option<f64> {
        let path = watched.pod.work.join(self.notes()).join("injected");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }
}
