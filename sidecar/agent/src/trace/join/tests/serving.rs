//! How processes serve requests: on which threads and descriptors, and how many at once.

use super::*;
use crate::trace::join::serving::SETTLED;

const EPOLL_WAIT: u16 = 232;

fn story(config: JoinConfig) -> Story {
    Story(Join::new(JoinConfig {
        event_loop: vec![EPOLL_WAIT],
        ..config
    }))
}

impl Story {
    fn waits_for_many(mut self) -> Self {
        self.0.on_call(PID, EPOLL_WAIT, (3, 1), MS);
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
    let of_runtime = both(story(JoinConfig::default()).waits_for_many());
    assert_links(&call(&of_runtime), &[1]);
    // Unless it has shown for long that it does not move them.
    let settled = story(JoinConfig::default())
        .waits_for_many()
        .serves(0, 1, SETTLED);
    assert_caller(&call(&both(settled)), 1);
    let moved = story(JoinConfig::default())
        .waits_for_many()
        .serves(0, 1, SETTLED)
        .reads(9_000, 1, 7, Some(3))
        .answers(9_001, 2, 7);
    assert_links(&call(&both(moved)), &[1]);
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
