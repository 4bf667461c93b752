#[path = "tests/births.rs"]
mod births;
#[path = "tests/bounds.rs"]
mod bounds;
#[path = "tests/own_spans.rs"]
mod own_spans;
#[path = "tests/published.rs"]
mod published;
#[path = "tests/serving.rs"]
mod serving;
#[path = "tests/streams.rs"]
mod streams;

use super::*;
use crate::record::{ConnectionClosed, TraceParent};

const PID: u32 = 10;
const MS: Nanos = 1_000_000;

fn span(n: u8) -> SpanContext {
    TraceParent {
        trace_id: [n; 16],
        span_id: [n; 8],
        flags: 1,
    }
}

/// A stream of heads at given milliseconds, on threads of one process.
struct Story(Join);

impl Story {
    fn new() -> Self {
        Story::of(JoinConfig::default())
    }

    /// It is known that no thread waits for many things.
    fn of(config: JoinConfig) -> Self {
        let mut story = Story(Join::new(config));
        story.0.on_calls((PID, 1), []);
        story
    }

    fn closes(mut self, ms: u64, fd: i32) -> Self {
        self.0.on_record(&Record::Closed(ConnectionClosed {
            at_ns: ms * MS,
            container: 0,
            pid: PID,
            tid: 1,
            fd,
        }));
        self
    }

    fn head(mut self, ms: u64, tid: u32, fd: i32, direction: Direction, m: HttpMessage) -> Self {
        let at_ns = ms * MS;
        self.0.on_http(&HttpHead {
            at_ns,
            container: 0,
            pid: PID,
            tid,
            fd,
            direction,
            message: m,
        });
        self
    }

    fn reads(self, ms: u64, tid: u32, fd: i32, parent: Option<u8>) -> Self {
        self.head(ms, tid, fd, Direction::Incoming, request(parent))
    }

    fn answers(self, ms: u64, tid: u32, fd: i32) -> Self {
        self.head(
            ms,
            tid,
            fd,
            Direction::Outgoing,
            HttpMessage::Response { status: 200 },
        )
    }

    fn sends(self, ms: u64, tid: u32, fd: i32, own: Option<u8>) -> Self {
        self.head(ms, tid, fd, Direction::Outgoing, request(own))
    }

    fn receives(self, ms: u64, tid: u32, fd: i32) -> Self {
        self.head(
            ms,
            tid,
            fd,
            Direction::Incoming,
            HttpMessage::Response { status: 200 },
        )
    }

    fn life(mut self, ms: u64, tid: u32, event: LifecycleEvent) -> Self {
        self.0.on_lifecycle(&Lifecycle {
            at_ns: ms * MS,
            container: 0,
            pid: PID,
            tid,
            event,
        });
        self
    }

    fn call(&self, token: &str, tid: u32, fd: i32, start: u64, end: u64) -> Context {
        self.0.resolve(&AffectedCall {
            incident_id: String::new(),
            container: 0,
            pid: PID,
            tid,
            fd,
            start_ns: start * MS,
            end_ns: end * MS,
            token: token.into(),
        })
    }

    fn at(&self, ms: u64, fd: i32) -> Context {
        self.call("recvfrom:ECONNRESET", 1, fd, ms, ms + 1)
    }
}

fn request(traceparent: Option<u8>) -> HttpMessage {
    HttpMessage::Request {
        method: "GET".into(),
        traceparent: traceparent.map(span),
    }
}

#[track_caller]
fn assert_own(context: &Context, n: u8) {
    assert_eq!(
        (context.parent, context.kind),
        (Some(span(n)), Some(ParentKind::Own)),
        "{context:?}"
    );
    assert_eq!(context.source, Source::OutgoingTraceparent);
}

#[track_caller]
fn assert_caller(context: &Context, n: u8) {
    let expected = (Some(span(n)), Some(ParentKind::Caller));
    assert_eq!((context.parent, context.kind), expected, "{context:?}");
    assert_eq!(context.source, Source::IncomingTraceparent);
}

#[track_caller]
fn assert_links(context: &Context, links: &[u8]) {
    assert_eq!(context.parent, None, "{context:?}");
    assert_eq!(
        context.links,
        links.iter().map(|n| span(*n)).collect::<Vec<_>>(),
        "{context:?}"
    );
}

#[track_caller]
fn assert_nothing(context: &Context) {
    assert_links(context, &[]);
    assert_eq!((context.source, context.confidence), (Source::None, 0.0));
    assert!(!context.reason.is_empty());
}

