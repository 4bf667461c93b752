//! Remembers what was told about containers, processes and descriptors, and asks the node for the
//! rest.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    node::{ContainerFacts, Node},
    runtime,
};
use crate::record::{
    ContainerIndex, ContainerInfo, DescriptorInfo, DescriptorTarget, Nanos, ProcessInfo, Record,
};

#[derive(Default)]
pub struct Facts {
    containers: HashMap<u64, ContainerIndex>,
    processes: HashSet<u32>,
    descriptors: HashMap<(u32, i32), Nanos>,
    opened: HashSet<(ContainerIndex, Vec<u8>)>,
    /// Containers that were announced while the node did not answer: their name stands in for the
    /// right one.
    unnamed: Vec<(u64, ContainerIndex)>,
    /// Processes that wait to be described.
    undescribed: BTreeMap<u32, ContainerIndex>,
}

/// Opened paths that are told once; further ones are not told.
const OPENED: usize = 16_384;
/// Processes that are remembered as described; beyond, all are described again when seen.
const PROCESSES: usize = 65_536;
/// Processes that are asked for at once when the node answers again.
const CATCH_UP: usize = 256;

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
                ..ContainerFacts::default()
            }
        });
        out.push(announced(index, facts, at_ns));
        index
    }

    /// Announces what the node did not answer before: containers under their names, and after them
    /// their processes.
    pub fn catch_up(&mut self, node: &mut dyn Node, at_ns: Nanos, out: &mut Vec<Record>) {
        self.unnamed.retain(|(cgroup, index)| {
            let Some(facts) = node.container(*cgroup) else {
                return true;
            };
            out.push(announced(*index, facts, at_ns));
            false
        });
        let waiting: Vec<_> = self
            .undescribed
            .iter()
            .take(CATCH_UP)
            .map(|(pid, container)| (*pid, *container))
            .collect();
        for (pid, container) in waiting {
            self.describe(node, pid, container, at_ns, out);
        }
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

    /// Announces a process that was not seen before, with its descriptors. True for such a one.
    pub fn process(
        &mut self,
        node: &mut dyn Node,
        pid: u32,
        container: ContainerIndex,
        at_ns: Nanos,
        out: &mut Vec<Record>,
    ) -> bool {
        if self.processes.contains(&pid) {
            return false;
        }
        if self.processes.len() >= PROCESSES {
            self.processes.clear();
        }
        self.processes.insert(pid);
        self.describe(node, pid, container, at_ns, out);
        true
    }

    /// Has every process described again when it is seen next.
    pub fn describe_again(&mut self) {
        self.processes.clear();
    }

    /// Announces what a process is now: first sight, after an exec, after it began to listen. While
    /// the node does not answer, it waits: a process that is announced belongs to a container whose
    /// name is right.
    pub fn describe(
        &mut self,
        node: &mut dyn Node,
        pid: u32,
        container: ContainerIndex,
        at_ns: Nanos,
        out: &mut Vec<Record>,
    ) {
        let named = self.unnamed.iter().all(|(_, index)| *index != container);
        let Some(facts) = named.then(|| node.process(pid)).flatten() else {
            if self.undescribed.len() < PROCESSES {
                self.undescribed.insert(pid, container);
            }
            return;
        };
        self.undescribed.remove(&pid);
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
        self.undescribed.remove(&pid);
        if self.processes.remove(&pid) {
            self.descriptors.retain(|(owner, _), _| *owner != pid);
        }
    }
}

fn announced(container: ContainerIndex, facts: ContainerFacts, at_ns: Nanos) -> Record {
    Record::Container(ContainerInfo {
        at_ns,
        container,
        id: runtime::container_id(&facts.cgroup_path).map(str::to_owned),
        cgroup_path: facts.cgroup_path,
        name: facts.name,
        image: facts.image,
        image_digest: facts.image_digest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::node::{Counters, ProcessFacts, ThreadFacts, ThreadPlace, Unanswered};

    /// A node that answers when it is there.
    struct SimulatedNode {
        there: bool,
    }

    impl Node for SimulatedNode {
        fn threads(&mut self, _after: u32) -> Option<Vec<ThreadPlace>> {
            None
        }

        fn thread_facts(&mut self, _tids: &[u32]) -> Option<Vec<ThreadFacts>> {
            None
        }

        fn poll_threads(&mut self) -> Result<(), Unanswered> {
            Ok(())
        }

        fn counters(&mut self, _: &[u64]) -> Result<Counters, Unanswered> {
            Ok(Counters::default())
        }

        fn container(&mut self, _: u64) -> Option<ContainerFacts> {
            self.there.then(|| ContainerFacts {
                name: "api".to_owned(),
                ..ContainerFacts::default()
            })
        }

        fn process(&mut self, _: u32) -> Option<ProcessFacts> {
            self.there.then(|| ProcessFacts {
                executable: "serve".to_owned(),
                ..ProcessFacts::default()
            })
        }

        fn descriptor(&mut self, _: u32, _: i32) -> Option<DescriptorTarget> {
            None
        }
    }

    /// What the records say: names of containers, executables of processes.
    fn told(out: &mut Vec<Record>) -> Vec<String> {
        out.drain(..)
            .map(|record| match record {
                Record::Container(info) => format!("{} is {}", info.container, info.name),
                Record::Process(info) => format!("{} runs {}", info.pid, info.executable),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn what_is_seen_while_the_node_is_away_is_told_right_when_it_is_back() {
        let (mut facts, mut out) = (Facts::default(), Vec::new());
        let mut node = SimulatedNode { there: false };
        let container = facts.container(&mut node, 7, 1, &mut out);
        for pid in [10, 11, 12] {
            facts.process(&mut node, pid, container, 1, &mut out);
        }
        assert_eq!(told(&mut out), ["0 is cgroup-7"]);
        // It answers before the container was asked for again.
        node.there = true;
        facts.process(&mut node, 13, container, 2, &mut out);
        assert!(out.is_empty());
        node.there = false;
        facts.process_ended(11);
        facts.catch_up(&mut node, 3, &mut out);
        assert!(out.is_empty());

        node.there = true;
        facts.catch_up(&mut node, 4, &mut out);
        let right = [
            "0 is api",
            "10 runs serve",
            "12 runs serve",
            "13 runs serve",
        ];
        assert_eq!(told(&mut out), right);
        facts.catch_up(&mut node, 5, &mut out);
        facts.process(&mut node, 10, container, 5, &mut out);
        assert!(out.is_empty());
    }
}
