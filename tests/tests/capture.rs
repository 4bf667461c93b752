//! The kernel programs on the running kernel: what known programs do is captured exactly.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::Duration,
};

use stethos::{
    capture::{self, targets::Target},
    record::{Call, LifecycleEvent, Record, Subject, WindowEnd},
};
use stethos_tests::{
    cgroup::{Cgroup, Stepped},
    live::{Checked as _, by_thread, finish, is, last_accounts, settings, start, windows},
    skip::kernel_or_skip,
};
use syscalls::Sysno;

const KNOWN_CALLS: &str = env!("CARGO_BIN_EXE_known-calls");

#[test]
fn known_sequences_are_captured_exactly_in_order_and_per_thread() {
    if !kernel_or_skip("known_sequences_are_captured_exactly_in_order_and_per_thread") {
        return;
    }
    const THREADS: usize = 4;
    const ROUNDS: usize = 1000;
    let pod = Cgroup::new("sequence").unwrap();
    let container = pod.child("app").unwrap();
    let mut program = Stepped::start(&container, KNOWN_CALLS, &["sequence", "4", "1000"]).unwrap();
    let live = start(&pod, settings(16 << 20, 1024, 10));
    program.step().unwrap();
    program.finish().unwrap();
    let records = finish(live);

    let expected = [
        (Sysno::getppid, None),
        (Sysno::getuid, None),
        (Sysno::close, Some(-i64::from(libc::EBADF))),
        (Sysno::openat, Some(-i64::from(libc::ENOENT))),
        (Sysno::connect, Some(-i64::from(libc::EBADF))),
    ];
    let mut exact = 0;
    for calls in by_thread(&records).values() {
        let known: Vec<&Call> = calls
            .iter()
            .skip_while(|call| !is(call, Sysno::getppid))
            .take(ROUNDS * expected.len())
            .collect();
        if known.is_empty() {
            continue;
        }
        exact += 1;
        assert_eq!(known.len(), ROUNDS * expected.len());
        for (index, call) in known.iter().enumerate() {
            let (sysno, ret) = expected[index % expected.len()];
            assert!(is(call, sysno), "call {index} is {}, not {sysno}", call.nr);
            assert!(
                ret.is_none_or(|ret| call.ret == ret),
                "call {index} returned {}",
                call.ret
            );
        }
        let in_order = known
            .windows(2)
            .all(|pair| pair[0].enter_ns + pair[0].duration_ns <= pair[1].enter_ns);
        assert!(in_order, "times go backwards");
    }
    assert_eq!(exact, THREADS);

    let subjects = |wanted: Sysno| {
        let details = records.iter().filter_map(move |record| match record {
            Record::Detail(detail) if i32::from(detail.nr) == wanted.id() => Some(detail),
            _ => None,
        });
        details
            .map(|detail| detail.subject.clone())
            .collect::<Vec<_>>()
    };
    let paths = subjects(Sysno::openat);
    let path = Subject::Path("/no/such/file/of/stethos".to_owned());
    assert_eq!(
        paths.iter().filter(|subject| **subject == path).count(),
        THREADS * ROUNDS
    );
    let peers = subjects(Sysno::connect);
    assert_eq!(
        peers,
        vec![Subject::Peer("127.0.0.1:1".to_owned()); THREADS * ROUNDS]
    );

    let account = last_accounts(&records)[&0];
    assert_eq!(
        account.seen,
        account.delivered + account.held + account.lost_ring_full
    );
    assert_eq!(
        (account.held, account.lost_ring_full, account.lost_no_slot),
        (0, 0, 0)
    );
    let names: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Container(info) => Some(info.name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(names, ["app"]);
}

#[test]
fn at_saturation_every_call_is_delivered_or_counted_as_lost() {
    if !kernel_or_skip("at_saturation_every_call_is_delivered_or_counted_as_lost") {
        return;
    }
    let pod = Cgroup::new("flood").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["bursts", "4", "1000000"]).unwrap();
    // 64 KiB hold 2 000 calls; they are read twice a second, so both bursts overflow, and what
    // the first one lost is told with the first window of the second.
    let live = start(&pod, settings(64 << 10, 1024, 500));
    program.step().unwrap();
    program.finish().unwrap();
    let records = finish(live);

    let account = last_accounts(&records)[&0];
    let delivered: usize = windows(&records).map(|window| window.calls.len()).sum();
    assert_eq!(account.delivered, delivered as u64);
    assert!(account.seen >= 4_000_000, "{account:?}");
    assert!(
        account.lost_ring_full > 0,
        "the test does not saturate: {account:?}"
    );
    assert_eq!(account.seen, account.accounted(), "{account:?}");
    // Where the stream was cut, the next window of the thread says how many calls are missing.
    assert!(windows(&records).any(|window| window.lost_before >= 64));
}

#[test]
fn threads_without_a_slot_are_counted() {
    if !kernel_or_skip("threads_without_a_slot_are_counted") {
        return;
    }
    let pod = Cgroup::new("slots").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["flood", "700", "50"]).unwrap();
    // One bank of 512 slots.
    let live = start(&pod, settings(1 << 20, 1, 10));
    program.step().unwrap();
    program.finish().unwrap();
    let account = last_accounts(&finish(live))[&0];
    assert!(account.lost_no_slot > 0, "{account:?}");
    assert_eq!(account.seen, account.accounted(), "{account:?}");
}

