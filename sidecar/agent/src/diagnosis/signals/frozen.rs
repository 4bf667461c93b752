//! Processes that stand still: stopped, frozen.
//!
//! A stopped thread *returns* from the call it waited in (interrupted, or with one of the
//! kernel's restart codes) and does not enter another; an idle one stays inside its call; a
//! computing one is outside any call, but was not interrupted.

use std::collections::BTreeMap;

use stethos_patterns::Outcome;

use crate::diagnosis::sequential::SECOND;
use crate::diagnosis::signal::{Kind, Place, Signal, Standing};
use crate::record::{ContainerIndex, Nanos, ThreadState, ThreadsSnapshot};

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
    let interrupted = last
        .iter()
        .filter(|(_, c)| !c.no_return && Outcome::from_return(c.ret) == Outcome::Interrupted)
        .count();
    let (standing, weight) = if interrupted == last.len() {
        (Standing::Opens, 12.0)
    } else if interrupted > 0 {
        (Standing::Opens, 9.0)
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
