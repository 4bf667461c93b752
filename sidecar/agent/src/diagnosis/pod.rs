//! What is known about the pod: containers, processes, descriptors, and the account of calls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stethos_patterns::Role;

use crate::record::{
    ContainerIndex, ContainerInfo, DescriptorInfo, DescriptorLife, DescriptorTarget, Detail,
    Lifecycle, LifecycleEvent, Nanos, ProcessInfo, Subject, Tick,
};
use crate::sequential::SECOND;

const MAX_PROCESSES: usize = 4096;
const MAX_DESCRIPTORS: usize = 16_384;
const MAX_DETAILS: usize = 1024;
const MAX_ACCOUNTS: usize = 600;
/// A process younger than this is starting: loading libraries, looking for its configuration.
pub(crate) const STARTING: Nanos = 5 * SECOND;
/// A process that lived this long is one that is meant to stay.
const SETTLED: Nanos = 10 * SECOND;

#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub(crate) container: ContainerIndex,
    pub(crate) executable: String,
    /// What people call it: the name it was started by, where known (an executable may be a
    /// link to another's file).
    pub(crate) title: String,
    pub(crate) listens: Vec<String>,
    pub(crate) since_ns: Nanos,
    /// When it was looked at; 0 when it was not.
    pub(crate) described_ns: Nanos,
}

#[derive(Debug, Default)]
pub(crate) struct Pod {
    names: BTreeMap<ContainerIndex, String>,
    processes: BTreeMap<u32, Process>,
    /// Listening addresses outlive their process: a peer that is gone still has its place.
    listens: BTreeMap<String, ContainerIndex>,
    /// Executables that ran as processes meant to stay, per container name.
    settled: BTreeSet<(String, String)>,
    descriptors: BTreeMap<(u32, i32), (Nanos, DescriptorTarget)>,
    details: VecDeque<Detail>,
    accounts: VecDeque<Tick>,
    /// Containers that have been seen to talk to each other: caller, callee.
    talks: BTreeSet<(ContainerIndex, ContainerIndex)>,
}

impl Pod {
    pub(crate) fn on_container(&mut self, info: &ContainerInfo) {
        self.names.insert(info.container, info.name.clone());
    }

    pub(crate) fn on_process(&mut self, info: &ProcessInfo) {
        for address in &info.listens {
            if self.listens.len() < MAX_PROCESSES {
                self.listens.insert(address.clone(), info.container);
            }
        }
        let since_ns = match self.processes.get(&info.pid) {
            // An exec has been told of by a lifecycle record.
            Some(known) => known.since_ns,
            None => info.at_ns,
        };
        self.insert(
            info.pid,
            Process {
                container: info.container,
                executable: info.executable.clone(),
                title: title(info),
                listens: info.listens.clone(),
                since_ns,
                described_ns: info.at_ns,
            },
        );
    }

    fn insert(&mut self, pid: u32, process: Process) {
        if self.processes.len() >= MAX_PROCESSES && !self.processes.contains_key(&pid) {
            let oldest = self
                .processes
                .iter()
                .min_by_key(|(_, p)| p.since_ns)
                .map(|(pid, _)| *pid);
            if let Some(oldest) = oldest {
                self.processes.remove(&oldest);
            }
        }
        self.processes.insert(pid, process);
    }

    /// Gives the process that ended.
    pub(crate) fn on_lifecycle(&mut self, record: &Lifecycle) -> Option<Process> {
        match &record.event {
            LifecycleEvent::Fork { child_pid, .. } if *child_pid != record.pid => {
                let executable = self
                    .processes
                    .get(&record.pid)
                    .map(|p| p.executable.clone())
                    .unwrap_or_default();
                let child = Process {
                    container: record.container,
                    title: base(&executable).to_owned(),
                    executable,
                    since_ns: record.at_ns,
                    ..Process::default()
                };
                self.insert(*child_pid, child);
                None
            }
            LifecycleEvent::Exec { executable } => {
                // Its description may have come before.
                let described = self
                    .processes
                    .get_mut(&record.pid)
                    .filter(|process| process.described_ns >= record.at_ns);
                if let Some(process) = described {
                    process.since_ns = record.at_ns;
                    return None;
                }
                let process = Process {
                    container: record.container,
                    title: base(executable).to_owned(),
                    executable: executable.clone(),
                    since_ns: record.at_ns,
                    ..Process::default()
                };
                self.insert(record.pid, process);
                None
            }
            LifecycleEvent::Exit {
                group_dead: true, ..
            } => {
                let process = self.processes.remove(&record.pid)?;
                self.descriptors.retain(|(pid, _), _| *pid != record.pid);
                if record.at_ns.saturating_sub(process.since_ns) >= SETTLED {
                    let name = self.container_name(process.container);
                    if self.settled.len() < MAX_PROCESSES {
                        let executable = base(&process.executable).to_owned();
                        self.settled.insert((name, executable));
                    }
                }
                Some(process)
            }
            _ => None,
        }
    }

