//! What only `/proc` and the cgroup tree can tell: names of containers, processes and
//! descriptors.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use procfs::process::{FDTarget, Process};

use super::kernel::{Found, PID_TARGET};
use crate::record::{
    ContainerIndex, ContainerInfo, DescriptorInfo, DescriptorTarget, Nanos, ProcessInfo, Record,
};

/// Descriptors of one process that are looked up when it is first seen.
const DESCRIPTORS_AT_FIRST: usize = 1024;
/// The only environment variables that are read.
const ENVIRONMENT: [&str; 3] = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "HOSTNAME"];

/// Remembers what was told, and looks up the rest.
pub struct Facts {
    /// False when `/proc` shows another PID namespace than the kernel programs do; then nothing
    /// about processes can be looked up.
    visible: bool,
    roots: Vec<PathBuf>,
    mount: Option<PathBuf>,
    containers: HashMap<u64, ContainerIndex>,
    processes: HashMap<u32, Threads>,
    descriptors: HashMap<(u32, i32), Nanos>,
    opened: HashSet<(ContainerIndex, Vec<u8>)>,
}

/// The living threads of a process, and the exit code that one of them asked for.
struct Threads {
    threads: HashSet<u32>,
    asked: Option<i32>,
}

/// Opened paths that are told once; further ones are not told.
const OPENED: usize = 16_384;

impl Facts {
    pub fn new(targets: &[Found], mount: Option<PathBuf>, visible: bool) -> Self {
        let roots = targets
            .iter()
            .filter_map(|target| match target {
                Found::Cgroup(cgroup) => cgroup.path.clone(),
                Found::Pid { .. } => None,
            })
            .collect();
        Self {
            visible,
            roots,
            mount,
            containers: HashMap::new(),
            processes: HashMap::new(),
            descriptors: HashMap::new(),
            opened: HashSet::new(),
        }
    }

