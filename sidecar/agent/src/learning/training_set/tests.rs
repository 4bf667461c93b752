use super::*;
use crate::{
    capture::recording::RecordingWriter,
    record::{Call, CallWindow, ContainerInfo, WindowEnd},
};

fn container(name: &str) -> Record {
    Record::Container(ContainerInfo {
        at_ns: 1,
        container: 0,
        name: name.to_owned(),
        id: None,
        cgroup_path: String::new(),
        image: None,
        image_digest: None,
    })
}

/// 64 calls at that second.
pub(in crate::learning) fn window(sequence: u64) -> Record {
    let call = Call {
        nr: 39,
        fd: -1,
        ret: 1,
        enter_ns: sequence * 1_000_000_000,
        duration_ns: 0,
        no_return: false,
        counted: false,
    };
    Record::Window(CallWindow {
        container: 0,
        pid: 10,
        tid: 10,
        sequence,
        lost_before: 0,
        counted_before: 0,
        weight: 1,
        context: 0,
        calls: vec![call; 64],
        end: WindowEnd::Full,
    })
}

#[test]
fn of_more_calls_than_are_needed_whole_spans_of_time_are_kept() {
    let mut set = Collected::new(names::table("x86_64"), MAX_CALLS);
    // 64 calls every 25 ms.
    let windows = 3 * MAX_CALLS as u64 / 64;
    for number in 0..windows {
        let call = stethos_patterns::WindowCall {
            token: Token::new(39, 0),
            role: stethos_patterns::Role::None,
            fd: -1,
            ret: 0,
            enter_ns: number * SPAN_NS / 10,
            duration_ns: 0,
        };
        set.keep(Window {
            container: 0,
            pid: 1,
            tid: 1,
            sequence: number,
            weight: 1,
            whole: true,
            calls: vec![call; 64],
        });
    }
    assert!(
        (MAX_CALLS / 4..=MAX_CALLS).contains(&set.calls),
        "{}",
        set.calls
    );
    let mut spans: BTreeMap<u64, usize> = BTreeMap::new();
    for window in &set.windows {
        *spans.entry(window.start_ns() / SPAN_NS).or_default() += 1;
    }
    let whole = spans.values().filter(|windows| **windows == 10).count();
    assert!(whole + 2 >= spans.len(), "{spans:?}");
    assert!(spans.keys().any(|span| *span > windows / 10 * 9 / 10));
}

fn recording(records: &[Record]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let header = Header {
        arch: "x86_64".to_owned(),
        kernel: String::new(),
        unix_offset_ns: 0,
        capture_mode: "broker".to_owned(),
        target: String::new(),
    };
    let mut writer = RecordingWriter::new(file.reopen().unwrap(), &header).unwrap();
    for record in records {
        writer.write(record).unwrap();
    }
    writer.finish().unwrap();
    file
}

#[test]
fn what_is_left_out_leaves_no_trace() {
    let records: Vec<Record> = [container("api")]
        .into_iter()
        .chain((1..10).map(window))
        .collect();
    let file = recording(&records);
    let second = 1_000_000_000;
    let left_out = [(0, second), (4 * second - 5, 6 * second + 5)];
    let selection = Selection {
        left_out: &left_out,
        ..Selection::default()
    };
    let set = read_selected(&[file.path().to_owned()], None, selection).unwrap();
    let seconds = set.windows.iter().map(|window| window.start_ns() / second);
    assert_eq!(seconds.collect::<Vec<_>>(), [2, 3, 7, 8, 9]);
    assert_eq!(set.baseline.calls, 5 * 64);
    assert_eq!(set.baseline.normal_ns, 5 * second - 10);
}

#[test]
fn what_was_recorded_before_a_container_had_its_name_is_its_own() {
    let file = recording(&[
        container("cgroup-7"),
        window(1),
        window(2),
        container("api"),
        window(3),
    ]);
    let set = read(&[file.path().to_owned()], None).unwrap();
    assert_eq!(set.container, "api");
    let calls = set.windows.iter().map(|window| window.calls.len());
    assert_eq!(calls.sum::<usize>(), 3 * 64);
    assert_eq!(set.baseline.calls, 3 * 64);
}

#[test]
fn less_memory_keeps_fewer_calls() {
    assert_eq!(calls_in(u64::MAX), MAX_CALLS);
    assert_eq!(calls_in(100 << 20), 327_680);
    assert_eq!(calls_in(0), MIN_CALLS);
}