    pub(crate) fn on_detail(&mut self, detail: &Detail) {
        if let Subject::Peer(peer) = &detail.subject {
            let target = DescriptorTarget::Tcp {
                local: String::new(),
                peer: peer.clone(),
            };
            self.set_descriptor(detail.pid, detail.fd, detail.at_ns, target);
        }
        if let (Subject::Path(path), Ok(fd @ 0..)) = (&detail.subject, i32::try_from(detail.ret)) {
            let target = DescriptorTarget::File(path.clone());
            self.set_descriptor(detail.pid, fd, detail.at_ns, target);
            return;
        }
        if self.details.len() >= MAX_DETAILS {
            self.details.pop_front();
        }
        self.details.push_back(detail.clone());
    }

    pub(crate) fn on_descriptor(&mut self, info: &DescriptorInfo) {
        if let DescriptorTarget::Listener(address) = &info.target
            && let Some(process) = self.processes.get(&info.pid)
            && self.listens.len() < MAX_PROCESSES
        {
            self.listens.insert(address.clone(), process.container);
        }
        self.set_descriptor(info.pid, info.fd, info.at_ns, info.target.clone());
    }

    /// What is known of an earlier life of the descriptor does not hold any more.
    pub(crate) fn on_life(&mut self, life: &DescriptorLife) {
        match &life.peer {
            Some(peer) if life.role == Role::Client => {
                let target = DescriptorTarget::Tcp {
                    local: String::new(),
                    peer: peer.clone(),
                };
                self.set_descriptor(life.pid, life.fd, life.since_ns, target);
            }
            _ => self.on_close(life.pid, life.fd, life.since_ns),
        }
    }

    fn set_descriptor(&mut self, pid: u32, fd: i32, at_ns: Nanos, target: DescriptorTarget) {
        if self.descriptors.len() >= MAX_DESCRIPTORS && !self.descriptors.contains_key(&(pid, fd)) {
            self.descriptors.pop_first();
        }
        self.descriptors.insert((pid, fd), (at_ns, target));
    }

    pub(crate) fn on_close(&mut self, pid: u32, fd: i32, at_ns: Nanos) {
        if self
            .descriptors
            .get(&(pid, fd))
            .is_some_and(|(since, _)| *since < at_ns)
        {
            self.descriptors.remove(&(pid, fd));
        }
    }

    pub(crate) fn on_tick(&mut self, tick: &Tick) {
        if self.accounts.len() >= MAX_ACCOUNTS {
            self.accounts.pop_front();
        }
        self.accounts.push_back(tick.clone());
    }

    /// What the failed call of `tid` that returned at `at_ns` was about. A thread's calls may follow one
    /// another by microseconds: only the time itself tells which one a detail is of.
    pub(crate) fn subject(&self, tid: u32, nr: u16, at_ns: Nanos) -> Option<&Subject> {
        self.details
            .iter()
            .rev()
            .find(|d| d.tid == tid && d.nr == nr && d.at_ns == at_ns)
            .map(|d| &d.subject)
    }

    pub(crate) fn file(&self, pid: u32, fd: i32) -> Option<&str> {
        match &self.descriptors.get(&(pid, fd))?.1 {
            DescriptorTarget::File(path) => Some(path),
            _ => None,
        }
    }

    pub(crate) fn peer(&self, pid: u32, fd: i32) -> Option<&str> {
        match &self.descriptors.get(&(pid, fd))?.1 {
            DescriptorTarget::Tcp { peer, .. } => Some(peer),
            _ => None,
        }
    }

    pub(crate) fn listener(&self, pid: u32, fd: i32) -> Option<&str> {
        match &self.descriptors.get(&(pid, fd))?.1 {
            DescriptorTarget::Listener(address) => Some(address),
            _ => None,
        }
    }

    pub(crate) fn container_name(&self, container: ContainerIndex) -> String {
        self.names
            .get(&container)
            .cloned()
            .unwrap_or_else(|| format!("container-{container}"))
    }

    pub(crate) fn process(&self, pid: u32) -> Option<&Process> {
        self.processes.get(&pid)
    }

    /// A call of a process that nobody announced.
    pub(crate) fn saw(&mut self, container: ContainerIndex, pid: u32, at_ns: Nanos) {
        if !self.processes.contains_key(&pid) {
            let process = Process {
                container,
                since_ns: at_ns,
                ..Process::default()
            };
            self.insert(pid, process);
        }
    }

    pub(crate) fn is_starting(&self, pid: u32, at_ns: Nanos) -> bool {
        self.processes
            .get(&pid)
            .is_some_and(|p| at_ns < p.since_ns.saturating_add(STARTING))
    }

    /// True when `executable` is meant to stay in this container, and none of its processes is
    /// one that stayed at `at_ns`.
    pub(crate) fn lost_settled(
        &self,
        container: ContainerIndex,
        executable: &str,
        at_ns: Nanos,
    ) -> bool {
        let key = (self.container_name(container), base(executable).to_owned());
        self.settled.contains(&key) && !self.has_settled(executable, Some(container), at_ns)
    }

