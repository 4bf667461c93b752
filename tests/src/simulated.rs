//! Recordings of what never ran.

use std::ops::Range;

use stethos::{
    capture::recording::RecordingWriter,
    record::{Call, CallWindow, ContainerInfo, Header, Record, Tick, WindowEnd},
};

const MS: u64 = 1_000_000;
const ECONNREFUSED: i64 = 111;

/// A minute of a server, container `api`, that answers twenty requests a second and connects to
/// another for each; the other refuses in the seconds `refused`.
///
/// # Panics
/// Never: the recording is written to memory.
pub fn service(refused: Range<u64>) -> Vec<u8> {
    let header = Header {
        arch: "x86_64".to_owned(),
        kernel: "6.1.0".to_owned(),
        unix_offset_ns: 0,
        capture_mode: "self-contained".to_owned(),
        target: "pid=1".to_owned(),
    };
    let container = ContainerInfo {
        at_ns: 1,
        container: 0,
        name: "api".to_owned(),
        id: None,
        cgroup_path: "/api".to_owned(),
        image: None,
        image_digest: None,
    };
    let mut records = vec![Record::Container(container)];
    for second in 1..60u64 {
        records.extend((0..20).map(|number| request(second, number, refused.contains(&second))));
        records.push(Record::Tick(Tick {
            at_ns: (second * 1000 + 999) * MS,
            accounts: vec![],
            skipped_recursion: 0,
        }));
    }
    let written = RecordingWriter::new(Vec::new(), &header).and_then(|mut writer| {
        records.iter().try_for_each(|record| writer.write(record))?;
        writer.finish()
    });
    assert!(written.is_ok(), "{written:?}");
    written.map(|(bytes, _)| bytes).unwrap_or_default()
}

/// `epoll_wait`, `recvfrom`, `socket`, `connect`, `close`, `write` (a log line on one request in
/// three), `sendto`.
fn request(second: u64, number: u64, refused: bool) -> Record {
    let start = second * 1000 + number * 40;
    let call = |nr: u16, fd: i32, after: u64, ret: i64| Call {
        nr,
        fd,
        ret,
        enter_ns: (start + after) * MS,
        duration_ns: MS / 2,
        no_return: false,
        counted: false,
    };
    let connected = if refused { -ECONNREFUSED } else { 0 };
    let mut calls = vec![
        call(232, 4, 0, 1),
        call(45, 7, 1, 1),
        call(41, -1, 2, 8),
        call(42, 8, 3, connected),
        call(3, 8, 4, 0),
        call(44, 7, 6, 1),
    ];
    if number.is_multiple_of(3) {
        calls.insert(5, call(1, 9, 5, 1));
    }
    Record::Window(CallWindow {
        container: 0,
        pid: 10,
        tid: 10,
        sequence: second * 20 + number,
        lost_before: 0,
        counted_before: 0,
        weight: 1,
        context: 0,
        calls,
        end: WindowEnd::Wait,
    })
}
