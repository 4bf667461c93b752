//! Threads of the targets, and what each is inside, as `/proc` and the cgroup tree say.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use procfs::process::{Process, Syscall};

use super::{Lookup, cgroup_of};
use crate::{
    capture::{
        kernel::{Found, with_descendants},
        node::{ThreadFacts, ThreadPlace},
    },
    record::RunState,
};

/// Cgroups below a target that are looked into.
const DEPTH: usize = 16;

impl Lookup {
    /// Threads of the targets with ids above `after`: the `most` lowest, by id. Those of the
    /// processes `without` are left out.
    pub fn threads(&mut self, after: u32, most: usize, without: &[u32]) -> Vec<ThreadPlace> {
        if !self.visible {
            return Vec::new();
        }
        let left_out: BTreeSet<u32> = without.iter().flat_map(|pid| threads_of(*pid)).collect();
        let mut threads = Threads {
            found: BTreeMap::new(),
            after,
            most,
            left_out,
        };
        let targets = std::mem::take(&mut self.targets);
        for target in &targets {
            if let Found::Cgroup(cgroup) = target
                && let Some(path) = cgroup.path.clone().or_else(|| self.cgroup_path(cgroup.id))
            {
                threads.of_target(&path, cgroup.id);
            }
        }
        for target in &targets {
            if let Found::Pid { pid, id, .. } = target {
                let all = with_descendants(*pid).into_iter();
                let all = all.filter(|pid| self.open(*pid).is_some());
                let all = all.flat_map(threads_of);
                all.for_each(|tid| threads.add(tid, *id));
            }
        }
        self.targets = targets;
        let found = threads.found.into_iter();
        found
            .map(|(tid, container)| ThreadPlace { tid, container })
            .collect()
    }

    /// What a thread is doing; none for one that ended or may not be told about.
    pub fn thread(&self, tid: u32) -> Option<ThreadFacts> {
        let thread = self.open(tid)?;
        let stat = thread.stat().ok()?;
        let state = match stat.state {
            'Z' | 'X' => return None,
            'T' | 't' => RunState::Stopped,
            'S' | 'I' if self.is_frozen(&thread) => RunState::Frozen,
            'S' | 'I' => RunState::Sleeping,
            // Frozen with its cgroup (v1).
            'D' if thread.wchan().is_ok_and(|place| place == "__refrigerator") => RunState::Frozen,
            'D' => RunState::Blocked,
            _ => RunState::Running,
        };
        let asleep = matches!(state, RunState::Sleeping | RunState::Blocked);
        let call = match asleep.then(|| thread.syscall()) {
            Some(Ok(Syscall::Blocked {
                syscall_number,
                argument_registers: [first, ..],
                ..
            })) => u16::try_from(syscall_number).ok().map(|nr| (nr, first)),
            _ => None,
        };
        Some(ThreadFacts {
            tid,
            pid: u32::try_from(thread.status().ok()?.tgid).ok()?,
            state,
            call,
        })
    }

    /// Whether its cgroup (v2) is frozen, or one above it.
    fn is_frozen(&self, thread: &Process) -> bool {
        let Some((mount, cgroup)) = self.mount.as_deref().zip(cgroup_of(thread)) else {
            return false;
        };
        let events = mount
            .join(cgroup.trim_start_matches('/'))
            .join("cgroup.events");
        let events = fs::read_to_string(events).unwrap_or_default();
        events.lines().any(|line| line == "frozen 1")
    }
}

struct Threads {
    found: BTreeMap<u32, u64>,
    after: u32,
    most: usize,
    left_out: BTreeSet<u32>,
}

impl Threads {
    /// Containers are the cgroups right below a target, and the target itself for what lies in none
    /// of them, as in the kernel programs.
    fn of_target(&mut self, path: &Path, id: u64) {
        self.of_cgroup(path, id);
        for (below, container) in cgroups_in(path) {
            self.of_tree(&below, container, DEPTH);
        }
    }

    fn of_tree(&mut self, path: &Path, container: u64, depth: usize) {
        self.of_cgroup(path, container);
        if depth > 0 {
            for (below, _) in cgroups_in(path) {
                self.of_tree(&below, container, depth - 1);
            }
        }
    }

    fn of_cgroup(&mut self, path: &Path, container: u64) {
        // One that is gone has no threads.
        let threads = fs::read_to_string(path.join("cgroup.threads")).unwrap_or_default();
        for tid in threads.lines().filter_map(|line| line.parse().ok()) {
            self.add(tid, container);
        }
    }

    fn add(&mut self, tid: u32, container: u64) {
        if tid <= self.after || self.left_out.contains(&tid) {
            return;
        }
        self.found.entry(tid).or_insert(container);
        if self.found.len() > self.most {
            self.found.pop_last();
        }
    }
}

/// Folders of cgroups, with their ids.
fn cgroups_in(path: &Path) -> impl Iterator<Item = (std::path::PathBuf, u64)> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        metadata.is_dir().then(|| (entry.path(), metadata.ino()))
    })
}

fn threads_of(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).and_then(|tasks| {
        let names = tasks.map(|task| Ok(task?.file_name().to_string_lossy().parse().ok()));
        names.collect::<io::Result<Vec<Option<u32>>>>()
    });
    tasks.unwrap_or_default().into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(targets: &[Found]) -> Lookup {
        Lookup::new(targets, None, true)
    }

    /// A thread of this process that sleeps in a read.
    fn reads() -> (u32, std::io::PipeWriter) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // SAFETY: no arguments.
            tell.send(unsafe { libc::gettid() } as u32).unwrap();
            std::io::Read::read(&mut reader, &mut [0]).unwrap();
        });
        (told.recv().unwrap(), writer)
    }

    #[test]
    fn threads_of_a_process_come_in_pages_by_id() {
        let (tid, _writer) = reads();
        let own = std::process::id();
        let mut lookup = lookup(&[Found::process(own)]);
        let all = lookup.threads(0, usize::MAX, &[]);
        assert!(all.is_sorted_by_key(|thread| thread.tid));
        assert!(all.iter().any(|thread| thread.tid == tid));
        let first = lookup.threads(0, 1, &[]);
        let second = lookup.threads(first[0].tid, 1, &[]);
        assert!(first[0].tid < second[0].tid);
        assert_eq!(lookup.threads(0, usize::MAX, &[own]), []);
    }

    #[test]
    fn a_thread_is_inside_the_call_that_it_waits_in() {
        let (tid, writer) = reads();
        let lookup = lookup(&[]);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let read = syscalls::Sysno::read as u16;
        loop {
            let facts = lookup.thread(tid).unwrap();
            assert_eq!((facts.tid, facts.pid), (tid, std::process::id()));
            if facts.call.is_some_and(|(nr, _)| nr == read) {
                assert_eq!(facts.state, RunState::Sleeping);
                break;
            }
            assert!(std::time::Instant::now() < until, "{facts:?}");
        }
        drop(writer);
        assert_eq!(lookup.thread(u32::MAX >> 1), None);
    }
}
