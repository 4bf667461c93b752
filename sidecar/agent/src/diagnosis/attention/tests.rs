use stethos_bundle::Thresholds;
use stethos_patterns::baseline::BaselineBuilder;
use stethos_patterns::descriptors::Exchange;
use stethos_patterns::{Outcome, Token, Vocabulary, Window, WindowCall};

use super::*;
use crate::diagnosis::observation::{ContainerModel, DiagnosisConfig};
use crate::record::{Account, Call, CountedKind, CountedRow, Lifecycle, WindowEnd};

const READ: u16 = 0;
const WRITE: u16 = 1;
const CLOSE: u16 = 3;
const FSYNC: u16 = 74;
const EPOLL_WAIT: u16 = 232;
const OPENAT: u16 = 257;
const PEER: &str = "127.0.0.1:6379";

/// A request every millisecond: four calls, the last on a file.
const REQUEST: [(u16, Role, u64); 4] = [
    (EPOLL_WAIT, Role::Other, 700_000),
    (READ, Role::Server, 0),
    (WRITE, Role::Server, 0),
    (FSYNC, Role::File, 50_000),
];

fn model() -> Reference {
    let mut baseline = BaselineBuilder::new();
    baseline.observed_time(10 * SECOND);
    baseline.executable("/usr/bin/redis-server");
    baseline.executable("/opt/a-program-with-a-long-name");
    for n in 0..10_000u64 {
        let calls = REQUEST.map(|(nr, role, duration_ns)| WindowCall {
            token: Token::new(nr, 0),
            role,
            fd: 5,
            ret: 0,
            enter_ns: n * 1_000_000,
            duration_ns,
        });
        baseline.window(&Window {
            container: 0,
            pid: 1,
            tid: 1,
            sequence: n,
            weight: 1,
            whole: true,
            calls: calls.to_vec(),
        });
        baseline.exchange(&exchange(n * 1_000_000, 100_000));
        baseline.exchange(&answer(n * 1_000_000, 100_000));
    }
    let model = ContainerModel {
        arch: "x86_64".to_owned(),
        vocabulary: Vocabulary::new([]),
        patterns: Vec::new(),
        thresholds: Thresholds {
            false_alarm_rate: 0.001,
            patterns: vec![2.0],
            reconstruction_median: 1.0,
            reconstruction_limit: 2.0,
        },
        baseline: baseline.finish(),
    };
    Reference::new(model, &DiagnosisConfig::default())
}

fn exchange(sent_ns: Nanos, lasted: u64) -> Exchange {
    Exchange {
        pid: 1,
        tid: 1,
        fd: 6,
        role: Role::Client,
        peer: Some(PEER.to_owned()),
        sent_ns,
        received_ns: sent_ns + lasted,
        failed: None,
    }
}

fn answer(sent_ns: Nanos, lasted: u64) -> Exchange {
    Exchange {
        fd: 7,
        role: Role::Server,
        peer: None,
        ..exchange(sent_ns, lasted)
    }
}

/// A pod whose seconds pass one after the other.
struct Pod {
    attention: Attention,
    model: Reference,
    second: u64,
    seen: u64,
    orders: Vec<Order>,
}

impl Pod {
    fn new() -> Self {
        Pod {
            attention: Attention::new("x86_64"),
            model: model(),
            second: 100,
            seen: 0,
            orders: Vec::new(),
        }
    }

    fn now(&self) -> Nanos {
        self.second * SECOND
    }

    fn window(&mut self, at_ns: Nanos, calls: &[(u16, i64, Role, u64)]) {
        let roles: Vec<Role> = calls.iter().map(|(_, _, role, _)| *role).collect();
        let calls = calls.iter().map(|(nr, ret, _, duration_ns)| Call {
            nr: *nr,
            fd: 5,
            ret: *ret,
            enter_ns: at_ns,
            duration_ns: *duration_ns,
            no_return: false,
            counted: false,
        });
        let window = CallWindow {
            container: 0,
            pid: 1,
            tid: 1,
            sequence: 0,
            lost_before: 0,
            counted_before: 0,
            weight: 1,
            context: 0,
            calls: calls.collect(),
            end: WindowEnd::Wait,
        };
        self.attention.on_window(&window, &roles, Some(&self.model));
    }

    /// A second of requests, shipped or counted.
    fn second(&mut self) {
        let requests = 500;
        if !self.attention.is_counting() {
            for n in 0..requests {
                let at_ns = self.now() + n * 1_000_000;
                self.window(at_ns, &REQUEST.map(|(nr, role, ns)| (nr, 0, role, ns)));
            }
        }
        self.seen += requests * REQUEST.len() as u64;
        self.tick();
    }

    fn tick(&mut self) {
        self.second += 1;
        let account = Account {
            seen: self.seen,
            ..Account::default()
        };
        let tick = Tick {
            at_ns: self.now(),
            accounts: vec![(0, account)],
            skipped_recursion: 0,
        };
        self.attention.on_tick(&tick, |_| Some(&self.model));
        self.orders.extend(self.attention.drain());
    }