    /// Index of the container with this cgroup id; a new one is announced in `out`.
    pub fn container(
        &mut self,
        cgroup: u64,
        at_ns: Nanos,
        out: &mut Vec<Record>,
    ) -> ContainerIndex {
        if let Some(index) = self.containers.get(&cgroup) {
            return *index;
        }
        let index = ContainerIndex::try_from(self.containers.len()).unwrap_or(ContainerIndex::MAX);
        self.containers.insert(cgroup, index);
        let path = self.cgroup_path(cgroup);
        let name = match &path {
            _ if cgroup & PID_TARGET != 0 => self.command_name((cgroup & !PID_TARGET) as u32),
            Some(path) => path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned()),
            None => None,
        }
        .unwrap_or_else(|| format!("cgroup-{cgroup}"));
        let below_mount = path.as_deref().map(|path| {
            self.mount
                .as_deref()
                .and_then(|mount| path.strip_prefix(mount).ok())
                .unwrap_or(path)
        });
        out.push(Record::Container(ContainerInfo {
            at_ns,
            container: index,
            id: container_id(&name),
            cgroup_path: below_mount
                .map(|path| format!("/{}", path.display()))
                .unwrap_or_default(),
            name,
        }));
        index
    }

    pub fn containers(&self) -> impl Iterator<Item = (u64, ContainerIndex)> + '_ {
        self.containers
            .iter()
            .map(|(cgroup, index)| (*cgroup, *index))
    }

    /// Announces a process that was not seen before, with its descriptors.
    pub fn process(
        &mut self,
        pid: u32,
        container: ContainerIndex,
        at_ns: Nanos,
        out: &mut Vec<Record>,
    ) {
        if self.processes.contains_key(&pid) {
            return;
        }
        let threads = fs::read_dir(format!("/proc/{pid}/task"))
            .map(|tasks| {
                tasks
                    .flatten()
                    .filter_map(|task| task.file_name().to_str()?.parse().ok())
                    .collect()
            })
            .unwrap_or_default();
        self.processes.insert(
            pid,
            Threads {
                threads,
                asked: None,
            },
        );
        self.describe(pid, container, at_ns, out);
    }

    /// Announces what a process is now: first sight, after an exec, after it began to listen.
    pub fn describe(
        &mut self,
        pid: u32,
        container: ContainerIndex,
        at_ns: Nanos,
        out: &mut Vec<Record>,
    ) {
        let mut info = ProcessInfo {
            at_ns,
            container,
            pid,
            executable: String::new(),
            command_line: Vec::new(),
            environment: Vec::new(),
            listens: Vec::new(),
        };
        let process = self
            .visible
            .then(|| Process::new(pid as i32))
            .and_then(Result::ok);
        let Some(process) = process else {
            out.push(Record::Process(info));
            return;
        };
        info.executable = self.process_name(pid).unwrap_or_default();
        info.command_line = process.cmdline().unwrap_or_default();
        info.environment = environment(&process);
        let sockets = Sockets::of(&process);
        let first = out.len();
        let descriptors: Vec<_> = process
            .fd()
            .map(|all| all.flatten().take(DESCRIPTORS_AT_FIRST).collect())
            .unwrap_or_default();
        for descriptor in &descriptors {
            let target = sockets.name(&descriptor.target);
            if let DescriptorTarget::Listener(address) = &target
                && !info.listens.contains(address)
            {
                info.listens.push(address.clone());
            }
            self.descriptors.insert((pid, descriptor.fd), at_ns);
            out.push(Record::Descriptor(DescriptorInfo {
                at_ns,
                pid,
                fd: descriptor.fd,
                target,
            }));
        }
        info.listens.sort();
        // The process comes before its descriptors: what it listens on says which of its
        // connections it accepted.
        out.insert(first, Record::Process(info));
    }

    /// True when this path of the container was not told before.
    pub fn newly_opened(&mut self, container: ContainerIndex, path: &[u8]) -> bool {
        self.opened.len() < OPENED && self.opened.insert((container, path.to_owned()))
    }

    /// Looks a descriptor up, at most once a second.
    pub fn descriptor(&mut self, pid: u32, fd: i32, at_ns: Nanos, out: &mut Vec<Record>) {
        const AGAIN_NS: u64 = 1_000_000_000;
        if !self.visible || fd < 0 {
            return;
        }
        if self.descriptors.len() > 65_536 {
            self.descriptors.clear();
        }
        let told = self.descriptors.get(&(pid, fd));
        if told.is_some_and(|told| at_ns.saturating_sub(*told) < AGAIN_NS) {
            return;
        }
        self.descriptors.insert((pid, fd), at_ns);
        let Ok(process) = Process::new(pid as i32) else {
            return;
        };
        let Ok(found) = process.fd_from_fd(fd) else {
            return;
        };
        let target = match &found.target {
            FDTarget::Socket(_) => Sockets::of(&process).name(&found.target),
            other => Sockets::default().name(other),
        };
        out.push(Record::Descriptor(DescriptorInfo {
            at_ns,
            pid,
            fd,
            target,
        }));
    }

    pub fn thread_started(&mut self, pid: u32, tid: u32) {
        if let Some(known) = self.processes.get_mut(&pid) {
            known.threads.insert(tid);
        }
    }

    /// Forgets an ended thread. When it was its process's last, gives what the process ended
    /// with: the code that one of its threads asked for, or -1 when it was killed.
    pub fn thread_ended(&mut self, pid: u32, tid: u32, asked: Option<i32>) -> Option<i32> {
        let Some(known) = self.processes.get_mut(&pid) else {
            return (tid == pid).then(|| asked.unwrap_or(-1));
        };
        known.threads.remove(&tid);
        known.asked = known.asked.or(asked);
        if !known.threads.is_empty() {
            return None;
        }
        let code = known.asked.unwrap_or(-1);
        self.processes.remove(&pid);
        self.descriptors.retain(|(owner, _), _| *owner != pid);
        Some(code)
    }

    fn process_name(&self, pid: u32) -> Option<String> {
        if !self.visible {
            return None;
        }
        let process = Process::new(pid as i32).ok()?;
        let from_path = process.exe().ok().and_then(|path| {
            path.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        });
        from_path.or_else(|| process.stat().ok().map(|stat| stat.comm))
    }

    /// The name that a process goes by, which a link to its executable decides.
    fn command_name(&self, pid: u32) -> Option<String> {
        let process = self.visible.then(|| Process::new(pid as i32))?.ok()?;
        process.stat().ok().map(|stat| stat.comm)
    }

    fn cgroup_path(&self, cgroup: u64) -> Option<PathBuf> {
        self.roots
            .iter()
            .chain(&self.mount)
            .find_map(|root| find_cgroup(root, cgroup, 4))
    }
}

