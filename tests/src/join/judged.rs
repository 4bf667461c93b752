//! What became of the calls of requests that failed.

use std::collections::{HashMap, VecDeque};

use stethos::{
    diagnosis::report::AffectedCall,
    record::{CallWindow, Detail, Http2Heads, HttpHead, Record, Subject},
    trace::{Context, Join, JoinConfig},
};

use super::{PORT, callers_span, own_span, trace_of};

/// How many calls were put where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Under the span of their own request, or of who asked for it.
    pub right: usize,
    /// Under another span of the right trace.
    pub trace: usize,
    /// Under a span of another trace.
    pub wrong: usize,
    /// Linked with several, the right one among them.
    pub linked: usize,
    /// Linked with others alone.
    pub linked_wrong: usize,
    pub none: usize,
}

impl Joined {
    pub fn all(&self) -> usize {
        self.right + self.trace + self.wrong + self.linked + self.linked_wrong + self.none
    }

    /// Share of calls under the right span, in percent.
    pub fn right_percent(&self) -> f64 {
        100.0 * self.right as f64 / self.all().max(1) as f64
    }

    fn count(&mut self, number: u32, context: &Context) {
        let trace = trace_of(number);
        let links = &context.links;
        let place = match context.parent {
            Some(parent) if parent.trace_id != trace => &mut self.wrong,
            Some(parent) if [callers_span(number), own_span(number)].contains(&parent.span_id) => {
                &mut self.right
            }
            Some(_) => &mut self.trace,
            None if links.iter().any(|link| link.trace_id == trace) => &mut self.linked,
            None if !links.is_empty() => &mut self.linked_wrong,
            None => &mut self.none,
        };
        *place += 1;
    }
}

/// Joins as the pipeline does, once what belongs to a call has come.
pub fn judged(records: &[Record]) -> Joined {
    let mut join = Join::new(JoinConfig::of_arch(std::env::consts::ARCH));
    let mut joined = Joined::default();
    let connected = Connected::of(records);
    let mut waiting: VecDeque<(AffectedCall, u32)> = VecDeque::new();
    let mut now = 0;
    for record in records {
        join.on_record(record);
        match record {
            Record::Window(window) => waiting.extend(connected.resets(window)),
            Record::Detail(detail) if detail.ret < 0 => {
                let number = number_of(&detail.subject);
                waiting.extend(number.map(|number| (affected(detail), number)));
            }
            Record::Http(HttpHead { at_ns, .. }) | Record::Http2(Http2Heads { at_ns, .. }) => {
                now = now.max(*at_ns);
            }
            _ => {}
        }
        while let Some((call, number)) = waiting.front()
            && Join::resolve_after(call.end_ns) <= now
        {
            joined.count(*number, &join.resolve(call));
            waiting.pop_front();
        }
    }
    for (call, number) in waiting {
        joined.count(number, &join.resolve(&call));
    }
    joined
}

/// For which requests descriptors of processes were connected to what servers ask, and since when.
#[derive(Default)]
struct Connected(HashMap<(u32, i32), Vec<(u64, u32)>>);

impl Connected {
    /// Of all records: that of a window may come before that of its connect.
    fn of(records: &[Record]) -> Self {
        let mut connected = Self::default();
        for record in records {
            if let Record::Detail(detail) = record
                && let Subject::Peer(peer) = &detail.subject
                && let Some(number) = host_number(peer)
            {
                let key = (detail.pid, detail.fd);
                connected
                    .0
                    .entry(key)
                    .or_default()
                    .push((detail.at_ns, number));
            }
        }
        for lives in connected.0.values_mut() {
            lives.sort_unstable();
        }
        connected
    }

    /// Exchanges that were reset.
    fn resets(&self, window: &CallWindow) -> Vec<(AffectedCall, u32)> {
        const ECONNRESET: i64 = -104;
        let reset = window.calls.iter().filter(|call| call.ret == ECONNRESET);
        let affected = reset.filter_map(|call| {
            let end_ns = call.enter_ns + call.duration_ns;
            let lives = self.0.get(&(window.pid, call.fd))?.iter();
            let (_, number) = lives.rev().find(|(since, _)| *since <= end_ns)?;
            let affected = AffectedCall {
                incident_id: String::new(),
                container: window.container,
                pid: window.pid,
                tid: window.tid,
                fd: call.fd,
                start_ns: call.enter_ns,
                end_ns,
                token: "recvfrom:ECONNRESET".to_owned(),
            };
            Some((affected, *number))
        });
        affected.collect()
    }
}

/// A call that failed, as diagnosis asks about it.
pub fn affected(detail: &Detail) -> AffectedCall {
    AffectedCall {
        incident_id: String::new(),
        container: detail.container,
        pid: detail.pid,
        tid: detail.tid,
        fd: detail.fd,
        start_ns: detail.at_ns,
        end_ns: detail.at_ns,
        token: match detail.subject {
            Subject::Path(_) => "openat:ENOENT".to_owned(),
            Subject::Peer(_) => "connect:ECONNREFUSED".to_owned(),
        },
    }
}

/// The request that a failing call is of.
fn number_of(subject: &Subject) -> Option<u32> {
    match subject {
        Subject::Path(path) => u32::from_str_radix(path.strip_prefix("/join/")?, 16).ok(),
        Subject::Peer(peer) => host_number(peer).filter(|_| peer.ends_with(&format!(":{PORT}"))),
    }
}

/// The request that an address stands for.
fn host_number(peer: &str) -> Option<u32> {
    let peer: std::net::SocketAddrV4 = peer.parse().ok()?;
    let [_, a, b, c] = peer.ip().octets();
    peer.ip()
        .is_loopback()
        .then(|| u32::from_be_bytes([0, a, b, c]))
}
