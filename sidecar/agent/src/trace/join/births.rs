//! For which request a socket was made.
//!
//! While a thread has several requests open, nothing in a call says whose it is. But who asks others for what it
//! is asked (a proxy) mostly makes a socket directly after it read the request, or, where it read several, sockets in
//! the order in which it read them, before it turns to anything else. Whether a process does so always is not
//! assumed: what it first sends on such sockets, with a `traceparent`, shows it. Only where that was so [`PROVEN`]
//! times, with several requests open, and never otherwise, a socket is taken for that of the request in whose turn
//! it was made.

use std::collections::{HashMap, VecDeque};

use crate::record::{CallWindow, Nanos};
use crate::trace::SpanContext;

use super::timeline::{Incoming, Line, Timeline};

/// By the rule of three, less than 1.5 % of the others are otherwise (95 %).
pub(super) const PROVEN: u32 = 200;
const MAX_SOCKETS: usize = 65_536;
const MAX_THREADS: usize = 4096;
const MAX_PROCESSES: usize = 16_384;
/// Requests that a thread sent, whose windows have not come yet.
const MAX_SENT: usize = 64;
/// Descriptors that a thread read, and made, in one turn.
const MAX_READ: usize = 256;
const MAX_MADE: usize = 256;
const EAGAIN: i64 = -11;

/// Numbers of the calls that say what a thread turns to.
#[derive(Clone, Debug, Default)]
pub struct Turning {
    /// It waits, or takes a connection in.
    pub leaves: Vec<u16>,
    pub reads: Vec<u16>,
    pub makes_sockets: Vec<u16>,
    pub opens: Vec<u16>,
    /// The descriptor is that of the loop.
    pub registers: Vec<u16>,
}

impl Turning {
    /// `numbers`: of calls with these names.
    pub(super) fn new(numbers: impl Fn(&[&str]) -> Vec<u16>) -> Self {
        Self {
            leaves: numbers(&[
                "epoll_wait",
                "epoll_pwait",
                "epoll_pwait2",
                "poll",
                "ppoll",
                "select",
                "pselect6",
                "accept",
                "accept4",
            ]),
            reads: numbers(&["read", "readv", "recvfrom", "recvmsg"]),
            makes_sockets: numbers(&["socket"]),
            opens: numbers(&["open", "openat", "openat2", "dup", "pipe2", "eventfd2"]),
            registers: numbers(&["epoll_ctl"]),
        }
    }
}

/// What a thread turned to.
#[derive(Debug, Default)]
struct Turn {
    /// Number of the last window.
    sequence: Option<u64>,
    /// How often calls were not seen: a socket that was made before that may be another one by now.
    gaps: u32,
    /// Descriptors that were read, in order, each since when; nothing else was done meanwhile.
    read: Vec<(i32, Nanos)>,
    /// How many of those sockets were made for.
    served: usize,
    made: Vec<i32>,
    /// The windows with their sockets may come later.
    sent: VecDeque<Sent>,
}

/// A socket, and what was read before it was made.
#[derive(Clone, Copy, Debug)]
struct Born {
    at_ns: Nanos,
    tid: u32,
    /// Of its thread, when it was made.
    gaps: u32,
    read: i32,
    since_ns: Nanos,
    /// A request was sent on it; the next one may be anybody's.
    used: bool,
}

/// A request that was sent under a span.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at_ns: Nanos,
    fd: i32,
    context: SpanContext,
}

#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    right: u32,
    wrong: bool,
}

#[derive(Debug, Default)]
pub(super) struct Births {
    turns: HashMap<(u32, u32), Turn>,
    sockets: HashMap<(u32, i32), Born>,
    habits: HashMap<u32, Habit>,
}

impl Births {
    /// A request was sent with a `traceparent`.
    pub(super) fn sent(&mut self, thread: (u32, u32), line: Line, at_ns: Nanos, of: SpanContext) {
        if line.1 != 0 || self.habits.get(&thread.0).is_some_and(|habit| habit.wrong) {
            return;
        }
        let sent = &mut self.turn(thread).sent;
        if sent.len() >= MAX_SENT {
            sent.pop_front();
        }
        sent.push_back(Sent {
            at_ns,
            fd: line.0,
            context: of,
        });
    }

    fn turn(&mut self, thread: (u32, u32)) -> &mut Turn {
        if self.turns.len() >= MAX_THREADS && !self.turns.contains_key(&thread) {
            self.turns.clear();
            self.sockets.clear();
        }
        self.turns.entry(thread).or_default()
    }