    /// True when a process of `executable` runs and has stayed, in `container` or in any.
    pub(crate) fn has_settled(
        &self,
        executable: &str,
        container: Option<ContainerIndex>,
        at_ns: Nanos,
    ) -> bool {
        self.processes.values().any(|p| {
            container.is_none_or(|container| p.container == container)
                && base(&p.executable) == base(executable)
                && at_ns.saturating_sub(p.since_ns) >= SETTLED
        })
    }

    /// True when a process of one of these programs runs in `container`.
    pub(crate) fn runs(&self, container: ContainerIndex, programs: &[&str]) -> bool {
        let is_one = |name: &str| {
            let programs = programs.iter().filter(|program| !program.is_empty());
            programs.map(|program| base(program)).any(|program| {
                // Of a command's name the kernel keeps 15 bytes.
                name == program || program.len() == 15 && name.starts_with(program)
            })
        };
        self.processes
            .values()
            .any(|p| p.container == container && (is_one(base(&p.executable)) || is_one(&p.title)))
    }

    /// The container of the pod that listens (or listened) on `peer`. Containers of a pod share
    /// their network, so a listener on every address is found by its port.
    pub(crate) fn callee(&self, peer: &str) -> Option<ContainerIndex> {
        if let Some(container) = self.listens.get(peer) {
            return Some(*container);
        }
        let (host, port) = peer.rsplit_once(':')?;
        let mut hosts = vec!["0.0.0.0", "[::]", "*"];
        if matches!(
            host,
            "127.0.0.1" | "[::1]" | "localhost" | "[::ffff:127.0.0.1]"
        ) {
            hosts.extend(["127.0.0.1", "[::1]", "localhost"]);
        }
        hosts
            .iter()
            .find_map(|host| self.listens.get(&format!("{host}:{port}")))
            .copied()
    }

    pub(crate) fn on_talk(&mut self, caller: ContainerIndex, peer: &str) {
        if let Some(callee) = self.callee(peer)
            && self.talks.len() < MAX_PROCESSES
        {
            self.talks.insert((caller, callee));
        }
    }

    /// True when work in one container can be felt in the other.
    pub(crate) fn connected(&self, a: ContainerIndex, b: ContainerIndex) -> bool {
        self.walk(a, |from, (caller, callee)| match from {
            from if from == caller => Some(callee),
            from if from == callee => Some(caller),
            _ => None,
        })
        .contains(&b)
    }

    /// True when `from` is `to`, or asks it for something, be it through others.
    pub(crate) fn depends(&self, from: ContainerIndex, to: ContainerIndex) -> bool {
        self.walk(from, |from, (caller, callee)| {
            (from == caller).then_some(callee)
        })
        .contains(&to)
    }

    fn walk(
        &self,
        start: ContainerIndex,
        next: impl Fn(ContainerIndex, (ContainerIndex, ContainerIndex)) -> Option<ContainerIndex>,
    ) -> BTreeSet<ContainerIndex> {
        let mut reached = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(from) = open.pop() {
            let more = self.talks.iter().filter_map(|talk| next(from, *talk));
            open.extend(more.filter(|to| reached.insert(*to)));
        }
        reached
    }

    /// Share of the calls of `containers` that were lost between two points in time.
    pub(crate) fn loss_ratio(
        &self,
        containers: &BTreeSet<ContainerIndex>,
        from: Nanos,
        to: Nanos,
    ) -> f64 {
        let before = self
            .accounts
            .iter()
            .rev()
            .find(|t| t.at_ns <= from)
            .or(self.accounts.front());
        let after = self
            .accounts
            .iter()
            .find(|t| t.at_ns >= to)
            .or(self.accounts.back());
        let (Some(before), Some(after)) = (before, after) else {
            return 0.0;
        };
        let total = |tick: &Tick| {
            tick.accounts
                .iter()
                .filter(|(c, _)| containers.contains(c))
                .fold((0u64, 0u64), |(seen, lost), (_, account)| {
                    (
                        seen.saturating_add(account.seen),
                        lost.saturating_add(account.lost()),
                    )
                })
        };
        let ((seen0, lost0), (seen1, lost1)) = (total(before), total(after));
        let (seen, lost) = (seen1.saturating_sub(seen0), lost1.saturating_sub(lost0));
        if seen == 0 {
            0.0
        } else {
            (lost as f64 / seen as f64).min(1.0)
        }
    }
}

fn title(info: &ProcessInfo) -> String {
    let started = info
        .command_line
        .first()
        .and_then(|first| first.split_whitespace().next());
    base(started.unwrap_or(&info.executable))
        .trim_end_matches(':')
        .to_owned()
}

/// File name of an executable: the kernel and `/proc` do not always name it by the same path.
fn base(executable: &str) -> &str {
    executable.rsplit('/').next().unwrap_or(executable)
}
