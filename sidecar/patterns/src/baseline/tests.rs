use super::*;
use crate::descriptors::Exchange;
use crate::window::{Window, WindowCall};

const REDIS: &str = "127.0.0.1:6379";
const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const CONNECT: u16 = 42;
const READ: u16 = 0;

fn call(nr: u16, role: Role, ret: i64, at_ns: u64, duration_ns: u64) -> WindowCall {
    WindowCall {
        token: Token::new(nr, ret),
        role,
        fd: 5,
        ret,
        enter_ns: at_ns,
        duration_ns,
    }
}

fn exchange(role: Role, peer: Option<&str>, ms: f64, failed: Option<Outcome>) -> Exchange {
    Exchange {
        pid: 1,
        tid: 1,
        fd: 5,
        role,
        peer: peer.map(str::to_owned),
        sent_ns: SECOND,
        received_ns: SECOND + (ms * MS as f64) as u64,
        failed,
    }
}

#[test]
fn evidence_can_be_written_from_it() {
    let mut builder = BaselineBuilder::new();
    for n in 0..12_400 {
        builder.call(&call(CONNECT, Role::Client, 0, n * 10 * MS, 50_000));
        builder.connect(REDIS, 0);
        builder.exchange(&exchange(Role::Client, Some(REDIS), 0.2, None));
    }
    builder.observed_time(124 * SECOND);
    let baseline = builder.finish();

    let refused = Token::new(CONNECT, -111);
    let evidence = format!(
        "{} of {} calls",
        baseline.count_of(&refused),
        baseline.calls_of(CONNECT)
    );
    assert_eq!(evidence, "0 of 12400 calls");
    assert_eq!(baseline.failure_count(&refused, None), 0);
    assert_eq!(baseline.rate_of(&Token::new(CONNECT, 0)), 100.0);
    assert_eq!(baseline.max_per_second(&Token::new(CONNECT, 0)), 100);
    assert_eq!(baseline.max_per_second(&refused), 0);
    let peer = baseline.peer(REDIS).unwrap();
    assert_eq!(
        (peer.connects, peer.failed_connects, peer.exchanges.count()),
        (12_400, 0, 12_400)
    );
    let median = peer.exchanges.quantile(0.5) as f64 / MS as f64;
    assert!((median - 0.2).abs() < 0.04, "{median}");
    assert_eq!(peer.exchanges.share_above(MS), 0.0);
    assert!(baseline.peer("10.0.0.1:80").is_none());
}

#[test]
fn roles_and_outcomes_are_kept_apart() {
    let mut builder = BaselineBuilder::new();
    builder.window(&Window {
        container: 0,
        pid: 1,
        tid: 1,
        sequence: 0,
        weight: 1,
        whole: true,
        calls: vec![
            call(READ, Role::File, 10, 0, 1000),
            call(READ, Role::Client, 10, 0, 500_000),
            call(READ, Role::Client, -11, 0, 300),
            WindowCall::gap(0),
        ],
    });
    let baseline = builder.finish();
    assert_eq!((baseline.calls, baseline.statistics().len()), (3, 3));
    assert_eq!(baseline.calls_on(READ, Role::Client), 2);
    assert_eq!(baseline.durations_of(READ, Some(Role::File)).max(), 1000);
    assert_eq!(
        baseline.durations_of(READ, Some(Role::Client)).max(),
        500_000
    );
    assert_eq!(baseline.durations_of(READ, None).count(), 2);
    let of_client = baseline.get(&Token::new(READ, 10), Role::Client).unwrap();
    assert_eq!(of_client.count, 1);
    assert!(baseline.get(&Token::new(READ, 10), Role::Server).is_none());
    // Would-block is no failure.
    assert!(baseline.failures().is_empty());
}

#[test]
fn failures_of_normal_time_are_known_with_their_subject() {
    let mut builder = BaselineBuilder::new();
    let missing = Token::new(257, -2);
    for _ in 0..3 {
        builder.call(&call(257, Role::File, -2, 0, 100));
    }
    builder.failure(missing, "/etc/optional.conf");
    let baseline = builder.finish();
    assert_eq!(baseline.failure_count(&missing, None), 3);
    assert_eq!(
        baseline.failure_count(&missing, Some("/etc/optional.conf")),
        1
    );
    assert_eq!(
        baseline.failure_count(&missing, Some("/data/orders.log")),
        0
    );
}

