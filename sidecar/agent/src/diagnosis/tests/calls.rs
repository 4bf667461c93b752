//! Made-up calls of one thread.

use stethos_patterns::names;

use crate::record::{Call, Detail, Nanos, Subject};

pub(super) fn nr(name: &str) -> u16 {
    names::table("x86_64")
        .number(name)
        .unwrap_or_else(|| panic!("no call {name}"))
}

/// Calls of one thread, one after the other, 10 µs apart.
pub(super) struct Calls {
    pub(super) container: u16,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) at: Nanos,
    pub(super) calls: Vec<Call>,
    pub(super) details: Vec<Detail>,
}

impl Calls {
    pub(super) fn call(&mut self, name: &str, fd: i32, ret: i64, us: u64) -> &mut Self {
        let call = Call {
            nr: nr(name),
            fd,
            ret,
            enter_ns: self.at,
            duration_ns: us * 1000,
            no_return: false,
            counted: false,
        };
        self.at += us * 1000 + 10_000;
        self.calls.push(call);
        self
    }

    fn detail(&mut self, subject: Subject) {
        let Some(call) = self.calls.last() else {
            return;
        };
        self.details.push(Detail {
            at_ns: call.enter_ns + call.duration_ns,
            container: self.container,
            pid: self.pid,
            tid: self.tid,
            nr: call.nr,
            fd: call.fd,
            ret: call.ret,
            subject,
        });
    }

    /// An open that gives `ret`.
    pub(super) fn open(&mut self, path: &str, ret: i64) -> &mut Self {
        self.call("openat", -1, ret, 15);
        self.detail(Subject::Path(path.into()));
        self
    }

    /// Asks on a connection that is made for it; `ret` is what comes instead of an answer, or its length.
    pub(super) fn asks_anew(&mut self, peer: &str, ret: i64, us: u64) -> &mut Self {
        self.call("socket", -1, 12, 5).connect(peer, 12, 0);
        self.call("sendto", 12, 30, 9).call("recvfrom", 12, ret, us)
    }

    pub(super) fn connect(&mut self, peer: &str, fd: i32, ret: i64) -> &mut Self {
        self.call("connect", fd, ret, 60);
        self.detail(Subject::Peer(peer.into()));
        self
    }
}
