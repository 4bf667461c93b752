use std::io::{self, Write};

use crate::record::*;

use stethos_patterns::{Outcome, Role, Token, descriptors::Exchange};

use super::*;

mod hostile;
mod properties;

fn header() -> Header {
    Header {
        arch: "x86_64".into(),
        kernel: "6.18.44".into(),
        unix_offset_ns: 1_763_000_000_000_000_000,
        capture_mode: "self-contained".into(),
        target: "cgroup=/shop".into(),
    }
}

fn call(nr: u16, ret: i64, enter_ns: Nanos, duration_ns: u64) -> Call {
    Call {
        nr,
        fd: 7,
        ret,
        enter_ns,
        duration_ns,
        no_return: false,
        counted: false,
    }
}

fn window(sequence: u64, calls: Vec<Call>) -> Record {
    Record::Window(CallWindow {
        container: 1,
        pid: 4120,
        tid: 4123,
        sequence,
        lost_before: 0,
        counted_before: 6,
        weight: 7,
        context: 0x1234_5678_9abc_def0,
        calls,
        end: WindowEnd::Wait,
    })
}

fn tick(at_ns: Nanos) -> Record {
    let account = Account {
        seen: 10,
        delivered: 9,
        held: 1,
        ..Account::default()
    };
    Record::Tick(Tick {
        at_ns,
        accounts: vec![(1, account)],
        skipped_recursion: 6,
    })
}

/// One record of every kind.
fn one_of_each() -> Vec<Record> {
    let (container, pid, tid, fd) = (1, 4120, 4123, 7);
    let last = Call {
        no_return: true,
        counted: true,
        ..call(231, 0, 950, 50)
    };
    let traceparent = Some(TraceParent {
        trace_id: [7; 16],
        span_id: [9; 8],
        flags: 1,
    });
    let request = HttpMessage::Request {
        method: "GET".into(),
        traceparent,
    };
    let subject = Subject::Path("/data/orders.log".into());
    let inside = Some(InsideCall {
        nr: 232,
        fd,
        enter_ns: 1_000,
    });
    vec![
        Record::Container(ContainerInfo {
            at_ns: 1,
            container,
            name: "api".into(),
            id: Some("ab".repeat(32)),
            cgroup_path: "/shop/api".into(),
            image: Some("localhost/api:1".into()),
            image_digest: Some("localhost/api@sha256:12".into()),
        }),
        Record::Process(ProcessInfo {
            at_ns: 2,
            container,
            pid,
            executable: "/usr/bin/api".into(),
            command_line: vec!["api".into(), "--port=1".into()],
            environment: vec![("OTEL_SERVICE_NAME".into(), "api".into())],
            listens: vec!["127.0.0.1:8080".into()],
        }),
        window(0, vec![call(0, 512, 900, 30), call(42, -111, 940, 5), last]),
        Record::Detail(Detail {
            at_ns: 3,
            container,
            pid,
            tid,
            nr: 257,
            fd: -100,
            ret: -2,
            subject,
        }),
        Record::Http(HttpHead {
            at_ns: 4,
            container,
            pid,
            tid,
            fd,
            direction: Direction::Outgoing,
            message: request,
        }),
        Record::Lifecycle(Lifecycle {
            at_ns: 5,
            container,
            pid,
            tid,
            event: LifecycleEvent::OomKill,
        }),
        Record::Threads(ThreadsSnapshot {
            at_ns: 6,
            threads: vec![ThreadState {
                container,
                pid,
                tid,
                state: RunState::Blocked,
                inside,
                last: Some(last),
            }],
        }),
        Record::Descriptor(DescriptorInfo {
            at_ns: 7,
            pid,
            fd,
            target: DescriptorTarget::Tcp {
                local: "[::1]:4".into(),
                peer: "[::1]:5".into(),
            },
        }),
        tick(8),
        Record::Reduced(Reduced {
            at_ns: 9,
            sample: 200,
        }),
        Record::Counts(CallCounts {
            at_ns: 10,
            container,
            rows: vec![
                counted(CountedKind::Call(Token::new(0, -11))),
                counted(CountedKind::Answers {
                    peer: "[::1]:5".into(),
                }),
                counted(CountedKind::Service),
            ],
        }),
        Record::Exchange(TimedExchange {
            at_ns: 11,
            container,
            exchange: Exchange {
                pid,
                tid,
                fd,
                role: Role::Client,
                peer: None,
                sent_ns: 3,
                received_ns: 11,
                failed: Some(Outcome::Errno(104)),
            },
        }),
        Record::Life(DescriptorLife {
            since_ns: 12,
            pid,
            fd,
            role: Role::Server,
            peer: None,
        }),
        Record::Network(NetworkState {
            at_ns: 13,
            pid,
            counters: Some(NetworkCounters {
                sent: 500,
                sent_again: 3,
                ..NetworkCounters::default()
            }),
            sockets: vec![SocketState {
                pid,
                fd,
                peer: Some("[::1]:5".into()),
                state: SocketState::ESTABLISHED,
                retries: 2,
                received_bytes: 70_000,
                ..SocketState::default()
            }],
        }),
        Record::Resources(ContainerResources {
            at_ns: 13,
            container,
            ran_ns: 300,
            ready_ns: Some(9),
            throttling: Some(Throttling {
                periods: 40,
                throttled: 30,
                throttled_ns: 500,
            }),
            memory: Some(MemoryUse {
                anonymous: 4096,
                limit: None,
            }),
        }),
        Record::Span(OwnSpan {
            at_ns: 14,
            span: TraceParent {
                trace_id: [1; 16],
                span_id: [2; 8],
                flags: 1,
            },
            parent: Some([3; 8]),
            serves: true,
            start_ns: 12,
            end_ns: 13,
        }),
    ]
}

