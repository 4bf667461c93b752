//! Streams and processes of one input.

use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry};

use stethos_patterns::{Window, names::CallTable};

use super::Numbers;
use crate::{
    import::{Event, What},
    record::{
        Call, CallWindow, Detail, Lifecycle, LifecycleEvent, Nanos, ProcessInfo, Record, Subject,
        WindowEnd,
    },
};

/// A window is handed over when a call ends so much later than its first: times of records then
/// follow those of calls, as they do in a capture.
const SPAN_NS: Nanos = 75_000_000;

pub(super) struct Item {
    pub(super) at_ns: Nanos,
    pub(super) rank: Rank,
    pub(super) record: Record,
}

/// Order of records of one moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Process,
    Window,
    Detail,
    Lifecycle,
}

/// A thread as the input numbers it.
type Tid = Option<u32>;

pub(super) struct Streams<'a> {
    table: &'static CallTable,
    processes: Processes<'a>,
    threads: BTreeMap<Tid, Thread>,
    items: Vec<Item>,
    calls: usize,
}

/// Which process a thread is of, and what number that has.
struct Processes<'a> {
    /// Name of the input.
    name: &'a str,
    /// Processes of threads, where the input tells them.
    told: &'a HashMap<u32, Tid>,
    numbers: &'a mut Numbers,
    pids: HashMap<Tid, u32>,
    /// Threads of every process that has not ended.
    alive: BTreeMap<u32, BTreeSet<Tid>>,
}

struct Thread {
    pid: u32,
    tid: u32,
    sequence: u64,
    lost: u32,
    calls: Vec<Call>,
    first_end_ns: Nanos,
}

impl Processes<'_> {
    fn pid(&mut self, process: Tid) -> u32 {
        let numbers = &mut *self.numbers;
        let known = self.pids.entry(process);
        *known.or_insert_with(|| numbers.give(process))
    }

    /// A thread appears, and with it perhaps its process.
    fn appear(&mut self, tid: Tid, at_ns: Nanos, items: &mut Vec<Item>) -> Thread {
        let told = tid.and_then(|number| self.told.get(&number).copied());
        let pid = self.pid(told.unwrap_or(tid));
        let threads = self.alive.entry(pid).or_default();
        if threads.is_empty() {
            let process = ProcessInfo {
                at_ns,
                container: 0,
                pid,
                executable: String::new(),
                command_line: vec![self.name.to_owned()],
                environment: Vec::new(),
                listens: Vec::new(),
            };
            items.push(Item {
                at_ns,
                rank: Rank::Process,
                record: Record::Process(process),
            });
        }
        threads.insert(tid);
        Thread {
            pid,
            tid: tid.unwrap_or(pid),
            sequence: 0,
            lost: 0,
            calls: Vec::new(),
            first_end_ns: 0,
        }
    }

    /// A thread ends; says whether its process ends with it.
    fn end(&mut self, pid: u32, tid: Tid) -> bool {
        let group_dead = self.alive.get_mut(&pid).is_none_or(|threads| {
            threads.remove(&tid);
            threads.is_empty()
        });
        if group_dead {
            self.alive.remove(&pid);
        }
        group_dead
    }
}