#[test]
fn the_one_open_request_gives_the_callers_span() {
    let story = Story::new().reads(10, 1, 5, Some(1)).answers(20, 1, 5);
    assert_nothing(&story.at(9, 7));
    assert_caller(&story.at(10, 7), 1);
    assert_caller(&story.at(19, 7), 1);
    assert_nothing(&story.at(20, 7));
    assert_nothing(&story.call("read:EIO", 2, 7, 15, 16));
}

#[test]
fn a_failed_response_still_belongs_to_its_request() {
    let story = Story::new().reads(10, 1, 5, Some(1)).answers(20, 1, 5);
    assert_caller(&story.call("sendto:EPIPE", 1, 5, 18, 20), 1);
}

#[test]
fn keep_alive_requests_follow_each_other() {
    let mut story = Story::new();
    for n in 1..=50 {
        let ms = u64::from(n) * 100;
        story = story.reads(ms, 1, 5, Some(n)).answers(ms + 20, 1, 5);
        assert_caller(&story.at(ms + 10, 7), n);
        assert_nothing(&story.at(ms + 30, 7));
    }
}

#[test]
fn an_outgoing_request_on_the_same_descriptor_is_the_apps_own_span() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .sends(12, 1, 9, Some(2));
    assert_caller(&story.at(10, 9), 1);
    assert_own(&story.at(12, 9), 2);
    let failed_write = story.call("sendto:ECONNRESET", 1, 9, 11, 12);
    assert_own(&failed_write, 2);
}

#[test]
fn a_pending_outgoing_request_covers_other_descriptors_with_less_confidence() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .sends(12, 1, 9, Some(2));
    let (same, other) = (story.at(13, 9), story.at(13, 11));
    assert_own(&other, 2);
    assert!(other.confidence < same.confidence);
}

#[test]
fn an_answered_outgoing_request_leaves_other_calls_to_the_caller() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .sends(12, 1, 9, Some(2))
        .receives(14, 1, 9);
    assert_caller(&story.at(15, 11), 1);
    assert_own(&story.at(15, 9), 2);
    let untraced = Story::new()
        .reads(10, 1, 5, None)
        .sends(12, 1, 9, Some(2))
        .receives(14, 1, 9);
    assert_own(&untraced.at(15, 11), 2);
    assert!(untraced.at(15, 11).confidence <= 0.5);
}

#[test]
fn what_was_served_on_a_descriptor_is_over_once_it_connects() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .reads(12, 1, 6, Some(2));
    assert_caller(&story.call("connect:ECONNREFUSED", 1, 5, 15, 16), 2);
    assert_caller(&story.call("read:EIO", 1, 5, 15, 16), 1);
}

#[test]
fn a_connect_starts_afresh_so_its_parent_is_the_caller() {
    let answered = Story::new()
        .reads(10, 1, 5, Some(1))
        .sends(12, 1, 9, Some(2))
        .receives(14, 1, 9);
    assert_caller(&answered.call("connect:ECONNREFUSED", 1, 9, 15, 16), 1);
    let broken = Story::new()
        .reads(10, 1, 5, Some(1))
        .sends(12, 1, 9, Some(2));
    assert_caller(&broken.call("connect:ECONNREFUSED", 1, 9, 15, 16), 1);
}

#[test]
fn a_closed_descriptor_ends_its_exchange() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .sends(12, 1, 9, Some(2))
        .closes(14, 9);
    assert_own(&story.at(13, 9), 2);
    assert_caller(&story.at(15, 9), 1);
    assert_caller(&story.at(15, 11), 1);
    let story = story.closes(20, 5);
    assert_nothing(&story.at(21, 9));
}

#[test]
fn outgoing_spans_of_an_earlier_request_are_never_used() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .sends(12, 1, 9, Some(2))
        .answers(20, 1, 5)
        .reads(30, 1, 5, Some(3));
    assert_caller(&story.at(31, 9), 3);
    assert_nothing(&story.at(25, 9));
}

#[test]
fn without_incoming_requests_an_outgoing_one_counts_until_answered() {
    let story = Story::new().sends(10, 1, 9, Some(2)).receives(20, 1, 9);
    assert_own(&story.at(15, 9), 2);
    assert_own(&story.at(15, 11), 2);
    assert_links(&story.at(25, 9), &[2]);
    assert_nothing(&story.at(25, 11));
    let old = Story::new().sends(10, 1, 9, Some(2));
    assert_own(&old.at(60_000, 9), 2);
    assert_nothing(&old.at(60_011, 9));
}

