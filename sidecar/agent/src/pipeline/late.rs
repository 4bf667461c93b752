//! Affected calls that are reported later, because their application's own spans are on their way.

use std::collections::VecDeque;

use crate::diagnosis::report::{AffectedCall, Report};
use crate::record::Nanos;
use crate::trace::{Context, Join, Source};

/// Calls that wait; further ones are reported at once.
const MAX_CALLS: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Late {
    now: Nanos,
    calls: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    until: Nanos,
    call: AffectedCall,
}

impl Late {
    pub(super) fn advance(&mut self, at_ns: Nanos) {
        self.now = self.now.max(at_ns);
    }

    /// Takes a call whose context may become better than what is known by now; gives it back where it is
    /// to be reported.
    pub(super) fn keep(
        &mut self,
        call: AffectedCall,
        known: &Context,
        join: &Join,
    ) -> Option<AffectedCall> {
        let until = join.may_be_own_until(known, call.end_ns, self.now);
        let until = until.filter(|until| *until > self.now && self.calls.len() < MAX_CALLS);
        let Some(until) = until else {
            return Some(call);
        };
        self.calls.push_back(Waiting { until, call });
        None
    }

    /// Calls whose own span came, or that have waited long enough.
    pub(super) fn due(&mut self, join: &Join) -> Vec<(Report, Context)> {
        let now = self.now;
        self.take(join, |waiting, context| {
            waiting.until <= now || context.source == Source::OtlpPassthrough
        })
    }

    /// Those of an incident that is over.
    pub(super) fn of_incident(&mut self, id: &str, join: &Join) -> Vec<(Report, Context)> {
        self.take(join, |waiting, _| waiting.call.incident_id == id)
    }

    fn take(
        &mut self,
        join: &Join,
        is_taken: impl Fn(&Waiting, &Context) -> bool,
    ) -> Vec<(Report, Context)> {
        let mut taken = Vec::new();
        for waiting in std::mem::take(&mut self.calls) {
            let context = join.resolve(&waiting.call);
            match is_taken(&waiting, &context) {
                true => taken.push((Report::Affected(waiting.call), context)),
                false => self.calls.push_back(waiting),
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        Direction, HttpHead, HttpMessage, InsideCall, OwnSpan, Record, RunState, ThreadState,
        ThreadsSnapshot, TraceParent,
    };
    use crate::trace::JoinConfig;

    const SECOND: Nanos = 1_000_000_000;
    const CALLER: TraceParent = TraceParent {
        trace_id: [7; 16],
        span_id: [1; 8],
        flags: 1,
    };

    /// A request under `CALLER` was read, and spans of the application came before.
    fn join() -> Join {
        let mut join = Join::new(JoinConfig::default());
        join.on_record(&Record::Threads(ThreadsSnapshot {
            at_ns: 0,
            threads: vec![ThreadState {
                container: 0,
                pid: 1,
                tid: 1,
                state: RunState::Sleeping,
                inside: Some(InsideCall {
                    nr: 0,
                    fd: 5,
                    enter_ns: 0,
                }),
                last: None,
            }],
        }));
        join.on_record(&Record::Http(HttpHead {
            at_ns: 10 * SECOND,
            container: 0,
            pid: 1,
            tid: 1,
            fd: 5,
            direction: Direction::Incoming,
            message: HttpMessage::Request {
                method: "GET".into(),
                traceparent: Some(CALLER),
            },
        }));
        join.on_record(&Record::Span(span(9, [4; 8])));
        join
    }

    fn span(id: u8, parent: [u8; 8]) -> OwnSpan {
        OwnSpan {
            at_ns: 10 * SECOND,
            span: TraceParent {
                span_id: [id; 8],
                ..CALLER
            },
            parent: Some(parent),
            serves: true,
            start_ns: 10 * SECOND,
            end_ns: 12 * SECOND,
        }
    }

    fn call() -> AffectedCall {
        AffectedCall {
            incident_id: "a".into(),
            container: 0,
            pid: 1,
            tid: 1,
            fd: 9,
            start_ns: 10 * SECOND + 1,
            end_ns: 11 * SECOND,
            token: "read:ECONNRESET".into(),
        }
    }

    fn kept(join: &Join) -> Late {
        let mut late = Late::default();
        late.advance(11 * SECOND);
        let known = join.resolve(&call());
        assert_eq!(known.parent, Some(CALLER));
        assert_eq!(late.keep(call(), &known, join), None);
        assert!(late.due(join).is_empty());
        late
    }

    fn parents(taken: &[(Report, Context)]) -> Vec<[u8; 8]> {
        let parents = taken.iter().filter_map(|(_, context)| context.parent);
        parents.map(|parent| parent.span_id).collect()
    }

    #[test]
    fn a_call_waits_for_its_applications_span() {
        let mut join = join();
        let mut late = kept(&join);
        join.on_record(&Record::Span(span(2, CALLER.span_id)));
        assert_eq!(parents(&late.due(&join)), [[2; 8]]);
        assert!(late.due(&join).is_empty());
    }

    #[test]
    fn a_call_does_not_wait_for_ever_nor_longer_than_its_incident() {
        let join = join();
        let mut late = kept(&join);
        late.advance(19 * SECOND);
        assert_eq!(parents(&late.due(&join)), [[1; 8]]);
        let mut late = kept(&join);
        assert!(late.of_incident("b", &join).is_empty());
        assert_eq!(parents(&late.of_incident("a", &join)), [[1; 8]]);
    }

    #[test]
    fn where_no_spans_come_nothing_waits() {
        let join = Join::new(JoinConfig::default());
        let mut late = Late::default();
        let back = late.keep(call(), &join.resolve(&call()), &join);
        assert_eq!(back, Some(call()));
    }
}