fn counted(kind: CountedKind) -> CountedRow {
    CountedRow {
        kind,
        count: 300,
        duration_ns: 70_000,
        classes: vec![(1, 200), (9, 100)],
    }
}

fn written(records: &[Record]) -> Vec<u8> {
    let mut writer = RecordingWriter::new(Vec::new(), &header()).unwrap();
    for record in records {
        writer.write(record).unwrap();
    }
    let (bytes, counts) = writer.finish().unwrap();
    assert_eq!(counts.records, records.len() as u64);
    bytes
}

/// The records before the first error, and that error.
fn read(bytes: &[u8]) -> (Vec<Record>, Option<RecordingError>) {
    let reader = match RecordingReader::new(bytes, "a.rec") {
        Ok(reader) => reader,
        Err(error) => return (Vec::new(), Some(error)),
    };
    assert_eq!(*reader.header(), header());
    let mut records = Vec::new();
    let mut failure = None;
    for item in reader {
        assert!(failure.is_none(), "an item after the error");
        match item {
            Ok(record) => records.push(record),
            Err(error) => failure = Some(error),
        }
    }
    (records, failure)
}

/// A stream of several blocks, of a second each.
fn several_blocks() -> Vec<Record> {
    (0..4)
        .flat_map(|s| one_of_each().into_iter().chain([tick(s * 1_000_000_000)]))
        .collect()
}

#[test]
fn every_kind_of_record_survives() {
    let records = one_of_each();
    let (back, error) = read(&written(&records));
    assert_eq!(back, records);
    assert!(error.is_none());
}

#[test]
fn an_empty_recording_ends_cleanly() {
    let (back, error) = read(&written(&[]));
    assert!(back.is_empty() && error.is_none());
}

/// Fails when the encoding of a record changes: then `VERSION` has to change too.
#[test]
fn the_encoding_is_that_of_this_version() {
    let mut clock = entry::BlockClock::default();
    let mut encoded = postcard::to_stdvec(&header()).unwrap();
    for record in one_of_each() {
        encoded.extend(entry::encode(&record, &mut clock).unwrap());
    }
    let found: String = encoded.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(found, include_str!("version-3.hex").replace('\n', ""));
}

#[test]
fn truncation_at_every_length_keeps_whole_blocks_and_says_so() {
    let records = several_blocks();
    let bytes = written(&records);
    let mut most = 0;
    for length in 1..bytes.len() {
        let (back, error) = read(&bytes[..length]);
        let error = error.unwrap();
        assert!(error.is_truncated(), "{length}: {error}");
        assert!(error.offset <= length as u64);
        assert_eq!(back, records[..back.len()]);
        assert!(back.len() >= most);
        most = back.len();
    }
    assert_eq!(
        most,
        records.len(),
        "only the end mark is missing at the last cut"
    );
    let (_, error) = read(&bytes[..bytes.len() - 1]);
    let text = error.unwrap().to_string();
    assert!(
        text.starts_with("a.rec: at byte ") && text.contains("68 records"),
        "{text}"
    );
}