    fn counts(&mut self, kind: CountedKind, count: u64) {
        let counts = CallCounts {
            at_ns: self.now(),
            container: 0,
            rows: vec![CountedRow {
                kind,
                count,
                duration_ns: 0,
                classes: Vec::new(),
            }],
        };
        let record = Record::Counts(counts);
        self.attention.on_record(&record, Some(&self.model));
    }

    fn calm() -> Self {
        let mut pod = Self::new();
        (0..30).for_each(|_| pod.second());
        assert!(pod.attention.is_counting(), "{:?}", pod.orders);
        pod
    }
}

#[test]
fn what_is_calm_and_familiar_is_only_counted() {
    let pod = Pod::calm();
    let learned = |of: fn(&Familiar) -> bool| {
        let familiar = pod.orders.iter().filter_map(|order| match order {
            Order::Learn {
                familiar, ceiling, ..
            } => Some((familiar, *ceiling)),
            _ => None,
        });
        familiar
            .filter(|(familiar, _)| of(familiar))
            .map(|(_, ceiling)| ceiling)
            .collect::<Vec<_>>()
    };
    // One context for each call of a request: its window begins anew each time.
    let contexts = learned(|familiar| matches!(familiar, Familiar::Context(_)));
    assert_eq!(contexts.len(), 4, "{:?}", pod.orders);
    // Waits and sockets have no ceiling, the file has: 10 ms above its median.
    let bounded: Vec<u8> = contexts.into_iter().filter(|c| *c != u8::MAX).collect();
    let limit = stethos_events::duration_class(10_050_000);
    assert!(bounded.len() == 1 && bounded[0] < limit, "{bounded:?}");
    assert_eq!(
        learned(|familiar| matches!(familiar, Familiar::Answers(_))).len(),
        1
    );
    assert!(
        pod.orders
            .iter()
            .any(|order| matches!(order, Order::Count { .. }))
    );
}

#[test]
fn a_pod_that_does_little_is_shipped_whole() {
    let mut pod = Pod::new();
    for _ in 0..60 {
        let at_ns = pod.now();
        pod.window(at_ns, &REQUEST.map(|(nr, role, ns)| (nr, 0, role, ns)));
        pod.seen += 4;
        pod.tick();
    }
    assert!(!pod.attention.is_counting());
}

#[test]
fn an_error_that_was_never_seen_is_never_familiar() {
    let mut pod = Pod::new();
    for _ in 0..30 {
        let at_ns = pod.now();
        pod.window(at_ns, &[(WRITE, -28, Role::File, 0)]);
        pod.second();
    }
    let enospc = u64::from(stethos_events::token(WRITE, -28));
    assert!(pod.orders.iter().all(|order| !matches!(
        order,
        Order::Learn { familiar: Familiar::Context(context), .. } if context & 0xffff == enospc
    )));
}

#[test]
fn what_diagnosis_finds_has_everything_shipped_until_it_is_calm_again() {
    let mut pod = Pod::calm();
    pod.attention.disturbed(pod.now(), "found");
    assert!(!pod.attention.is_counting());
    assert!(matches!(
        pod.attention.drain()[..],
        [Order::Ship { reason: "found" }]
    ));
    // Twice as long as the first time.
    (0..18).for_each(|_| pod.second());
    assert!(!pod.attention.is_counting());
    (0..4).for_each(|_| pod.second());
    assert!(pod.attention.is_counting());
}

#[test]
fn slow_answers_are_looked_at() {
    let mut pod = Pod::calm();
    let usual = CountedKind::Answers {
        peer: PEER.to_owned(),
    };
    for slow in [0, 1, 0, 2] {
        for _ in 0..slow {
            tell(&mut pod, 20_000_000);
        }
        pod.counts(usual.clone(), 500);
        assert!(pod.attention.is_counting());
    }
    for _ in 0..100 {
        tell(&mut pod, 20_000_000);
    }
    pod.counts(usual, 500);
    assert!(!pod.attention.is_counting());
}

/// A lock may be one of a few kinds of requests.
#[test]
fn a_kind_of_requests_that_is_slow_is_looked_at() {
    for (slow, looked_at) in [(2, false), (15, true)] {
        let mut pod = Pod::calm();
        for _ in 0..10 {
            for _ in 0..slow {
                tell_of(&mut pod, answer, 200_000_000);
            }
            pod.counts(CountedKind::Service, 100);
        }
        assert_eq!(pod.attention.is_counting(), !looked_at, "{slow} of 100");
    }
}

fn tell(pod: &mut Pod, lasted: u64) {
    tell_of(pod, exchange, lasted);
}

fn tell_of(pod: &mut Pod, exchange: fn(Nanos, u64) -> Exchange, lasted: u64) {
    let at_ns = pod.now();
    let record = Record::Exchange(TimedExchange {
        at_ns,
        container: 0,
        exchange: exchange(at_ns - lasted, lasted),
    });
    pod.attention.on_record(&record, Some(&pod.model));
}