    /// Takes the calls of a thread that reads or sends requests, and judges by what it sent until their end.
    pub(super) fn on_window(
        &mut self,
        window: &CallWindow,
        turning: &Turning,
        threads: &HashMap<(u32, u32), Timeline>,
    ) {
        let key = (window.pid, window.tid);
        if !threads.contains_key(&key) {
            return;
        }
        if self.sockets.len() >= MAX_SOCKETS {
            self.sockets.clear();
        }
        self.turn(key);
        let Some(turn) = self.turns.get_mut(&key) else {
            return;
        };
        let follows = turn
            .sequence
            .is_some_and(|before| window.sequence <= before.saturating_add(1));
        if !follows || window.lost_before > 0 || window.counted_before > 0 {
            turn.leave();
            turn.gaps = turn.gaps.wrapping_add(1);
        }
        turn.sequence = Some(window.sequence);
        let mut until_ns = 0;
        for call in &window.calls {
            let at_ns = call.enter_ns.saturating_add(call.duration_ns);
            until_ns = at_ns.max(until_ns);
            let is = |numbers: &[u16]| numbers.contains(&call.nr);
            if is(&turning.leaves) {
                turn.leave();
            } else if is(&turning.makes_sockets) && call.ret >= 0 {
                let fd = i32::try_from(call.ret).unwrap_or(-1);
                let born = turn.next().map(|(read, since_ns)| Born {
                    at_ns,
                    tid: window.tid,
                    gaps: turn.gaps,
                    read,
                    since_ns,
                    used: false,
                });
                match born {
                    Some(born) => self.sockets.insert((window.pid, fd), born),
                    None => self.sockets.remove(&(window.pid, fd)),
                };
                turn.make(fd);
            } else if is(&turning.opens) && call.ret >= 0 {
                turn.make(i32::try_from(call.ret).unwrap_or(-1));
            } else if call.fd < 0 || is(&turning.registers) || turn.knows(call.fd) {
                continue;
            } else if is(&turning.reads) && call.ret > 0 {
                turn.read(call.fd, at_ns);
            } else if !(is(&turning.reads) && call.ret == EAGAIN) {
                turn.leave();
            }
        }
        self.check(key, until_ns, threads);
    }

    fn check(
        &mut self,
        thread: (u32, u32),
        until_ns: Nanos,
        threads: &HashMap<(u32, u32), Timeline>,
    ) {
        while let Some(sent) = self.due(thread, until_ns) {
            let Some(born) = self.born((thread.0, sent.fd), sent.at_ns) else {
                continue;
            };
            if born.used {
                continue;
            }
            self.sockets
                .insert((thread.0, sent.fd), Born { used: true, ..born });
            let Some(timeline) = threads.get(&(thread.0, born.tid)) else {
                continue;
            };
            let Some(context) = born.of(timeline).and_then(|of| of.context) else {
                continue;
            };
            let several = timeline.open_at(born.at_ns).len() > 1;
            if self.habits.len() >= MAX_PROCESSES && !self.habits.contains_key(&thread.0) {
                self.habits.clear();
            }
            let habit = self.habits.entry(thread.0).or_default();
            if context.trace_id != sent.context.trace_id {
                habit.wrong = true;
            } else if several {
                habit.right = habit.right.saturating_add(1);
            }
        }
    }

    /// The next request that the thread sent until then.
    fn due(&mut self, thread: (u32, u32), until_ns: Nanos) -> Option<Sent> {
        let sent = &mut self.turns.get_mut(&thread)?.sent;
        sent.pop_front_if(|sent| sent.at_ns <= until_ns)
    }

    /// The socket as it is made last, where nothing was missed since.
    fn born(&self, socket: (u32, i32), by_ns: Nanos) -> Option<Born> {
        let born = self.sockets.get(&socket).copied()?;
        let gaps = self.turns.get(&(socket.0, born.tid))?.gaps;
        (born.at_ns <= by_ns && born.gaps == gaps).then_some(born)
    }

    /// The span of the request that the socket was made for, while that was open at `at_ns`.
    pub(super) fn made_for(
        &self,
        socket: (u32, i32),
        at_ns: Nanos,
        threads: &HashMap<(u32, u32), Timeline>,
    ) -> Option<SpanContext> {
        let habit = self.habits.get(&socket.0)?;
        if habit.wrong || habit.right < PROVEN {
            return None;
        }
        let born = self.born(socket, at_ns)?;
        let timeline = threads.get(&(socket.0, born.tid))?;
        let of = born.of(timeline)?;
        let open = timeline.open_at(at_ns);
        let same = |other: &&Incoming| other.line == of.line && other.opened_ns == of.opened_ns;
        open.into_iter().find(same)?.context
    }

    pub(super) fn end_thread(&mut self, thread: (u32, u32)) {
        self.turns.remove(&thread);
    }

    /// The id is another process's, or the process executes another program.
    pub(super) fn forget(&mut self, pid: u32) {
        self.turns.retain(|(other, _), _| *other != pid);
        self.sockets.retain(|(other, _), _| *other != pid);
        self.habits.remove(&pid);
    }
}

impl Turn {
    fn leave(&mut self) {
        self.read.clear();
        self.served = 0;
        self.made.clear();
    }

    /// It is part of what was read, or made for that.
    fn knows(&self, fd: i32) -> bool {
        self.made.contains(&fd) || self.read.iter().any(|(read, _)| *read == fd)
    }

    /// Reads another one. What was read before that has its sockets goes on.
    fn read(&mut self, fd: i32, at_ns: Nanos) {
        if self.served > 0 || self.read.len() >= MAX_READ {
            self.leave();
        }
        self.read.push((fd, at_ns));
    }

    /// What the next socket is made for.
    fn next(&mut self) -> Option<(i32, Nanos)> {
        let next = match self.read.as_slice() {
            [only] => Some(*only),
            several => several.get(self.served).copied(),
        };
        self.served += 1;
        next
    }

    fn make(&mut self, fd: i32) {
        match self.made.len() < MAX_MADE {
            true => self.made.push(fd),
            false => self.leave(),
        }
    }
}

impl Born {
    /// The request that was read before it was made.
    fn of(self, timeline: &Timeline) -> Option<&Incoming> {
        let open = timeline.open_at(self.at_ns).into_iter();
        let mut read = open.filter(|i| i.line.0 == self.read && i.opened_ns >= self.since_ns);
        match (read.next(), read.next()) {
            (Some(only), None) if !only.doubtful && only.line.1 == 0 => Some(only),
            _ => None,
        }
    }
}
