//! Ways to cut the same calls into units of work.

use std::collections::BTreeMap;

use stethos_patterns::{Role, Token, Window, WindowCall, names::CallTable};

const SILENCE_NS: u64 = 300_000_000;

/// A unit of work and the stream that it is part of: a thread's, or a connection's of a thread.
pub(crate) struct Unit {
    pub(crate) stream: (u64, i32),
    pub(crate) calls: Vec<WindowCall>,
}

impl Unit {
    pub(crate) fn start_ns(&self) -> u64 {
        self.calls.first().map_or(0, |call| call.enter_ns)
    }
}

/// The thread's own stream.
const THREAD: i32 = -1;

#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    cut: Cut,
}

#[derive(Clone, Copy)]
enum Cut {
    /// Before calls that wait, and before the read of a new request on a served connection.
    Requests,
    /// Before calls that wait.
    Waits,
    /// Before calls that wait, before the read of a new request, and where a thread turns to another
    /// connection.
    Turns,
    /// By connection.
    Connections(Connections),
}

/// How calls of a thread on one connection come together.
#[derive(Clone, Copy)]
struct Connections {
    /// Only in threads that wait for several descriptors and serve more than one connection between
    /// two waits; the others are cut as today.
    loops_only: bool,
    /// Only accepted connections, not those that the process made.
    served_only: bool,
    /// A unit goes on after the thread waited.
    past_waits: bool,
    /// Calls without a connection that follow one on a connection are part of its unit.
    work: bool,
    /// The first connection after a wait continues the thread's own unit.
    lead: bool,
}

const SPLIT: Connections = Connections {
    loops_only: false,
    served_only: false,
    past_waits: false,
    work: true,
    lead: true,
};

/// `today` is what `stethos::windows` does. `descriptor` and `descriptor+work` give connections of event
/// loops streams of their own, without and with the calls that follow; `grouped` and `joined` part
/// connections between two waits only.
pub(crate) const WAYS: [Way; 8] = [
    Way {
        name: "today",
        cut: Cut::Requests,
    },
    Way {
        name: "waits",
        cut: Cut::Waits,
    },
    Way {
        name: "turns",
        cut: Cut::Turns,
    },
    Way {
        name: "descriptor",
        cut: Cut::Connections(Connections {
            loops_only: true,
            past_waits: true,
            work: false,
            lead: false,
            ..SPLIT
        }),
    },
    Way {
        name: "descriptor+work",
        cut: Cut::Connections(Connections {
            loops_only: true,
            past_waits: true,
            lead: false,
            ..SPLIT
        }),
    },
    Way {
        name: "grouped",
        cut: Cut::Connections(Connections {
            lead: false,
            ..SPLIT
        }),
    },
    Way {
        name: "joined",
        cut: Cut::Connections(SPLIT),
    },
    Way {
        name: "joined-served",
        cut: Cut::Connections(Connections {
            served_only: true,
            ..SPLIT
        }),
    },
];

/// `windows` are those of today, each thread's together and in order.
pub(crate) fn cut(way: Way, table: &CallTable, windows: &[Window]) -> Vec<Unit> {
    let mut units = Vec::new();
    for thread in windows.chunk_by(|a, b| a.stream() == b.stream()) {
        let calls = || thread.iter().flat_map(|window| &window.calls);
        let mut cutter = Cutter::new(table, thread[0].stream());
        match way.cut {
            Cut::Requests => units.extend(cutter.all(calls(), Cutter::by_requests)),
            Cut::Connections(how) if how.loops_only && !is_loop(table, calls()) => {
                units.extend(cutter.all(calls(), Cutter::by_requests));
            }
            Cut::Waits => units.extend(cutter.all(calls(), Cutter::by_waits)),
            Cut::Turns => units.extend(cutter.all(calls(), Cutter::by_turns)),
            Cut::Connections(how) => {
                units.extend(cutter.all(calls(), |cutter, call| cutter.by_connection(how, call)));
            }
        }
    }
    units
}

/// Waits for several descriptors and works on more than one connection between two waits.
fn is_loop<'a>(table: &CallTable, calls: impl Iterator<Item = &'a WindowCall>) -> bool {
    let mut last = None;
    let mut waits_for_several = false;
    for call in calls {
        let name = table.name(call.token.call);
        if ["epoll", "poll", "ppoll", "select", "pselect"]
            .iter()
            .any(|kind| name.starts_with(kind) && !name.starts_with("epoll_c"))
        {
            waits_for_several = true;
            last = None;
        } else if is_connection(call.role) {
            if waits_for_several && last.is_some_and(|fd| fd != call.fd) {
                return true;
            }
            last = Some(call.fd);
        }
    }
    false
}

