//! Lines that sysdig prints, as LID-DS has them:
//!
//! | recordings | columns |
//! | --- | --- |
//! | LID-DS demo | Unix time in ns \| ns since the call began \| thread \| direction \| call \| arguments \| number |
//! | LID-DS 2021 | Unix time in ns, user, process, its name, thread, call, direction, arguments |
//! | LID-DS 2019 | event, time of day, processor, user, name, thread, direction, call, arguments |
//! | sysdig itself | event, time of day, processor, name, (thread), direction, call, arguments |
//!
//! Lines need not be in order of time. Every call has two, one where it begins (`>`) and one where
//! it ends (`<`); the result is the first argument of the second. Where there is none, as in the
//! demo, a call counts as successful.

mod line;
mod pairs;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use self::line::{Line, Time};
use super::{
    LineError, Trace,
    calls::{Names, Opened, is_exec},
};
use crate::record::{Nanos, Subject};

/// Events of sysdig that are no calls of a thread.
const NO_CALLS: [&str; 14] = [
    "switch",
    "signaldeliver",
    "page_fault",
    "page_fault_user",
    "page_fault_kernel",
    "drop",
    "container",
    "notification",
    "procinfo",
    "cpu_hotplug",
    "tracer",
    "infra",
    "k8s",
    "mesos",
];

pub(super) struct LidDs {
    names: Names,
    halves: Vec<Half>,
    processes: HashMap<u32, Option<u32>>,
    opened: Opened,
    dated: bool,
}

/// The beginning or the end of a call.
#[derive(Debug)]
struct Half {
    at_ns: Nanos,
    tid: u32,
    nr: u16,
    /// Of the beginning.
    fd: i32,
    side: Side,
}

#[derive(Debug)]
enum Side {
    Begins,
    Ends {
        ret: i64,
        /// Since the beginning, where that is told.
        since_ns: Nanos,
        subject: Option<Box<Subject>>,
    },
    /// The thread is no more.
    Exits {
        code: i32,
    },
}

/// Whether a line shows a half of a call.
pub(super) fn looks_like(text: &str) -> bool {
    line::parse(text).is_ok()
}

impl LidDs {
    pub(super) fn new(names: Names) -> Self {
        LidDs {
            names,
            halves: Vec::new(),
            processes: HashMap::new(),
            opened: Opened::default(),
            dated: false,
        }
    }

    pub(super) fn take(&mut self, text: &str) -> Result<(), LineError> {
        let line = line::parse(text)?;
        if NO_CALLS.contains(&line.call) {
            return Ok(());
        }
        let at_ns = match line.time {
            Time::Unix(ns) => {
                self.dated = true;
                ns
            }
            Time::OfDay(ns) => ns,
        };
        if let Some(pid) = line.pid.filter(|pid| *pid != line.tid) {
            self.processes.insert(line.tid, Some(pid));
        }
        if line.call == "procexit" {
            let status = line.argument("status").and_then(line::value);
            let code = status.and_then(|status| i32::try_from(status).ok());
            self.halves.push(Half {
                at_ns,
                tid: line.tid,
                nr: 0,
                fd: -1,
                side: Side::Exits {
                    code: code.unwrap_or(0),
                },
            });
            return Ok(());
        }
        let nr = self.names.number(line.name());
        let side = match line.begins {
            true => Side::Begins,
            false => Side::Ends {
                ret: line.result().unwrap_or(0),
                since_ns: line.since_ns,
                subject: self.subject(nr, &line).map(Box::new),
            },
        };
        let takes_descriptor = line.begins && self.names.table.takes_descriptor(nr);
        let fd = takes_descriptor.then(|| line.descriptor());
        self.halves.push(Half {
            at_ns,
            tid: line.tid,
            nr,
            fd: fd.flatten().unwrap_or(-1),
            side,
        });
        Ok(())
    }

    /// What capture would tell of a call that ends: the peer of a connect, the path of a call that
    /// failed, of a file that was opened for the first time, of a program that was started.
    fn subject(&mut self, nr: u16, line: &Line<'_>) -> Option<Subject> {
        let table = self.names.table;
        if table.is_connect(nr) {
            let (_, peer) = line.argument("tuple")?.split_once("->")?;
            return Some(Subject::Peer(peer.to_owned()));
        }
        let ret = line.result()?;
        if ret >= 0 && is_exec(table.name(nr)) {
            return Some(Subject::Path(line.argument("exe")?.to_owned()));
        }
        let path = line.argument("name").or_else(|| line.argument("path"))?;
        let (path, _) = path.split_once('(').unwrap_or((path, ""));
        let mut first = || table.is_open(nr) && self.opened.is_first(path);
        (ret < 0 || first()).then(|| Subject::Path(path.to_owned()))
    }

    pub(super) fn held(&self) -> usize {
        self.halves.len() / 2 + self.processes.len()
    }

    pub(super) fn finish(self) -> Trace {
        let table = self.names.table;
        let counts = self.names.counts();
        let mut trace = pairs::pair(in_order(self.halves), table);
        trace.counts.unknown = counts.unknown / 2;
        trace.counts.first_unknown = counts.first_unknown;
        trace.processes = self.processes;
        trace.dated = self.dated;
        trace
    }
}

/// In order of time. Those of one moment stay as they stand, or the other way round when most
/// lines run backwards.
fn in_order(mut halves: Vec<Half>) -> Vec<Half> {
    let steps = || halves.windows(2).map(|two| two[0].at_ns.cmp(&two[1].at_ns));
    let backward = steps().filter(|order| order.is_gt()).count();
    let forward = steps().filter(|order| order.is_lt()).count();
    if backward > forward {
        halves.reverse();
    }
    halves.sort_by_key(|half| half.at_ns);
    halves
}
