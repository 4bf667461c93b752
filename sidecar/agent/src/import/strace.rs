//! Output of strace: with `-f`, `-ff` or neither, with any of its clocks or none, with `-y`.
//!
//! A call's duration is the time that `-T` says, or that lies between its two lines: time inside
//! the call, of which capture knows the part that was waited.

mod arguments;
mod line;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};

use stethos_patterns::{Outcome, names::CallKind};

use self::{
    arguments::{first_descriptor, first_string, peer, socket_error},
    line::{Returned, Said, Stamp},
};
pub(super) use line::time_of_day;

use super::{
    Event, LineError, STEP_NS, Trace, What,
    calls::{Names, Opened, is_exec},
};
use crate::record::{Call, Nanos, Subject};

const DAY_NS: Nanos = 24 * 3600 * 1_000_000_000;

pub(super) struct Strace {
    names: Names,
    events: Vec<Event>,
    /// Calls that threads are inside.
    open: HashMap<Option<u32>, Entered>,
    /// Threads by the thread that made them, in its process.
    makers: HashMap<u32, Option<u32>>,
    /// Everything that some thread made.
    made: HashSet<u32>,
    opened: Opened,
    /// Start of a line that strace broke off to say that it attached to a thread.
    broken_off: Option<String>,
    dated: bool,
    /// Start of the newest line, and of its day where only the time of day is told.
    now_ns: Nanos,
    day_ns: Nanos,
}

/// A call as its first line tells it.
struct Entered {
    nr: u16,
    fd: i32,
    at_ns: Nanos,
    subject: Option<Subject>,
    /// It makes a thread, not a process.
    thread: bool,
}

/// Whether a line shows something that a traced thread did.
pub(super) fn looks_like(text: &str) -> bool {
    line::parse(text).is_ok_and(|line| line.said != Said::Note)
}

impl Strace {
    pub(super) fn new(names: Names) -> Self {
        Strace {
            names,
            events: Vec::new(),
            open: HashMap::new(),
            makers: HashMap::new(),
            made: HashSet::new(),
            opened: Opened::default(),
            broken_off: None,
            dated: false,
            now_ns: 0,
            day_ns: 0,
        }
    }

    pub(super) fn take(&mut self, text: &str) -> Result<(), LineError> {
        if let Some(start) = line::broken_off(text) {
            self.broken_off = Some(start.to_owned());
            return Ok(());
        }
        if let Some(start) = self.broken_off.take() {
            let whole = start + text;
            if line::parse(&whole).is_ok() {
                return self.line(&whole);
            }
        }
        self.line(text)
    }

    fn line(&mut self, text: &str) -> Result<(), LineError> {
        let line = line::parse(text)?;
        if line.said == Said::Note {
            return Ok(());
        }
        let (tid, at_ns) = (line.tid, self.clock(line.stamp));
        match line.said {
            Said::Call {
                name,
                arguments,
                returned,
            } => {
                let entered = self.enter(name, arguments, at_ns);
                let returned = match socket_error(name, arguments) {
                    Some(error) if returned.ret == 0 => Returned {
                        ret: -error,
                        ..returned
                    },
                    _ => returned,
                };
                let duration_ns = line.duration.unwrap_or(0);
                self.call(tid, entered, returned, duration_ns);
            }
            Said::Unfinished { name, arguments } => {
                let entered = self.enter(name, arguments, at_ns);
                if self.open.insert(tid, entered).is_some() {
                    self.push(tid, at_ns, What::Lost);
                }
            }
            Said::Resumed { name, returned } => {
                self.resume(tid, name, at_ns, line.duration, returned)
            }
            Said::Ended(code) => {
                if let Some(entered) = self.open.remove(&tid) {
                    let returned = Returned {
                        ret: 0,
                        no_return: true,
                    };
                    let duration_ns = at_ns.saturating_sub(entered.at_ns);
                    self.call(tid, entered, returned, duration_ns);
                }
                self.push(tid, at_ns, What::Ended { code });
            }
            Said::Signal | Said::Note => {}
        }
        Ok(())
    }

    pub(super) fn held(&self) -> usize {
        self.events.len() + self.open.len() + self.made.len()
    }

    fn clock(&mut self, stamp: Option<Stamp>) -> Nanos {
        self.now_ns = match stamp {
            Some(Stamp::Unix(ns)) => {
                self.dated = true;
                ns
            }
            Some(Stamp::OfDay(ns)) => {
                // Past midnight.
                if self.day_ns + ns + DAY_NS / 2 < self.now_ns {
                    self.day_ns += DAY_NS;
                }
                self.day_ns + ns
            }
            Some(Stamp::Since(ns)) => self.now_ns.saturating_add(ns),
            None => self.now_ns.saturating_add(STEP_NS),
        };
        self.now_ns
    }

    fn enter(&mut self, name: &str, arguments: &str, at_ns: Nanos) -> Entered {
        let nr = self.names.number(name);
        let table = self.names.table;
        let takes_descriptor = table.takes_descriptor(nr);
        let subject = match table.kind(nr) {
            CallKind::Connect => peer(arguments).map(Subject::Peer),
            CallKind::Socket if name == "bind" => peer(arguments).map(Subject::Peer),
            CallKind::Open | CallKind::File if !takes_descriptor => {
                first_string(arguments).map(Subject::Path)
            }
            _ if is_exec(name) => first_string(arguments).map(Subject::Path),
            _ => None,
        };
        let fd = takes_descriptor.then(|| first_descriptor(arguments));
        Entered {
            nr,
            fd: fd.flatten().unwrap_or(-1),
            at_ns,
            subject,
            thread: arguments.contains("CLONE_THREAD"),
        }
    }

