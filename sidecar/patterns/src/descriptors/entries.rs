//! Descriptors of processes in bounded memory.

use std::collections::VecDeque;
use std::num::NonZeroUsize;

use hashbrown::HashMap;
use lru::LruCache;

use super::exchange::Turn;
use crate::window::Role;

/// Ended processes whose late calls are still told from those of a new process of that number.
const ENDED: NonZeroUsize = match NonZeroUsize::new(1024) {
    Some(n) => n,
    None => NonZeroUsize::MIN,
};

/// At most `capacity` entries; beyond that those learnt first are dropped and counted.
#[derive(Debug)]
pub(super) struct Entries {
    processes: HashMap<u32, HashMap<i32, Entry>>,
    /// In order of learning; entries replaced since then have another generation.
    order: VecDeque<(u32, i32, u64)>,
    generation: u64,
    len: usize,
    capacity: usize,
    dropped: u64,
    /// Processes that ended lately, and when.
    ended: LruCache<u32, u64>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    generation: u64,
    /// `Role::None` marks a number that was closed: what comes late about its earlier life must
    /// not revive it.
    pub(super) role: Role,
    /// Calls that ended before are about an earlier life of this number.
    pub(super) since_ns: u64,
    pub(super) peer: Option<String>,
    /// When the last `connect` was entered and when it returned.
    pub(super) connect_ns: Option<(u64, u64)>,
    pub(super) turn: Turn,
}

impl Entries {
    pub(super) fn new(capacity: usize) -> Self {
        Entries {
            processes: HashMap::new(),
            order: VecDeque::new(),
            generation: 0,
            len: 0,
            capacity: capacity.max(1),
            dropped: 0,
            ended: LruCache::new(ENDED),
        }
    }

    pub(super) fn get(&self, pid: u32, fd: i32) -> Option<&Entry> {
        self.processes.get(&pid)?.get(&fd)
    }

    pub(super) fn get_mut(&mut self, pid: u32, fd: i32) -> Option<&mut Entry> {
        self.processes.get_mut(&pid)?.get_mut(&fd)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, i32, &Entry)> + '_ {
        self.processes
            .iter()
            .flat_map(|(pid, table)| table.iter().map(move |(fd, entry)| (*pid, *fd, entry)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> + '_ {
        self.processes.values_mut().flat_map(HashMap::values_mut)
    }

    /// A new life of a number from `since_ns` on, known from something that happened at `at_ns`;
    /// none when a later life is already known or the process had ended then.
    pub(super) fn open(
        &mut self,
        pid: u32,
        fd: i32,
        role: Role,
        since_ns: u64,
        at_ns: u64,
    ) -> Option<&mut Entry> {
        if self
            .get(pid, fd)
            .is_some_and(|entry| entry.since_ns > since_ns)
        {
            return None;
        }
        if !self.processes.contains_key(&pid) {
            if self
                .ended
                .peek(&pid)
                .is_some_and(|ended_ns| at_ns <= *ended_ns)
            {
                return None;
            }
            self.ended.pop(&pid);
        }
        self.generation += 1;
        let entry = Entry {
            generation: self.generation,
            role,
            since_ns,
            peer: None,
            connect_ns: None,
            turn: Turn::default(),
        };
        self.order.push_back((pid, fd, self.generation));
        if self
            .processes
            .entry(pid)
            .or_default()
            .insert(fd, entry)
            .is_none()
        {
            self.len += 1;
        }
        self.shrink();
        self.get_mut(pid, fd)
    }

    pub(super) fn forget(&mut self, pid: u32) {
        if let Some(table) = self.processes.remove(&pid) {
            self.len -= table.len();
        }
    }

    pub(super) fn end(&mut self, pid: u32, at_ns: u64) {
        self.forget(pid);
        self.ended.put(pid, at_ns);
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Keeps the number of entries and the length of `order` in bounds.
    fn shrink(&mut self) {
        while self.len > self.capacity {
            let Some((pid, fd, generation)) = self.order.pop_front() else {
                return;
            };
            let Some(table) = self.processes.get_mut(&pid) else {
                continue;
            };
            if table
                .get(&fd)
                .is_some_and(|entry| entry.generation == generation)
            {
                table.remove(&fd);
                self.len -= 1;
                self.dropped += 1;
                if table.is_empty() {
                    self.processes.remove(&pid);
                }
            }
        }
        if self.order.len() > 2 * self.capacity.max(512) {
            let processes = &self.processes;
            self.order.retain(|(pid, fd, generation)| {
                let entry = processes.get(pid).and_then(|table| table.get(fd));
                entry.is_some_and(|entry| entry.generation == *generation)
            });
        }
    }
}
