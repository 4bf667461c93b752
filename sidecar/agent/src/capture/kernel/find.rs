//! Targets as they stand on this machine.

use std::{
    collections::HashSet,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use procfs::process::Process;
use stethos_events::SelfFound;

use super::KernelError;
use crate::capture::{
    lookup, pidfd,
    targets::{self, Cgroup, Target, TargetError},
};

/// A target as found on this machine.
#[derive(Clone, Debug)]
pub enum Found {
    Cgroup(Cgroup),
    /// A process, with the made-up cgroup id that stands for it in records.
    Pid {
        pid: u32,
        id: u64,
        /// The cgroup (below the mount) that it and what it started have to lie in.
        within: Option<PathBuf>,
    },
}

/// Marks the made-up ids of process targets; cgroup ids are inode numbers and never have it.
pub const PID_TARGET: u64 = 1 << 63;

impl Found {
    pub fn process(pid: u32) -> Self {
        Found::Pid {
            pid,
            id: PID_TARGET | u64::from(pid),
            within: None,
        }
    }

    /// The same, as long as it lies in this cgroup (below the mount).
    pub fn process_within(pid: u32, cgroup: PathBuf) -> Self {
        Found::Pid {
            pid,
            id: PID_TARGET | u64::from(pid),
            within: Some(cgroup),
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
            Target::Pid(pid) if Path::new(&format!("/proc/{pid}")).exists() => {
                Ok(Found::process(*pid))
            }
            Target::Pid(pid) => Err(TargetError::NoProcess(*pid).into()),
        })
        .collect()
}

/// Processes that are named as targets, or descend from one.
const PROCESSES: usize = 4096;

/// A process that is to be taken into the scope.
pub(super) struct Named {
    pub(super) pid: u32,
    pub(super) id: u64,
    within: Option<PathBuf>,
}

impl Named {
    /// A handle of the process that has the id now, if it lies where it has to.
    pub(super) fn open(&self) -> Option<OwnedFd> {
        // The handle comes first: what is read then is the same process's.
        let handle = pidfd::open(self.pid).ok()?;
        let lies_within = self.within.as_ref().is_none_or(|within| {
            let process = Process::new(self.pid as i32).ok();
            let own = process.as_ref().and_then(lookup::cgroup_of);
            own.is_some_and(|own| Path::new(&own).starts_with(within))
        });
        lies_within.then_some(handle)
    }
}

/// Processes among the targets, with what they started.
pub(super) fn processes(targets: &[Found]) -> Vec<Named> {
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for target in targets {
        let Found::Pid { pid, id, within } = target else {
            continue;
        };
        if seen.contains(pid) {
            continue;
        }
        let fresh = with_descendants(*pid).into_iter();
        let fresh = fresh.filter(|pid| seen.insert(*pid)).map(|pid| Named {
            pid,
            id: *id,
            within: within.clone(),
        });
        all.extend(fresh);
    }
    all.truncate(PROCESSES);
    all
}

/// A process and its descendants as they stand.
pub fn with_descendants(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut known = HashSet::from([pid]);
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
                if all.len() < PROCESSES && known.insert(child) {
                    all.push(child);
                }
            }
        }
    }
    all
}
