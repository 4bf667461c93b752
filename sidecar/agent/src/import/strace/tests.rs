use stethos_patterns::Token;

use super::super::Arch;
use super::*;

const START: &str = "1700000000.00000";
const START_NS: Nanos = 1_700_000_000_000_000_000;

fn read(text: &str) -> Trace {
    let mut parser = Strace::new(Names::new(Arch::X86_64));
    for line in text.lines() {
        parser.take(&line.replace("T+", START)).unwrap();
    }
    parser.finish()
}

fn calls(trace: &Trace) -> Vec<(Option<u32>, Call)> {
    let calls = trace.events.iter().filter_map(|event| match &event.what {
        What::Call(call) => Some((event.tid, *call)),
        _ => None,
    });
    calls.collect()
}

/// Thread, number, result, start and duration in µs.
fn short(trace: &Trace) -> Vec<(u32, u16, i64, Nanos, Nanos)> {
    let calls = calls(trace).into_iter().map(|(tid, call)| {
        let start = call.enter_ns.wrapping_sub(START_NS) / 1000;
        let duration = call.duration_ns / 1000;
        (tid.unwrap_or(0), call.nr, call.ret, start, duration)
    });
    calls.collect()
}

#[test]
fn calls_of_threads_that_interleave_are_put_together() {
    let trace = read(
        "7 T+1 read(3, \"ab\", 2) = 2 <0.000001>\n\
         7 T+2 read(3,  <unfinished ...>\n\
         8 T+3 write(4</log>, \"x\", 1 <unfinished ...>\n\
         7 T+4 <... read resumed>\"\", 2) = 0 <0.000002>\n\
         8 T+5 <... write resumed>) = -1 EPIPE (Broken pipe)\n",
    );
    let expected = [(7, 0, 2, 1, 1), (7, 0, 0, 2, 2), (8, 1, -32, 3, 2)];
    assert_eq!(short(&trace)[..], expected);
    let descriptors: Vec<i32> = calls(&trace).iter().map(|(_, call)| call.fd).collect();
    assert_eq!(descriptors, [3, 3, 4]);
    assert!(trace.dated && trace.counts.unfinished == 0);
}

#[test]
fn a_thread_that_dies_inside_a_call_does_not_return_from_it() {
    let trace = read(
        "7 T+1 futex(0x7f00, FUTEX_WAIT, 2, NULL <unfinished ...>\n\
         8 T+2 exit_group(3) = ?\n\
         7 T+3 +++ killed by SIGKILL +++\n\
         8 T+4 +++ exited with 3 +++\n",
    );
    assert!(calls(&trace).iter().all(|(_, call)| call.no_return));
    let ends: Vec<&What> = trace
        .events
        .iter()
        .map(|event| &event.what)
        .filter(|what| matches!(what, What::Ended { .. }))
        .collect();
    assert_eq!(
        ends,
        [&What::Ended { code: 9 }, &What::Ended { code: 3 << 8 }]
    );
}

#[test]
fn calls_without_their_other_half_are_kept_lost_or_left_open() {
    let trace = read(
        "7 T+3 <... read resumed>\"\", 2) = 0 <0.000002>\n\
         7 T+4 read(3,  <unfinished ...>\n\
         7 T+5 <... write resumed>) = 1\n\
         7 T+6 poll([{fd=3}], 1, -1 <unfinished ...>\n",
    );
    assert_eq!(short(&trace), [(7, 0, 0, 1, 2), (7, 1, 1, 5, 0)]);
    assert_eq!((trace.counts.lost, trace.counts.unfinished), (1, 1));
}

#[test]
fn threads_belong_to_the_process_that_made_them() {
    let trace = read(
        "7 T+1 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88 <unfinished ...>\n\
         8 T+2 getpid() = 7\n\
         7 T+3 <... clone3 resumed> => {parent_tid=[8]}, 88) = 8\n\
         8 T+4 clone(child_stack=NULL, flags=CLONE_THREAD) = 9\n\
         9 T+5 vfork() = 10\n",
    );
    assert_eq!(trace.processes.get(&8), Some(&Some(7)));
    assert_eq!(trace.processes.get(&9), Some(&Some(7)));
    assert_eq!(trace.processes.get(&10), None);
    let process = What::Started {
        child: 10,
        thread: false,
    };
    assert!(trace.events.iter().any(|event| event.what == process));
}

