//! What containers use of the machine, as the cgroup tree and `/proc` say.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use procfs::process::Process;

use super::{Lookup, PLACES};
use crate::{
    capture::kernel::{PID_TARGET, with_descendants},
    record::{MemoryUse, Throttling},
};

/// A process may be moved to another cgroup: where to read is looked up again after this.
const FIND_AGAIN: Duration = Duration::from_secs(5);
/// Processes of one container whose memory is added up where no cgroup does.
const PROCESSES: usize = 256;
/// Cgroups below a container's that are looked into for processes.
const DEPTH: usize = 4;
/// No container has so much memory: what a cgroup of version 1 has for "no limit".
const NO_LIMIT: u64 = 1 << 60;

/// What is read of one container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Used {
    pub throttling: Option<Throttling>,
    pub memory: Option<MemoryUse>,
}

/// Where to read; remembered by container.
#[derive(Default)]
pub(super) struct Sources {
    found: HashMap<u64, (Instant, Source)>,
    /// Mount points of the controllers of version 1, with what of their tree is mounted there.
    hierarchies: Option<Vec<Hierarchy>>,
}

struct Hierarchy {
    controllers: Vec<String>,
    root: PathBuf,
    mount: PathBuf,
}

#[derive(Clone, Debug, Default)]
struct Source {
    /// `cpu.stat`.
    processor: Option<PathBuf>,
    memory: Memory,
}

#[derive(Clone, Debug, Default)]
enum Memory {
    /// A cgroup of the container alone, of version 2 or 1.
    Group(PathBuf, u8),
    /// Its processes, by themselves.
    Processes(Vec<u32>),
    #[default]
    Unknown,
}

impl Lookup {
    /// What a container uses; empty for one that is gone.
    pub fn used(&mut self, cgroup: u64) -> Used {
        let known = self.sources.found.get(&cgroup);
        let source = match known {
            Some((at, source)) if at.elapsed() < FIND_AGAIN => source.clone(),
            _ => {
                let source = self.find_source(cgroup);
                if self.sources.found.len() >= PLACES {
                    self.sources.found.clear();
                }
                let found = (Instant::now(), source.clone());
                self.sources.found.insert(cgroup, found);
                source
            }
        };
        let processor = source.processor.and_then(|path| read(&path));
        Used {
            throttling: processor.and_then(|text| throttling(&text)),
            memory: match source.memory {
                Memory::Group(folder, 2) => memory_2(&folder),
                Memory::Group(folder, _) => memory_1(&folder),
                Memory::Processes(pids) => self.memory_of(&pids),
                Memory::Unknown => None,
            },
        }
    }

    fn find_source(&mut self, cgroup: u64) -> Source {
        if cgroup & PID_TARGET != 0 {
            let pid = (cgroup & !PID_TARGET) as u32;
            let mut pids = with_descendants(pid);
            pids.truncate(PROCESSES);
            return Source {
                processor: self
                    .controller(pid, "cpu")
                    .map(|folder| folder.join("cpu.stat")),
                memory: Memory::Processes(pids),
            };
        }
        let known = self.places.get(&cgroup).cloned();
        let is_there = |place: &PathBuf| fs::metadata(place).is_ok_and(|it| it.ino() == cgroup);
        let Some(place) = known.filter(is_there).or_else(|| self.cgroup_path(cgroup)) else {
            return Source::default();
        };
        let mut pids = Vec::new();
        if self.visible {
            processes_in(&place, DEPTH, &mut pids);
        }
        let first = pids.first().copied();
        let own = place.join("cpu.stat");
        let processor = match read(&own).and_then(|text| throttling(&text)) {
            Some(_) => Some(own),
            None => first
                .and_then(|pid| self.controller(pid, "cpu"))
                .map(|folder| folder.join("cpu.stat")),
        };
        let memory = match memory_2(&place) {
            Some(_) => Memory::Group(place, 2),
            None => {
                let twin = first.and_then(|pid| self.controller(pid, "memory"));
                // Another cgroup may hold more than this container.
                let own = twin.filter(|twin| twin.file_name() == place.file_name());
                match own.filter(|twin| memory_1(twin).is_some()) {
                    Some(twin) => Memory::Group(twin, 1),
                    None if pids.is_empty() => Memory::Unknown,
                    None => Memory::Processes(pids),
                }
            }
        };
        Source { processor, memory }
    }

    /// The folder of the cgroup of version 1 that limits a process.
    fn controller(&mut self, pid: u32, controller: &str) -> Option<PathBuf> {
        let process = self.open(pid)?;
        let is_one = |controllers: &[String]| controllers.iter().any(|one| one == controller);
        let groups = process.cgroups().ok()?;
        let group = groups
            .into_iter()
            .find(|group| is_one(&group.controllers))?;
        let hierarchies = self.sources.hierarchies.get_or_insert_with(hierarchies);
        let hierarchy = hierarchies.iter().find(|it| is_one(&it.controllers))?;
        let below = Path::new(&group.pathname)
            .strip_prefix(&hierarchy.root)
            .ok()?;
        Some(hierarchy.mount.join(below))
    }

