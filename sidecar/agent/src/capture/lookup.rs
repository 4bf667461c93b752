//! What only `/proc` and the cgroup tree can tell: names of containers, processes and
//! descriptors.

mod network;
pub mod resources;
mod sockets;
mod threads;

use std::{
    collections::HashMap,
    fs,
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use procfs::process::{FDTarget, Process};

use super::{
    kernel::{Found, PID_TARGET},
    node::{ContainerFacts, NetworkFacts, ProcessFacts, Published},
    process_context, runtime,
    thread_context::Objects,
};
use crate::record::DescriptorTarget;
use sockets::Sockets;

/// Descriptors of one process that are looked up when it is described.
const DESCRIPTORS: usize = 1024;
/// The only environment variables that are read.
const ENVIRONMENT: [&str; 3] = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "HOSTNAME"];

/// Bytes of a command line or an environment that are read.
const OWN_WORDS: u64 = 256 << 10;
/// Bytes of a process's list of mappings that are looked at.
const MAPS: u64 = 1 << 20;
/// Words of a command line.
const WORDS: usize = 256;

/// Containers whose place is remembered.
const PLACES: usize = 4096;

pub struct Lookup {
    /// False when `/proc` shows another PID namespace than the kernel programs do; then nothing
    /// about processes can be looked up.
    visible: bool,
    targets: Vec<Found>,
    roots: Vec<PathBuf>,
    mount: Option<PathBuf>,
    /// Nothing is told about what lies outside this cgroup (below the mount).
    within: Option<PathBuf>,
    places: HashMap<u64, PathBuf>,
    /// The node's root, below which container runtimes keep their files.
    node_root: PathBuf,
    objects: Objects,
    sources: resources::Sources,
}

impl Lookup {
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
            targets: targets.to_vec(),
            roots,
            mount,
            within: None,
            places: HashMap::new(),
            node_root: "/".into(),
            objects: Objects::default(),
            sources: resources::Sources::default(),
        }
    }

    /// The same, with the node's root mounted elsewhere.
    pub fn with_node_root(self, node_root: PathBuf) -> Self {
        Self { node_root, ..self }
    }

    /// The same, telling nothing about what lies outside the cgroup `path` below the mount.
    pub fn within(self, path: PathBuf) -> Self {
        Self {
            within: Some(path),
            ..self
        }
    }

    /// True for a container that was there and is not any more: none of its processes is left.
    pub fn is_gone(&self, cgroup: u64) -> bool {
        let place = self.places.get(&cgroup);
        place.is_some_and(|place| fs::metadata(place).map_or(0, |found| found.ino()) != cgroup)
    }

    pub fn container(&mut self, cgroup: u64) -> ContainerFacts {
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
        let cgroup_path = below_mount
            .map(|path| format!("/{}", path.display()))
            .unwrap_or_default();
        let described = runtime::container_id(&cgroup_path)
            .and_then(|id| runtime::describe(&self.node_root, id))
            .unwrap_or_default();
        // A cgroup that a container made within its own keeps its own name.
        let is_whole = runtime::container_id(&name).is_some();
        ContainerFacts {
            name: described.name.filter(|_| is_whole).unwrap_or(name),
            cgroup_path,
            image: described.image,
            image_digest: described.image_digest,
        }
    }

    pub fn process(&mut self, pid: u32) -> ProcessFacts {
        let Some(process) = self.open(pid) else {
            return ProcessFacts::default();
        };
        let sockets = Sockets::of(&process);
        ProcessFacts {
            executable: process_name(&process).unwrap_or_default(),
            command_line: command_line(&process),
            environment: environment(&process),
            descriptors: process
                .fd()
                .map(|all| {
                    all.flatten()
                        .take(DESCRIPTORS)
                        .map(|found| (found.fd, target(found.fd, &found.target, &sockets)))
                        .collect()
                })
                .unwrap_or_default(),
        }
    }

    /// What a process publishes about itself.
    pub fn published(&mut self, pid: u32) -> Published {
        let Some(process) = self.open(pid) else {
            return Published::default();
        };
        let mut maps = Vec::new();
        if let Ok(open) = process.open_relative("maps") {
            // What cannot be read to its end is as short.
            let _ = open.take(MAPS).read_to_end(&mut maps);
        }
        let maps = String::from_utf8_lossy(&maps);
        let memory = process.open_relative("mem").ok();
        Published {
            thread_context: self.objects.thread_context(&process, &maps),
            resource: memory
                .map_or_else(Vec::new, |memory| process_context::resource(&maps, &memory)),
        }
    }

    pub fn descriptor(&self, pid: u32, fd: i32) -> Option<DescriptorTarget> {
        let process = self.open(pid)?;
        let found = process.fd_from_fd(fd).ok()?;
        Some(target(fd, &found.target, &Sockets::of(&process)))
    }

    /// The network namespace of a process, and sockets of processes.
    pub fn network(&self, pid: u32, sockets: &[(u32, i32)]) -> Option<NetworkFacts> {
        let process = self.open(pid)?;
        let owners: HashMap<u32, Process> = sockets
            .iter()
            .filter_map(|(owner, _)| Some((*owner, self.open(*owner)?)))
            .collect();
        let sockets = sockets
            .iter()
            .filter_map(|(owner, fd)| Some((owners.get(owner)?, *fd)));
        Some(network::facts(&process, sockets))
    }

    /// The name that a process goes by, which a link to its executable decides.
    fn command_name(&self, pid: u32) -> Option<String> {
        let process = self.open(pid)?;
        process.stat().ok().map(|stat| stat.comm)
    }

    /// The process, which all that is read of it comes from, even when its id is used again.
    fn open(&self, pid: u32) -> Option<Process> {
        let process = self.visible.then(|| Process::new(pid as i32))?.ok()?;
        match &self.within {
            Some(within) if !Path::new(&cgroup_of(&process)?).starts_with(within) => None,
            _ => Some(process),
        }
    }

    fn cgroup_path(&mut self, cgroup: u64) -> Option<PathBuf> {
        // The whole tree is searched only where nothing is withheld.
        let everywhere = self.mount.iter().filter(|_| self.within.is_none());
        let found = self
            .roots
            .iter()
            .chain(everywhere)
            .find_map(|root| find_cgroup(root, cgroup, 4))?;
        if self.places.len() < PLACES {
            self.places.insert(cgroup, found.clone());
        }
        Some(found)
    }
}

