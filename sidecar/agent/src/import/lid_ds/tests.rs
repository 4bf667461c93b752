use super::super::{Arch, Event, What};
use super::*;
use crate::record::Call;

fn read(lines: &[&str]) -> Trace {
    let mut parser = LidDs::new(Names::new(Arch::X86_64));
    for line in lines {
        parser.take(line).unwrap();
    }
    parser.finish()
}

fn calls(trace: &Trace) -> Vec<(u32, Call)> {
    let calls = trace.events.iter().filter_map(|event| match event {
        Event {
            tid: Some(tid),
            what: What::Call(call),
            ..
        } => Some((*tid, *call)),
        _ => None,
    });
    calls.collect()
}

/// Thread, number, descriptor, result, start and duration.
fn short(trace: &Trace) -> Vec<(u32, u16, i32, i64, Nanos, Nanos)> {
    let calls = calls(trace).into_iter();
    calls
        .map(|(tid, c)| (tid, c.nr, c.fd, c.ret, c.enter_ns, c.duration_ns))
        .collect()
}

const DEMO: [&str; 6] = [
    "10 | 0 | 7 | > | read | size=64 | 2",
    "11 | 0 | 8 | > | futex | op=128(A|B)val=0 | 3",
    "15 | 5 | 7 | < | read | data=a | b.. | 2",
    "20 | 9 | 8 | < | futex |  | 3",
    "21 | 0 | 7 | > | <unknown> |  | 6",
    "22 | 1 | 7 | < | <unknown> |  | 6",
];

#[test]
fn the_demo_is_read_in_either_direction() {
    let unknown = stethos_patterns::Token::UNKNOWN_CALL;
    let expected = [
        (7, 0, -1, 0, 10, 5),
        (8, 202, -1, 0, 11, 9),
        (7, unknown, -1, 0, 21, 1),
    ];
    let forward = read(&DEMO);
    assert_eq!(short(&forward), expected);
    assert!(forward.dated);
    let mut backward = DEMO;
    backward.reverse();
    assert_eq!(short(&read(&backward)), expected);
    assert_eq!((forward.counts.unknown, forward.counts.calls), (1, 3));
}

#[test]
fn moments_that_two_lines_share_stay_in_order() {
    let mut lines = [
        "10 | 0 | 7 | > | getpid |  | 1",
        "11 | 1 | 7 | < | getpid |  | 1",
        "11 | 0 | 7 | > | geteuid |  | 2",
        "12 | 1 | 7 | < | geteuid |  | 2",
    ];
    let expected = [(7, 39, -1, 0, 10, 1), (7, 107, -1, 0, 11, 1)];
    assert_eq!(short(&read(&lines)), expected);
    lines.reverse();
    assert_eq!(short(&read(&lines)), expected);
}

#[test]
fn lines_of_2021_have_processes_and_results() {
    let trace = read(&[
        "1700000000000000010 33 7 php worker 8 read > fd=9(<4t>10.0.0.1:4000->10.0.0.2:80) size=64",
        "1700000000000000015 33 7 php worker 8 read < res=-11(EAGAIN) data=",
        "1700000000000000020 33 7 php worker 8 open > ",
        "1700000000000000025 33 7 php worker 8 open < fd=-2(ENOENT) name=/etc/a(/etc/a) flags=1",
        "1700000000000000030 33 7 php worker 8 mmap > addr=0",
        "1700000000000000035 33 7 php worker 8 mmap < res=7F0000001000 vm_size=1",
        "1700000000000000040 33 7 php worker 8 connect > fd=10",
        "1700000000000000045 33 7 php worker 8 connect < res=0 tuple=10.0.0.1:1->10.0.0.2:80",
    ]);
    let calls = calls(&trace).into_iter();
    let results: Vec<_> = calls.map(|(_, c)| (c.nr, c.fd, c.ret)).collect();
    let address = 0x7f00_0000_1000;
    assert_eq!(
        results,
        [(0, 9, -11), (2, -1, -2), (9, -1, address), (42, 10, 0)]
    );
    assert_eq!(trace.processes.get(&8), Some(&Some(7)));
    let told = trace.events.iter().filter_map(|event| match &event.what {
        What::Subject { subject, .. } => Some(subject.clone()),
        _ => None,
    });
    let path = Subject::Path("/etc/a".into());
    let peer = Subject::Peer("10.0.0.2:80".into());
    assert_eq!(told.collect::<Vec<_>>(), [path, peer]);
}

#[test]
fn lines_of_2019_and_of_sysdig_have_the_time_of_day() {
    let trace = read(&[
        "19 00:00:01.000000010 1 33 nginx 7 > write fd=4(<f>/log) size=3",
        "20 00:00:01.000000012 1 33 nginx 7 > switch next=0 pgft_maj=0",
        "21 00:00:01.000000015 1 33 nginx 7 < write res=3 data=abc",
        "22 00:00:01.000000020 1 nginx (7) > close fd=4",
        "23 00:00:01.000000021 1 nginx (7) < close res=0",
    ]);
    let second = 1_000_000_000;
    let expected = [(7, 1, 4, 3, second + 10, 5), (7, 3, 4, 0, second + 20, 1)];
    assert_eq!(short(&trace), expected);
    assert!(!trace.dated);
}

#[test]
fn calls_without_their_other_half_are_kept_lost_or_left_open() {
    let trace = read(&[
        "15 | 5 | 7 | < | read |  | 2",
        "20 | 0 | 7 | > | read |  | 2",
        "25 | 0 | 7 | > | write |  | 2",
        "26 | 1 | 7 | < | write |  | 2",
        "30 | 0 | 7 | > | poll |  | 2",
        "31 | 0 | 8 | > | exit_group |  | 2",
    ]);
    let expected = [
        (7, 0, -1, 0, 10, 5),
        (7, 1, -1, 0, 25, 1),
        (8, 231, -1, 0, 31, 0),
    ];
    assert_eq!(short(&trace), expected);
    assert!(calls(&trace)[2].1.no_return);
    assert_eq!((trace.counts.lost, trace.counts.unfinished), (1, 1));
    assert_eq!(trace.events[1].what, What::Lost);
}

#[test]
fn an_event_stands_for_calls_that_sysdig_does_not_know() {
    let trace = read(&[
        "10 0 7 a 7 syscall > ID=157(prctl) nativeID=157",
        "11 0 7 a 7 syscall < ID=157(prctl)",
        "12 0 7 a 7 procexit > status=256 ret=1",
    ]);
    assert_eq!(short(&trace), [(7, 157, -1, 0, 10, 1)]);
    assert_eq!(trace.events[1].what, What::Ended { code: 256 });
}

#[test]
fn what_is_wrong_is_named() {
    for (text, error) in [
        ("x", LineError::NoCall),
        ("a | 0 | 7 | > | read |  | 1", LineError::Time("a".into())),
        ("1 | 0 | b | > | read |  | 1", LineError::Thread("b".into())),
        ("1 | 0 | 7 | = | read |  | 1", LineError::NoDirection),
        ("1 | 0 | 7 | > | a b |  | 1", LineError::NoCall),
        ("1 0 7 a 7 read", LineError::NoDirection),
        (
            "1 29:00:00.0 0 0 a 7 > read",
            LineError::Time("29:00:00.0".into()),
        ),
    ] {
        assert_eq!(line::parse(text).unwrap_err(), error, "{text}");
    }
}
