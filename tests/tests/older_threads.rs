//! Threads that began their call before capture began, on the running kernel.
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

use stethos::record::{
    ContainerIndex, DescriptorTarget, InsideCall, Record, RunState, ThreadState,
};
use stethos_tests::{
    broker::{Site, wait},
    cgroup::{Cgroup, Stepped},
    live::{finish, settings, start},
    skip::kernel_or_skip,
};
use syscalls::Sysno;

const KNOWN_CALLS: &str = env!("CARGO_BIN_EXE_known-calls");

/// A pod whose threads have long begun what they do.
struct Standing {
    pod: Cgroup,
    frozen: Cgroup,
    /// Main thread waits for another one, which reads what never comes.
    reads: Stepped,
    stopped: Stepped,
    _frozen: Stepped,
    /// Main thread waits for another one, which makes calls.
    works: Stepped,
    /// Sits in a read until it is told to go on.
    wakes: Stepped,
    /// Where the one that reads does.
    fd: i32,
}

impl Standing {
    fn new(name: &str) -> Self {
        let pod = Cgroup::new(name).unwrap();
        let program = |name: &str, work: &str| {
            let container = pod.child(name).unwrap();
            let rounds = if work == "mixed" { "1000000" } else { "10" };
            Stepped::start(&container, KNOWN_CALLS, &[work, "1", rounds]).unwrap()
        };
        let reads = program("reads", "starve").begin().unwrap();
        let works = program("works", "mixed").begin().unwrap();
        let (stopped, wakes) = (program("stopped", "flood"), program("wakes", "flood"));
        let frozen = program("frozen", "flood");
        let fd = wait("a thread that reads", || sleeps_in_read(reads.child.id()));
        wait("a thread that works", || {
            (threads_of(works.child.id()).len() == 2).then_some(())
        });
        signal(&stopped, libc::SIGSTOP);
        let cgroup = pod.child("frozen").unwrap();
        fs::write(cgroup.path().join("cgroup.freeze"), "1").unwrap();
        wait("a cgroup that is frozen", || {
            let events = fs::read_to_string(cgroup.path().join("cgroup.events")).ok()?;
            events.contains("frozen 1").then_some(())
        });
        Self {
            pod,
            frozen: cgroup,
            reads,
            stopped,
            _frozen: frozen,
            works,
            wakes,
            fd,
        }
    }

    /// What happens while it is captured.
    fn go_on(&mut self) {
        std::thread::sleep(Duration::from_millis(1500));
        self.wakes.step().unwrap();
        signal(&self.works, libc::SIGSTOP);
        std::thread::sleep(Duration::from_millis(500));
    }

    /// Checks what was captured meanwhile.
    fn check(&self, records: &[Record]) {
        let containers = records.iter().filter_map(|record| match record {
            Record::Container(info) => Some((info.container, info.name.as_str())),
            _ => None,
        });
        let names: BTreeMap<ContainerIndex, &str> = containers.collect();
        let snapshots: Vec<(u64, &[ThreadState])> = records
            .iter()
            .filter_map(|record| match record {
                Record::Threads(snapshot) => Some((snapshot.at_ns, &snapshot.threads[..])),
                _ => None,
            })
            .collect();
        for (_, threads) in &snapshots {
            let tids: BTreeSet<u32> = threads.iter().map(|thread| thread.tid).collect();
            assert_eq!(tids.len(), threads.len(), "twice: {threads:?}");
        }
        let (at_ns, last) = *snapshots.last().unwrap();
        let of = |name: &str| -> Vec<&ThreadState> {
            let threads = last.iter();
            threads
                .filter(|thread| names[&thread.container] == name)
                .collect()
        };

        let pid = self.reads.child.id();
        let [main, reader] = of("reads")[..] else {
            panic!("{names:?} {last:?}");
        };
        for (thread, call) in [(main, Sysno::futex), (reader, Sysno::read)] {
            assert_eq!((thread.pid, thread.state), (pid, RunState::Sleeping));
            assert_eq!((is_in(thread.inside), thread.last), (Some(call.id()), None));
        }
        let inside = reader.inside.unwrap();
        assert_eq!(inside.fd, self.fd);
        let since: BTreeSet<u64> = snapshots
            .iter()
            .flat_map(|(_, threads)| threads.iter())
            .filter(|thread| thread.tid == reader.tid)
            .filter_map(|thread| thread.inside.map(|call| call.enter_ns))
            .collect();
        assert_eq!(since, BTreeSet::from([inside.enter_ns]));
        let lasts = at_ns - inside.enter_ns;
        assert!(lasts >= 1_500_000_000, "inside since {lasts} ns");
        let told = records.iter().any(|record| match record {
            Record::Descriptor(info) => {
                (info.pid, info.fd) == (pid, self.fd)
                    && info.target == DescriptorTarget::Other("pipe".to_owned())
            }
            _ => false,
        });
        assert!(told, "the descriptor was not told");

        for (name, threads, state) in [
            ("stopped", 1, RunState::Stopped),
            ("frozen", 1, RunState::Frozen),
            ("works", 2, RunState::Stopped),
        ] {
            let found = of(name);
            assert_eq!(found.len(), threads, "{name}: {last:?}");
            for thread in found {
                assert_eq!((thread.state, thread.inside), (state, None), "{name}");
            }
        }
        let [wakes] = of("wakes")[..] else {
            panic!("{last:?}");
        };
        assert!(wakes.last.is_some(), "{wakes:?}");
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        signal(&self.stopped, libc::SIGCONT);
        signal(&self.works, libc::SIGCONT);
        let _ = fs::write(self.frozen.path().join("cgroup.freeze"), "0");
    }
}

fn is_in(inside: Option<InsideCall>) -> Option<i32> {
    inside.map(|call| i32::from(call.nr))
}

fn signal(program: &Stepped, signal: libc::c_int) {
    // SAFETY: a program that this test started and has not waited for.
    let sent = unsafe { libc::kill(program.child.id() as libc::pid_t, signal) };
    assert_eq!(sent, 0);
}

fn threads_of(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks
        .filter_map(|task| task.file_name().to_string_lossy().parse().ok())
        .collect()
}

/// The descriptor that a thread of the process sleeps in a read of, if it is a pipe of its own.
fn sleeps_in_read(pid: u32) -> Option<i32> {
    threads_of(pid).into_iter().find_map(|tid| {
        let call = fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?;
        let mut words = call.split(' ');
        let read = words.next()?.parse() == Ok(Sysno::read.id());
        let fd = i32::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        (read && fd > 2).then_some(fd)
    })
}

#[test]
fn threads_that_began_before_are_seen_inside_their_calls() {
    if !kernel_or_skip("threads_that_began_before_are_seen_inside_their_calls") {
        return;
    }
    let mut standing = Standing::new("older");
    let live = start(&standing.pod, settings(1 << 20, 512, 10));
    standing.go_on();
    let records = finish(live);
    standing.check(&records);
}

#[test]
fn a_sidecar_without_rights_sees_them_through_the_broker() {
    if !kernel_or_skip("a_sidecar_without_rights_sees_them_through_the_broker") {
        return;
    }
    let site = Site::new();
    let mut standing = Standing::new("older-broker");
    let _broker = site.broker(&[], true);
    let sidecar = site.recorder(&standing.pod, "records");
    standing.go_on();
    let (_, records) = sidecar.recording();
    standing.check(&records);
    // The sidecar lies in the pod, too, and is no part of what it watches.
    let own = records.iter().any(|record| match record {
        Record::Container(info) => info.name.starts_with("sidecar"),
        _ => false,
    });
    assert!(!own);
}