#[test]
fn a_flipped_bit_in_any_byte_is_noticed() {
    let records = several_blocks();
    let bytes = written(&records);
    for position in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[position] ^= 1 << (position % 8);
        let (back, error) = read(&bytes);
        assert!(error.is_some(), "byte {position}");
        assert_eq!(back, records[..back.len()], "byte {position}");
    }
}

#[test]
fn a_record_that_is_too_large_is_left_out() {
    let mut writer = RecordingWriter::new(Vec::new(), &header()).unwrap();
    let huge = Record::Container(ContainerInfo {
        at_ns: 0,
        container: 0,
        name: "x".repeat(MAX_BLOCK),
        id: None,
        cgroup_path: String::new(),
        image: None,
        image_digest: None,
    });
    let records = several_blocks();
    for record in &records {
        writer.write(record).unwrap();
        assert!(matches!(
            writer.write(&huge),
            Err(WriteError::RecordTooLarge { .. })
        ));
    }
    let (back, error) = read(&writer.finish().unwrap().0);
    assert_eq!(back, records);
    assert!(error.is_none());
}

#[test]
fn many_records_at_one_time_fill_blocks_up_to_the_limit() {
    let calls: Vec<Call> = (0..64)
        .map(|i| call(i, i64::MIN, u64::from(i) << 50, u64::MAX))
        .collect();
    let records: Vec<Record> = (0..2_000).map(|i| window(i, calls.clone())).collect();
    let bytes = written(&records);
    let mut reader = RecordingReader::new(&bytes[..], "a.rec").unwrap();
    assert!(reader.by_ref().map(Result::unwrap).eq(records));
    assert!(reader.read().blocks > 2);
    assert_eq!(reader.read().calls, 128_000);
}

/// Output whose bytes so far can be looked at, as a file's can after a kill.
#[derive(Clone, Default)]
struct Shared(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_killed_recording_holds_all_but_the_last_second() {
    let out = Shared::default();
    let mut writer = RecordingWriter::new(out.clone(), &header()).unwrap();
    for i in 0..100 {
        writer.write(&tick(i * 100_000_000)).unwrap();
        let (back, error) = read(&out.0.borrow());
        assert!(error.unwrap().is_truncated());
        assert!(back.len() as u64 + 10 > i, "{} of {i}", back.len());
    }
}

/// A realistic stream, for the figure in `docs/recording-format.md`: 16 threads of an HTTP
/// service, five calls a request, times with the spread that they have on a real machine.
#[test]
fn a_call_of_a_service_takes_few_bytes() {
    let mut state = 88172645463325252u64;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut records = Vec::new();
    let mut now = 431_555_123_456_789;
    for sequence in 0..20_000 {
        let mut calls = Vec::new();
        for (nr, ret) in [(45, 210), (44, 96), (45, 31), (1, 120), (44, 170)] {
            now += 2_000 + random(20_000);
            let duration_ns = 900 + random(4_000);
            calls.push(call(nr, ret + random(4) as i64, now, duration_ns));
            now += duration_ns;
        }
        calls.push(call(232, 1, now + 800, 20_000 + random(400_000)));
        let Record::Window(mut one) = window(sequence / 16, calls) else {
            unreachable!()
        };
        one.tid += (sequence % 16) as u32;
        records.push(Record::Window(one));
        now += 30_000;
    }
    let bytes = written(&records).len() as f64;
    let plain = postcard::to_stdvec(&records).unwrap();
    let squeezed = zstd::bulk::compress(&plain, 3).unwrap().len() as f64;
    let calls = 120_000.0;
    println!(
        "{:.2} bytes a call ({:.2} as plain postcard, {:.2} with that compressed)",
        bytes / calls,
        plain.len() as f64 / calls,
        squeezed / calls
    );
    assert!(bytes / calls < 8.0);
}