#[test]
fn calls_that_were_read_in_place_are_not_delivered_again() {
    if !kernel_or_skip("calls_that_were_read_in_place_are_not_delivered_again") {
        return;
    }
    const THREADS: usize = 8;
    let pod = Cgroup::new("hold").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["hold", "8", "6"]).unwrap();
    let live = start(&pod, settings(4 << 20, 1024, 10));
    program.step().unwrap();
    program.finish().unwrap();
    let records = finish(live);

    let peeked = windows(&records).filter(|window| window.end == WindowEnd::Peeked);
    assert!(peeked.count() >= THREADS, "nothing was read in place");
    let calls = windows(&records).flat_map(|window| &window.calls);
    let known = calls.filter(|call| is(call, Sysno::getppid)).count();
    assert_eq!(known, THREADS);
    let account = last_accounts(&records)[&0];
    assert_eq!(
        account.seen,
        account.delivered + account.held,
        "{account:?}"
    );
}

#[test]
fn a_killed_thread_hands_over_its_window_and_the_call_it_was_inside() {
    if !kernel_or_skip("a_killed_thread_hands_over_its_window_and_the_call_it_was_inside") {
        return;
    }
    let pod = Cgroup::new("kill").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["sleep", "1", "1"]).unwrap();
    let pid = program.child.id();
    let live = start(&pod, settings(1 << 20, 1024, 10));
    // The step never ends: its thread sleeps.
    let stepping = std::thread::spawn(move || {
        let _ = program.step();
        program
    });
    std::thread::sleep(Duration::from_millis(500));
    // SAFETY: the program that this test started.
    assert_eq!(unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) }, 0);
    stepping.join().unwrap().child.wait().unwrap();
    let records = finish(live);

    let asleep = records.iter().any(|record| match record {
        Record::Threads(snapshot) => snapshot.threads.iter().any(|thread| {
            thread
                .inside
                .is_some_and(|inside| i32::from(inside.nr) == Sysno::clock_nanosleep.id())
        }),
        _ => false,
    });
    assert!(asleep, "the sleeping call was not visible while it lasted");
    // A kill makes the call return with a restart code; no exit_group follows.
    let last = windows(&records)
        .filter(|window| window.end == WindowEnd::ThreadExit)
        .any(|window| {
            window.calls.last().is_some_and(|call| {
                is(call, Sysno::clock_nanosleep) && (-516..=-512).contains(&call.ret)
            })
        });
    assert!(last, "the call that the kill cut short was not delivered");
    let died = records.iter().any(|record| match record {
        Record::Lifecycle(event) => {
            event.pid == pid
                && matches!(
                    event.event,
                    LifecycleEvent::Exit {
                        code: libc::SIGKILL,
                        group_dead: true
                    }
                )
        }
        _ => false,
    });
    assert!(died, "the end of the process was not told");
}

#[test]
fn a_process_stays_captured_when_its_first_thread_has_ended() {
    if !kernel_or_skip("a_process_stays_captured_when_its_first_thread_has_ended") {
        return;
    }
    const ROUNDS: usize = 1000;
    let cgroup = Cgroup::new("headless").unwrap();
    let arguments = ["flood", "1", "1000", "headless"];
    let mut program = Stepped::start(&cgroup, KNOWN_CALLS, &arguments).unwrap();
    let pid = program.child.id();
    let live = capture::start(&[Target::Pid(pid)], settings(1 << 20, 64, 10)).unwrap();
    program.step().unwrap();
    let ended = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/stat"));
        stat.unwrap().contains(") Z ")
    };
    while !ended() {
        std::thread::sleep(Duration::from_millis(10));
    }
    program.step().unwrap();
    program.finish().unwrap();
    let records = finish(live);

    let floods = by_thread(&records).into_values().filter(|calls| {
        let known = calls.iter().filter(|call| is(call, Sysno::getppid));
        known.count() == ROUNDS
    });
    assert_eq!(floods.count(), 2);
}

/// The return of a handler leaves the registers that the signal found: another call's number and
/// result, if any.
#[test]
fn the_return_of_a_signal_handler_is_a_call_of_its_own() {
    if !kernel_or_skip("the_return_of_a_signal_handler_is_a_call_of_its_own") {
        return;
    }
    const ROUNDS: usize = 200;
    let pod = Cgroup::new("signals").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["signals", "1", "200"]).unwrap();
    let live = start(&pod, settings(1 << 20, 64, 10));
    program.step().unwrap();
    program.finish().unwrap();
    let records = finish(live);

    let calls: Vec<Call> = by_thread(&records).into_values().flatten().collect();
    let of = |sysno| -> Vec<i64> {
        let known = calls.iter().filter(|call| is(call, sysno));
        known.map(|call| call.ret).collect()
    };
    assert_eq!(of(Sysno::rt_sigreturn), [0; ROUNDS]);
    assert_eq!(
        of(Sysno::close).iter().filter(|ret| **ret < 0).count(),
        ROUNDS
    );
    assert_eq!(of(Sysno::getuid).len(), ROUNDS);
    let strange = calls.iter().filter(|call| call.nr >= 512);
    assert_eq!(strange.count(), 0);
}