#[test]
fn parallel_outgoing_requests_bind_only_their_own_descriptors() {
    let story = Story::new()
        .sends(10, 1, 8, Some(2))
        .sends(11, 1, 9, Some(3));
    assert_own(&story.at(12, 8), 2);
    assert_own(&story.at(12, 9), 3);
    assert_links(&story.at(12, 11), &[3]);
}

#[test]
fn an_event_loop_with_several_requests_is_ambiguous() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .reads(11, 1, 6, Some(2));
    assert_links(&story.at(12, 9), &[1, 2]);
    assert_caller(&story.at(12, 6), 2);
    let story = story.sends(13, 1, 9, Some(3));
    assert_own(&story.at(14, 9), 3);
    assert_links(&story.at(14, 11), &[1, 2]);
    let story = story.answers(20, 1, 5);
    let alone = story.at(21, 11);
    assert_caller(&alone, 2);
    assert!(alone.confidence < 0.9);
}

#[test]
fn an_outgoing_request_of_one_request_is_not_lent_to_another() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .reads(11, 1, 6, Some(2))
        .sends(12, 1, 9, Some(3))
        .answers(20, 1, 6);
    let alone = story.at(21, 11);
    assert_caller(&alone, 1);
    assert!(alone.confidence < 0.9);
}

#[test]
fn an_outgoing_request_under_way_is_not_lent_to_a_later_request() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .sends(11, 1, 9, Some(3))
        .reads(12, 1, 6, Some(2));
    assert_links(&story.at(13, 11), &[1, 2]);
    assert_own(&story.at(13, 9), 3);
}

#[test]
fn pipelined_requests_give_links_only() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .reads(11, 1, 5, Some(2));
    assert_links(&story.at(12, 9), &[1, 2]);
    let story = story.answers(15, 1, 5);
    assert_links(&story.at(16, 9), &[2]);
    assert_nothing(&story.answers(17, 1, 5).at(18, 9));
}

#[test]
fn a_missed_answer_does_not_shift_later_ones() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .reads(3_000, 1, 5, Some(2))
        .answers(3_020, 1, 5)
        .reads(6_000, 1, 5, Some(3));
    assert_links(&story.at(3_010, 9), &[1, 2]);
    assert_nothing(&story.at(3_030, 9));
    assert_caller(&story.at(6_001, 9), 3);
}

#[test]
fn a_reused_thread_id_starts_without_context() {
    let exit = LifecycleEvent::Exit {
        code: 0,
        group_dead: false,
    };
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .sends(11, 1, 9, Some(2))
        .life(15, 1, exit);
    assert_own(&story.at(12, 9), 2);
    assert_nothing(&story.at(16, 9));
    let fork = LifecycleEvent::Fork {
        child_pid: PID,
        child_tid: 1,
    };
    assert_nothing(
        &Story::new()
            .reads(10, 1, 5, Some(1))
            .life(15, 7, fork)
            .at(16, 9),
    );
    let exec = LifecycleEvent::Exec {
        executable: "/bin/true".into(),
    };
    assert_nothing(
        &Story::new()
            .reads(10, 1, 5, Some(1))
            .life(15, 7, exec)
            .at(16, 9),
    );
}

#[test]
fn requests_answered_by_another_thread_are_not_trusted() {
    let story = Story::new().reads(10, 1, 5, Some(1)).answers(20, 2, 5);
    assert_nothing(&story.at(21, 9));
    let story = story.reads(30, 1, 5, Some(3));
    assert_links(&story.at(31, 9), &[3]);
    assert_caller(&story.at(31, 5), 3);
}

#[test]
fn a_descriptor_that_another_thread_goes_on_with_is_over_for_the_first() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .reads(50, 2, 5, Some(2));
    assert_caller(&story.at(20, 9), 1);
    assert_nothing(&story.at(60, 9));
    let story = story.closes(40, 5);
    assert_caller(&story.call("read:EIO", 2, 9, 60, 61), 2);
}

#[test]
fn interim_responses_close_nothing() {
    let interim = HttpMessage::Response { status: 100 };
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .head(12, 1, 5, Direction::Outgoing, interim);
    assert_caller(&story.at(13, 9), 1);
}

#[test]
fn a_request_without_traceparent_is_not_given_another_ones() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .answers(20, 1, 5)
        .reads(30, 1, 5, None);
    assert_nothing(&story.at(31, 9));
    assert_caller(&story.at(15, 9), 1);
}
