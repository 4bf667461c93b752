//! Sockets that are made for the request that was read before.

use super::*;
use crate::record::{Call, CallWindow, WindowEnd};
use crate::trace::join::births::{PROVEN, Turning};

const READ: u16 = 0;
const SOCKET: u16 = 41;
const CONNECT: u16 = 42;
const EPOLL_WAIT: u16 = 232;

fn proxy() -> Story {
    let config = JoinConfig {
        event_loop: vec![EPOLL_WAIT],
        turning: Turning {
            leaves: vec![EPOLL_WAIT],
            reads: vec![READ],
            makes_sockets: vec![SOCKET],
            ..Turning::default()
        },
        ..JoinConfig::default()
    };
    Story(Join::new(config))
}

/// A call at a time in µs: number, descriptor, what it gave.
type Made = (u64, u16, i32, i64);

impl Story {
    fn window(mut self, sequence: u64, calls: &[Made]) -> Self {
        let call = |(us, nr, fd, ret): &Made| Call {
            nr: *nr,
            fd: *fd,
            ret: *ret,
            enter_ns: us * 1000,
            duration_ns: 0,
            no_return: false,
            counted: false,
        };
        self.0.on_record(&Record::Window(CallWindow {
            container: 0,
            pid: PID,
            tid: 1,
            sequence,
            lost_before: 0,
            counted_before: 0,
            weight: 1,
            context: 0,
            calls: calls.iter().map(call).collect(),
            end: WindowEnd::Wait,
        }));
        self
    }

    /// Requests 1 and 2 are read on 5 and 6, and a socket is made for each, in one turn and in this order, 15 and 16.
    fn asked(self, number: u64) -> Self {
        let ms = 10 * number;
        let us = 1000 * ms;
        self.reads(ms, 1, 5, Some(1))
            .reads(ms + 1, 1, 6, Some(2))
            .window(
                2 * number,
                &[
                    (us - 10, EPOLL_WAIT, 3, 2),
                    (us, READ, 5, 100),
                    (us + 1000, READ, 6, 100),
                    (us + 1100, SOCKET, -1, 15),
                    (us + 1110, CONNECT, 15, -115),
                    (us + 1200, SOCKET, -1, 16),
                    (us + 1210, CONNECT, 16, -115),
                ],
            )
    }

    /// They are handed on in the next turn, which begins a window of its own.
    fn turn(self, number: u64, hands_on: [u8; 2]) -> Self {
        let ms = 10 * number;
        self.asked(number)
            .sends(ms + 2, 1, 15, Some(hands_on[0]))
            .sends(ms + 2, 1, 16, Some(hands_on[1]))
            .window(2 * number + 1, &[(1000 * ms + 2000, EPOLL_WAIT, 3, 2)])
    }

    /// Both are answered.
    fn done(self, number: u64) -> Self {
        let ms = 10 * number;
        self.receives(ms + 3, 1, 15)
            .receives(ms + 3, 1, 16)
            .answers(ms + 4, 1, 5)
            .answers(ms + 4, 1, 6)
    }

    /// So many turns, as ever.
    fn turns(mut self, turns: std::ops::Range<u64>) -> Self {
        for number in turns {
            self = self.turn(number, [1, 2]).done(number);
        }
        self
    }

    fn fails(&self, number: u64, fd: i32) -> Context {
        let ms = 10 * number + 3;
        self.call("connect:ECONNREFUSED", 1, fd, ms, ms)
    }
}

/// Turns in which two requests each prove it.
const ENOUGH: u64 = 1 + PROVEN as u64 / 2;

#[test]
fn a_socket_is_of_the_request_in_whose_turn_it_was_made_where_that_is_so_always() {
    let story = proxy().turns(1..ENOUGH).asked(500);
    assert_caller(&story.fails(500, 15), 1);
    assert_caller(&story.fails(500, 16), 2);
    // One that was not seen being made.
    assert_links(&story.fails(500, 17), &[1, 2]);
}

#[test]
fn before_that_is_proven_and_once_it_was_otherwise_it_may_be_anybodys() {
    let unproven = proxy().turns(1..ENOUGH - 1).asked(500);
    assert_links(&unproven.fails(500, 15), &[1, 2]);
    let crossed = proxy()
        .turns(1..ENOUGH)
        .turn(400, [2, 1])
        .done(400)
        .asked(500);
    assert_links(&crossed.fails(500, 15), &[1, 2]);
}

#[test]
fn a_socket_that_is_made_in_another_turn_is_nobodys() {
    let story = proxy().turns(1..ENOUGH).asked(500).window(
        1001,
        &[(5_002_000, EPOLL_WAIT, 3, 1), (5_002_500, SOCKET, -1, 15)],
    );
    assert_links(&story.fails(500, 15), &[1, 2]);
}

#[test]
fn a_process_that_executes_another_program_has_to_prove_it_again() {
    let exec = LifecycleEvent::Exec {
        executable: "/usr/sbin/proxy".into(),
    };
    let story = proxy().turns(1..ENOUGH).life(4_000, 1, exec).asked(500);
    assert_links(&story.fails(500, 15), &[1, 2]);
}

/// While calls are only counted, the number may have become another socket's.
#[test]
fn a_socket_from_before_calls_were_not_seen_is_nobodys() {
    let story = proxy()
        .turns(1..ENOUGH)
        .asked(500)
        .window(1005, &[(5_002_000, EPOLL_WAIT, 3, 1)]);
    assert_links(&story.fails(500, 15), &[1, 2]);
    // Nor does what is sent on it then speak against the process.
    let story = story
        .sends(5_003, 1, 15, Some(2))
        .window(1006, &[(5_003_500, EPOLL_WAIT, 3, 1)]);
    assert_caller(&story.done(500).asked(600).fails(600, 15), 1);
}
