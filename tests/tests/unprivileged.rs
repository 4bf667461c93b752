//! What capture asks the kernel for once it runs, without any capability, on the running kernel.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{fs, time::Duration};

use caps::{CapSet, Capability};
use stethos::{
    capture::{self, Live, NodeSocket, PROGRAMS, kernel::Kernel, targets::Target},
    record::{Record, RunState},
};
use stethos_tests::{
    cgroup::{Cgroup, Stepped},
    live::{Checked as _, finish, is, last_accounts, settings, windows},
    skip::kernel_or_skip,
};
use syscalls::Sysno;

const KNOWN_CALLS: &str = env!("CARGO_BIN_EXE_known-calls");

/// Refuses eBPF to who has no right, for good where the machine is this test's own.
fn refuse_bpf_to_others() {
    const FILE: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
    if std::env::var_os("STETHOS_TEST_SMALL").is_some() {
        fs::write(FILE, "1").unwrap();
    }
    let value = fs::read_to_string(FILE).unwrap();
    assert_ne!(value.trim(), "0", "nothing is refused here");
}

/// Does `work` in a thread that may lose its rights.
fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// Captures `pod`, without a right from the beginning on.
fn start(pod: &Cgroup) -> Live {
    apart(|| {
        let target = Target::Cgroup(pod.path().to_owned());
        let settings = settings(1 << 20, 1024, 10);
        let prepared = capture::prepare(&NodeSocket::Own, &[target], settings).unwrap();
        prepared.give_up_rights().unwrap();
        for capability in [Capability::CAP_BPF, Capability::CAP_PERFMON] {
            assert!(!caps::has_cap(None, CapSet::Permitted, capability).unwrap());
        }
        assert!(capture::prepare(&NodeSocket::Own, &[Target::SelfPod], settings).is_err());
        prepared.begin().unwrap()
    })
}

#[test]
fn capture_goes_on_without_a_right() {
    if !kernel_or_skip("capture_goes_on_without_a_right") {
        return;
    }
    refuse_bpf_to_others();
    let pod = Cgroup::new("unprivileged").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["flood", "2", "1000"]).unwrap();
    // A container that comes later, and stays asleep.
    let starter = pod.child("starter").unwrap();
    let script = format!(
        "echo ready; while read line; do mkdir {0}; (echo 0 > {0}/cgroup.procs; \
         (echo go; exec sleep 3600) | exec {KNOWN_CALLS} sleep 1 1 > /dev/null) & echo done; done",
        pod.path().join("later").display()
    );
    let mut later = Stepped::start(&starter, "sh", &["-c", &script]).unwrap();
    let live = start(&pod);
    program.step().unwrap();
    program.finish().unwrap();
    later.step().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let records = finish(live);

    let known = windows(&records).flat_map(|window| &window.calls);
    assert_eq!(known.filter(|call| is(call, Sysno::getppid)).count(), 2001);
    // Of threads that ended, too.
    for (container, account) in last_accounts(&records) {
        assert_eq!(account.seen, account.accounted(), "{container}");
        assert!(account.seen > 0, "{container}");
    }
    let container = records.iter().find_map(|record| match record {
        Record::Container(info) => (info.name == "later").then_some(info.container),
        _ => None,
    });
    let container = container.unwrap();
    let threads = records.iter().rev().find_map(|record| match record {
        Record::Threads(snapshot) => Some(&snapshot.threads),
        _ => None,
    });
    let threads = threads.unwrap().iter();
    let inside: Vec<_> = threads
        .filter(|thread| thread.container == container)
        .map(|thread| (thread.state, thread.inside.map(|call| i32::from(call.nr))))
        .collect();
    let sleeps = (RunState::Sleeping, Some(Sysno::clock_nanosleep.id()));
    assert!(inside.contains(&sleeps), "{inside:?}");
    let described = records.iter().any(|record| match record {
        Record::Process(process) => {
            process.container == container && !process.command_line.is_empty()
        }
        _ => false,
    });
    assert!(described);
}

#[test]
fn whoever_loaded_the_programs_uses_them_without_a_right() {
    if !kernel_or_skip("whoever_loaded_the_programs_uses_them_without_a_right") {
        return;
    }
    refuse_bpf_to_others();
    let pod = Cgroup::new("loaded").unwrap();
    apart(|| {
        let target = Target::Cgroup(pod.path().to_owned());
        let mut kernel = Kernel::load(PROGRAMS, true).unwrap();
        let found = kernel.find(&[target]).unwrap();
        let capacity = settings(1 << 20, 512, 10).capacity;
        let (mut place, _maps) = kernel.add_pod(0, &[], capacity).unwrap();
        let mut program = Stepped::start(&pod, KNOWN_CALLS, &["threads", "2", "10"]).unwrap();
        kernel.attach().unwrap();
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::clear(None, set).unwrap();
        }

        kernel.watch(&mut place, &found).unwrap();
        program.step().unwrap();
        program.finish().unwrap();
        kernel.poll_threads(&place).unwrap();
        kernel.exclude(1, place.index).unwrap();
        kernel.decide_anew();
        assert_eq!(kernel.lost(place.index).unwrap().iter().sum::<u64>(), 0);
        let cgroup = place.cgroups[0];
        assert!(kernel.ended(place.index, cgroup).seen > 0);
        kernel.forget_ended(place.index, cgroup);
        assert_eq!(kernel.ended(place.index, cgroup).threads, 0);
        kernel.remove_pod(place.index).unwrap();
    });
}
