use stethos_patterns::{Role, Token};
use syscalls::x86_64::Sysno;

use super::*;
use crate::record::{Call, DescriptorInfo, ProcessInfo, Tick};

const MS: u64 = 1_000_000;

fn call(sysno: Sysno, fd: i32, ret: i64, at_ms: u64) -> Call {
    Call {
        nr: sysno.id() as u16,
        fd,
        ret,
        enter_ns: at_ms * MS,
        duration_ns: MS / 10,
        no_return: false,
        counted: false,
    }
}

fn window(sequence: u64, lost_before: u32, calls: Vec<Call>, end: WindowEnd) -> Record {
    Record::Window(CallWindow {
        container: 0,
        pid: 1,
        tid: 2,
        sequence,
        lost_before,
        counted_before: 0,
        weight: 1,
        context: 0,
        calls,
        end,
    })
}

fn feed(records: &[Record]) -> Vec<Piece> {
    let mut windows = Windows::new("x86_64");
    let mut out = Vec::new();
    for record in records {
        windows.on_record(record, &mut out);
    }
    out
}

fn lengths(pieces: &[Piece]) -> Vec<usize> {
    pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Window(window) => Some(window.calls.len()),
            _ => None,
        })
        .collect()
}

fn served(requests: u64) -> Vec<Call> {
    let mut calls = vec![call(Sysno::accept4, 3, 7, 0)];
    for request in 0..requests {
        calls.push(call(Sysno::recvfrom, 7, 100, 10 * request + 1));
        calls.push(call(Sysno::getppid, -1, 1, 10 * request + 2));
        calls.push(call(Sysno::sendto, 7, 100, 10 * request + 3));
    }
    calls
}

#[test]
fn a_request_on_a_served_connection_is_a_unit() {
    let out = feed(&[window(0, 0, served(3), WindowEnd::ThreadExit)]);
    assert_eq!(lengths(&out), [4, 3, 3]);
    let Some(Piece::Window(last)) = out.iter().rfind(|piece| matches!(piece, Piece::Window(_)))
    else {
        unreachable!()
    };
    assert_eq!(last.calls[0].role, Role::Server);
    assert_eq!(last.sequence, 2);
}

#[test]
fn a_process_serves_what_another_of_its_container_accepted() {
    let process = |pid, container, listens: &[&str]| {
        Record::Process(ProcessInfo {
            at_ns: 0,
            container,
            pid,
            executable: String::new(),
            command_line: Vec::new(),
            environment: Vec::new(),
            listens: listens
                .iter()
                .map(|address| (*address).to_owned())
                .collect(),
        })
    };
    let connection = |pid| {
        Record::Descriptor(DescriptorInfo {
            at_ns: 0,
            pid,
            fd: 7,
            target: DescriptorTarget::Tcp {
                local: "127.0.0.1:5432".to_owned(),
                peer: "127.0.0.1:40000".to_owned(),
            },
        })
    };
    let role = |container| {
        let mut windows = Windows::new("x86_64");
        let mut out = Vec::new();
        for record in [
            process(5, container, &["0.0.0.0:5432"]),
            process(1, 0, &[]),
            connection(1),
            window(0, 0, vec![call(Sysno::recvfrom, 7, 9, 0)], WindowEnd::Full),
        ] {
            windows.on_record(&record, &mut out);
        }
        windows.roles()[0]
    };
    assert_eq!(role(0), Role::Server);
    assert_eq!(role(1), Role::Client);
}

#[test]
fn where_the_kernel_cut_makes_no_difference() {
    let whole = feed(&[window(0, 0, served(5), WindowEnd::ThreadExit)]);
    for cut in 1..served(5).len() {
        let (first, second) = (served(5)[..cut].to_vec(), served(5)[cut..].to_vec());
        let parts = feed(&[
            window(0, 0, first, WindowEnd::Peeked),
            window(0, 0, second, WindowEnd::ThreadExit),
        ]);
        assert_eq!(whole, parts, "cut at {cut}");
    }
}

#[test]
fn waits_begin_units_and_silence_ends_them() {
    let calls = vec![
        call(Sysno::epoll_wait, 4, 1, 0),
        call(Sysno::read, 9, 5, 1),
        call(Sysno::epoll_wait, 4, 1, 2),
        call(Sysno::write, 9, 5, 3),
    ];
    let mut records = vec![window(0, 0, calls, WindowEnd::Peeked)];
    assert_eq!(lengths(&feed(&records)), [2]);
    records.push(Record::Tick(Tick {
        at_ns: 100 * MS,
        accounts: vec![],
        skipped_recursion: 0,
    }));
    assert_eq!(lengths(&feed(&records)), [2]);
    records.push(Record::Tick(Tick {
        at_ns: 400 * MS,
        accounts: vec![],
        skipped_recursion: 0,
    }));
    assert_eq!(lengths(&feed(&records)), [2, 2]);
}

#[test]
fn lost_calls_leave_a_gap() {
    let out = feed(&[
        window(0, 0, vec![call(Sysno::getppid, -1, 1, 0)], WindowEnd::Full),
        window(
            2,
            64,
            vec![call(Sysno::getppid, -1, 1, 9)],
            WindowEnd::ThreadExit,
        ),
    ]);
    let Some(Piece::Window(second)) = out.get(1) else {
        unreachable!()
    };
    assert_eq!(second.calls[0].token, Token::GAP);
    assert_eq!(lengths(&out), [1, 2]);
}

#[test]
fn windows_hold_at_most_64_calls() {
    let calls = (0..200).map(|at| call(Sysno::getppid, -1, 1, at)).collect();
    assert_eq!(
        lengths(&feed(&[window(0, 0, calls, WindowEnd::ThreadExit)])),
        [64, 64, 64, 8]
    );
}

#[test]
fn what_comes_after_a_sample_stands_for_itself() {
    let request = |at: u64| {
        vec![
            call(Sysno::epoll_wait, 4, 1, at),
            call(Sysno::read, 9, 5, at + 1),
        ]
    };
    let weighed = |sequence, weight, calls| {
        let Record::Window(window) = window(sequence, 0, calls, WindowEnd::Wait) else {
            unreachable!()
        };
        Record::Window(CallWindow { weight, ..window })
    };
    // A unit begins with a wait, in the middle of what the kernel hands over.
    let out = feed(&[
        weighed(0, 160, request(0)),
        weighed(1, 1, request(10)),
        weighed(2, 7, request(20)),
        window(3, 0, request(30), WindowEnd::ThreadExit),
    ]);
    let weights: Vec<u32> = out
        .iter()
        .filter_map(|piece| match piece {
            Piece::Window(window) => Some(window.weight),
            _ => None,
        })
        .collect();
    assert_eq!(weights, [160, 1, 7, 1]);
}
