//! Requests of HTTP/2: several at once on a connection.

use super::*;
use crate::record::{Http2Head, Http2Heads, Http2Message};

impl Story {
    pub(super) fn frames(
        self,
        ms: u64,
        direction: Direction,
        heads: &[(u32, Http2Message)],
    ) -> Self {
        self.frames_of(1, ms, direction, heads)
    }

    fn frames_of(
        mut self,
        tid: u32,
        ms: u64,
        direction: Direction,
        heads: &[(u32, Http2Message)],
    ) -> Self {
        let head = |(stream, message): &(u32, Http2Message)| Http2Head {
            stream: *stream,
            message: message.clone(),
        };
        self.0.on_http2(&Http2Heads {
            at_ns: ms * MS,
            container: 0,
            pid: PID,
            tid,
            fd: 5,
            direction,
            heads: heads.iter().map(head).collect(),
        });
        self
    }
}

pub(super) fn asks(stream: u32, n: u8) -> (u32, Http2Message) {
    let traceparent = Some(span(n));
    (stream, Http2Message::Request { traceparent })
}

pub(super) fn answers(stream: u32) -> (u32, Http2Message) {
    (stream, Http2Message::Response)
}

#[test]
fn a_request_alone_on_its_connection_is_served_under_its_callers_span() {
    let story = Story::new()
        .frames(10, Direction::Incoming, &[asks(1, 1)])
        .frames(20, Direction::Outgoing, &[answers(1)])
        .frames(30, Direction::Incoming, &[asks(3, 2)]);
    let at = |ms| story.call("openat:ENOENT", 1, -1, ms, ms);
    assert_caller(&at(15), 1);
    assert_eq!(at(25).parent, None);
    assert_caller(&at(35), 2);
}

#[test]
fn of_several_requests_on_a_connection_none_is_guessed() {
    let story = Story::new()
        .frames(10, Direction::Incoming, &[asks(1, 1), asks(3, 2)])
        .frames(20, Direction::Outgoing, &[answers(3)]);
    let context = story.call("openat:ENOENT", 1, -1, 15, 15);
    assert_eq!(
        (context.parent, context.links),
        (None, vec![span(1), span(2)])
    );
    assert_caller(&story.call("openat:ENOENT", 1, -1, 25, 25), 1);
}

#[test]
fn requests_that_are_sent_at_once_on_a_connection_are_links() {
    let story = Story::new()
        .frames(10, Direction::Outgoing, &[asks(1, 1)])
        .frames(12, Direction::Outgoing, &[asks(3, 2)])
        .frames(20, Direction::Incoming, &[answers(1)]);
    let context = story.call("exchange:slow", 1, 5, 13, 19);
    assert_eq!(
        (context.parent, context.links),
        (None, vec![span(1), span(2)])
    );
    assert_own(&story.call("exchange:slow", 1, 5, 21, 25), 2);
}

/// Two threads ask on one connection; one of them reads the answers.
#[test]
fn streams_of_several_threads_on_a_connection_stand_side_by_side() {
    let story = Story::new()
        .frames_of(1, 10, Direction::Outgoing, &[asks(1, 1)])
        .frames_of(2, 12, Direction::Outgoing, &[asks(3, 2)])
        .frames_of(1, 20, Direction::Incoming, &[answers(3)])
        .frames_of(1, 30, Direction::Incoming, &[answers(1)]);
    let at = |token: &str, tid, ms| story.call(token, tid, 5, ms, ms);
    for tid in [1, 2] {
        let context = at("read:ECONNRESET", tid, 15);
        assert_eq!(
            (context.parent, context.links),
            (
                None,
                vec![
                    span(u8::try_from(tid).unwrap()),
                    span(3 - u8::try_from(tid).unwrap())
                ]
            )
        );
    }
    // Only the first one's is left; the second thread may still read the answer of its own.
    assert_own(&at("exchange:slow", 1, 25), 1);
    let context = at("read:ECONNRESET", 2, 25);
    assert_eq!(
        (context.parent, context.links),
        (None, vec![span(1), span(2)])
    );
    // A third reads for whoever waits, and sends for itself.
    assert_own(&at("read:ECONNRESET", 3, 25), 1);
    let context = at("sendto:EPIPE", 3, 25);
    assert_eq!((context.parent, context.links), (None, vec![span(1)]));
}

#[test]
fn a_connection_that_closes_ends_the_streams_of_all_threads() {
    let mut story = Story::new()
        .frames_of(1, 10, Direction::Outgoing, &[asks(1, 1)])
        .frames_of(2, 12, Direction::Outgoing, &[asks(3, 2)]);
    story.0.end_descriptor(PID, 5, 20 * MS);
    for tid in [1, 2] {
        assert_eq!(story.call("read:ECONNRESET", tid, 5, 25, 25).parent, None);
    }
}

#[test]
fn without_streams_a_missed_answer_is_over_with_the_next_request() {
    let story = Story::new()
        .sends(10, 1, 5, Some(1))
        .sends(20, 1, 5, Some(2));
    assert_own(&story.call("exchange:no_answer", 1, 5, 20, 40), 2);
}
