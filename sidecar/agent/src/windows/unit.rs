//! The unit of work that one thread is in.

use stethos_patterns::{Outcome, Role, Token, Window, WindowCall, names::CallTable};

use crate::record::{Call, ContainerIndex, Nanos, WindowEnd};

pub(super) struct Unit {
    container: ContainerIndex,
    pid: u32,
    tid: u32,
    sequence: u64,
    calls: Vec<WindowCall>,
    /// The last call wrote to a served connection: a read after it starts a new request.
    answered: bool,
    end_ns: Nanos,
    /// Of the calls so far: `Window::weight`, `Window::whole`.
    weight: u32,
    whole: bool,
    /// Weight of the calls that come now: of the unit that begins with one of them.
    next_weight: u32,
    /// The kernel ended its window here because it was full, not because the thread waits.
    cut: bool,
}

impl Unit {
    pub(super) fn new(container: ContainerIndex, pid: u32, tid: u32) -> Self {
        Self {
            container,
            pid,
            tid,
            sequence: 0,
            calls: Vec::new(),
            answered: false,
            end_ns: 0,
            weight: 1,
            whole: true,
            next_weight: 1,
            cut: false,
        }
    }

    /// Calls were only counted since the last one. `whole` says whether a unit begins with those that
    /// come now. Gives the unit that ended.
    pub(super) fn resume(&mut self, whole: bool) -> Option<Window> {
        self.whole &= !self.cut;
        let ended = self.finish();
        self.whole = whole;
        ended
    }

    /// A window of the kernel ended here.
    pub(super) fn window_ended(&mut self, end: WindowEnd) {
        self.cut = matches!(end, WindowEnd::Full | WindowEnd::Peeked);
    }

    /// The calls that come now stand for so many times as many. A unit that is under way keeps the
    /// weight with which it began.
    pub(super) fn weigh(&mut self, weight: u32) {
        self.next_weight = weight;
        if self.calls.is_empty() {
            self.weight = weight;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// When the last call returned.
    pub(super) fn end_ns(&self) -> Nanos {
        self.end_ns
    }

    /// Adds a call; gives the unit that it ended.
    pub(super) fn push(&mut self, table: &CallTable, call: &Call, role: Role) -> Option<Window> {
        let new_request = self.answered && role == Role::Server && table.is_read_like(call.nr);
        let full = self.calls.len() >= Window::MAX_CALLS;
        let ended = if new_request || full || table.is_wait(call.nr) {
            self.finish()
        } else {
            None
        };
        let outcome = if call.no_return {
            Outcome::NoReturn
        } else {
            Outcome::from_return(call.ret)
        };
        self.calls.push(WindowCall {
            token: Token {
                call: call.nr,
                outcome,
            },
            role,
            fd: call.fd,
            ret: call.ret,
            enter_ns: call.enter_ns,
            duration_ns: call.duration_ns,
        });
        self.end_ns = self
            .end_ns
            .max(call.enter_ns.saturating_add(call.duration_ns));
        if role == Role::Server && !table.is_close(call.nr) {
            self.answered = table.is_write_like(call.nr);
        }
        ended
    }

    /// Marks that calls were lost here; gives the unit that was cut short.
    pub(super) fn gap(&mut self, at_ns: Nanos) -> Option<Window> {
        let ended = self.finish();
        self.calls.push(WindowCall::gap(at_ns));
        self.end_ns = self.end_ns.max(at_ns);
        ended
    }

    pub(super) fn finish(&mut self) -> Option<Window> {
        if self.calls.is_empty() {
            return None;
        }
        let window = Window {
            container: self.container,
            pid: self.pid,
            tid: self.tid,
            sequence: self.sequence,
            weight: self.weight,
            whole: self.whole,
            calls: std::mem::take(&mut self.calls),
        };
        self.sequence += 1;
        self.weight = self.next_weight;
        self.answered = false;
        self.whole = true;
        Some(window)
    }
}
