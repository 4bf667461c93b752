//! Processes that stand still: stopped, frozen.
//!
//! The scheduler says it: every thread is stopped, or frozen with its cgroup. An idle thread sleeps
//! inside its call; a computing one runs.

use std::collections::BTreeMap;

use crate::diagnosis::signal::{Kind, Place, Signal, Standing};
use crate::record::{ContainerIndex, Nanos, RunState, ThreadState, ThreadsSnapshot};
use crate::sequential::SECOND;

const STANDS_FOR: Nanos = 2 * SECOND;

#[derive(Debug, Default)]
pub(crate) struct Frozen {
    /// Processes that stand still and have made no call since the start, and since when that is
    /// known.
    silent: BTreeMap<(ContainerIndex, u32), Nanos>,
}

impl Frozen {
    /// The processes of a snapshot that stand still.
    pub(crate) fn judge(&mut self, snapshot: &ThreadsSnapshot) -> Vec<Signal> {
        let mut processes: BTreeMap<(ContainerIndex, u32), Vec<&ThreadState>> = BTreeMap::new();
        for thread in &snapshot.threads {
            processes
                .entry((thread.container, thread.pid))
                .or_default()
                .push(thread);
        }
        self.silent.retain(|process, _| {
            let threads = processes.get(process);
            threads.is_some_and(|threads| all_stand(threads))
        });
        let judged = processes
            .iter()
            .filter_map(|(process, threads)| self.process(*process, threads, snapshot.at_ns));
        judged.collect()
    }

    fn process(
        &mut self,
        (container, pid): (ContainerIndex, u32),
        threads: &[&ThreadState],
        now: Nanos,
    ) -> Option<Signal> {
        if threads.iter().any(|thread| thread.inside.is_some()) {
            return None;
        }
        let stand = all_stand(threads);
        let last: Vec<_> = threads
            .iter()
            .filter_map(|t| Some((t.tid, t.last?)))
            .collect();
        let ended = last
            .iter()
            .map(|(_, c)| c.enter_ns.saturating_add(c.duration_ns))
            .max();
        let since_ns = match ended {
            Some(ended) => ended,
            None if stand => *self.silent.entry((container, pid)).or_insert(now),
            None => return None,
        };
        if now < since_ns.saturating_add(STANDS_FOR) {
            return None;
        }
        let (standing, weight) = if stand {
            (Standing::Opens, 12.0)
        } else if last.len() > 1 {
            (Standing::Symptom, 4.0)
        } else {
            return None;
        };
        let first = last.first().map_or(pid, |(tid, _)| *tid);
        let tid = last
            .iter()
            .map(|(tid, _)| *tid)
            .find(|tid| *tid == pid)
            .unwrap_or(first);
        let place = Place {
            container,
            pid,
            tid,
            fd: -1,
            start_ns: since_ns,
            end_ns: now,
        };
        Some(Signal::at(place, Kind::Frozen { pid }, "process:frozen").standing(standing, weight))
    }
}

fn all_stand(threads: &[&ThreadState]) -> bool {
    let stands = |state| matches!(state, RunState::Stopped | RunState::Frozen);
    threads.iter().all(|thread| stands(thread.state))
}