    /// None when none of them can be read.
    fn memory_of(&self, pids: &[u32]) -> Option<MemoryUse> {
        let page = super::super::pod::page_size() as u64;
        let pages = pids.iter().filter_map(|pid| {
            let memory = self.open(*pid)?.statm().ok()?;
            Some(memory.resident.saturating_sub(memory.shared))
        });
        let all = pages.fold(None, |sum: Option<u64>, pages| {
            Some(sum.unwrap_or(0).saturating_add(pages))
        });
        all.map(|pages| MemoryUse {
            anonymous: pages.saturating_mul(page),
            limit: None,
        })
    }
}

fn hierarchies() -> Vec<Hierarchy> {
    let own = Process::myself().and_then(|own| own.mountinfo());
    let mounts = own.into_iter().flat_map(|mounts| mounts.0);
    let of_version_1 = mounts.filter(|mount| mount.fs_type == "cgroup");
    of_version_1
        .map(|mount| Hierarchy {
            controllers: mount.super_options.into_keys().collect(),
            root: mount.root.into(),
            mount: mount.mount_point,
        })
        .collect()
}

fn processes_in(place: &Path, depth: usize, pids: &mut Vec<u32>) {
    let own = read(&place.join("cgroup.procs")).unwrap_or_default();
    // 0 stands for a process of another namespace.
    let own = own.lines().filter_map(|line| line.parse().ok());
    let room = PROCESSES.saturating_sub(pids.len());
    pids.extend(own.filter(|pid: &u32| *pid != 0).take(room));
    if depth == 0 || pids.len() >= PROCESSES {
        return;
    }
    let below = fs::read_dir(place).into_iter().flatten().flatten();
    for folder in below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        processes_in(&folder.path(), depth - 1, pids);
    }
}

fn read(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    let value = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    };
    text.lines().find_map(value)
}

/// `cpu.stat` of either version; none of a version 2 without the controller.
fn throttling(text: &str) -> Option<Throttling> {
    let of_version_2 = || Some(field(text, "throttled_usec")?.saturating_mul(1000));
    Some(Throttling {
        periods: field(text, "nr_periods")?,
        throttled: field(text, "nr_throttled")?,
        throttled_ns: field(text, "throttled_time").or_else(of_version_2)?,
    })
}

fn memory_2(folder: &Path) -> Option<MemoryUse> {
    let limit = read(&folder.join("memory.max"));
    Some(MemoryUse {
        anonymous: field(&read(&folder.join("memory.stat"))?, "anon")?,
        limit: limit.and_then(|limit| limit.trim().parse().ok()),
    })
}

fn memory_1(folder: &Path) -> Option<MemoryUse> {
    let text = read(&folder.join("memory.stat"))?;
    Some(MemoryUse {
        anonymous: field(&text, "total_rss")?,
        limit: field(&text, "hierarchical_memory_limit").filter(|limit| *limit < NO_LIMIT),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_what_is_throttled() {
        let expected = Some(Throttling {
            periods: 40,
            throttled: 30,
            throttled_ns: 2_000_000,
        });
        let one = "nr_periods 40\nnr_throttled 30\nthrottled_time 2000000\n";
        assert_eq!(throttling(one), expected);
        let two =
            "usage_usec 9\nnr_periods 40\nnr_throttled 30\nthrottled_usec 2000\nnr_bursts 0\n";
        assert_eq!(throttling(two), expected);
        assert_eq!(throttling("usage_usec 9\nuser_usec 4\n"), None);
    }

    #[test]
    fn both_versions_say_what_memory_is_used_and_left() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        put("memory.stat", "anon 4096\nfile 9\n");
        put("memory.max", "max\n");
        let unlimited = MemoryUse {
            anonymous: 4096,
            limit: None,
        };
        assert_eq!(memory_2(folder.path()), Some(unlimited));
        put("memory.max", "65536\n");
        let limited = MemoryUse {
            limit: Some(65536),
            ..unlimited
        };
        assert_eq!(memory_2(folder.path()), Some(limited));
        assert_eq!(memory_1(folder.path()), None);
        put(
            "memory.stat",
            "rss 1\nhierarchical_memory_limit 65536\ntotal_rss 4096\n",
        );
        assert_eq!(memory_1(folder.path()), Some(limited));
        let endless = "hierarchical_memory_limit 9223372036854771712\ntotal_rss 4096\n";
        put("memory.stat", endless);
        assert_eq!(memory_1(folder.path()), Some(unlimited));
    }

    #[test]
    fn the_memory_of_a_process_is_known_without_a_cgroup_of_its_own() {
        let cgroup = PID_TARGET | u64::from(std::process::id());
        let taken = std::hint::black_box(vec![1u8; 64 << 20]);
        let used = Lookup::new(&[], None, true).used(cgroup);
        let memory = used.memory.unwrap();
        assert!(memory.anonymous >= taken.len() as u64, "{memory:?}");
        assert_eq!(Lookup::new(&[], None, true).used(12).memory, None);
    }
}
