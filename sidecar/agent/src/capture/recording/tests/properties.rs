use proptest::prelude::*;

use super::hostile::with_block;
use super::*;

prop_compose! {
    fn any_call()(
        nr: u16, fd: i32, ret: i64, enter_ns: u64, duration_ns: u64, no_return: bool,
        counted: bool,
    ) -> Call {
        Call { nr, fd, ret, enter_ns, duration_ns, no_return, counted }
    }
}

prop_compose! {
    fn any_window()(
        container: u16, pid: u32, tid: u32, sequence: u64, lost_before: u32,
        counted_before: u64, weight: u32, context: u64,
        calls in prop::collection::vec(any_call(), 0..70),
        end in prop::sample::select(vec![
            WindowEnd::Wait, WindowEnd::Full, WindowEnd::ThreadExit, WindowEnd::Peeked,
        ]),
    ) -> Record {
        Record::Window(CallWindow {
            container, pid, tid, sequence, lost_before, counted_before, weight, context, calls, end,
        })
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let process = (
        any::<(u64, u16, u32, String)>(),
        any::<(Vec<String>, Vec<(String, String)>)>(),
    );
    prop_oneof![
        4 => any_window(),
        1 => any::<u64>().prop_map(tick),
        1 => process.prop_map(|((at_ns, container, pid, executable), (words, environment))| {
            Record::Process(ProcessInfo {
                at_ns,
                container,
                pid,
                executable,
                command_line: words.clone(),
                environment,
                listens: words,
            })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_stream_survives(records in prop::collection::vec(any_record(), 0..16)) {
        let (back, error) = read(&written(&records));
        prop_assert_eq!(back, records);
        prop_assert!(error.is_none());
    }

    #[test]
    fn any_payload_is_answered_without_a_panic(
        payload in prop::collection::vec(any::<u8>(), 0..400),
        kind in prop::sample::select(vec![
            block::Kind::Header, block::Kind::Records, block::Kind::End,
        ]),
    ) {
        let (_, error) = read(&with_block(kind, &payload));
        prop_assert!(error.is_some());
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        prop_assert!(read(&bytes).1.is_some());
    }
}
