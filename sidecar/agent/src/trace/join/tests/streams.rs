//! Requests of HTTP/2: several at once on a connection.

use super::*;
use crate::record::{Http2Head, Http2Heads, Http2Message};

impl Story {
    pub(super) fn frames(
        mut self,
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
            tid: 1,
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

#[test]
fn without_streams_a_missed_answer_is_over_with_the_next_request() {
    let story = Story::new()
        .sends(10, 1, 5, Some(1))
        .sends(20, 1, 5, Some(2));
    assert_own(&story.call("exchange:no_answer", 1, 5, 20, 40), 2);
}
