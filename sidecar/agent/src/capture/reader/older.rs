//! Threads that have made no call since capture began. A thread takes its slot at its first call,
//! so what such a thread is inside comes from `/proc`, and since when is not known: at least since
//! it was first seen.

use std::collections::{BTreeMap, HashMap, HashSet};

use stethos_events::class;

use super::{LONG_CALL_NS, Reader, SNAPSHOT_THREADS};
use crate::{
    capture::{
        classes,
        node::{THREAD_FACTS_MAX, ThreadFacts},
    },
    record::{InsideCall, Nanos, Record, RunState, ThreadState},
};

/// Such a thread can only end, stop, or make its first call, which its slot then says: it is looked
/// at more and more seldom. One that had just started when it was listed mostly ends at once.
const LOOK_AGAIN_NS: Nanos = 5_000_000_000;
const LOOK_FIRST_NS: Nanos = 100_000_000;
/// Looks after which the time between two is `LOOK_AGAIN_NS`.
const DOUBLINGS: u32 = 6;

#[derive(Default)]
pub(super) struct OlderThreads {
    listed: bool,
    list_at_ns: Nanos,
    threads: BTreeMap<u32, Older>,
}

struct Older {
    /// Cgroup of its container.
    container: u64,
    facts: Option<ThreadFacts>,
    looked_ns: Nanos,
    looks: u32,
    /// What it is inside, it has been inside at least since then.
    since_ns: Nanos,
}

impl Older {
    fn seen(&mut self, facts: ThreadFacts, now: Nanos) {
        if self.facts.is_none_or(|before| before.call != facts.call) {
            self.since_ns = now;
        }
        self.facts = Some(facts);
    }

    fn stands(&self) -> bool {
        self.facts.is_some_and(|facts| stands(facts.state))
    }

    /// Whether to look at it now. `processes` are those with threads in slots, and whether one of
    /// these stands still: then this one may, too.
    fn is_due(&self, processes: &HashMap<u32, bool>, now: Nanos) -> bool {
        let Some(facts) = self.facts else {
            return true;
        };
        let others = processes.get(&facts.pid);
        let pause = (LOOK_FIRST_NS << self.looks.min(DOUBLINGS)).min(LOOK_AGAIN_NS);
        now.saturating_sub(self.looked_ns) >= pause
            || others.is_some_and(|others| *others != self.stands())
    }
}

fn stands(state: RunState) -> bool {
    matches!(state, RunState::Stopped | RunState::Frozen)
}

impl Reader {
    /// Adds the threads without a slot to a snapshot; `tids` are those with one.
    pub(super) fn older_threads(
        &mut self,
        now: Nanos,
        tids: &HashSet<u32>,
        threads: &mut Vec<ThreadState>,
        out: &mut Vec<Record>,
    ) {
        self.list_older(now, tids);
        self.older.threads.retain(|tid, _| !tids.contains(tid));
        if self.older.threads.is_empty() {
            return;
        }
        self.look_at_older(now, threads);
        let (facts, node) = (&mut self.facts, self.node.as_mut());
        for older in self.older.threads.values() {
            // One that runs makes its calls soon, or ends: until it is looked at again, nothing is
            // known of it.
            let Some(found) = older.facts.filter(|found| found.state != RunState::Running) else {
                continue;
            };
            if threads.len() >= SNAPSHOT_THREADS {
                return;
            }
            let container = facts.container(node, older.container, now, out);
            let inside = found.call.map(|(nr, first)| InsideCall {
                nr,
                fd: match classes::of_number(nr) & class::DESCRIPTOR {
                    0 => -1,
                    _ => first as i32,
                },
                enter_ns: older.since_ns,
            });
            if let Some(inside) = inside
                && now.saturating_sub(inside.enter_ns) > LONG_CALL_NS
            {
                facts.descriptor(node, found.pid, inside.fd, now, out);
            }
            threads.push(ThreadState {
                container,
                pid: found.pid,
                tid: found.tid,
                state: found.state,
                inside,
                last: None,
            });
        }
    }

    /// Has the node list the targets' threads, once: a thread that starts later has a slot as soon
    /// as it runs.
    fn list_older(&mut self, now: Nanos, tids: &HashSet<u32>) {
        if self.older.listed || now < self.older.list_at_ns {
            return;
        }
        self.older.list_at_ns = now + LOOK_AGAIN_NS;
        let most = self.pod.slots.count();
        let mut after = 0;
        while self.older.threads.len() < most {
            let Some(page) = self.node.threads(after) else {
                return;
            };
            let Some(last) = page.last() else {
                break;
            };
            after = last.tid;
            let left = most - self.older.threads.len();
            let older = page.iter().filter(|place| !tids.contains(&place.tid));
            for place in older.take(left) {
                let older = Older {
                    container: place.container,
                    facts: None,
                    looked_ns: 0,
                    looks: 0,
                    since_ns: now,
                };
                self.older.threads.insert(place.tid, older);
            }
        }
        self.older.listed = true;
    }

    /// Looks at a part of them, those that are due.
    fn look_at_older(&mut self, now: Nanos, with_slot: &[ThreadState]) {
        let mut processes = HashMap::new();
        for thread in with_slot {
            *processes.entry(thread.pid).or_default() |= stands(thread.state);
        }
        let due: Vec<u32> = self
            .older
            .threads
            .iter()
            .filter(|(_, older)| older.is_due(&processes, now))
            .map(|(tid, _)| *tid)
            .take(THREAD_FACTS_MAX)
            .collect();
        if due.is_empty() {
            return;
        }
        let Some(found) = self.node.thread_facts(&due) else {
            return;
        };
        let mut found: HashMap<u32, ThreadFacts> =
            found.into_iter().map(|facts| (facts.tid, facts)).collect();
        for tid in due {
            match (self.older.threads.get_mut(&tid), found.remove(&tid)) {
                (Some(older), Some(facts)) => {
                    older.seen(facts, now);
                    older.looked_ns = now;
                    older.looks = older.looks.saturating_add(1);
                }
                _ => {
                    self.older.threads.remove(&tid);
                }
            }
        }
    }
}
