//! What threads are doing while they make no call, and threads that come and go, on the running
//! kernel.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use stethos::record::{ContainerIndex, Lifecycle, LifecycleEvent, Record, RunState, ThreadState};
use stethos_tests::{
    cgroup::{Cgroup, Stepped},
    live::{Checked as _, finish, is, last_accounts, settings, start, windows},
    skip::kernel_or_skip,
};
use syscalls::Sysno;

const KNOWN_CALLS: &str = env!("CARGO_BIN_EXE_known-calls");

fn names(records: &[Record]) -> BTreeMap<ContainerIndex, String> {
    let containers = records.iter().filter_map(|record| match record {
        Record::Container(info) => Some((info.container, info.name.clone())),
        _ => None,
    });
    containers.collect()
}

fn last_snapshot(records: &[Record]) -> (u64, Vec<ThreadState>) {
    let snapshot = records.iter().rev().find_map(|record| match record {
        Record::Threads(snapshot) => Some((snapshot.at_ns, snapshot.threads.clone())),
        _ => None,
    });
    snapshot.unwrap()
}

#[test]
fn stopped_frozen_and_idle_threads_are_told_apart() {
    if !kernel_or_skip("stopped_frozen_and_idle_threads_are_told_apart") {
        return;
    }
    let pod = Cgroup::new("states").unwrap();
    let all = ["idle", "stopped", "frozen"].map(|name| pod.child(name).unwrap());
    let programs = all
        .each_ref()
        .map(|container| Stepped::start(container, KNOWN_CALLS, &["sleep", "1", "1"]).unwrap());
    let live = start(&pod, settings(1 << 20, 1024, 10));
    // Their steps never end: their threads sleep.
    let programs = programs.map(|program| program.begin().unwrap());
    std::thread::sleep(Duration::from_millis(500));
    let stopped = programs[1].child.id() as libc::pid_t;
    // SAFETY: the program that this test started.
    assert_eq!(unsafe { libc::kill(stopped, libc::SIGSTOP) }, 0);
    fs::write(all[2].path().join("cgroup.freeze"), "1").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let records = finish(live);
    fs::write(all[2].path().join("cgroup.freeze"), "0").unwrap();

    let (at_ns, threads) = last_snapshot(&records);
    let names = names(&records);
    let of = |name: &str| -> Vec<ThreadState> {
        let found: Vec<_> = threads
            .iter()
            .filter(|thread| names[&thread.container] == name)
            .copied()
            .collect();
        assert_eq!(found.len(), 2, "{name}: {names:?} {threads:?}");
        found
    };
    for thread in of("idle") {
        assert_eq!(thread.state, RunState::Sleeping);
        let inside = thread.inside.unwrap();
        assert!(
            [Sysno::clock_nanosleep, Sysno::futex]
                .map(|call| call.id())
                .contains(&i32::from(inside.nr)),
            "{inside:?}"
        );
        let waits = at_ns - inside.enter_ns;
        assert!(waits >= 1_500_000_000, "inside since {waits} ns");
    }
    for (name, state) in [("stopped", RunState::Stopped), ("frozen", RunState::Frozen)] {
        for thread in of(name) {
            assert_eq!((thread.state, thread.inside), (state, None), "{name}");
        }
    }
}