#[test]
fn exchanges_are_sorted_by_how_they_ended() {
    let mut builder = BaselineBuilder::new();
    for failed in [
        None,
        Some(Outcome::Ok),
        Some(Outcome::Errno(104)),
        Some(Outcome::NoReturn),
    ] {
        builder.exchange(&exchange(Role::Client, Some(REDIS), 1.0, failed));
        builder.exchange(&exchange(Role::Server, None, 5.0, failed));
        builder.exchange(&exchange(Role::Client, None, 1.0, failed));
    }
    builder.connect(REDIS, -111);
    builder.connect(REDIS, -115);
    let baseline = builder.finish();
    let peer = baseline.peer(REDIS).unwrap();
    assert_eq!(
        (peer.exchanges.count(), peer.failed, peer.abandoned),
        (1, 2, 1)
    );
    assert_eq!((peer.connects, peer.failed_connects), (2, 1));
    assert_eq!(
        (baseline.service.count(), baseline.service.max()),
        (1, 5 * MS)
    );
    assert_eq!(baseline.peers().count(), 1);
}

#[test]
fn the_busiest_second_is_found_in_late_windows_too() {
    let mut builder = BaselineBuilder::new();
    // 30 calls in second 1, of which 20 come after the first of second 2; then 5 in second 9.
    for at in std::iter::repeat_n(1, 10)
        .chain([2])
        .chain(std::iter::repeat_n(1, 20))
    {
        builder.call(&call(READ, Role::File, 1, at * SECOND + 5, 10));
    }
    for _ in 0..5 {
        builder.call(&call(READ, Role::File, 1, 9 * SECOND, 10));
    }
    let baseline = builder.finish();
    assert_eq!(baseline.max_per_second(&Token::new(READ, 1)), 30);
}

fn stretch(seed: u64) -> Baseline {
    let mut builder = BaselineBuilder::new();
    builder.observed_time(SECOND);
    for n in 0..200 + seed {
        let nr = ((n * 7 + seed) % 11) as u16;
        let ret = if n % 13 == seed % 13 { -2 } else { 1 };
        builder.call(&call(nr, Role::File, ret, n * 50 * MS, n * 1000 + seed));
        builder.connect(["a:1", "b:2", "c:3"][((n + seed) % 3) as usize], 0);
        builder.exchange(&exchange(Role::Client, Some("a:1"), n as f64, None));
    }
    builder.failure(Token::new(2, -2), ["/x", "/y"][(seed % 2) as usize]);
    builder.executable(["/bin/a", "/bin/b"][(seed % 2) as usize]);
    builder.listen("0.0.0.0:80");
    builder.finish()
}

#[test]
fn merging_adds_up_in_any_order() {
    let (a, b, c) = (stretch(1), stretch(2), stretch(3));
    let mut abc = a.clone();
    abc.merge(&b);
    abc.merge(&c);
    let mut cba = c.clone();
    cba.merge(&b);
    cba.merge(&a);
    assert_eq!(abc, cba);
    let mut with_nothing = a.clone();
    with_nothing.merge(&Baseline::default());
    assert_eq!(with_nothing, a);
    assert_eq!(abc.calls, a.calls + b.calls + c.calls);
    assert_eq!(abc.normal_ns, 3 * SECOND);
    for nr in 0..11 {
        assert_eq!(
            abc.calls_of(nr),
            a.calls_of(nr) + b.calls_of(nr) + c.calls_of(nr)
        );
    }
    assert_eq!(abc.failure_count(&Token::new(2, -2), Some("/y")), 2);
    assert!(abc.knows_executable("/bin/a") && abc.knows_executable("/bin/b"));
    assert!(!abc.knows_executable("/bin/sh"));
    assert_eq!(abc.executables().count(), 2);
    assert_eq!(abc.listens().collect::<Vec<_>>(), ["0.0.0.0:80"]);
    assert!(abc.knows_listen("0.0.0.0:80"));
}