fn is_connection(role: Role) -> bool {
    matches!(role, Role::Server | Role::Client)
}

#[derive(Default)]
struct Open {
    calls: Vec<WindowCall>,
    /// The next read (of a served connection) or write (of a made one) starts a new request.
    answered: bool,
    last_ns: u64,
}

struct Cutter<'a> {
    table: &'a CallTable,
    thread: u64,
    open: BTreeMap<i32, Open>,
    /// The connection that the thread works on.
    current: i32,
    /// The connection that continues the thread's own unit.
    lead: Option<i32>,
    last_ns: u64,
    done: Vec<Unit>,
}

impl<'a> Cutter<'a> {
    fn new(table: &'a CallTable, thread: u64) -> Self {
        Cutter {
            table,
            thread,
            open: BTreeMap::new(),
            current: THREAD,
            lead: None,
            last_ns: 0,
            done: Vec::new(),
        }
    }

    fn all<'c>(
        &mut self,
        calls: impl Iterator<Item = &'c WindowCall>,
        mut push: impl FnMut(&mut Self, WindowCall),
    ) -> Vec<Unit> {
        for call in calls {
            if call.token == Token::GAP || call.enter_ns > self.last_ns + SILENCE_NS {
                self.end_all();
            }
            self.last_ns = self.last_ns.max(call.end_ns());
            push(self, *call);
        }
        self.end_all();
        std::mem::take(&mut self.done)
    }

    fn by_waits(&mut self, call: WindowCall) {
        if self.table.is_wait(call.token.call) {
            self.end_all();
        }
        self.add(THREAD, call);
    }

    fn by_requests(&mut self, call: WindowCall) {
        if self.table.is_wait(call.token.call) {
            self.end_all();
        } else if self.is_new_request(THREAD, &call) {
            self.end(THREAD);
        }
        self.add(THREAD, call);
    }

    fn by_turns(&mut self, call: WindowCall) {
        let nr = call.token.call;
        if self.table.is_wait(nr) {
            self.end_all();
            self.current = THREAD;
        }
        if is_connection(call.role) {
            let other = self.current != THREAD && self.current != call.fd;
            if other || self.is_new_request(THREAD, &call) {
                self.end(THREAD);
            }
            self.current = call.fd;
        }
        self.add(THREAD, call);
    }

    fn by_connection(&mut self, how: Connections, call: WindowCall) {
        let waits = self.table.is_wait(call.token.call);
        if waits {
            self.current = THREAD;
            self.lead = None;
            if how.past_waits {
                self.end(THREAD);
            } else {
                self.end_all();
            }
        }
        let connection =
            is_connection(call.role) && !(how.served_only && call.role == Role::Client);
        if !connection || waits {
            let stream = if how.work { self.current } else { THREAD };
            self.add(stream, call);
            return;
        }
        let lead = *self.lead.get_or_insert(call.fd);
        let stream = if how.lead && lead == call.fd {
            THREAD
        } else {
            call.fd
        };
        if self.is_new_request(stream, &call) {
            self.end(stream);
        }
        self.current = stream;
        let closes = self.table.is_close(call.token.call);
        self.add(stream, call);
        if closes && how.past_waits && stream != THREAD {
            self.end(stream);
            self.current = THREAD;
        }
    }

    fn is_new_request(&self, stream: i32, call: &WindowCall) -> bool {
        let starts = match call.role {
            Role::Server => self.table.is_read_like(call.token.call),
            Role::Client => stream != THREAD && self.table.is_write_like(call.token.call),
            _ => false,
        };
        starts && self.open.get(&stream).is_some_and(|open| open.answered)
    }

    fn add(&mut self, stream: i32, call: WindowCall) {
        let nr = call.token.call;
        let (reads, writes) = (self.table.is_read_like(nr), self.table.is_write_like(nr));
        let over = |open: &Open| {
            open.calls.len() >= Window::MAX_CALLS || call.enter_ns > open.last_ns + SILENCE_NS
        };
        if self.open.get(&stream).is_some_and(over) {
            self.end(stream);
        }
        let open = self.open.entry(stream).or_default();
        open.calls.push(call);
        open.last_ns = open.last_ns.max(call.end_ns());
        match call.role {
            Role::Server if !self.table.is_close(nr) => open.answered = writes,
            Role::Client if stream != THREAD && (reads || writes) => open.answered = reads,
            _ => {}
        }
    }

    fn end(&mut self, stream: i32) {
        if let Some(open) = self.open.remove(&stream) {
            self.done.push(Unit {
                stream: (self.thread, stream),
                calls: open.calls,
            });
        }
    }

    fn end_all(&mut self) {
        while let Some(&stream) = self.open.keys().next() {
            self.end(stream);
        }
    }
}
