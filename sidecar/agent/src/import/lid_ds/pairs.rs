//! Beginnings and ends into calls.

use std::collections::HashMap;

use stethos_patterns::names::CallTable;

use super::super::{Counts, Event, Trace, What, calls::is_exec};
use super::{Half, Side};
use crate::record::{Call, Nanos, Subject};

/// A call that has begun.
struct Begun {
    nr: u16,
    fd: i32,
    at_ns: Nanos,
}

/// The calls of halves in order of time.
pub(super) fn pair(halves: Vec<Half>, table: &CallTable) -> Trace {
    let mut pairing = Pairing {
        table,
        begun: HashMap::new(),
        events: Vec::new(),
        counts: Counts::default(),
    };
    halves.into_iter().for_each(|half| pairing.take(half));
    pairing.finish()
}

struct Pairing<'a> {
    table: &'a CallTable,
    begun: HashMap<u32, Begun>,
    events: Vec<Event>,
    counts: Counts,
}

impl Pairing<'_> {
    fn take(&mut self, half: Half) {
        let Half {
            at_ns,
            tid,
            nr,
            fd,
            side,
        } = half;
        match side {
            Side::Begins => {
                if let Some(before) = self.begun.insert(tid, Begun { nr, fd, at_ns }) {
                    self.left(tid, &before, at_ns);
                }
            }
            Side::Exits { code } => {
                if let Some(before) = self.begun.remove(&tid) {
                    self.no_return(tid, &before);
                }
                self.push(tid, at_ns, What::Ended { code });
            }
            Side::Ends {
                ret,
                since_ns,
                subject,
            } => {
                let begun = self.ended(tid, nr, at_ns, since_ns);
                self.returned(tid, &begun, at_ns, ret);
                if let Some(subject) = subject {
                    self.tell(tid, at_ns, &begun, ret, *subject);
                }
            }
        }
    }

    /// The beginning of the call that ends now.
    fn ended(&mut self, tid: u32, nr: u16, at_ns: Nanos, since_ns: Nanos) -> Begun {
        match self.begun.remove(&tid) {
            Some(begun) if begun.nr == nr => return begun,
            Some(other) => self.left(tid, &other, at_ns),
            None => {}
        }
        Begun {
            nr,
            fd: -1,
            at_ns: at_ns.saturating_sub(since_ns),
        }
    }

    fn returned(&mut self, tid: u32, begun: &Begun, end_ns: Nanos, ret: i64) {
        self.call(
            tid,
            end_ns,
            Call {
                nr: begun.nr,
                fd: begun.fd,
                ret,
                enter_ns: begun.at_ns,
                duration_ns: end_ns.saturating_sub(begun.at_ns),
                no_return: false,
                counted: false,
            },
        );
    }

    /// The thread ended in this call.
    fn no_return(&mut self, tid: u32, begun: &Begun) {
        self.call(
            tid,
            begun.at_ns,
            Call {
                nr: begun.nr,
                fd: begun.fd,
                ret: 0,
                enter_ns: begun.at_ns,
                duration_ns: 0,
                no_return: true,
                counted: false,
            },
        );
    }

    fn call(&mut self, tid: u32, end_ns: Nanos, call: Call) {
        self.counts.calls += 1;
        self.push(tid, end_ns, What::Call(call));
    }

    /// A call without an end: one that has none, or one whose line is missing.
    fn left(&mut self, tid: u32, begun: &Begun, at_ns: Nanos) {
        if self.ends_thread(begun.nr) {
            self.no_return(tid, begun);
        } else {
            self.counts.lost += 1;
            self.push(tid, at_ns, What::Lost);
        }
    }

    fn ends_thread(&self, nr: u16) -> bool {
        matches!(self.table.name(nr), "exit" | "exit_group")
    }

    fn tell(&mut self, tid: u32, at_ns: Nanos, begun: &Begun, ret: i64, subject: Subject) {
        let what = match subject {
            Subject::Path(path) if ret >= 0 && is_exec(self.table.name(begun.nr)) => {
                What::Executed(path)
            }
            subject => What::Subject {
                nr: begun.nr,
                fd: begun.fd,
                ret,
                subject,
            },
        };
        self.push(tid, at_ns, what);
    }

    fn push(&mut self, tid: u32, at_ns: Nanos, what: What) {
        let tid = Some(tid);
        self.events.push(Event { tid, at_ns, what });
    }

    fn finish(mut self) -> Trace {
        let mut left: Vec<(u32, Begun)> = self.begun.drain().collect();
        left.sort_by_key(|(tid, begun)| (begun.at_ns, *tid));
        for (tid, begun) in left {
            if self.ends_thread(begun.nr) {
                self.no_return(tid, &begun);
            } else {
                self.counts.unfinished += 1;
            }
        }
        Trace {
            events: self.events,
            counts: self.counts,
            ..Trace::default()
        }
    }
}
