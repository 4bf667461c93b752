//! What capture asks of the node: by this process itself in self-contained mode, of the broker
//! otherwise.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};
use stethos_events::{EndedAccount, lost};

use super::{
    kernel::{Found, Kernel},
    lookup::Lookup,
};
use crate::record::DescriptorTarget;

/// Name and place of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerFacts {
    pub name: String,
    /// Below the cgroup mount; empty when not known.
    pub cgroup_path: String,
}

/// What a process is. Fields are empty when it ended before it was looked at, or cannot be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessFacts {
    pub executable: String,
    pub command_line: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub descriptors: Vec<(i32, DescriptorTarget)>,
}

/// Counters of one pod since its start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// What did not travel, by `stethos_events::lost` index.
    pub lost: [u64; lost::COUNT as usize],
    /// Accounts of ended threads by container cgroup.
    pub ended: Vec<(u64, EndedThreads)>,
    /// Runs of the programs that the kernel skipped, on the whole node.
    pub skipped_recursion: u64,
}

/// Calls of the ended threads of one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndedThreads {
    pub seen: u64,
    pub lost: u64,
    pub counted: u64,
}

/// A question to the node that had no answer.
#[derive(Debug)]
pub struct Unanswered(pub String);

impl fmt::Display for Unanswered {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The node as one pod's capture sees it.
pub trait Node: Send {
    /// Has the kernel look at what the pod's threads are doing; their slots then say it.
    fn poll_threads(&mut self) -> Result<(), Unanswered>;
    /// Counters; `containers` are the cgroups whose ended threads are asked for.
    fn counters(&mut self, containers: &[u64]) -> Result<Counters, Unanswered>;
    fn container(&mut self, cgroup: u64) -> ContainerFacts;
    fn process(&mut self, pid: u32) -> ProcessFacts;
    fn descriptor(&mut self, pid: u32, fd: i32) -> Option<DescriptorTarget>;
}

/// Self-contained mode: the programs and `/proc` are this process's own.
pub struct OwnNode {
    kernel: Kernel,
    pod: u32,
    lookup: Lookup,
}

impl OwnNode {
    pub fn new(kernel: Kernel, pod: u32, targets: &[Found], mount: Option<PathBuf>) -> Self {
        let visible = kernel.own_pid == std::process::id();
        if !visible {
            tracing::warn!(
                "the sidecar does not see the host's process ids: names of processes, files and \
                 peers behind descriptors cannot be looked up"
            );
        }
        Self {
            kernel,
            pod,
            lookup: Lookup::new(targets, mount, visible),
        }
    }
}

impl Node for OwnNode {
    fn poll_threads(&mut self) -> Result<(), Unanswered> {
        self.kernel
            .poll_threads(self.pod)
            .map_err(|error| Unanswered(error.to_string()))
    }

    fn counters(&mut self, containers: &[u64]) -> Result<Counters, Unanswered> {
        self.kernel.decide_anew();
        let lost = self
            .kernel
            .lost(self.pod)
            .map_err(|error| Unanswered(error.to_string()))?;
        let ended = containers
            .iter()
            .map(|cgroup| {
                let EndedAccount {
                    seen,
                    lost,
                    counted,
                    ..
                } = self.kernel.ended(*cgroup);
                let ended = EndedThreads {
                    seen,
                    lost,
                    counted,
                };
                (*cgroup, ended)
            })
            .collect();
        Ok(Counters {
            lost,
            ended,
            skipped_recursion: self.kernel.skipped_recursion(),
        })
    }

    fn container(&mut self, cgroup: u64) -> ContainerFacts {
        self.lookup.container(cgroup)
    }

    fn process(&mut self, pid: u32) -> ProcessFacts {
        self.lookup.process(pid)
    }

    fn descriptor(&mut self, pid: u32, fd: i32) -> Option<DescriptorTarget> {
        self.lookup.descriptor(pid, fd)
    }
}
