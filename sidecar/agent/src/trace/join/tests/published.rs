//! Spans that threads say they work for.

use super::*;
use crate::record::{SpanSource, ThreadSpan};

fn told(ms: u64, tid: u32, n: u8, source: SpanSource) -> ThreadSpan {
    ThreadSpan {
        at_ns: ms * MS,
        container: 0,
        pid: PID,
        tid,
        span: (n != 0).then(|| SpanContext {
            flags: match source {
                SpanSource::Thread => 1,
                SpanSource::Obi => 0,
            },
            ..span(n)
        }),
        source,
        continues: true,
        lost: 0,
    }
}

impl Story {
    fn works_for(mut self, ms: u64, tid: u32, n: u8) -> Self {
        self.0
            .on_record(&Record::ThreadSpan(told(ms, tid, n, SpanSource::Thread)));
        self
    }

    fn shared(mut self, ms: u64, tid: u32, span: SpanContext) -> Self {
        let mut told = told(ms, tid, 1, SpanSource::Obi);
        told.span = Some(span);
        self.0.on_record(&Record::ThreadSpan(told));
        self
    }
}

#[track_caller]
fn assert_published(context: &Context, n: u8) {
    let expected = (Some(span(n)), Some(ParentKind::Own), Source::ThreadContext);
    assert_eq!((context.parent, context.kind, context.source), expected);
}

#[test]
fn what_the_thread_says_goes_before_what_is_seen_of_requests() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .works_for(11, 1, 2)
        .works_for(20, 1, 0);
    assert_published(&story.call("openat:ENOENT", 1, -1, 12, 12), 2);
    // Of no span: the request that was read is what is left.
    let context = story.call("openat:ENOENT", 1, -1, 21, 21);
    assert_eq!(context.source, Source::IncomingTraceparent);
}

#[test]
fn an_exchange_is_of_the_span_that_it_was_sent_under() {
    let story = Story::new()
        .works_for(10, 1, 1)
        .works_for(20, 1, 2)
        .works_for(30, 1, 0);
    assert_published(&story.call("exchange:slow", 1, 5, 12, 35), 1);
    assert_published(&story.call("exchange:closed", 1, 5, 5, 25), 2);
    // While there is no answer, the thread may work for anybody.
    assert_published(&story.call("exchange:no_answer", 1, 5, 12, 25), 1);
    assert_eq!(story.call("exchange:no_answer", 1, 5, 5, 25).parent, None);
    let both = story.call("exchange:slow", 1, 5, 12, 25);
    assert_eq!((both.parent, both.links), (None, vec![span(1), span(2)]));
}

#[test]
fn a_span_without_flags_is_a_parent_only_where_a_request_has_them() {
    let of_trace = |n: u8, id: u8| SpanContext {
        span_id: [id; 8],
        flags: 0,
        ..span(n)
    };
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .shared(11, 1, of_trace(1, 7));
    let context = story.call("openat:ENOENT", 1, -1, 12, 12);
    let expected = SpanContext {
        flags: 1,
        ..of_trace(1, 7)
    };
    assert_eq!(
        (context.parent, context.source),
        (Some(expected), Source::Obi)
    );
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .shared(11, 1, of_trace(2, 7));
    let context = story.call("openat:ENOENT", 1, -1, 12, 12);
    assert_eq!((context.parent, context.source), (None, Source::Obi));
    assert_eq!(context.links, [of_trace(2, 7)]);
}

#[test]
fn while_calls_are_counted_what_was_told_before_does_not_hold() {
    let mut story = Story::new().works_for(10, 1, 1);
    let reduced = Reduced {
        at_ns: 20 * MS,
        sample: 64,
    };
    story.0.on_reduced(&reduced);
    assert_published(&story.call("openat:ENOENT", 1, -1, 15, 15), 1);
    assert_eq!(story.call("openat:ENOENT", 1, -1, 25, 25).parent, None);
}
