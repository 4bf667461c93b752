//! Sidecars that mean harm, and the broker and the others that it must not reach.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    os::unix::fs::MetadataExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use stethos::capture::broker::{
    protocol::{Agreed, Greeting, Hello, Versions, decode, encode},
    socket::Socket,
};
use stethos_tests::{
    broker::{Broker, Site, wait},
    cgroup::{Cgroup, Stepped},
    live::{Checked as _, is, last_accounts, windows},
    said::Said,
    skip::kernel_or_skip,
};
use syscalls::Sysno;

const KNOWN_CALLS: &str = env!("CARGO_BIN_EXE_known-calls");
const HOSTILE: &str = env!("CARGO_BIN_EXE_hostile");
const HUNG: &str = env!("CARGO_BIN_EXE_hung");

/// A hostile sidecar that ends with the test.
struct Hostile(Child, Said);

impl Hostile {
    fn start(site: &Site, pod: &Cgroup, what: &[&str]) -> Self {
        let cgroup = pod.child(&format!("hostile-{}", what[0])).unwrap();
        let mut command = Command::new(HOSTILE);
        command
            .arg(site.socket())
            .args(what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        Self::of(cgroup.spawn(&mut command).unwrap())
    }

    fn of(mut child: Child) -> Self {
        let said = Said::by(&mut child).unwrap();
        Self(child, said)
    }

    /// The next line that it says.
    fn says(&self) -> String {
        self.1.next().unwrap()
    }

    /// Everything that it says until it ends.
    fn all(mut self) -> Vec<String> {
        drop(self.0.stdin.take());
        let lines = std::iter::from_fn(|| self.1.next().ok()).collect();
        assert!(self.0.wait().unwrap().success());
        lines
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets a sidecar of another pod record while `harm` is done, and checks that it misses nothing.
fn unharmed(name: &str, harm: impl FnOnce(&Site, &Broker, &Cgroup, &mut dyn FnMut(), u64, u32)) {
    let site = Site::new();
    let broker = site.broker(&[], true);
    let victim = Cgroup::new(&format!("{name}-victim")).unwrap();
    let app = victim.child("app").unwrap();
    let mut program = Stepped::start(&app, KNOWN_CALLS, &["sequence", "2", "500"]).unwrap();
    let pid = program.child.id();
    let sidecar = site.recorder(&victim, "victim");
    broker.serves(1);
    let hostile = Cgroup::new(&format!("{name}-hostile")).unwrap();
    let id = std::fs::metadata(app.path()).unwrap().ino();
    let mut steps = 0;
    let mut step = || {
        steps += 1;
        program.step().unwrap();
    };
    step();
    harm(&site, &broker, &hostile, &mut step, id, pid);
    step();
    program.finish().unwrap();
    let (_, records) = sidecar.recording();
    let calls = windows(&records).flat_map(|window| &window.calls);
    let known = calls.filter(|call| is(call, Sysno::getppid)).count();
    assert_eq!(known, steps * 2 * 500);
    let account = last_accounts(&records)[&0];
    assert_eq!(account.seen, account.accounted(), "{account:?}");
    assert_eq!(account.seen, account.delivered, "{account:?}");
    broker.serves(0);
}

#[test]
fn garbage_ends_the_conversation_and_is_counted() {
    if !kernel_or_skip("garbage_ends_the_conversation_and_is_counted") {
        return;
    }
    unharmed("garbage", |site, broker, pod, step, _, _| {
        let hostile = Hostile::start(site, pod, &["garbage"]);
        step();
        assert_eq!(hostile.all(), ["closed"; 5]);
        wait("five that are counted", || {
            (broker.refused("protocol") == 5).then_some(())
        });
    });
}

#[test]
fn one_that_never_reads_and_one_that_says_nothing_are_hung_up_on() {
    if !kernel_or_skip("one_that_never_reads_and_one_that_says_nothing_are_hung_up_on") {
        return;
    }
    unharmed("flood", |site, broker, pod, step, _, _| {
        let flood = Hostile::start(site, pod, &["flood"]);
        assert_eq!(flood.says(), "joined");
        let silent = Hostile::start(site, pod, &["silent"]);
        step();
        assert_eq!(flood.says(), "closed");
        assert_eq!(silent.says(), "closed");
        wait("two that are counted", || {
            (broker.refused("silence") == 2).then_some(())
        });
        broker.serves(1);
    });
}

#[test]
fn a_crowd_gets_its_pods_share_of_connections() {
    if !kernel_or_skip("a_crowd_gets_its_pods_share_of_connections") {
        return;
    }
    unharmed("crowd", |site, broker, pod, step, _, _| {
        let before = std::fs::read_dir(format!("/proc/{}/task", broker.child.id()))
            .unwrap()
            .count();
        let crowd = Hostile::start(site, pod, &["crowd", "900"]);
        let greeted: usize = crowd.says().parse().unwrap();
        // Those that say nothing make room again after a while.
        assert!((1..100).contains(&greeted), "{greeted}");
        step();
        let threads = std::fs::read_dir(format!("/proc/{}/task", broker.child.id()))
            .unwrap()
            .count();
        assert!(threads <= before + 4, "{threads} threads");
        assert!(broker.refused("too many connections") >= 800);
    });
}

#[test]
fn what_belongs_to_another_pod_is_not_told() {
    if !kernel_or_skip("what_belongs_to_another_pod_is_not_told") {
        return;
    }
    unharmed("spy", |site, broker, pod, step, id, pid| {
        let arguments = ["spy", &id.to_string(), &pid.to_string()];
        let spy = Hostile::start(site, pod, &arguments);
        step();
        let said = spy.all();
        let nothing = "Process(ProcessFacts { executable: \"\", command_line: [], \
            environment: [], descriptors: [] })";
        assert_eq!(said.len(), 5, "{said:?}");
        assert!(
            said[0].contains(&format!("name: \"cgroup-{id}\"")),
            "{said:?}"
        );
        assert!(said[0].contains("cgroup_path: \"\""), "{said:?}");
        assert_eq!(said[1], nothing);
        assert_eq!(said[2], nothing);
        assert_eq!(said[3], "Descriptor(None)");
        assert!(said[4].contains("ended: []"), "{said:?}");

        let other = format!("cgroup={}", victim_of(pod).display());
        let own = format!("pid={pid}");
        for target in [other.as_str(), own.as_str(), "cgroup=/", "cgroup=/.."] {
            let said = Hostile::start(site, pod, &["target", target]).all();
            assert!(
                said[0].contains("not within this sidecar's own pod"),
                "{said:?}"
            );
        }
        assert_eq!(broker.refused("target"), 4);
        let none = Hostile::start(site, pod, &["target", ""]).all();
        assert!(none[0].contains("0 targets"), "{none:?}");
    });
}

#[test]
fn what_the_programs_rely_on_cannot_be_written() {
    if !kernel_or_skip("what_the_programs_rely_on_cannot_be_written") {
        return;
    }
    unharmed("write", |site, _, pod, step, _, _| {
        let said = Hostile::start(site, pod, &["write"]).all();
        step();
        // Windows, events: the read position alone. Familiar contexts; what is asked for, one page
        // in all; counts not at all; descriptors; HTTP heads and banks not at all.
        let maps = [
            "true false",
            "true false",
            "true true",
            "true false",
            "false false",
            "true true",
        ];
        assert_eq!(said[..6], maps);
        assert!(said.len() > 7, "{said:?}");
        assert!(said[6..].iter().all(|map| map == "false false"), "{said:?}");
    });
}

#[test]
fn a_process_that_hangs_the_look_at_it_hangs_its_own_sidecar_alone() {
    if !kernel_or_skip("a_process_that_hangs_the_look_at_it_hangs_its_own_sidecar_alone") {
        return;
    }
    unharmed("hung", |site, broker, pod, step, _, _| {
        let own = site.recorder(pod, "own");
        broker.serves(2);
        let mut command = Command::new(HUNG);
        command.arg(site.writable("fuse")).stdout(Stdio::piped());
        let app = pod.child("app").unwrap();
        let hung = Hostile::of(app.spawn(&mut command).unwrap());
        assert_eq!(hung.says(), "asked");
        wait("a sidecar that gets no answer", || {
            own.log().contains("joining it again").then_some(())
        });
        // It has its place still; others come and go.
        step();
        let third = Cgroup::new("hung-third").unwrap();
        let mut program = Stepped::start(
            &third.child("app").unwrap(),
            KNOWN_CALLS,
            &["sequence", "2", "100"],
        )
        .unwrap();
        let sidecar = site.recorder(&third, "third");
        broker.serves(3);
        program.step().unwrap();
        program.finish().unwrap();
        let (_, records) = sidecar.recording();
        let calls = windows(&records).flat_map(|window| &window.calls);
        let known = calls.filter(|call| is(call, Sysno::getppid)).count();
        assert_eq!(known, 2 * 100);
        broker.serves(2);

        drop(hung);
        wait("a sidecar that is served again", || {
            own.log()
                .contains("joined the node broker again")
                .then_some(())
        });
        own.signal(libc::SIGTERM);
        broker.serves(1);
    });
}

/// The victim's cgroup, which stands beside the hostile pod's.
fn victim_of(hostile: &Cgroup) -> std::path::PathBuf {
    let path = hostile.path().to_str().unwrap();
    path.replace("-hostile", "-victim").into()
}

#[test]
fn versions_that_do_not_meet_are_named() {
    if !kernel_or_skip("versions_that_do_not_meet_are_named") {
        return;
    }
    let site = Site::new();
    let broker = site.broker(&[], false);
    let socket = Socket::connect(&site.socket(), Duration::from_secs(10)).unwrap();
    let message = socket.receive(4096, false).unwrap().unwrap();
    let greeting: Greeting = decode(&message.bytes).unwrap();
    let newer = Versions {
        lowest: greeting.versions.highest + 1,
        highest: greeting.versions.highest + 2,
    };
    let hello = Hello::new(newer, greeting.nonce);
    socket.send(&encode(&hello, 64).unwrap()).unwrap();
    let message = socket.receive(4096, false).unwrap().unwrap();
    let Agreed::Refused(reason) = decode(&message.bytes).unwrap() else {
        panic!("it was not refused");
    };
    let both = format!(
        "this broker speaks protocol {}, the sidecar {newer}",
        greeting.versions
    );
    assert!(reason.contains(&both), "{reason}");
    wait("a refusal that is counted", || {
        (broker.refused("version") == 1).then_some(())
    });
}