#[test]
fn slow_calls_on_files_are_looked_at() {
    let mut pod = Pod::calm();
    for _ in 0..10 {
        let at_ns = pod.now();
        pod.window(at_ns, &[(FSYNC, 0, Role::File, 80_000_000)]);
    }
    pod.counts(CountedKind::Call(Token::new(FSYNC, 0)), 12);
    assert!(!pod.attention.is_counting());
}

#[test]
fn errors_that_become_more_are_looked_at() {
    let mut pod = Pod::calm();
    let reset = Token {
        call: READ,
        outcome: Outcome::Errno(104),
    };
    pod.counts(CountedKind::Call(reset), 400);
    assert!(!pod.attention.is_counting());
}

#[test]
fn strange_calls_are_looked_at_and_a_few_are_not() {
    let mut pod = Pod::calm();
    for n in 0..3u16 {
        let at_ns = pod.now();
        pod.window(at_ns, &[(300 + n, 0, Role::None, 0)]);
        pod.second();
    }
    assert!(pod.attention.is_counting());
    for n in 0..200u16 {
        let at_ns = pod.now();
        pod.window(
            at_ns,
            &[(n + 2, 0, Role::None, 0), (n + 3, 0, Role::None, 0)],
        );
    }
    pod.second();
    assert!(!pod.attention.is_counting());
}

fn start_of(name: &str, at_ns: Nanos) -> Record {
    Record::Lifecycle(Lifecycle {
        at_ns,
        container: 0,
        pid: 9,
        tid: 9,
        event: LifecycleEvent::Exec {
            executable: name.to_owned(),
        },
    })
}

#[test]
fn a_program_that_starts_is_looked_at() {
    let mut pod = Pod::calm();
    let record = start_of("/bin/sh", pod.now());
    pod.attention.on_record(&record, None);
    assert!(pod.attention.is_counting());
    pod.attention.on_record(&record, Some(&pod.model));
    assert!(!pod.attention.is_counting());
}

#[test]
fn a_program_that_learning_saw_is_not() {
    let mut pod = Pod::calm();
    for name in ["redis-server", "a-program-with-"] {
        let record = start_of(name, pod.now());
        pod.attention.on_record(&record, Some(&pod.model));
        assert!(pod.attention.is_counting(), "{name}");
    }
}

#[test]
fn what_cannot_be_counted_is_shipped() {
    let mut pod = Pod::calm();
    pod.attention.no_rows(0, pod.now());
    assert!(!pod.attention.is_counting());
    assert!(pod.attention.drain().contains(&Order::Forget));
    // Not made room for again so soon.
    pod.attention.no_rows(0, pod.now() + SECOND);
    for _ in 0..300 {
        pod.second();
    }
    assert!(!pod.attention.is_counting());
}

#[test]
fn profiles_that_turn_out_as_learned_may_be_as_far_again() {
    let mut pod = Pod::calm();
    let profiles = |pod: &mut Pod, times: u32, stability: f64| {
        for _ in 0..times {
            pod.attention.on_stability(0, pod.now(), stability, false);
        }
        pod.attention.is_counting()
    };
    assert!(profiles(&mut pod, 1000, 0.6));
    assert!(profiles(&mut pod, PATIENCE - 1, 0.2));
    assert!(profiles(&mut pod, 1, 0.9), "one in between");
    assert!(profiles(&mut pod, PATIENCE - 1, 0.2));
    assert!(!profiles(&mut pod, 1, 0.2));

    // Nothing, when everything is shipped.
    profiles(&mut pod, 1, 0.9);
    while !pod.attention.is_counting() {
        pod.second();
    }
    assert!(profiles(&mut pod, 1000, 0.2));
    assert!(profiles(&mut pod, 2 * PATIENCE - 1, 0.001));
    assert!(!profiles(&mut pod, 1, 0.001));

    // Something: everything goes on being shipped.
    profiles(&mut pod, 1, 0.001);
    for _ in 0..5 {
        pod.second();
        profiles(&mut pod, 1, 0.001);
    }
    assert!(!pod.attention.is_counting());
}

#[test]
fn room_is_made_once_in_a_while() {
    let mut pod = Pod::calm();
    pod.attention.no_room(pod.now());
    assert!(pod.attention.drain().contains(&Order::Forget));
    pod.attention.no_room(pod.now() + SECOND);
    assert!(!pod.attention.drain().contains(&Order::Forget));
}

#[test]
fn descriptors_that_stay_open_are_looked_at() {
    let mut pod = Pod::calm();
    let (opened, closed) = (
        CountedKind::Call(Token::new(OPENAT, 5)),
        CountedKind::Call(Token::new(CLOSE, 0)),
    );
    for _ in 0..100 {
        pod.counts(opened.clone(), 4);
        pod.counts(closed.clone(), 4);
    }
    assert!(pod.attention.is_counting());
    pod.counts(opened.clone(), 4);
    pod.counts(opened, 4);
    assert!(!pod.attention.is_counting());
}
