//! Requests and answers on one socket.

use serde::{Deserialize, Serialize};

use super::ObservedCall;
use crate::token::Outcome;
use crate::window::Role;

/// One request and its answer on a socket.
///
/// For a client: from the end of the last successful write to the end of the first successful
/// read after it. For a server: from the end of the last successful read to the start of the
/// first successful write after it (its service time).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    pub pid: u32,
    /// The thread that sent the request (client) or the answer (server).
    pub tid: u32,
    pub fd: i32,
    /// `Client` or `Server`.
    pub role: Role,
    /// Whom a client talks to, when known.
    pub peer: Option<String>,
    pub sent_ns: u64,
    /// 0 while there is no answer.
    pub received_ns: u64,
    /// Why there is no answer: `Ok` = the peer closed (read returned 0), `Errno` = a read or
    /// write failed hard, `NoReturn` = this process gave up and closed its end.
    pub failed: Option<Outcome>,
}

impl Exchange {
    /// 0 while there is no answer.
    pub fn duration_ns(&self) -> u64 {
        self.received_ns.saturating_sub(self.sent_ns)
    }
}

/// Whose turn it is on one socket.
#[derive(Clone, Debug, Default)]
pub(super) struct Turn {
    /// What came first: the client's write, the server's read.
    open: Option<Open>,
    /// End (client) or start (server) of the last answer for which no request has been seen:
    /// the other thread's window may still come.
    early: Option<u64>,
    /// End of the newest exchange.
    done_ns: u64,
    /// A request older than that: its thread's window came late, and its answer is in it.
    late: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    first_ns: u64,
    last_ns: u64,
    tid: u32,
}

pub(super) struct Ended {
    sent_ns: u64,
    received_ns: u64,
    tid: u32,
    failed: Option<Outcome>,
}

impl Ended {
    pub(super) fn exchange(
        self,
        call: &ObservedCall,
        role: Role,
        peer: Option<String>,
    ) -> Exchange {
        Exchange {
            pid: call.pid,
            tid: self.tid,
            fd: call.fd,
            role,
            peer,
            sent_ns: self.sent_ns,
            received_ns: self.received_ns,
            failed: self.failed,
        }
    }
}

impl Turn {
    /// First request without an answer: time and thread.
    pub(super) fn unanswered(&self) -> Option<(u64, u32)> {
        self.open.map(|open| (open.first_ns, open.tid))
    }

    pub(super) fn client_write(&mut self, call: &ObservedCall, outcome: Outcome) -> Option<Ended> {
        if outcome.is_error() {
            return self.fail(call.end_ns(), outcome);
        }
        if outcome != Outcome::Ok || call.ret == 0 {
            return None;
        }
        self.ask(call)
    }

    pub(super) fn client_read(&mut self, call: &ObservedCall, outcome: Outcome) -> Option<Ended> {
        let end_ns = call.end_ns();
        match outcome {
            Outcome::Ok if call.ret > 0 => self.answer(end_ns, call.tid),
            Outcome::Ok => self.fail(end_ns, Outcome::Ok),
            outcome if outcome.is_error() => self.fail(end_ns, outcome),
            _ => None,
        }
    }

    pub(super) fn server_read(&mut self, call: &ObservedCall) -> Option<Ended> {
        if call.no_return || call.ret <= 0 {
            None
        } else {
            self.ask(call)
        }
    }

    pub(super) fn server_write(&mut self, call: &ObservedCall, outcome: Outcome) -> Option<Ended> {
        let ended = match outcome {
            Outcome::Ok if call.ret > 0 => self.answer(call.enter_ns, call.tid),
            outcome if outcome.is_error() => self.fail(call.enter_ns, outcome),
            _ => None,
        };
        ended.map(|ended| Ended {
            tid: call.tid,
            ..ended
        })
    }

    /// The own end was closed at `at_ns`.
    pub(super) fn abandoned(mut self, at_ns: u64) -> Option<Ended> {
        self.fail(at_ns, Outcome::NoReturn)
    }

    fn ask(&mut self, call: &ObservedCall) -> Option<Ended> {
        let at_ns = call.end_ns();
        if at_ns < self.done_ns {
            self.late = Some(Open {
                first_ns: at_ns,
                last_ns: at_ns,
                tid: call.tid,
            });
            return None;
        }
        if let Some(answered_ns) = self.early.filter(|early| at_ns < *early) {
            self.early = None;
            self.open = None;
            self.done_ns = self.done_ns.max(answered_ns);
            return Some(Ended {
                sent_ns: at_ns,
                received_ns: answered_ns,
                tid: call.tid,
                failed: None,
            });
        }
        let open = self.open.get_or_insert(Open {
            first_ns: at_ns,
            last_ns: at_ns,
            tid: call.tid,
        });
        open.first_ns = open.first_ns.min(at_ns);
        if at_ns >= open.last_ns {
            open.last_ns = at_ns;
            open.tid = call.tid;
        }
        None
    }

    fn answer(&mut self, at_ns: u64, tid: u32) -> Option<Ended> {
        let late = self
            .late
            .take_if(|late| late.tid == tid && late.last_ns <= at_ns);
        let (asked, received_ns) = match (late, self.open) {
            (Some(late), _) => (late, at_ns),
            (None, Some(open)) if open.last_ns <= at_ns => {
                self.open = None;
                self.early = None;
                (open, at_ns)
            }
            (None, Some(_)) => return None,
            (None, None) => {
                self.early = Some(at_ns);
                return None;
            }
        };
        self.done_ns = self.done_ns.max(received_ns);
        Some(Ended {
            sent_ns: asked.last_ns,
            received_ns,
            tid: asked.tid,
            failed: None,
        })
    }

    fn fail(&mut self, at_ns: u64, outcome: Outcome) -> Option<Ended> {
        let open = self.open.take_if(|open| open.last_ns <= at_ns)?;
        Some(Ended {
            sent_ns: open.last_ns,
            received_ns: at_ns,
            tid: open.tid,
            failed: Some(outcome),
        })
    }
}
