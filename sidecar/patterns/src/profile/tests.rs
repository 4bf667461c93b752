use super::*;
use crate::window::Role;

const ARCH: &str = "x86_64";
const MS: u64 = 1_000_000;

fn call(name: &str, role: Role, ret: i64, duration_ns: u64) -> WindowCall {
    let token = Token::new(names::table(ARCH).number(name).unwrap(), ret);
    WindowCall {
        token,
        role,
        fd: 5,
        ret,
        enter_ns: 0,
        duration_ns,
    }
}

fn window(calls: Vec<WindowCall>) -> Window {
    Window {
        container: 0,
        pid: 1,
        tid: 1,
        sequence: 0,
        weight: 1,
        whole: true,
        calls,
    }
}

/// One request of a small web server: pattern 0 reads a file, pattern 1 asks a database.
fn request(n: u64) -> (Vec<WindowCall>, usize) {
    let jitter = 1 + n % 7;
    if n.is_multiple_of(3) {
        let calls = vec![
            call("read", Role::Server, 300, 5_000 * jitter),
            call("openat", Role::File, 9, 10_000 * jitter),
            call("read", Role::File, 4096, 3_000 * jitter),
            call("close", Role::File, 0, 500),
            call("write", Role::Server, 4200, 8_000 * jitter),
        ];
        return (calls, 0);
    }
    let calls = vec![
        call("read", Role::Server, 300, 5_000 * jitter),
        call("sendto", Role::Client, 50, 6_000 * jitter),
        call("recvfrom", Role::Client, 700, 200_000 * jitter),
        call("write", Role::Server, 900, 8_000 * jitter),
    ];
    (calls, 1)
}

fn vocabulary() -> Vocabulary {
    let tokens = (0..3).flat_map(|n| request(n).0).map(|call| call.token);
    Vocabulary::new(tokens.chain([call("epoll_wait", Role::Other, 1, 0).token]))
}

fn builder() -> ProfileBuilder {
    let layout = ProfileLayout::new(&vocabulary(), 2);
    let mut builder = ProfileBuilder::new(layout.clone(), vocabulary(), ARCH);
    let long = interval(&mut builder, 10_000, 4).values;
    ProfileBuilder::new(layout.with_typical(&long), vocabulary(), ARCH)
}

/// An interval with so many requests. The event loop takes `batch` of them per wait, waits
/// longer when there is less to do, and has idle wake-ups.
fn interval(builder: &mut ProfileBuilder, requests: u64, batch: u64) -> Profile {
    for n in 0..requests {
        let (mut calls, pattern) = request(n);
        if n.is_multiple_of(batch) {
            calls.push(call(
                "epoll_wait",
                Role::Other,
                batch as i64,
                5_000 * MS / requests,
            ));
        }
        builder.window(&window(calls), Some(pattern));
    }
    for _ in 0..50 {
        builder.window(
            &window(vec![call("epoll_wait", Role::Other, 0, 100 * MS)]),
            None,
        );
    }
    builder.finish()
}

/// Largest difference among the shares, and among the means of logarithms.
fn furthest(a: &Profile, b: &Profile) -> (f32, f32) {
    let differences: Vec<f32> = a
        .values
        .iter()
        .zip(&b.values)
        .map(|(a, b)| (a - b).abs())
        .collect();
    let (shares, means) = differences.split_at(differences.len() - DURATIONS - SIZES);
    let max = |values: &[f32]| values.iter().copied().fold(0.0, f32::max);
    (max(shares), max(means))
}

#[test]
fn five_times_the_load_or_a_fifth_is_the_same_profile() {
    let mut builder = builder();
    let normal = interval(&mut builder, 1000, 4);
    for (requests, batch) in [(5000, 20), (200, 1)] {
        let other = interval(&mut builder, requests, batch);
        assert!(other.is_sufficient());
        let (shares, means) = furthest(&normal, &other);
        assert!(shares < 0.01 && means < 0.1, "{requests}: {shares} {means}");
    }
}

#[test]
fn another_mix_and_slower_answers_are_another_profile() {
    let mut builder = builder();
    let normal = interval(&mut builder, 1000, 4);
    for n in 0..1000 {
        let (mut calls, pattern) = request(n);
        calls
            .iter_mut()
            .filter(|call| call.role == Role::Client)
            .for_each(|call| {
                call.duration_ns *= 200;
            });
        builder.window(&window(calls), Some(pattern));
    }
    let slow = builder.finish();
    let name = |index: usize| builder.layout().name(index, ARCH, &vocabulary());
    let moved: Vec<String> = (0..normal.values.len())
        .filter(|index| (normal.values[*index] - slow.values[*index]).abs() > 1.0)
        .map(name)
        .collect();
    assert_eq!(
        moved,
        ["duration of read client", "duration of write socket"]
    );

    for _ in 0..1000 {
        builder.window(&window(request(0).0), Some(0));
    }
    let files_only = builder.finish();
    assert!(furthest(&normal, &files_only).0 > 0.3);
}

