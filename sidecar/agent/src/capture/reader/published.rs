//! What processes publish about themselves: looked for now and then, since it comes some time after their
//! start, and may change.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::Reader;
use crate::record::{ContainerIndex, Nanos, ProcessResource, Record, SpanSource, ThreadSpan};

/// When it is looked for, after a process was first seen.
const LOOKS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(20),
    Duration::from_secs(60),
];
/// And then always after as much.
const AGAIN: Duration = Duration::from_secs(300);
/// Processes that are looked at in one second.
const AT_ONCE: usize = 16;
/// Processes that are looked at in all.
const PROCESSES: usize = 4096;

#[derive(Default)]
pub(super) struct PublishedFacts {
    processes: BTreeMap<u32, Watched>,
    /// A thread's span was told of: before, none can be lost that matters.
    pub(super) spans: bool,
    /// Changes of threads' spans that were lost, as last told, without those threads that lost none.
    lost: HashMap<u32, u32>,
}

struct Watched {
    container: ContainerIndex,
    next: Instant,
    looks: usize,
    told: Vec<(String, String)>,
}

impl PublishedFacts {
    /// The process is there, or executes another program, or begins to listen.
    pub(super) fn look_at(&mut self, pid: u32, container: ContainerIndex) {
        let next = Instant::now();
        if let Some(watched) = self.processes.get_mut(&pid) {
            (watched.next, watched.looks) = (next, 0);
        } else if self.processes.len() < PROCESSES {
            let watched = Watched {
                container,
                next,
                looks: 0,
                told: Vec::new(),
            };
            self.processes.insert(pid, watched);
        }
    }

    pub(super) fn process_ended(&mut self, pid: u32) {
        self.processes.remove(&pid);
    }

    /// Processes whose turn it is.
    fn due(&mut self, now: Instant) -> Vec<u32> {
        let due = self.processes.iter_mut().filter(|(_, w)| w.next <= now);
        due.take(AT_ONCE)
            .map(|(pid, watched)| {
                watched.looks += 1;
                watched.next = now + LOOKS.get(watched.looks).copied().unwrap_or(AGAIN);
                *pid
            })
            .collect()
    }

    /// Whether more was lost than was told of.
    pub(super) fn lost_more(&mut self, tid: u32, lost: u32) -> bool {
        if lost == 0 {
            return false;
        }
        if self.lost.len() >= PROCESSES {
            self.lost.clear();
        }
        self.lost.insert(tid, lost) != Some(lost)
    }
}

impl Reader {
    /// Looks at the processes whose turn it is.
    pub(super) fn look_at_published(&mut self, at_ns: Nanos, out: &mut Vec<Record>) {
        for pid in self.published.due(Instant::now()) {
            let Some(attributes) = self.node.published(pid) else {
                continue;
            };
            let Some(watched) = self.published.processes.get_mut(&pid) else {
                continue;
            };
            if watched.told != attributes {
                watched.told.clone_from(&attributes);
                out.push(Record::Resource(ProcessResource {
                    at_ns,
                    container: watched.container,
                    pid,
                    attributes,
                }));
            }
        }
    }

    /// Tells of threads, those that ended lately included, that lost a change of their span: which one they
    /// work for is not known until the next change.
    pub(super) fn lost_spans(&mut self, at_ns: Nanos, out: &mut Vec<Record>) {
        if !self.published.spans {
            return;
        }
        for slot in self.pod.slots.all() {
            let lost = slot.lost_spans();
            if lost == 0 {
                continue;
            }
            let (header, tid) = (slot.header(), slot.owner());
            let Some(container) = self.facts.known(header.cgroup) else {
                continue;
            };
            if self.published.lost_more(tid, lost) {
                out.push(Record::ThreadSpan(ThreadSpan {
                    at_ns,
                    container,
                    pid: header.pid,
                    tid,
                    span: None,
                    source: SpanSource::Thread,
                    continues: false,
                    lost,
                }));
            }
        }
    }
}