    /// The second line of a call. A thread that is alone has no number on its lines: the first line
    /// may have one where the second has none, and the other way round.
    fn resume(
        &mut self,
        tid: Option<u32>,
        name: &str,
        at_ns: Nanos,
        told: Option<Nanos>,
        returned: Returned,
    ) {
        let nr = self.names.number(name);
        let alike = |(_, entered): &(&Option<u32>, &Entered)| entered.nr == nr;
        let key = match tid {
            _ if self.open.contains_key(&tid) => tid,
            Some(_)
                if self
                    .open
                    .get_key_value(&None)
                    .is_some_and(|open| alike(&open)) =>
            {
                None
            }
            Some(_) => tid,
            None => {
                let mut found = self.open.iter().filter(alike);
                match (found.next(), found.next()) {
                    (Some((only, _)), None) => *only,
                    _ => None,
                }
            }
        };
        let owner = tid.or(key);
        let entered = self.open.remove(&key);
        let lost = entered.as_ref().is_some_and(|entered| entered.nr != nr);
        if lost {
            self.push(owner, at_ns, What::Lost);
        }
        let entered = entered.filter(|_| !lost).unwrap_or(Entered {
            nr,
            fd: -1,
            at_ns: at_ns.saturating_sub(told.unwrap_or(0)),
            subject: None,
            thread: false,
        });
        let between = at_ns.saturating_sub(entered.at_ns);
        self.call(owner, entered, returned, told.unwrap_or(between));
    }

    /// A call is over.
    fn call(&mut self, tid: Option<u32>, entered: Entered, returned: Returned, duration_ns: Nanos) {
        let Entered { nr, fd, at_ns, .. } = entered;
        let ret = returned.ret;
        let end_ns = at_ns.saturating_add(duration_ns);
        let call = Call {
            nr,
            fd,
            ret,
            enter_ns: at_ns,
            duration_ns,
            no_return: returned.no_return,
            counted: false,
        };
        self.push(tid, end_ns, What::Call(call));
        if returned.no_return {
            return;
        }
        let name = self.names.table.name(nr);
        if let (true, Ok(child @ 1..)) = (makes_threads(name), u32::try_from(ret)) {
            let thread = entered.thread;
            self.made.insert(child);
            if thread {
                self.makers.insert(child, tid);
            }
            self.push(tid, end_ns, What::Started { child, thread });
        }
        match entered.subject {
            Some(Subject::Path(path)) if is_exec(name) && ret >= 0 => {
                self.push(tid, end_ns, What::Executed(path));
            }
            Some(subject) if self.is_told(nr, ret, &subject) => {
                let subject = What::Subject {
                    nr,
                    fd,
                    ret,
                    subject,
                };
                self.push(tid, end_ns, subject);
            }
            _ => {}
        }
    }

    /// As in capture: every address, the paths of failed calls, and once each file that was opened.
    fn is_told(&mut self, nr: u16, ret: i64, subject: &Subject) -> bool {
        match (subject, Outcome::from_return(ret)) {
            (Subject::Peer(_), _) | (_, Outcome::Errno(_)) => true,
            (Subject::Path(path), Outcome::Ok) if self.names.table.is_open(nr) => {
                self.opened.is_first(path)
            }
            _ => false,
        }
    }

    fn push(&mut self, tid: Option<u32>, at_ns: Nanos, what: What) {
        self.events.push(Event { tid, at_ns, what });
    }

    pub(super) fn finish(mut self) -> Trace {
        self.name_the_first();
        let count = |is: fn(&What) -> bool| {
            let found = self.events.iter().filter(|event| is(&event.what));
            found.count() as u64
        };
        let calls = count(|what| matches!(what, What::Call(_)));
        let lost = count(|what| matches!(what, What::Lost));
        let counts = self.names.counts();
        Trace {
            processes: processes(&self.makers),
            events: self.events,
            dated: self.dated,
            counts: super::Counts {
                calls,
                lost,
                unfinished: self.open.len() as u64,
                ..counts
            },
        }
    }

    /// The first process has no number on its lines as long as it is alone. It is the one that
    /// nobody made.
    fn name_the_first(&mut self) {
        let unnamed = self.events.iter().any(|event| event.tid.is_none());
        let numbered = self.events.iter().filter_map(|event| event.tid);
        let roots: HashSet<u32> = numbered.filter(|tid| !self.made.contains(tid)).collect();
        let mut roots = roots.into_iter();
        let (true, Some(root), None) = (unnamed, roots.next(), roots.next()) else {
            return;
        };
        for tid in self
            .events
            .iter_mut()
            .map(|event| &mut event.tid)
            .chain(self.makers.values_mut())
        {
            tid.get_or_insert(root);
        }
    }
}

/// The process of every thread that another thread made.
fn processes(makers: &HashMap<u32, Option<u32>>) -> HashMap<u32, Option<u32>> {
    const MOST: usize = 64;
    let process = |mut tid: u32| {
        for _ in 0..MOST {
            match makers.get(&tid) {
                Some(Some(maker)) => tid = *maker,
                Some(None) => return None,
                None => break,
            }
        }
        Some(tid)
    };
    makers.keys().map(|tid| (*tid, process(*tid))).collect()
}

fn makes_threads(name: &str) -> bool {
    matches!(name, "clone" | "clone3" | "fork" | "vfork")
}
