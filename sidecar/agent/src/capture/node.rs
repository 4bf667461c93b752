//! What capture asks of the node: by this process itself in self-contained mode, of the broker
//! otherwise.

use std::{
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use stethos_events::lost;

use super::{
    kernel::{Found, Kernel, Place},
    lookup::Lookup,
    pod::{Pod, PodMaps},
    thread_context::ThreadContext,
};
use crate::record::{
    DescriptorTarget, MemoryUse, NetworkCounters, RunState, SocketState, Throttling,
};

/// Name, place and image of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerFacts {
    pub name: String,
    /// Below the cgroup mount; empty when not known.
    pub cgroup_path: String,
    /// As in [`ContainerInfo`](crate::record::ContainerInfo).
    pub image: Option<String>,
    pub image_digest: Option<String>,
}

/// What a process is. Fields are empty when it ended before it was looked at, or cannot be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessFacts {
    pub executable: String,
    pub command_line: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub descriptors: Vec<(i32, DescriptorTarget)>,
}

/// What a process publishes about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Published {
    /// Where its threads say which span they work for.
    pub thread_context: Option<ThreadContext>,
    /// Attributes of the resource of its telemetry.
    pub resource: Vec<(String, String)>,
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

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ResourceFacts {
    /// Cgroup of the container.
    pub container: u64,
    /// What its ended threads ran, and what they were ready to run.
    pub ended_ran_ns: u64,
    pub ended_ready_ns: u64,
    pub throttling: Option<Throttling>,
    pub memory: Option<MemoryUse>,
}

/// A thread of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadPlace {
    pub tid: u32,
    /// Cgroup of its container.
    pub container: u64,
}

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadFacts {
    pub tid: u32,
    pub pid: u32,
    pub state: RunState,
    /// Number and first argument of the call that it sleeps in, where that can be told.
    pub call: Option<(u16, u64)>,
}

/// What a network namespace counted, and how the sockets stand that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkFacts {
    pub counters: Option<NetworkCounters>,
    pub sockets: Vec<SocketState>,
}

/// Sockets in one question of [`Node::network`] at most.
pub const SOCKETS_MAX: usize = 32;
/// Threads in one answer of [`Node::threads`] at most.
pub const THREADS_MAX: usize = 2048;
/// Threads in one question of [`Node::thread_facts`] at most.
pub const THREAD_FACTS_MAX: usize = 256;

/// Containers in one question of [`Node::resources`] at most.
pub const RESOURCES_MAX: usize = 64;

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
    /// Counters; `containers` are the cgroups whose ended threads are asked for. One that is gone
    /// is told once more, and then not any more.
    fn counters(&mut self, containers: &[u64]) -> Result<Counters, Unanswered>;
    /// None when the node does not answer now.
    fn container(&mut self, cgroup: u64) -> Option<ContainerFacts>;
    /// None when the node does not answer now.
    fn process(&mut self, pid: u32) -> Option<ProcessFacts>;
    fn descriptor(&mut self, pid: u32, fd: i32) -> Option<DescriptorTarget>;
    /// The resource that a process publishes; empty when it publishes none. From then on the kernel
    /// programs know where its threads say which span they work for. None when the node does not
    /// answer now.
    fn published(&mut self, _pid: u32) -> Option<Vec<(String, String)>> {
        None
    }
    /// The pod's threads with ids above `after`: the [`THREADS_MAX`] lowest, by id. None when the
    /// node does not answer now.
    fn threads(&mut self, after: u32) -> Option<Vec<ThreadPlace>>;
    /// What these threads are doing, without those that ended; at most [`THREAD_FACTS_MAX`]. None
    /// when the node does not answer now.
    fn thread_facts(&mut self, tids: &[u32]) -> Option<Vec<ThreadFacts>>;
    /// The network namespace of a process of the pod, and some sockets of its processes; at most
    /// [`SOCKETS_MAX`]. None when the node does not answer, or knows nothing of it.
    fn network(&mut self, _pid: u32, _sockets: &[(u32, i32)]) -> Option<NetworkFacts> {
        None
    }
    /// What these containers use; at most [`RESOURCES_MAX`]. None when the node does not answer now,
    /// or cannot tell.
    fn resources(&mut self, _containers: &[u64]) -> Option<Vec<ResourceFacts>> {
        None
    }
    /// New maps that replace the pod's, when there are: counters then began again.
    fn renewed(&mut self) -> Option<(Pod, PodMaps)> {
        None
    }
}

/// Programs and `/proc` of this process, as one pod's capture is given them.
pub struct PodView<'a> {
    pub kernel: &'a Kernel,
    pub place: &'a Place,
}

/// How often containers are looked at whether they are gone.
const GONE: Duration = Duration::from_secs(5);

/// Accounts of containers that are gone: told, then forgotten.
#[derive(Default)]
pub struct GoneContainers {
    told: Vec<u64>,
    looked: Option<Instant>,
}

