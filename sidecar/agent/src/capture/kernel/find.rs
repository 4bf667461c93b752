//! Targets as they stand on this machine.

use stethos_events::SelfFound;

use super::KernelError;
use crate::capture::targets::{self, Cgroup, Target, TargetError};

/// A target as found on this machine.
#[derive(Clone, Debug)]
pub enum Found {
    Cgroup(Cgroup),
    /// A process, with the made-up cgroup id that stands for it in records.
    Pid {
        pid: u32,
        id: u64,
    },
}

/// Marks the made-up ids of process targets; cgroup ids are inode numbers and never have it.
pub const PID_TARGET: u64 = 1 << 63;

impl Found {
    pub fn process(pid: u32) -> Self {
        Found::Pid {
            pid,
            id: PID_TARGET | u64::from(pid),
        }
    }
}

pub(super) fn find(wanted: &[Target], found: &SelfFound) -> Result<Vec<Found>, KernelError> {
    wanted
        .iter()
        .map(|target| match target {
            Target::SelfPod => Ok(Found::Cgroup(targets::pod_of(&found.ancestors)?)),
            Target::Cgroup(path) => Ok(Found::Cgroup(targets::cgroup_at(
                &targets::cgroup_mount()?,
                path,
            )?)),
            Target::Pid(pid) if std::path::Path::new(&format!("/proc/{pid}")).exists() => {
                Ok(Found::process(*pid))
            }
            Target::Pid(pid) => Err(TargetError::NoProcess(*pid).into()),
        })
        .collect()
}

/// A process and its descendants as they stand.
pub fn with_descendants(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(parent) = all.get(next).copied() {
        next += 1;
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else {
            continue;
        };
        for task in tasks.flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children
                .split_whitespace()
                .filter_map(|child| child.parse().ok())
            {
                if all.len() < 4096 && !all.contains(&child) {
                    all.push(child);
                }
            }
        }
    }
    all
}