/// The folder with this inode number at or below `root`.
fn find_cgroup(root: &Path, id: u64, depth: usize) -> Option<PathBuf> {
    if fs::metadata(root).ok()?.ino() == id {
        return Some(root.to_owned());
    }
    if depth == 0 {
        return None;
    }
    let entries = fs::read_dir(root).ok()?;
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .find_map(|entry| find_cgroup(&entry.path(), id, depth - 1))
}

/// The 64 hex digits of a container id within a cgroup's name (`cri-containerd-<id>.scope`).
fn container_id(name: &str) -> Option<String> {
    name.split(|c: char| !c.is_ascii_hexdigit())
        .find(|part| part.len() == 64)
        .map(str::to_owned)
}

fn environment(process: &Process) -> Vec<(String, String)> {
    let variables = process.environ().unwrap_or_default();
    ENVIRONMENT
        .iter()
        .filter_map(|name| {
            let value = variables.get(std::ffi::OsStr::new(name))?;
            Some(((*name).to_owned(), value.to_string_lossy().into_owned()))
        })
        .collect()
}

/// TCP sockets of one network namespace by inode.
#[derive(Default)]
struct Sockets(HashMap<u64, DescriptorTarget>);

impl Sockets {
    fn of(process: &Process) -> Self {
        let entries = process.tcp().into_iter().chain(process.tcp6()).flatten();
        Self(
            entries
                .map(|entry| {
                    let canonical = |address: std::net::SocketAddr| {
                        std::net::SocketAddr::new(address.ip().to_canonical(), address.port())
                            .to_string()
                    };
                    let local = canonical(entry.local_address);
                    let target = match entry.state {
                        procfs::net::TcpState::Listen => DescriptorTarget::Listener(local),
                        _ => DescriptorTarget::Tcp {
                            local,
                            peer: canonical(entry.remote_address),
                        },
                    };
                    (entry.inode, target)
                })
                .collect(),
        )
    }

    fn name(&self, target: &FDTarget) -> DescriptorTarget {
        match target {
            FDTarget::Path(path) => match path.to_string_lossy().into_owned() {
                device if device.starts_with("/dev/") => DescriptorTarget::Other(device),
                path => DescriptorTarget::File(path),
            },
            FDTarget::Socket(inode) => self
                .0
                .get(inode)
                .cloned()
                .unwrap_or_else(|| DescriptorTarget::Other("socket".to_owned())),
            FDTarget::Pipe(_) => DescriptorTarget::Other("pipe".to_owned()),
            FDTarget::AnonInode(name) => DescriptorTarget::Other(name.clone()),
            FDTarget::MemFD(name) => DescriptorTarget::Other(name.clone()),
            _ => DescriptorTarget::Other("other".to_owned()),
        }
    }
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

    #[test]
    fn this_process_is_described_with_its_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut facts = Facts::new(&[], None, true);
        let mut out = Vec::new();
        facts.process(std::process::id(), 0, 5, &mut out);
        let info = out.iter().find_map(|record| match record {
            Record::Process(info) => Some(info),
            _ => None,
        });
        assert!(info.unwrap().listens.contains(&address));
        assert!(out.iter().any(|record| matches!(
            record,
            Record::Descriptor(DescriptorInfo { target: DescriptorTarget::Listener(found), .. }) if *found == address
        )));
    }

    #[test]
    fn an_unknown_process_is_announced_without_facts() {
        let mut facts = Facts::new(&[], None, true);
        let mut out = Vec::new();
        facts.process(u32::MAX >> 1, 0, 5, &mut out);
        assert_eq!(out.len(), 1);
    }
}