/// The cgroup (v2) of a process, below the mount.
pub fn cgroup_of(process: &Process) -> Option<String> {
    let groups = process.cgroups().ok()?;
    let unified = groups.into_iter().find(|group| group.hierarchy == 0)?;
    Some(unified.pathname)
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

fn process_name(process: &Process) -> Option<String> {
    let from_path = process.exe().ok().and_then(|path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    });
    from_path.or_else(|| process.stat().ok().map(|stat| stat.comm))
}

/// The first bytes of a file that the process itself writes, in parts that end with zeros.
fn parts(process: &Process, file: &str) -> Vec<String> {
    let mut bytes = Vec::new();
    if let Ok(open) = process.open_relative(file) {
        // What cannot be read to its end is as short.
        let _ = open.take(OWN_WORDS).read_to_end(&mut bytes);
    }
    let parts = bytes.split(|byte| *byte == 0);
    parts
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect()
}

fn command_line(process: &Process) -> Vec<String> {
    let mut words = parts(process, "cmdline");
    if words.last().is_some_and(String::is_empty) {
        words.pop();
    }
    words.truncate(WORDS);
    words
}

fn environment(process: &Process) -> Vec<(String, String)> {
    let variables = parts(process, "environ");
    let value = |name: &str| {
        variables
            .iter()
            .find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
    };
    ENVIRONMENT
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), value(name)?.to_owned())))
        .collect()
}

fn target(fd: i32, target: &FDTarget, sockets: &Sockets<'_>) -> DescriptorTarget {
    match target {
        FDTarget::Path(path) => match path.to_string_lossy().into_owned() {
            device if device.starts_with("/dev/") => DescriptorTarget::Other(device),
            path => DescriptorTarget::File(path),
        },
        FDTarget::Socket(inode) => sockets.name(fd, *inode),
        FDTarget::Pipe(_) => DescriptorTarget::Other("pipe".to_owned()),
        FDTarget::AnonInode(name) => DescriptorTarget::Other(name.clone()),
        FDTarget::MemFD(name) => DescriptorTarget::Other(name.clone()),
        _ => DescriptorTarget::Other("other".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_described_with_its_listener() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let facts = Lookup::new(&[], None, true).process(std::process::id());
        assert!(
            facts
                .descriptors
                .iter()
                .any(|(_, target)| *target == DescriptorTarget::Listener(address.clone()))
        );
        assert!(!facts.command_line.is_empty());
    }

    #[test]
    fn however_much_a_process_says_of_itself_a_bounded_part_is_read() {
        let mut child = std::process::Command::new("sleep")
            .arg("100")
            .args((0..50_000).map(|_| "0"))
            .env("A_LONG_ONE", "x".repeat(100_000))
            .env("OTEL_SERVICE_NAME", "shop")
            .spawn()
            .unwrap();
        let mut lookup = Lookup::new(&[], None, true);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut facts = lookup.process(child.id());
        // In the middle of its exec it has no words yet.
        while facts.command_line.is_empty() && std::time::Instant::now() < until {
            facts = lookup.process(child.id());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(facts.command_line[..2], ["sleep", "100"]);
        assert_eq!(facts.command_line.len(), WORDS);
        let name = ("OTEL_SERVICE_NAME".to_owned(), "shop".to_owned());
        assert!(facts.environment.contains(&name), "{:?}", facts.environment);
    }

    #[test]
    fn an_unknown_process_has_no_facts() {
        let facts = Lookup::new(&[], None, true).process(u32::MAX >> 1);
        assert_eq!(facts, ProcessFacts::default());
    }
}
