use super::super::{Counts, What};
use super::*;
use crate::{
    import::sequences::SequenceNames,
    record::{Call, CallWindow, LifecycleEvent, WindowEnd},
    windows::{Piece, Windows},
};

const MS: Nanos = 1_000_000;
const GETPPID: u16 = 110;
const FUTEX: u16 = 202;

fn call(tid: Option<u32>, nr: u16, at_ns: Nanos) -> Event {
    let what = What::Call(Call {
        nr,
        fd: -1,
        ret: 0,
        enter_ns: at_ns,
        duration_ns: 0,
        no_return: false,
        counted: false,
    });
    Event { tid, at_ns, what }
}

fn trace(dated: bool, events: Vec<Event>) -> Trace {
    Trace {
        events,
        dated,
        processes: Default::default(),
        counts: Counts::default(),
    }
}

fn assembled(inputs: Vec<(&str, Trace)>) -> Vec<Record> {
    let mut assembly = Assembly::new(Format::Strace, Arch::X86_64, "api");
    for (name, trace) in inputs {
        assembly.add(name, trace);
    }
    assembly.finish().1
}

fn windows(records: &[Record]) -> Vec<&CallWindow> {
    let windows = records.iter().filter_map(|record| match record {
        Record::Window(window) => Some(window),
        _ => None,
    });
    windows.collect()
}

/// Names of the sequences with the lengths of their units of work.
fn sequences(records: &[Record]) -> Vec<(String, Vec<usize>)> {
    let assembly = Assembly::new(Format::Strace, Arch::X86_64, "api");
    let mut names = SequenceNames::new(&assembly.header);
    let mut cut = Windows::new("x86_64");
    let mut pieces = Vec::new();
    for record in records {
        names.on_record(record);
        cut.on_record(record, &mut pieces);
    }
    cut.finish(&mut pieces);
    let mut found: Vec<(String, Vec<usize>)> = Vec::new();
    for piece in pieces {
        let Piece::Window(window) = piece else {
            continue;
        };
        let name = names.name(window.pid, window.tid).unwrap();
        match found.iter_mut().find(|(known, _)| *known == name) {
            Some((_, lengths)) => lengths.push(window.calls.len()),
            None => found.push((name, vec![window.calls.len()])),
        }
    }
    found
}

fn numbers(length: u64) -> Trace {
    let step = super::super::STEP_NS;
    let calls = (0..length).map(|place| call(None, GETPPID, place * step));
    trace(false, calls.collect())
}

#[test]
fn inputs_without_times_follow_one_another_in_units_of_64() {
    let records = assembled(vec![("a.txt", numbers(200)), ("b.txt", numbers(64))]);
    let expected = [
        ("a.txt".to_owned(), vec![64, 64, 64, 8]),
        ("b.txt".to_owned(), vec![64]),
    ];
    assert_eq!(sequences(&records), expected);
    let starts: Vec<Nanos> = windows(&records)
        .iter()
        .filter(|window| window.sequence == 0)
        .map(|window| window.calls[0].enter_ns / MS)
        .collect();
    assert_eq!(starts, [500, 1019], "0.5 s apart");
}

#[test]
fn inputs_with_the_same_numbers_are_different_processes() {
    let input = |at_ns: Nanos| {
        let events = (0..3).map(|place| call(Some(7), GETPPID, at_ns + place));
        trace(true, events.collect())
    };
    let records = assembled(vec![("a.sc", input(1000)), ("b.sc", input(1001))]);
    let expected = [
        ("a.sc:7".to_owned(), vec![3]),
        ("b.sc:7".to_owned(), vec![3]),
    ];
    assert_eq!(sequences(&records), expected);
    let pids: Vec<u32> = windows(&records).iter().map(|window| window.pid).collect();
    assert_eq!(pids, [7, MAX_PID + 1]);
}

#[test]
fn windows_end_where_those_of_a_capture_would() {
    let at = [
        (GETPPID, 0),
        (GETPPID, 1),
        (FUTEX, 2),
        (GETPPID, 3),
        (GETPPID, 90),
    ];
    let mut events: Vec<Event> = at
        .iter()
        .map(|(nr, ms)| call(Some(7), *nr, 1000 * MS + ms * MS))
        .collect();
    let code = 3 << 8;
    events.push(Event {
        tid: Some(7),
        at_ns: 1100 * MS,
        what: What::Ended { code },
    });
    let records = assembled(vec![("a", trace(true, events))]);
    let ends: Vec<(usize, WindowEnd)> = windows(&records)
        .iter()
        .map(|window| (window.calls.len(), window.end))
        .collect();
    let expected = [
        (2, WindowEnd::Wait),
        (2, WindowEnd::Peeked),
        (1, WindowEnd::ThreadExit),
    ];
    assert_eq!(ends, expected);
    let Some(Record::Lifecycle(end)) = records.iter().rev().nth(1) else {
        panic!("no end: {records:?}");
    };
    let group_dead = true;
    assert_eq!(end.event, LifecycleEvent::Exit { code, group_dead });
}

#[test]
fn what_is_lost_leaves_a_gap() {
    let lost = Event {
        tid: Some(7),
        at_ns: 2,
        what: What::Lost,
    };
    let events = vec![call(Some(7), GETPPID, 1), lost, call(Some(7), GETPPID, 3)];
    let records = assembled(vec![("a", trace(true, events))]);
    let lost: Vec<u32> = windows(&records).iter().map(|w| w.lost_before).collect();
    assert_eq!(lost, [0, 1]);
}

#[test]
fn a_process_ends_with_its_last_thread() {
    let events = vec![
        call(Some(7), GETPPID, 1),
        call(Some(8), GETPPID, 2),
        Event {
            tid: Some(8),
            at_ns: 3,
            what: What::Ended { code: 0 },
        },
        call(Some(7), GETPPID, 4),
    ];
    let mut input = trace(true, events);
    input.processes.insert(8, Some(7));
    let records = assembled(vec![("a", input)]);
    let ends = records.iter().filter_map(|record| match record {
        Record::Lifecycle(life) => match life.event {
            LifecycleEvent::Exit { group_dead, .. } => Some((life.pid, life.tid, group_dead)),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(ends.collect::<Vec<_>>(), [(7, 8, false), (7, 7, true)]);
}

#[test]
fn a_tick_comes_every_second_but_not_through_years() {
    let second = 1_000_000_000;
    let at = [0, 1, 5, 1_700_000_000];
    let events = at.map(|s| call(Some(7), GETPPID, s * second)).to_vec();
    let records = assembled(vec![("a", trace(true, events))]);
    let ticks: Vec<Nanos> = records
        .iter()
        .filter_map(|record| match record {
            Record::Tick(tick) => Some(tick.at_ns / second),
            _ => None,
        })
        .collect();
    assert_eq!(ticks, [1, 2, 3, 4, 5, 6, 1_700_000_000, 1_700_000_001]);
}
