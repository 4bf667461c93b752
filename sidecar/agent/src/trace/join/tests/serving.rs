//! How processes serve requests: on which threads and descriptors, and how many at once.

use super::streams::{answers, asks};
use super::*;
use crate::trace::join::serving::SETTLED;

const EPOLL_WAIT: u16 = 232;

fn story(config: JoinConfig) -> Story {
    Story::of(JoinConfig {
        event_loop: vec![EPOLL_WAIT],
        ..config
    })
}

impl Story {
    fn waits_for_many(mut self, tid: u32) -> Self {
        self.0.on_calls((PID, tid), [0, EPOLL_WAIT]);
        self
    }

    /// Requests that are read and answered on one thread.
    fn serves(mut self, from_ms: u64, tid: u32, requests: u64) -> Self {
        for n in 0..requests {
            let at = from_ms + 2 * n;
            self = self.reads(at, tid, 50, Some(9)).answers(at + 1, tid, 50);
        }
        self
    }
}

#[test]
fn where_threads_take_over_from_each_other_a_request_is_no_threads_own() {
    let both = |story: Story| {
        story
            .reads(10_000, 1, 5, Some(1))
            .reads(10_001, 2, 6, Some(2))
    };
    let call = |story: &Story| story.call("connect:ECONNREFUSED", 1, 9, 10_002, 10_003);
    // Blocking threads keep their requests.
    assert_caller(&call(&both(Story::new())), 1);
    let of_runtime = both(story(JoinConfig::default()).waits_for_many(1));
    assert_links(&call(&of_runtime), &[1, 2]);
    // Unless it has shown for long that it does not move them.
    let settled = story(JoinConfig::default())
        .waits_for_many(1)
        .serves(0, 1, SETTLED);
    assert_caller(&call(&both(settled)), 1);
    let moved = story(JoinConfig::default())
        .waits_for_many(1)
        .serves(0, 1, SETTLED)
        .reads(9_000, 1, 7, Some(3))
        .answers(9_001, 2, 7);
    assert_links(&call(&both(moved)), &[1, 2]);
}

#[test]
fn who_accepts_a_connection_serves_no_request_by_that() {
    let story = Story::new().reads(10, 1, 5, Some(1));
    assert_nothing(&story.call("accept4:EMFILE", 1, 3, 15, 15));
    assert_caller(&story.call("openat:EMFILE", 1, -1, 15, 15), 1);
}

#[test]
fn a_call_of_a_thread_that_was_handed_work_is_linked_with_what_is_open() {
    let open = |story: Story| {
        story
            .serves(0, 1, SETTLED)
            .reads(10_000, 1, 5, Some(1))
            .reads(10_001, 1, 6, Some(2))
    };
    let helper = |story: &Story| story.call("openat:ENOENT", 7, -1, 10_002, 10_002);
    let of_loop = open(story(JoinConfig::default()).waits_for_many(1));
    assert_links(&helper(&of_loop), &[1, 2]);
    assert_nothing(&helper(
        &of_loop.answers(10_001, 1, 5).answers(10_001, 1, 6),
    ));
    // Threads that block serve requests themselves.
    assert_nothing(&helper(&open(Story::new())));
}

#[test]
fn before_anything_is_known_of_a_process_its_requests_may_move() {
    let unknown = |requests| {
        Story(Join::new(JoinConfig::default()))
            .serves(0, 1, requests)
            .reads(10_000, 1, 5, Some(1))
    };
    let call = |story: &Story| story.call("connect:ECONNREFUSED", 1, 9, 10_002, 10_003);
    assert_links(&call(&unknown(SETTLED - 1)), &[1]);
    assert_caller(&call(&unknown(SETTLED)), 1);
    let mut looked_at = unknown(0);
    looked_at.0.on_calls((PID, 2), [1, 2]);
    assert_caller(&call(&looked_at), 1);
}

#[test]
fn who_writes_the_answers_of_streams_shows_nothing_of_who_made_them() {
    let served = |mut story: Story| {
        let mut stream = 1;
        for n in 0..SETTLED {
            story = story
                .frames(2 * n, Direction::Incoming, &[asks(stream, 9)])
                .frames(2 * n + 1, Direction::Outgoing, &[answers(stream)]);
            stream += 2;
        }
        story.frames(10_000, Direction::Incoming, &[asks(stream, 1)])
    };
    let call = |story: &Story| story.call("connect:ECONNREFUSED", 1, 9, 10_002, 10_003);
    let one_loop = story(JoinConfig::default()).waits_for_many(1);
    assert_caller(&call(&served(one_loop)), 1);
    let several = story(JoinConfig::default())
        .waits_for_many(1)
        .waits_for_many(2);
    assert_links(&call(&served(several)), &[1]);
}

#[test]
fn what_another_thread_asked_on_the_calls_descriptor_is_what_it_is_part_of() {
    let asked = story(JoinConfig::default())
        .waits_for_many(1)
        .reads(10, 1, 5, Some(1))
        .sends(11, 1, 9, Some(2));
    let call = |story: &Story, token| story.call(token, 2, 9, 12, 13);
    assert_own(&call(&asked, "recvfrom:ECONNRESET"), 2);
    assert_links(&call(&asked, "connect:ECONNREFUSED"), &[1]);
    let closed = asked.closes(11, 9);
    assert_links(&call(&closed, "recvfrom:ECONNRESET"), &[1]);
    let handed_on = Story::new()
        .reads(10, 1, 5, Some(1))
        .sends(11, 1, 9, Some(1));
    assert_caller(&call(&handed_on, "recvfrom:ECONNRESET"), 1);
    let answered = Story::new().sends(10, 1, 9, Some(2)).receives(11, 1, 9);
    assert_nothing(&call(&answered, "recvfrom:ECONNRESET"));
}

#[test]
fn what_is_known_of_a_process_outlives_it() {
    let ended = LifecycleEvent::Exit {
        code: 0,
        group_dead: true,
    };
    let story = Story::new()
        .reads(8_000, 1, 7, Some(3))
        .answers(8_001, 2, 7)
        .reads(9_000, 1, 5, Some(1))
        .life(10_000, 1, ended);
    let call = story.call("connect:ECONNREFUSED", 1, 9, 9_002, 9_003);
    assert_links(&call, &[1]);
}

#[test]
fn an_answer_on_another_descriptor_of_the_connection_ends_the_request() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .answers(20, 1, 6)
        .reads(30, 1, 5, Some(2));
    assert_eq!(story.call("openat:ENOENT", 1, -1, 25, 25).parent, None);
    assert_caller(&story.call("openat:ENOENT", 1, -1, 35, 35), 2);
}

#[test]
fn where_open_requests_were_forgotten_the_one_that_is_known_is_not_taken_for_the_only_one() {
    let mut story = story(JoinConfig {
        max_requests: 4,
        ..JoinConfig::default()
    });
    for n in 0..5u8 {
        story = story.reads(10 + u64::from(n), 1, i32::from(n) + 5, Some(n + 1));
    }
    for n in 1..4u8 {
        story = story.answers(20, 1, i32::from(n) + 5);
    }
    assert_links(&story.call("openat:ENOENT", 1, -1, 30, 30), &[5]);
}

#[test]
fn what_a_proxy_hands_on_is_its_callers_span() {
    let story = Story::new()
        .reads(10, 1, 5, Some(1))
        .sends(11, 1, 6, Some(1));
    assert_caller(&story.call("recvfrom:ECONNRESET", 1, 6, 12, 13), 1);
}
