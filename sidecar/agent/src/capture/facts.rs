//! Remembers what was told about containers, processes and descriptors, and asks the node for the
//! rest.

use std::collections::{HashMap, HashSet};

use super::node::{ContainerFacts, Node};
use crate::record::{
    ContainerIndex, ContainerInfo, DescriptorInfo, DescriptorTarget, Nanos, ProcessInfo, Record,
};

#[derive(Default)]
pub struct Facts {
    containers: HashMap<u64, ContainerIndex>,
    processes: HashSet<u32>,
    descriptors: HashMap<(u32, i32), Nanos>,
    opened: HashSet<(ContainerIndex, Vec<u8>)>,
    /// Containers that were announced while the node did not answer.
    unnamed: Vec<(u64, ContainerIndex)>,
}

/// Opened paths that are told once; further ones are not told.
const OPENED: usize = 16_384;
/// Processes that are remembered as described; beyond, all are described again when seen.
const PROCESSES: usize = 65_536;

impl Facts {
    /// Index of the container with this cgroup id; a new one is announced in `out`.
    pub fn container(
        &mut self,
        node: &mut dyn Node,
        cgroup: u64,
        at_ns: Nanos,
        out: &mut Vec<Record>,
    ) -> ContainerIndex {
        if let Some(index) = self.containers.get(&cgroup) {
            return *index;
        }
        let index = ContainerIndex::try_from(self.containers.len()).unwrap_or(ContainerIndex::MAX);
        self.containers.insert(cgroup, index);
        let facts = node.container(cgroup).unwrap_or_else(|| {
            self.unnamed.push((cgroup, index));
            ContainerFacts {
                name: format!("cgroup-{cgroup}"),
                cgroup_path: String::new(),
            }
        });
        out.push(announced(index, facts, at_ns));
        index
    }

    /// Announces containers again whose name could not be asked for before.
    pub fn name_containers(&mut self, node: &mut dyn Node, at_ns: Nanos, out: &mut Vec<Record>) {
        self.unnamed.retain(|(cgroup, index)| {
            let Some(facts) = node.container(*cgroup) else {
                return true;
            };
            out.push(announced(*index, facts, at_ns));
            false
        });
    }

    /// Index of a container that was announced.
    pub fn known(&self, cgroup: u64) -> Option<ContainerIndex> {
        self.containers.get(&cgroup).copied()
    }

    pub fn containers(&self) -> impl Iterator<Item = (u64, ContainerIndex)> + '_ {
        self.containers
            .iter()
            .map(|(cgroup, index)| (*cgroup, *index))
    }

    /// Announces a process that was not seen before, with its descriptors.
    pub fn process(
        &mut self,
        node: &mut dyn Node,
        pid: u32,
        container: ContainerIndex,
        at_ns: Nanos,
        out: &mut Vec<Record>,
    ) {
        if self.processes.contains(&pid) {
            return;
        }
        if self.processes.len() >= PROCESSES {
            self.processes.clear();
        }
        self.processes.insert(pid);
        self.describe(node, pid, container, at_ns, out);
    }

    /// Has every process described again when it is seen next.
    pub fn describe_again(&mut self) {
        self.processes.clear();
    }

    /// Announces what a process is now: first sight, after an exec, after it began to listen.
    pub fn describe(
        &mut self,
        node: &mut dyn Node,
        pid: u32,
        container: ContainerIndex,
        at_ns: Nanos,
        out: &mut Vec<Record>,
    ) {
        let facts = node.process(pid);
        let mut listens: Vec<_> = facts
            .descriptors
            .iter()
            .filter_map(|(_, target)| match target {
                DescriptorTarget::Listener(address) => Some(address.clone()),
                _ => None,
            })
            .collect();
        listens.sort();
        listens.dedup();
        // The process comes before its descriptors: what it listens on says which of its
        // connections it accepted.
        out.push(Record::Process(ProcessInfo {
            at_ns,
            container,
            pid,
            executable: facts.executable,
            command_line: facts.command_line,
            environment: facts.environment,
            listens,
        }));
        for (fd, target) in facts.descriptors {
            self.told(pid, fd, at_ns);
            out.push(Record::Descriptor(DescriptorInfo {
                at_ns,
                pid,
                fd,
                target,
            }));
        }
    }

    /// True when this path of the container was not told before.
    pub fn newly_opened(&mut self, container: ContainerIndex, path: &[u8]) -> bool {
        self.opened.len() < OPENED && self.opened.insert((container, path.to_owned()))
    }

    /// Looks a descriptor up, at most once a second.
    pub fn descriptor(
        &mut self,
        node: &mut dyn Node,
        pid: u32,
        fd: i32,
        at_ns: Nanos,
        out: &mut Vec<Record>,
    ) {
        const AGAIN_NS: u64 = 1_000_000_000;
        let told = self.descriptors.get(&(pid, fd));
        if fd < 0 || told.is_some_and(|told| at_ns.saturating_sub(*told) < AGAIN_NS) {
            return;
        }
        self.told(pid, fd, at_ns);
        if let Some(target) = node.descriptor(pid, fd) {
            out.push(Record::Descriptor(DescriptorInfo {
                at_ns,
                pid,
                fd,
                target,
            }));
        }
    }

    fn told(&mut self, pid: u32, fd: i32, at_ns: Nanos) {
        if self.descriptors.len() > 65_536 {
            self.descriptors.clear();
        }
        self.descriptors.insert((pid, fd), at_ns);
    }

    /// Forgets a process that ended.
    pub fn process_ended(&mut self, pid: u32) {
        if self.processes.remove(&pid) {
            self.descriptors.retain(|(owner, _), _| *owner != pid);
        }
    }
}

fn announced(container: ContainerIndex, facts: ContainerFacts, at_ns: Nanos) -> Record {
    Record::Container(ContainerInfo {
        at_ns,
        container,
        id: container_id(&facts.name),
        cgroup_path: facts.cgroup_path,
        name: facts.name,
    })
}

/// The 64 hex digits of a container id within a cgroup's name (`cri-containerd-<id>.scope`).
fn container_id(name: &str) -> Option<String> {
    name.split(|c: char| !c.is_ascii_hexdigit())
        .find(|part| part.len() == 64)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_found_in_runtime_names() {
        let id = "ab".repeat(32);
        assert_eq!(
            container_id(&format!("cri-containerd-{id}.scope")),
            Some(id.clone())
        );
        assert_eq!(container_id(&id), Some(id));
        assert_eq!(container_id("api"), None);
    }
}