#[test]
fn a_process_without_a_number_is_the_one_that_nobody_made() {
    let trace = read(
        "T+1 clone(child_stack=NULL, flags=SIGCHLD) = 8\n\
         strace: Process 8 attached\n\
         [pid     7] T+2 wait4(-1,  <unfinished ...>\n\
         [pid     8] T+3 exit_group(0) = ?\n\
         [pid     8] T+4 +++ exited with 0 +++\n\
         <... wait4 resumed>NULL, 0, NULL) = 8\n\
         T+5 getpid() = 7\n",
    );
    let threads: Vec<u32> = short(&trace).iter().map(|call| call.0).collect();
    assert_eq!(threads, [7, 8, 7, 7]);
    let alone = read("getpid() = 7\ngetpid() = 7\n");
    assert!(alone.events.iter().all(|event| event.tid.is_none()));
}

#[test]
fn lines_that_strace_broke_off_go_on_in_the_next() {
    let trace = read(
        "T+1 clone(child_stack=NULL, flags=SIGCHLDstrace: Process 8 attached\n\
         , child_tidptr=0x7f00) = 8\n\
         T+2 vfork(strace: Process 9 attached\n \
         <unfinished ...>\n\
         [pid     9] T+3 getpid() = 9\n\
         [pid     7] T+4 <... vfork resumed>) = 9\n",
    );
    let expected = [(7, 56, 8, 1, 0), (9, 39, 9, 3, 0), (7, 58, 9, 2, 2)];
    assert_eq!(short(&trace), expected);
}

#[test]
fn paths_and_peers_are_told_as_capture_tells_them() {
    let trace = read(
        "7 T+1 execve(\"/bin/api\", [\"api\"], 0x7f /* 3 vars */) = 0\n\
         7 T+2 openat(AT_FDCWD, \"/etc/a\", O_RDONLY) = 3\n\
         7 T+3 openat(AT_FDCWD, \"/etc/a\", O_RDONLY) = 3\n\
         7 T+4 openat(AT_FDCWD, \"/etc/b\", O_RDONLY) = -1 ENOENT (No such file)\n\
         7 T+5 stat(\"/etc/a\", {st_mode=S_IFREG}) = 0\n\
         7 T+6 connect(5, {sa_family=AF_UNIX, sun_path=\"/x\"}, 4) = 0\n",
    );
    let told: Vec<&What> = trace
        .events
        .iter()
        .map(|event| &event.what)
        .filter(|what| matches!(what, What::Subject { .. } | What::Executed(_)))
        .collect();
    let subject = |nr, fd, ret, subject| What::Subject {
        nr,
        fd,
        ret,
        subject,
    };
    let expected = [
        What::Executed("/bin/api".into()),
        subject(257, -1, 3, Subject::Path("/etc/a".into())),
        subject(257, -1, -2, Subject::Path("/etc/b".into())),
        subject(42, 5, 0, Subject::Peer("unix:/x".into())),
    ];
    assert_eq!(told, expected.iter().collect::<Vec<_>>());
}

#[test]
fn clocks_of_all_kinds_go_forward() {
    let starts = |text: &str| {
        let trace = read(text);
        let calls = calls(&trace).into_iter();
        let starts = calls.map(|(_, call)| call.enter_ns / 1000);
        (trace.dated, starts.collect::<Vec<_>>())
    };
    let midnight = "7 23:59:59.900000 getpid() = 7\n7 00:00:00.100000 getpid() = 7\n";
    let hours = 24 * 3_600_000_000;
    let expected = (false, vec![hours - 100_000, hours + 100_000]);
    assert_eq!(starts(midnight), expected);
    let since = "0.000000 getpid() = 7\n     0.000030 getpid() = 7\n0.000004 getpid() = 7\n";
    assert_eq!(starts(since), (false, vec![0, 30, 34]));
    let none = "getpid() = 7\ngetpid() = 7\n";
    let step = STEP_NS / 1000;
    assert_eq!(starts(none), (false, vec![step, 2 * step]));
}

#[test]
fn unknown_calls_keep_their_place() {
    let trace = read("7 T+1 frobnicate(1) = 0\n7 T+2 syscall_0x1f4(1) = 0\n");
    let numbers: Vec<u16> = short(&trace).iter().map(|call| call.1).collect();
    assert_eq!(numbers, [Token::UNKNOWN_CALL, 0x1f4]);
    assert_eq!(trace.counts.unknown, 1);
    assert_eq!(trace.counts.first_unknown, ["frobnicate"]);
}