#[test]
fn the_busiest_second_of_either_stretch_is_kept() {
    let busy = |calls: u64| {
        let mut builder = BaselineBuilder::new();
        (0..calls).for_each(|_| builder.call(&call(READ, Role::File, 1, SECOND, 10)));
        builder.finish()
    };
    for (first, second) in [(3, 8), (8, 3)] {
        let mut both = busy(first);
        both.merge(&busy(second));
        assert_eq!(both.max_per_second(&Token::new(READ, 1)), 8);
    }
}

#[test]
fn survives_serialisation() {
    let baseline = stretch(5);
    let json = serde_json::to_string(&baseline).unwrap();
    assert_eq!(serde_json::from_str::<Baseline>(&json).unwrap(), baseline);
}

#[test]
fn every_list_is_bounded() {
    let crowd = |from: u32| {
        let mut builder = BaselineBuilder::new();
        for n in from..from + 3000 {
            let name = format!("/n/{n}");
            builder.call(&call(n as u16, Role::None, -2, 0, 0));
            builder.connect(&name, 0);
            builder.failure(Token::new(2, -2), &name);
            builder.executable(&name);
            builder.listen(&name);
        }
        builder.finish()
    };
    let mut baseline = crowd(0);
    for _ in 0..2 {
        assert_eq!(baseline.statistics().len(), BaselineBounds::CALLS);
        assert_eq!(baseline.peers().count(), BaselineBounds::PEERS);
        assert_eq!(baseline.failures().len(), BaselineBounds::FAILURES);
        assert_eq!(baseline.executables().count(), BaselineBounds::NAMES);
        assert_eq!(baseline.listens().count(), BaselineBounds::NAMES);
        assert!(baseline.left_out > 0);
        let left_out = baseline.left_out;
        let other = crowd(3000);
        baseline.merge(&other);
        assert!(baseline.left_out > left_out + other.left_out);
    }
}

#[test]
fn opened_paths_are_known_until_there_are_too_many() {
    let mut builder = BaselineBuilder::new();
    assert_eq!(Baseline::default().has_opened("/a"), None);
    builder.opened("/a");
    let baseline = builder.finish();
    assert_eq!(baseline.has_opened("/a"), Some(true));
    assert_eq!(baseline.has_opened("/b"), Some(false));
    let mut builder = BaselineBuilder::new();
    for n in 0..=BaselineBounds::OPENED {
        builder.opened(&format!("/{n}"));
    }
    let mut merged = baseline;
    merged.merge(&builder.finish());
    assert_eq!(merged.has_opened("/a"), Some(true));
    assert_eq!(merged.has_opened("/b"), None);
}

#[test]
fn the_highest_descriptor_is_one_that_worked() {
    let highest = |fd: i32, ret: i64| {
        let mut builder = BaselineBuilder::new();
        for (fd, ret) in [(7, 1), (fd, ret)] {
            builder.call(&WindowCall {
                fd,
                ..call(READ, Role::File, ret, SECOND, 0)
            });
        }
        builder.finish()
    };
    assert_eq!(highest(40, 1).highest_descriptor, 40);
    assert_eq!(highest(40, -9).highest_descriptor, 7);
    assert_eq!(highest(-1, 1).highest_descriptor, 7);
    let mut merged = highest(9, 1);
    merged.merge(&highest(12, 1));
    assert_eq!(merged.highest_descriptor, 12);

    let mut json = serde_json::to_value(&merged).unwrap();
    json.as_object_mut().unwrap().remove("highest_descriptor");
    let older: Baseline = serde_json::from_value(json).unwrap();
    assert_eq!((older.highest_descriptor, older.calls), (0, merged.calls));
}

#[test]
fn segments_add_up_and_older_baselines_have_none() {
    let counted = |sent, again| {
        let mut builder = BaselineBuilder::new();
        builder.segments(sent, again);
        builder.finish()
    };
    let mut merged = counted(100, 1);
    merged.merge(&counted(50, 2));
    assert_eq!((merged.segments.sent, merged.segments.again), (150, 3));

    let mut json = serde_json::to_value(&merged).unwrap();
    json.as_object_mut().unwrap().remove("segments");
    let older: Baseline = serde_json::from_value(json).unwrap();
    assert_eq!(older.segments.sent, 0);
}
