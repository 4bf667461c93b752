//! Windows of made-up servers, and the tensor contract as plain loops.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod reference;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stethos_patterns::baseline::BaselineBuilder;
use stethos_patterns::usage::Usage;
use stethos_patterns::{Role, Token, Window, WindowCall};
use stethos_trainer::{TrainConfig, TrainingInput};

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const CLOSE: u16 = 3;
pub(crate) const CONNECT: u16 = 42;
pub(crate) const OPENAT: u16 = 257;
pub(crate) const EPOLL_WAIT: u16 = 232;

const AGAIN: i64 = -11;

type Call = (u16, i64, Role);

/// A server whose windows are written down as runs of calls.
pub(crate) struct Server {
    random: ChaCha8Rng,
    at_ns: u64,
    sequence: u64,
    calls: fn(&mut ChaCha8Rng) -> Vec<Call>,
}

impl Server {
    /// A web server: static files, missing files, an upstream, keep-alive.
    pub(crate) fn web(seed: u64) -> Self {
        Server::new(seed, |random| {
            let mut calls = vec![(EPOLL_WAIT, 1, Role::Other)];
            if random.random_bool(0.5) {
                calls.push((288, 9, Role::Listener));
                calls.push((233, 0, Role::Other));
            }
            for _ in 0..random.random_range(1..4) {
                calls.push((45, 300, Role::Server));
                match random.random_range(0..10) {
                    0..6 => {
                        calls.extend([(OPENAT, 11, Role::None), (5, 0, Role::File)]);
                        calls.push((20, 240, Role::Server));
                        for _ in 0..random.random_range(1..3) {
                            calls.push((40, 4096, Role::Server));
                        }
                        calls.extend([(CLOSE, 0, Role::File), (WRITE, 90, Role::File)]);
                    }
                    6..8 => {
                        calls.extend([(OPENAT, -2, Role::None), (WRITE, 120, Role::File)]);
                        calls.extend([(20, 310, Role::Server), (WRITE, 90, Role::File)]);
                    }
                    _ => {
                        calls.extend([(41, 12, Role::None), (CONNECT, -115, Role::Client)]);
                        calls.extend([(233, 0, Role::Other), (EPOLL_WAIT, 1, Role::Other)]);
                        calls.extend([(20, 400, Role::Client), (45, 700, Role::Client)]);
                        calls.extend([(20, 900, Role::Server), (CLOSE, 0, Role::Client)]);
                    }
                }
                calls.push((45, AGAIN, Role::Server));
            }
            if random.random_bool(0.2) {
                calls.push((CLOSE, 0, Role::Server));
            }
            calls
        })
    }

    /// A key-value server: reads and writes, now and then an append to its log.
    pub(crate) fn cache(seed: u64) -> Self {
        Server::new(seed, |random| {
            let mut calls = vec![(EPOLL_WAIT, 3, Role::Other)];
            let clients = random.random_range(1..6);
            calls.extend((0..clients).map(|_| (READ, 40, Role::Server)));
            if random.random_bool(0.1) {
                calls.extend([(WRITE, 200, Role::File), (75, 0, Role::File)]);
            }
            calls.extend((0..clients).map(|_| (WRITE, 5, Role::Server)));
            calls
        })
    }

    fn new(seed: u64, calls: fn(&mut ChaCha8Rng) -> Vec<Call>) -> Self {
        Server {
            random: ChaCha8Rng::seed_from_u64(seed),
            at_ns: 1_000,
            sequence: 0,
            calls,
        }
    }

    pub(crate) fn window(&mut self) -> Window {
        let calls = (self.calls)(&mut self.random);
        self.at_ns += self.random.random_range(500_000..3_000_000);
        let calls = calls.into_iter().map(|(nr, ret, role)| {
            let duration_ns = self.random.random_range(800..9_000);
            self.at_ns += duration_ns + 300;
            let enter_ns = self.at_ns - duration_ns;
            WindowCall {
                token: Token::new(nr, ret),
                role,
                fd: 7,
                ret,
                enter_ns,
                duration_ns,
            }
        });
        let calls = calls.collect();
        self.sequence += 1;
        Window {
            container: 0,
            pid: 10,
            tid: 10,
            sequence: self.sequence,
            weight: 1,
            whole: true,
            calls,
        }
    }

    pub(crate) fn windows(&mut self, count: usize) -> Vec<Window> {
        (0..count).map(|_| self.window()).collect()
    }
}

pub(crate) fn input(windows: Vec<Window>) -> TrainingInput {
    let mut baseline = BaselineBuilder::new();
    windows.iter().for_each(|window| baseline.window(window));
    TrainingInput {
        arch: "x86_64".to_owned(),
        container: "web".to_owned(),
        created_unix: 1_795_000_000,
        windows,
        baseline: baseline.finish(),
        usage: Usage::default(),
        unseen_mass: 0.001,
        widened: false,
    }
}

/// Enough training for a test.
pub(crate) fn config() -> TrainConfig {
    TrainConfig {
        steps: 500,
        ..TrainConfig::default()
    }
}

/// The window with one token that was never seen, in the middle.
pub(crate) fn refused(window: &Window) -> Window {
    let mut window = window.clone();
    let place = window.calls.len() / 2;
    let call = WindowCall {
        token: Token::new(CONNECT, -111),
        ..window.calls[place]
    };
    window.calls.insert(place, call);
    window
}

/// The window with the calls after its first in reverse order.
pub(crate) fn reversed(window: &Window) -> Window {
    let mut window = window.clone();
    window.calls[1..].reverse();
    window
}
