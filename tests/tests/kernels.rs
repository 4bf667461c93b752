//! The tests of the kernel programs on other kernels than the machine's own, in virtual machines.
//! Which test binaries run there says `SUITES`, and of which only one test `SINGLE`; which programs
//! they bring, `PROGRAMS`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{path::PathBuf, time::Duration};

use stethos_tests::{
    programs,
    skip::{Need, left_out_by_fast, skip},
    vm::{self, End, Job, Layout},
};

const VERSIONS: [&str; 2] = ["6.1", "6.12"];
/// Test binaries whose tests run on every kernel, all of them.
const SUITES: [&str; 7] = [
    "capture",
    "threads",
    "reduction",
    "unprivileged",
    "memory_limit",
    "connections",
    "shared_contexts",
];
/// Single tests of other test binaries: a broker, and sidecars without rights.
const SINGLE: [(&str, &str); 1] = [(
    "broker",
    "two_pods_get_exactly_their_own_calls_without_any_right",
)];
/// Programs that those tests start.
const PROGRAMS: [&str; 4] = ["known-calls", "rightless", "stethos", "join-server"];
/// A machine that takes longer than this hangs.
const LIMIT: Duration = Duration::from_secs(720);
const CONSOLE_LINES: usize = 30;
/// Complaints that are shown whole; of further ones the first line is.
const WHOLE_COMPLAINTS: usize = 3;

#[test]
fn every_kernel_test_passes_on_linux_6_1() {
    every_test_passes_on(VERSIONS[0], "every_kernel_test_passes_on_linux_6_1");
}

#[test]
fn every_kernel_test_passes_on_linux_6_12() {
    every_test_passes_on(VERSIONS[1], "every_kernel_test_passes_on_linux_6_12");
}

fn every_test_passes_on(version: &str, test: &str) {
    if left_out_by_fast(test) {
        return;
    }
    let kernel = match vm::kernel(version) {
        Ok(kernel) => kernel,
        Err(reason) => return skip(Need::Kernel, test, &reason),
    };
    let mut programs = Vec::new();
    let mut tests: Vec<(PathBuf, String)> = Vec::new();
    let suites = SUITES.iter().map(|suite| (*suite, None));
    let single = SINGLE.iter().map(|(suite, test)| (*suite, Some(*test)));
    for (suite, only) in suites.chain(single) {
        let Some(binary) = vm::suite(suite).unwrap() else {
            let reason = "STETHOS_TEST_BINARIES is not set: run `cargo xtask test`";
            return skip(Need::Kernel, test, reason);
        };
        programs.extend(PROGRAMS.map(|name| programs::beside(&binary, name).unwrap()));
        let mut names = vm::tests_of(&binary).unwrap();
        names.retain(|name| only.is_none_or(|only| only == name));
        assert!(!names.is_empty(), "{suite} holds no such test");
        tests.extend(names.into_iter().map(|name| (binary.clone(), name)));
    }
    let layouts = [Layout::Unified, Layout::BesideV1];
    let jobs: Vec<Job> = layouts
        .into_iter()
        .flat_map(|layout| {
            tests.iter().map(move |(binary, test)| Job {
                layout,
                binary: binary.clone(),
                test: test.clone(),
            })
        })
        .collect();

    let run = vm::run(&kernel, &programs, &jobs, LIMIT).unwrap();
    eprintln!("{}", run.report.summary(&jobs));
    let complaints = run.report.complaints(&jobs);
    if !complaints.is_empty() {
        let console: Vec<&str> = run.console.lines().collect();
        let tail = console[console.len().saturating_sub(CONSOLE_LINES)..].join("\n");
        panic!(
            "on {}:\n{}\nmachine: {:?}, its console ends with:\n{tail}",
            kernel.display(),
            shortened(&complaints),
            run.end
        );
    }
    let release = run.report.release.unwrap_or_default();
    assert!(
        release.starts_with(&format!("{version}.")),
        "{} is Linux {release}",
        kernel.display()
    );
}

fn shortened(complaints: &[String]) -> String {
    let texts = complaints.iter().enumerate().map(|(index, complaint)| {
        if index < WHOLE_COMPLAINTS {
            complaint
        } else {
            complaint.lines().next().unwrap_or_default()
        }
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn only_a_test_that_says_so_has_passed() {
    let Some(kernel) = any_kernel("only_a_test_that_says_so_has_passed") else {
        return;
    };
    let jobs = ["/bin/false", "/bin/true", "/bin/sh"].map(|program| Job {
        layout: Layout::Unified,
        binary: program.into(),
        test: "none".to_owned(),
    });
    let run = vm::run(&kernel, &[], &jobs, LIMIT).unwrap();
    let words: Vec<&str> = run
        .report
        .outcomes
        .values()
        .map(|outcome| outcome.word.as_str())
        .collect();
    assert_eq!(words, ["failed:1", "failed:0", "failed:2"]);
    assert_eq!(run.report.complaints(&jobs).len(), jobs.len());
    assert!(run.report.ended, "{}", run.console);
}

#[test]
fn a_machine_that_does_not_end_is_killed() {
    let Some(kernel) = any_kernel("a_machine_that_does_not_end_is_killed") else {
        return;
    };
    // No kernel starts in no time.
    let run = vm::run(&kernel, &[], &[], Duration::ZERO).unwrap();
    assert_eq!(run.end, End::TimedOut);
    assert!(!run.report.complaints(&[]).is_empty());
}

/// A kernel to try the machine itself with.
fn any_kernel(test: &str) -> Option<PathBuf> {
    if left_out_by_fast(test) {
        return None;
    }
    let kernel = VERSIONS.iter().map(|version| vm::kernel(version));
    match kernel.reduce(Result::or)? {
        Ok(kernel) => Some(kernel),
        Err(reason) => {
            skip(Need::Kernel, test, &reason);
            None
        }
    }
}
