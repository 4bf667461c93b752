//! What the starts and ends of processes say.

use std::collections::{BTreeMap, VecDeque};

use crate::diagnosis::pod::{Pod, Process};
use crate::diagnosis::reference::Reference;
use crate::diagnosis::signal::{Kind, Normal, Place, Signal, Standing};
use crate::diagnosis::signals::MAX_KEYS;
use crate::record::{ContainerIndex, Lifecycle, LifecycleEvent, Nanos};
use crate::sequential::SECOND;

/// Ends of one executable that make a loop, and those that do where it crashed.
const LOOP: usize = 3;
const CRASHES: usize = 2;
/// Within this time.
const LOOP_WITHIN: Nanos = 60 * SECOND;
/// An executable is looked up this long after it was started.
const IDENTIFY: Nanos = SECOND / 2;
/// A process that ends sooner did not come up.
const SHORT: Nanos = 15 * SECOND;
/// What a process gets for what it did itself: SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGSYS.
const OWN_FAULTS: [i32; 7] = [4, 5, 6, 7, 8, 11, 31];
const SIGKILL: i32 = 9;

/// What the end of a process that is meant to stay makes with those before it.
enum Ending {
    Loop {
        first_ns: Nanos,
        ends: usize,
    },
    /// By a fault of its own.
    Crash,
    Other,
}

#[derive(Debug, Clone, Copy)]
struct End {
    at_ns: Nanos,
    /// By a signal that nobody sends to have it start again.
    crashed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Ends that were not asked for, per container name and executable: a restarted container
    /// has another index, but the same name.
    ends: BTreeMap<(String, String), VecDeque<End>>,
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
                let ending = self.ending(record.container, process, *code, record.at_ns, pod);
                let signal =
                    |kind, start_ns| Signal::at(place(start_ns), kind, how_it_ended(*code));
                let ended = |executable| signal(Kind::ProcessEnded { executable }, record.at_ns);
                match ending {
                    Ending::Loop { first_ns, ends } => Some(
                        signal(Kind::CrashLoop { executable }, first_ns)
                            .standing(Standing::Hard, 11.0)
                            .against(Normal::Ends { now: ends }),
                    ),
                    Ending::Crash => Some(ended(executable).standing(Standing::Opens, 6.0)),
                    Ending::Other if *code != 0 || !process.listens.is_empty() => {
                        Some(ended(executable).standing(Standing::Symptom, 2.0))
                    }
                    Ending::Other => None,
                }
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

    fn ending(
        &mut self,
        container: ContainerIndex,
        process: &Process,
        code: i32,
        at_ns: Nanos,
        pod: &Pod,
    ) -> Ending {
        let own_fault = signal_of(code).is_some_and(|signal| OWN_FAULTS.contains(&signal));
        let crashed = own_fault || signal_of(code) == Some(SIGKILL);
        // Who crashes may take with it those that still run beside it.
        let lost = pod.lost_settled(container, &process.executable, at_ns);
        if code == 0 || !(lost || crashed) {
            return Ending::Other;
        }
        if self.ends.len() >= MAX_KEYS {
            self.ends.pop_first();
        }
        let key = (pod.container_name(container), process.executable.clone());
        let ends = self.ends.entry(key).or_default();
        if at_ns.saturating_sub(process.since_ns) >= SHORT {
            ends.clear();
        }
        match ends.back_mut() {
            // Of several that ran at once, none was started for another.
            Some(last) if process.since_ns < last.at_ns => {
                last.at_ns = at_ns;
                last.crashed |= crashed;
            }
            _ => ends.push_back(End { at_ns, crashed }),
        }
        while ends
            .front()
            .is_some_and(|end| end.at_ns.saturating_add(LOOP_WITHIN) < at_ns)
        {
            ends.pop_front();
        }
        if ends.len() > 64 {
            ends.pop_front();
        }
        if !lost {
            return Ending::Other;
        }
        let crashes = ends.iter().rev().take_while(|end| end.crashed).count();
        match ends.front() {
            Some(first) if ends.len() >= LOOP || crashes >= CRASHES => Ending::Loop {
                first_ns: first.at_ns,
                ends: ends.len(),
            },
            _ if own_fault => Ending::Crash,
            _ => Ending::Other,
        }
    }
}

/// What ended it, if a signal that is known did.
fn signal_of(code: i32) -> Option<i32> {
    (code > 0 && code & 0x7f != 0).then_some(code & 0x7f)
}

/// From the code of `wait(2)`: the low seven bits are the signal, the next byte the status; -1 for
/// a signal that is not known.
fn how_it_ended(code: i32) -> String {
    if code < 0 {
        return "exit:a_signal".to_owned();
    }
    match signal_of(code) {
        Some(signal) => format!("exit:signal_{signal}"),
        None => format!("exit:status_{}", (code >> 8) & 0xff),
    }
}
