//! How learning goes about it.

use std::{path::PathBuf, time::Duration};

use stethos_bundle::Subject;

use super::{
    progress::Bounds,
    shared::place::{self, Place},
};
use crate::record::{ContainerInfo, ProcessInfo};

#[derive(Clone, Debug)]
pub struct Settings {
    pub bounds: Bounds,
    /// Where bundles and the notebook are kept.
    pub state_dir: PathBuf,
    /// Time, priority and memory of the training process.
    pub time_limit: Duration,
    pub nice: u8,
    pub memory: u64,
    /// Whose models they are; replicas share those of the same tenant and workload.
    pub tenant: String,
    /// What tells this replica from others of its workload.
    pub replica: String,
    /// From a container and its first process to what it is a replica of.
    pub workload: Workload,
}

/// Names of workloads.
#[derive(Clone, Debug)]
pub enum Workload {
    Named(String),
    Found(fn(&ContainerInfo, &ProcessInfo) -> String),
}

impl Settings {
    /// What a container's models are shared under.
    pub(super) fn place(
        &self,
        arch: &str,
        container: &ContainerInfo,
        process: &ProcessInfo,
    ) -> Place {
        let workload = match &self.workload {
            Workload::Named(name) => name.clone(),
            Workload::Found(find) => find(container, process),
        };
        Place {
            arch: arch.to_owned(),
            container: container.name.clone(),
            subject: Subject {
                tenant: self.tenant.clone(),
                workload,
                command: place::command(&process.executable, &process.command_line),
                image: container.image_digest.as_deref().and_then(place::image),
            },
        }
    }
}
