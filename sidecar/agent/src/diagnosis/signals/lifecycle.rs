//! What the starts and ends of processes say.

use std::collections::{BTreeMap, VecDeque};

use crate::diagnosis::pod::{Pod, Process};
use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::{Kind, Place, Signal, Standing};
use crate::diagnosis::signals::MAX_KEYS;
use crate::record::{ContainerIndex, Lifecycle, LifecycleEvent, Nanos};
use crate::sequential::SECOND;

/// Ends of one executable within this time that make a loop.
const LOOP: usize = 3;
const LOOP_WITHIN: Nanos = 60 * SECOND;
/// An executable is looked up this long after it was started.
const IDENTIFY: Nanos = SECOND / 2;
/// A process that ends sooner did not come up.
const SHORT: Nanos = 15 * SECOND;

#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Ends that were not asked for, per container name and executable: a restarted container
    /// has another index, but the same name.
    ends: BTreeMap<(String, String), VecDeque<Nanos>>,
    /// Unknown by the name they were started by; their file may be known by another.
    started: BTreeMap<u32, Signal>,
}

impl Ends {
    /// Judges one event. `ended` is the process that it ended.
    pub(crate) fn judge(
        &mut self,
        record: &Lifecycle,
        ended: Option<&Process>,
        model: Option<&Reference>,
        pod: &Pod,
    ) -> Option<Signal> {
        let place = |start_ns| Place {
            container: record.container,
            pid: record.pid,
            tid: record.tid,
            fd: -1,
            start_ns,
            end_ns: record.at_ns,
        };
        match &record.event {
            LifecycleEvent::OomKill => Some(
                Signal::at(place(record.at_ns), Kind::OutOfMemory, "oom_kill")
                    .standing(Standing::Hard, 12.0),
            ),
            LifecycleEvent::Exec { executable } => {
                let model = model?;
                let file = pod
                    .process(record.pid)
                    .map_or("", |p| p.executable.as_str());
                let known = model.knows_command(executable)
                    || model.accepts_command(executable)
                    || (!file.is_empty() && model.knows_executable(file));
                let kind = Kind::UnexpectedExec {
                    executable: executable.clone(),
                };
                if !known && self.started.len() < MAX_KEYS {
                    let signal = Signal::at(place(record.at_ns), kind, "execve:ok")
                        .about(Some(executable.clone()))
                        .standing(Standing::Hard, 9.0);
                    self.started.insert(record.pid, signal);
                }
                None
            }
            LifecycleEvent::Exit {
                code,
                group_dead: true,
            } => {
                let process = ended?;
                model?;
                let executable = process.executable.clone();
                let first = self.looping(record.container, process, *code, record.at_ns, pod);
                let (kind, standing, weight, start) = match first {
                    Some(first) => (Kind::CrashLoop { executable }, Standing::Hard, 11.0, first),
                    None if *code != 0 || !process.listens.is_empty() => (
                        Kind::ProcessEnded { executable },
                        Standing::Symptom,
                        2.0,
                        record.at_ns,
                    ),
                    None => return None,
                };
                let how = how_it_ended(*code);
                Some(Signal::at(place(start), kind, how).standing(standing, weight))
            }
            _ => None,
        }
    }

    /// What a started process turned out to be.
    pub(crate) fn identify(&mut self, pid: u32, executable: &str, model: Option<&Reference>) {
        let known = model.is_some_and(|m| !executable.is_empty() && m.knows_executable(executable));
        if known {
            self.started.remove(&pid);
        }
    }

    /// Started processes that nobody knew by `now`, but for those that are about to turn out more.
    pub(crate) fn settle(
        &mut self,
        now: Nanos,
        may_be_more: impl Fn(u32, Nanos) -> bool,
    ) -> Vec<Signal> {
        let due = |pid: &u32, signal: &mut Signal| {
            now.saturating_sub(signal.end_ns) >= IDENTIFY && !may_be_more(*pid, now)
        };
        let due = self.started.extract_if(.., due);
        due.map(|(_, signal)| signal).collect()
    }

    /// Whether the process was started from a file that nobody knows, and that is yet to be said.
    pub(crate) fn is_about_to_tell(&self, pid: u32) -> bool {
        self.started.contains_key(&pid)
    }

    /// First of the ends that make a loop, of a process that is meant to stay and does not.
    fn looping(
        &mut self,
        container: ContainerIndex,
        process: &Process,
        code: i32,
        at_ns: Nanos,
        pod: &Pod,
    ) -> Option<Nanos> {
        if code == 0 || !pod.lost_settled(container, &process.executable, at_ns) {
            return None;
        }
        if self.ends.len() >= MAX_KEYS {
            self.ends.pop_first();
        }
        let key = (pod.container_name(container), process.executable.clone());
        let ends = self.ends.entry(key).or_default();
        if at_ns.saturating_sub(process.since_ns) >= SHORT {
            ends.clear();
        }
        ends.push_back(at_ns);
        while ends
            .front()
            .is_some_and(|end| end.saturating_add(LOOP_WITHIN) < at_ns)
        {
            ends.pop_front();
        }
        if ends.len() > 64 {
            ends.pop_front();
        }
        (ends.len() >= LOOP)
            .then(|| ends.front().copied())
            .flatten()
    }
}

/// From the code of `wait(2)`: the low seven bits are the signal, the next byte the status; -1 for
/// a signal that is not known.
fn how_it_ended(code: i32) -> String {
    if code < 0 {
        return "exit:a_signal".to_owned();
    }
    match (code & 0x7f, (code >> 8) & 0xff) {
        (0, status) => format!("exit:status_{status}"),
        (signal, _) => format!("exit:signal_{signal}"),
    }
}