#[test]
fn whether_calls_wait_for_microseconds_or_not_at_all_makes_no_difference() {
    let mut builder = builder();
    let mut of = |connect_ns: u64| {
        let connects = (0..500).map(|_| call("connect", Role::Client, 0, connect_ns));
        builder.window(&window(connects.collect()), None);
        builder.finish()
    };
    let (never, short, long) = (of(0), of(10_000), of(5 * MS));
    assert!(furthest(&never, &short).1 < 0.15);
    assert!(furthest(&never, &long).1 > 3.0);
}

#[test]
fn places_have_fixed_meanings() {
    let mut builder = builder();
    let layout = builder.layout().clone();
    let vocabulary = vocabulary();
    let profile = interval(&mut builder, 300, 4);
    assert_eq!(profile.values.len(), layout.dimension());
    let value = |wanted: &str| {
        let named = |index: &usize| layout.name(*index, ARCH, &vocabulary) == wanted;
        profile.values[(0..layout.dimension()).find(named).unwrap()]
    };
    // 100 requests of five calls and 200 of four.
    let share = |calls: f32| (calls / 1300.0).sqrt();
    let successes = (0..layout.dimension()).filter(|index| layout.is_success(*index, &vocabulary));
    assert_eq!(
        successes.count(),
        vocabulary.len() - 2,
        "not unknown, gap, errors, means"
    );
    assert_eq!(profile.calls, 1300);
    assert!((value("share of openat:ok") - share(100.0)).abs() < 1e-6);
    assert!((value("share of sendto:ok") - share(200.0)).abs() < 1e-6);
    assert_eq!(value("share of epoll_wait:ok"), 0.0);
    assert_eq!(value("share of unknown calls"), 0.0);
    assert_eq!(value("share of errors"), 0.0);
    assert!((value("share of pattern 0") - share(500.0)).abs() < 1e-6);
    assert!((value("share of pattern 1") - share(800.0)).abs() < 1e-6);
    assert_eq!(value("share without pattern"), 0.0);
    assert!((value("duration of read client") - 9f32.ln()).abs() < 0.5);
    assert!((value("size of read file") - (4096f32).ln()).abs() < 0.15);
}

#[test]
fn errors_and_strangers_show() {
    let mut builder = builder();
    for _ in 0..100 {
        let calls = vec![
            call("connect", Role::Client, -111, 1000),
            call("read", Role::Server, 10, 1000),
            call("read", Role::Server, -11, 1000),
            WindowCall::gap(0),
            call("sched_yield", Role::None, 0, 100),
        ];
        builder.window(&window(calls), None);
    }
    let profile = builder.finish();
    assert_eq!(profile.calls, 400);
    let layout = builder.layout();
    let without_pattern = layout.dimension() - DURATIONS - SIZES - 2;
    assert_eq!(profile.values[without_pattern], 1.0);
    assert_eq!(profile.values[without_pattern + 1], 0.5);
    // connect:ECONNREFUSED, read:EAGAIN and sched_yield are not in the vocabulary.
    assert!((profile.values[0] - 0.75f32.sqrt()).abs() < 1e-6);
    assert_eq!(profile.values[usize::from(Vocabulary::GAP)], 0.0);
}

#[test]
fn an_empty_interval_is_typical_and_not_sufficient() {
    let vocabulary = vocabulary();
    let layout = ProfileLayout::new(&vocabulary, 2);
    let mut builder = ProfileBuilder::new(layout.clone(), vocabulary.clone(), ARCH);
    let syncs = (0..1000).map(|n| call("fsync", Role::File, 0, 900_000 + n * 200));
    builder.window(&window(syncs.collect()), None);
    let layout = layout.with_typical(&builder.finish().values);
    let sync = (0..layout.dimension())
        .find(|index| layout.name(*index, ARCH, &vocabulary) == "duration of sync")
        .unwrap();
    let mut builder = ProfileBuilder::new(layout.clone(), vocabulary, ARCH);
    let empty = builder.finish();
    assert!(!empty.is_sufficient());
    assert!(
        (empty.values[sync] - 11f32.ln()).abs() < 0.15,
        "{}",
        empty.values[sync]
    );
    assert!(empty.values.iter().all(|value| value.is_finite()));
    let json = serde_json::to_string(&layout).unwrap();
    assert_eq!(
        serde_json::from_str::<ProfileLayout>(&json).unwrap(),
        layout
    );
}

#[test]
fn a_large_vocabulary_has_bounded_places() {
    let vocabulary = Vocabulary::new((0..2000).map(|nr| Token::new(nr, 0)));
    let layout = ProfileLayout::new(&vocabulary, 48);
    assert!(layout.dimension() < 600);
    let mut builder = ProfileBuilder::new(layout.clone(), vocabulary.clone(), "none");
    let strange = WindowCall {
        token: Token::new(1999, 0),
        ..call("read", Role::File, 0, 0)
    };
    builder.window(&window(vec![strange]), Some(99));
    assert_eq!(builder.finish().values[511], 1.0);
    assert_eq!(layout.name(511, ARCH, &vocabulary), "share of rare calls");
}