impl PodView<'_> {
    pub fn counters(
        &self,
        containers: &[u64],
        lookup: &Lookup,
        gone: &mut GoneContainers,
    ) -> Result<Counters, Unanswered> {
        let pod = self.place.index;
        // That they are asked for again says that the last answer arrived.
        for cgroup in gone.told.drain(..) {
            self.kernel.forget_ended(pod, cgroup);
        }
        if gone.looked.is_none_or(|looked| looked.elapsed() >= GONE) {
            gone.looked = Some(Instant::now());
            let all = containers.iter().copied();
            gone.told = all.filter(|cgroup| lookup.is_gone(*cgroup)).collect();
        }
        let lost = self
            .kernel
            .lost(pod)
            .map_err(|error| Unanswered(error.to_string()))?;
        let ended = containers
            .iter()
            .map(|cgroup| (*cgroup, self.kernel.ended(pod, *cgroup)))
            .filter(|(_, account)| account.threads > 0)
            .map(|(cgroup, account)| {
                let ended = EndedThreads {
                    seen: account.seen,
                    lost: account.lost,
                    counted: account.counted,
                };
                (cgroup, ended)
            })
            .collect();
        Ok(Counters {
            lost,
            ended,
            skipped_recursion: self.kernel.skipped_recursion(),
        })
    }

    pub fn published(&self, pid: u32, lookup: &mut Lookup) -> Vec<(String, String)> {
        let published = lookup.published(pid);
        if let Some(context) = &published.thread_context {
            self.kernel.publish_context(pid, context.place());
        }
        published.resource
    }

    pub fn resources(&self, containers: &[u64], lookup: &mut Lookup) -> Vec<ResourceFacts> {
        let facts = containers.iter().map(|cgroup| {
            let ended = self.kernel.ended(self.place.index, *cgroup);
            let used = lookup.used(*cgroup);
            ResourceFacts {
                container: *cgroup,
                ended_ran_ns: ended.ran,
                ended_ready_ns: ended.run_delay,
                throttling: used.throttling,
                memory: used.memory,
            }
        });
        facts.collect()
    }
}

/// Self-contained mode: the programs and `/proc` are this process's own.
pub struct OwnNode {
    kernel: Kernel,
    place: Place,
    lookup: Lookup,
    gone: GoneContainers,
}

impl OwnNode {
    pub fn new(kernel: Kernel, place: Place, targets: &[Found], mount: Option<PathBuf>) -> Self {
        let visible = kernel.own_pid == std::process::id();
        if !visible {
            tracing::warn!(
                "the sidecar does not see the host's process ids: names of processes, files and \
                 peers behind descriptors cannot be looked up"
            );
        }
        Self {
            kernel,
            place,
            lookup: Lookup::new(targets, mount, visible),
            gone: GoneContainers::default(),
        }
    }
}

impl Node for OwnNode {
    fn poll_threads(&mut self) -> Result<(), Unanswered> {
        self.kernel
            .poll_threads(&self.place)
            .map_err(|error| Unanswered(error.to_string()))
    }

    fn counters(&mut self, containers: &[u64]) -> Result<Counters, Unanswered> {
        self.kernel.decide_anew();
        let view = PodView {
            kernel: &self.kernel,
            place: &self.place,
        };
        view.counters(containers, &self.lookup, &mut self.gone)
    }

    fn container(&mut self, cgroup: u64) -> Option<ContainerFacts> {
        Some(self.lookup.container(cgroup))
    }

    fn process(&mut self, pid: u32) -> Option<ProcessFacts> {
        Some(self.lookup.process(pid))
    }

    fn descriptor(&mut self, pid: u32, fd: i32) -> Option<DescriptorTarget> {
        self.lookup.descriptor(pid, fd)
    }

    fn published(&mut self, pid: u32) -> Option<Vec<(String, String)>> {
        let view = PodView {
            kernel: &self.kernel,
            place: &self.place,
        };
        Some(view.published(pid, &mut self.lookup))
    }

    fn threads(&mut self, after: u32) -> Option<Vec<ThreadPlace>> {
        let without = self.kernel.excluded();
        Some(self.lookup.threads(after, THREADS_MAX, &without))
    }

    fn thread_facts(&mut self, tids: &[u32]) -> Option<Vec<ThreadFacts>> {
        let facts = tids.iter().filter_map(|tid| self.lookup.thread(*tid));
        Some(facts.collect())
    }

    fn network(&mut self, pid: u32, sockets: &[(u32, i32)]) -> Option<NetworkFacts> {
        self.lookup.network(pid, sockets)
    }

    fn resources(&mut self, containers: &[u64]) -> Option<Vec<ResourceFacts>> {
        let view = PodView {
            kernel: &self.kernel,
            place: &self.place,
        };
        Some(view.resources(containers, &mut self.lookup))
    }
}