#[test]
fn threads_and_processes_that_come_and_go_leave_nothing_behind() {
    if !kernel_or_skip("threads_and_processes_that_come_and_go_leave_nothing_behind") {
        return;
    }
    let pod = Cgroup::new("churn").unwrap();
    // An emulated processor takes ten times as long for each.
    let part = if std::env::var_os("STETHOS_TEST_SMALL").is_some() {
        10
    } else {
        1
    };
    for (work, total) in [("threads", 100_000 / part), ("processes", 10_000 / part)] {
        let rounds = (total / 4).to_string();
        let mut program = Stepped::start(&pod, KNOWN_CALLS, &[work, "4", &rounds]).unwrap();
        let live = start(&pod, settings(16 << 20, 512, 10));
        program.step().unwrap();
        program.finish().unwrap();
        let records = finish(live);

        let account = last_accounts(&records)[&0];
        assert_eq!(account.seen, account.accounted(), "{work}: {account:?}");
        assert_eq!(account.held, 0, "{work}: {account:?}");
        let lost = account.seen - account.delivered;
        let calls = windows(&records).flat_map(|window| &window.calls);
        let known = calls.filter(|call| is(call, Sysno::getppid)).count() as u64;
        assert!(
            known <= total && known + lost >= total,
            "{work}: {known} of {total}, {account:?}"
        );
        let (_, left) = last_snapshot(&records);
        assert!(left.is_empty(), "{work}: {left:?}");
        let mut ended = BTreeSet::new();
        for record in &records {
            match record {
                Record::Lifecycle(Lifecycle {
                    event:
                        LifecycleEvent::Exit {
                            group_dead: true, ..
                        },
                    pid,
                    ..
                }) => assert!(ended.insert(*pid), "{work}: {pid} ended twice"),
                Record::Lifecycle(Lifecycle {
                    event: LifecycleEvent::Fork { child_pid, .. },
                    ..
                }) => {
                    ended.remove(child_pid);
                }
                Record::Process(info) => {
                    assert!(!ended.contains(&info.pid), "{work}: {info:?} has ended");
                }
                _ => {}
            }
        }
    }
}

/// What the threads of a process ran, and what they were ready to run, by `/proc`.
fn times(pid: u32) -> (u64, u64) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let times = threads.map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap();
        let mut fields = text.split(' ').map(|field| field.trim().parse().unwrap());
        (fields.next().unwrap(), fields.next().unwrap())
    });
    times.fold((0, 0), |sum: (u64, u64), (ran, ready): (u64, u64)| {
        (sum.0 + ran, sum.1 + ready)
    })
}

#[test]
fn what_threads_run_and_are_ready_to_run_is_told() {
    if !kernel_or_skip("what_threads_run_and_are_ready_to_run_is_told") {
        return;
    }
    let pod = Cgroup::new("uses").unwrap();
    let endless = u64::MAX.to_string();
    // Both share a processor, and so do their threads.
    let one = ["one", "other"].map(|name| pod.child(name).unwrap());
    let programs = one.each_ref().map(|container| {
        Stepped::start(container, KNOWN_CALLS, &["flood", "2", &endless]).unwrap()
    });
    let live = start(&pod, settings(1 << 20, 1024, 10));
    for program in &programs {
        let threads = fs::read_dir(format!("/proc/{}/task", program.child.id())).unwrap();
        for thread in threads.flatten() {
            let tid = thread.file_name().to_string_lossy().parse().unwrap();
            // SAFETY: an empty set is valid, and so is its size.
            unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(0, &mut set);
                let size = size_of_val(&set);
                assert_eq!(libc::sched_setaffinity(tid, size, &raw const set), 0);
            }
        }
    }
    let before = programs.each_ref().map(|program| times(program.child.id()));
    let programs = programs.map(|program| program.begin().unwrap());
    std::thread::sleep(Duration::from_millis(4000));
    let after = programs.each_ref().map(|program| times(program.child.id()));
    let records = finish(live);
    let names = names(&records);
    for ((name, before), after) in ["one", "other"].into_iter().zip(before).zip(after) {
        let told = records.iter().rev().find_map(|record| match record {
            Record::Resources(told) if names[&told.container] == name => Some(*told),
            _ => None,
        });
        let told = told.unwrap();
        let (ran, ready) = (after.0 - before.0, after.1 - before.1);
        let ready_told = told.ready_ns.unwrap();
        // The last look was up to a second and a half before, or a little later.
        for (told, is) in [(told.ran_ns, ran), (ready_told, ready)] {
            assert!(
                told >= is / 2 && told <= is + is / 4,
                "{name}: {told} of {is}"
            );
        }
        assert!(ready_told > told.ran_ns, "{told:?}");
        assert!(
            told.memory.is_some_and(|memory| memory.anonymous > 0),
            "{told:?}"
        );
    }
}
