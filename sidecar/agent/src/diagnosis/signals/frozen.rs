//! Processes that stand still: stopped, frozen.
//!
//! The scheduler says it: every thread is stopped, or frozen with its cgroup. An idle thread sleeps
//! inside its call; a computing one runs.

use std::collections::BTreeMap;

use crate::diagnosis::signal::{Kind, Place, Signal, Standing};
use crate::record::{ContainerIndex, Nanos, RunState, ThreadState, ThreadsSnapshot};
use crate::sequential::SECOND;

const STANDS_FOR: Nanos = 2 * SECOND;

/// The processes of a snapshot that stand still.
pub(crate) fn judge(snapshot: &ThreadsSnapshot) -> Vec<Signal> {
    let mut processes: BTreeMap<(ContainerIndex, u32), Vec<&ThreadState>> = BTreeMap::new();
    for thread in &snapshot.threads {
        processes
            .entry((thread.container, thread.pid))
            .or_default()
            .push(thread);
    }
    processes
        .iter()
        .filter_map(|((container, pid), threads)| {
            process(*container, *pid, threads, snapshot.at_ns)
        })
        .collect()
}

fn process(
    container: ContainerIndex,
    pid: u32,
    threads: &[&ThreadState],
    now: Nanos,
) -> Option<Signal> {
    if threads.iter().any(|thread| thread.inside.is_some()) {
        return None;
    }
    // A thread that has made no call since the start says nothing.
    let last: Vec<_> = threads
        .iter()
        .filter_map(|t| Some((t.tid, t.last?)))
        .collect();
    let since_ns = last
        .iter()
        .map(|(_, c)| c.enter_ns.saturating_add(c.duration_ns))
        .max()?;
    if now < since_ns.saturating_add(STANDS_FOR) {
        return None;
    }
    let stands = |state| matches!(state, RunState::Stopped | RunState::Frozen);
    let (standing, weight) = if threads.iter().all(|thread| stands(thread.state)) {
        (Standing::Opens, 12.0)
    } else if last.len() > 1 {
        (Standing::Symptom, 4.0)
    } else {
        return None;
    };
    let tid = last
        .iter()
        .map(|(tid, _)| *tid)
        .find(|tid| *tid == pid)
        .unwrap_or(last[0].0);
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