impl<'a> Streams<'a> {
    pub(super) fn new(
        name: &'a str,
        table: &'static CallTable,
        numbers: &'a mut Numbers,
        told: &'a HashMap<u32, Tid>,
    ) -> Self {
        Streams {
            table,
            processes: Processes {
                name,
                told,
                numbers,
                pids: HashMap::new(),
                alive: BTreeMap::new(),
            },
            threads: BTreeMap::new(),
            items: Vec::new(),
            calls: 0,
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        let Event { tid, at_ns, what } = event;
        match what {
            What::Call(call) => self.call(tid, at_ns, call),
            What::Lost => {
                self.hand_over(tid, at_ns, WindowEnd::Peeked);
                self.thread(tid, at_ns).lost += 1;
            }
            What::Subject {
                nr,
                fd,
                ret,
                subject,
            } => self.detail(tid, at_ns, nr, fd, ret, subject),
            What::Started { child, thread } => {
                let child_pid = match thread {
                    true => self.thread(tid, at_ns).pid,
                    false => self.processes.pid(Some(child)),
                };
                let event = LifecycleEvent::Fork {
                    child_pid,
                    child_tid: child,
                };
                self.lifecycle(tid, at_ns, event);
            }
            What::Executed(executable) => {
                self.lifecycle(tid, at_ns, LifecycleEvent::Exec { executable });
            }
            What::Ended { code } => self.ended(tid, at_ns, code),
        }
    }

    fn call(&mut self, tid: Tid, at_ns: Nanos, call: Call) {
        let wait = self.table.is_wait(call.nr);
        let thread = self.thread(tid, at_ns);
        let late = at_ns.saturating_sub(thread.first_end_ns) > SPAN_NS;
        if !thread.calls.is_empty() && (wait || late) {
            let end = if wait {
                WindowEnd::Wait
            } else {
                WindowEnd::Peeked
            };
            self.hand_over(tid, at_ns, end);
        }
        self.calls += 1;
        let thread = self.thread(tid, at_ns);
        if thread.calls.is_empty() {
            thread.first_end_ns = at_ns;
        }
        thread.calls.push(call);
        if thread.calls.len() >= Window::MAX_CALLS {
            self.hand_over(tid, at_ns, WindowEnd::Full);
        }
    }

    fn detail(&mut self, tid: Tid, at_ns: Nanos, nr: u16, fd: i32, ret: i64, subject: Subject) {
        let Thread { pid, tid, .. } = *self.thread(tid, at_ns);
        let detail = Detail {
            at_ns,
            container: 0,
            pid,
            tid,
            nr,
            fd,
            ret,
            subject,
        };
        self.push(at_ns, Rank::Detail, Record::Detail(detail));
    }

    /// What follows in the thread's stream comes after this.
    fn lifecycle(&mut self, tid: Tid, at_ns: Nanos, event: LifecycleEvent) {
        self.hand_over(tid, at_ns, WindowEnd::Peeked);
        let Thread { pid, tid, .. } = *self.thread(tid, at_ns);
        let record = Lifecycle {
            at_ns,
            container: 0,
            pid,
            tid,
            event,
        };
        self.push(at_ns, Rank::Lifecycle, Record::Lifecycle(record));
    }

    fn ended(&mut self, tid: Tid, at_ns: Nanos, code: i32) {
        self.hand_over(tid, at_ns, WindowEnd::ThreadExit);
        let pid = self.thread(tid, at_ns).pid;
        let group_dead = self.processes.end(pid, tid);
        self.lifecycle(tid, at_ns, LifecycleEvent::Exit { code, group_dead });
        self.threads.remove(&tid);
    }

    fn thread(&mut self, tid: Tid, at_ns: Nanos) -> &mut Thread {
        match self.threads.entry(tid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                place.insert(self.processes.appear(tid, at_ns, &mut self.items))
            }
        }
    }

    /// The thread's calls so far become a window.
    fn hand_over(&mut self, tid: Tid, at_ns: Nanos, end: WindowEnd) {
        let thread = self.thread(tid, at_ns);
        let last = thread
            .calls
            .last()
            .map(|call| call.enter_ns.saturating_add(call.duration_ns));
        if last.is_none() && end != WindowEnd::ThreadExit {
            return;
        }
        let window = CallWindow {
            container: 0,
            pid: thread.pid,
            tid: thread.tid,
            sequence: thread.sequence,
            lost_before: std::mem::take(&mut thread.lost),
            counted_before: 0,
            weight: 1,
            context: 0,
            calls: std::mem::take(&mut thread.calls),
            end,
        };
        thread.sequence += 1;
        let at_ns = last.unwrap_or(at_ns);
        self.push(at_ns, Rank::Window, Record::Window(window));
    }

    fn push(&mut self, at_ns: Nanos, rank: Rank, record: Record) {
        self.items.push(Item {
            at_ns,
            rank,
            record,
        });
    }

    /// Ends what is left, and gives the records and the number of calls.
    pub(super) fn finish(mut self, end_ns: Nanos) -> (Vec<Item>, usize) {
        let left: Vec<Tid> = self.threads.keys().copied().collect();
        for tid in left {
            self.ended(tid, end_ns, 0);
        }
        (self.items, self.calls)
    }
}