/// How a connect went that did not wait, no call returns: `getsockopt` hands it out.
#[test]
fn an_error_that_a_socket_hands_out_is_what_the_call_returned() {
    if !kernel_or_skip("an_error_that_a_socket_hands_out_is_what_the_call_returned") {
        return;
    }
    const ROUNDS: usize = 100;
    let pod = Cgroup::new("refused").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["refused", "1", "100"]).unwrap();
    let live = start(&pod, settings(1 << 20, 64, 10));
    program.step().unwrap();
    program.finish().unwrap();
    let records = finish(live);

    let calls = by_thread(&records).into_values().flatten();
    let asked: Vec<i64> = calls
        .filter(|call| is(call, Sysno::getsockopt))
        .map(|call| call.ret)
        .collect();
    let refused = -i64::from(libc::ECONNREFUSED);
    assert_eq!(asked, [0, refused, 0].repeat(ROUNDS));
}

#[test]
fn a_process_that_moves_before_it_executes_is_another_containers() {
    if !kernel_or_skip("a_process_that_moves_before_it_executes_is_another_containers") {
        return;
    }
    let pod = Cgroup::new("moves").unwrap();
    let (first, second) = (pod.child("first").unwrap(), pod.child("second").unwrap());
    let mut program = Command::new(KNOWN_CALLS);
    program.arg("in").arg(second.path());
    program.args(["flood", "1", "100"]).stdin(Stdio::piped());
    let mut program = first.spawn(program.stdout(Stdio::piped())).unwrap();
    let live = start(&pod, settings(4 << 20, 64, 10));
    let mut input = program.stdin.take().unwrap();
    let mut output = BufReader::new(program.stdout.take().unwrap());
    let mut said = String::new();
    input.write_all(b"move\n").unwrap();
    output.read_line(&mut said).unwrap();
    input.write_all(b"go\n").unwrap();
    drop(input);
    output.read_line(&mut said).unwrap();
    assert_eq!(said, "ready\ndone\n");
    program.wait().unwrap();
    let records = finish(live);

    let containers = records.iter().filter_map(|record| match record {
        Record::Container(info) => Some((info.name.as_str(), info.container)),
        _ => None,
    });
    let containers: BTreeMap<&str, u16> = containers.collect();
    let calls_in = |name: &str, sysno| {
        let container = containers[name];
        let windows = windows(&records).filter(|window| window.container == container);
        let calls = windows.flat_map(|window| &window.calls);
        calls.filter(|call| is(call, sysno)).count()
    };
    assert_eq!(calls_in("second", Sysno::getppid), 100);
    assert_eq!(calls_in("first", Sysno::getppid), 0);
    assert!(calls_in("first", Sysno::write) > 0);
    assert_eq!(calls_in("second", Sysno::execve), 1);
    for (container, account) in last_accounts(&records) {
        assert_eq!(
            account.seen,
            account.accounted(),
            "{container}: {account:?}"
        );
    }
}

#[test]
fn stethos_never_captures_itself_and_captures_what_starts_later() {
    if !kernel_or_skip("stethos_never_captures_itself_and_captures_what_starts_later") {
        return;
    }
    let own = std::process::id();
    // The pod is the parent of a container that holds this test process.
    let pod = Cgroup::new("self").unwrap();
    let sidecar = pod.child("sidecar").unwrap();
    let before = own_cgroup();
    std::fs::write(sidecar.path().join("cgroup.procs"), own.to_string()).unwrap();
    // What this process starts from now on is Stethos's own, so another one starts the container.
    let starter = pod.child("starter").unwrap();
    let script = format!(
        "echo ready; while read line; do mkdir {0}; (echo 0 > {0}/cgroup.procs; \
         echo go | {KNOWN_CALLS} sequence 1 10 > /dev/null); echo done; done",
        pod.path().join("later").display()
    );
    let mut program = Stepped::start(&starter, "sh", &["-c", &script]).unwrap();
    let live = capture::start(&[Target::SelfPod], settings(4 << 20, 1024, 10));
    let stepped = program.step().and_then(|()| program.finish());
    let records = live.map(finish);
    std::fs::write(before, own.to_string()).unwrap();

    stepped.unwrap();
    let records = records.unwrap();
    assert!(
        windows(&records).all(|window| window.pid != own),
        "own calls were captured"
    );
    let names: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Container(info) => Some(info.name.as_str()),
            _ => None,
        })
        .collect();
    assert!(names.contains(&"later"), "{names:?}");
    assert!(
        windows(&records)
            .any(|window| { window.calls.iter().any(|call| is(call, Sysno::getppid)) })
    );
}

/// `cgroup.procs` of the cgroup (v2) that this process is in.
fn own_cgroup() -> std::path::PathBuf {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap();
    capture::targets::cgroup_mount()
        .unwrap()
        .join(path)
        .join("cgroup.procs")
}
