//! Which span a thread works for, as it publishes it (OTEP 4947), on the running kernel: the calls of
//! requests that move between threads are never put under another request's span.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, reason = "a step that fails ends the test")]

use std::{path::Path, time::Duration};

use stethos::{
    capture::{Live, reader::monotonic_ns},
    record::{Detail, Record, Subject},
    trace::{Join, JoinConfig, Source},
};
use stethos_tests::{
    cgroup::{Cgroup, Stepped},
    join::affected,
    live::{settings, start, until_done},
    programs::compile_or_skip,
    skip::kernel_or_skip,
};

const THREADS: usize = 8;

/// How the program is put together.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Made {
    Executable,
    /// What publishes is a library that is there from the start.
    Library(&'static str),
}

/// Compiles the program; false when there is no compiler.
fn compile(test: &str, folder: &Path, made: Made) -> bool {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (program, library) = (path("spans"), path("libspans.so"));
    let rpath = format!("-Wl,-rpath,{}", folder.display());
    let steps: Vec<Vec<&str>> = match made {
        Made::Executable => vec![vec!["-rdynamic", "-o", &program, "-pthread"]],
        Made::Library(dialect) => vec![
            vec!["-shared", "-fPIC", dialect, "-DLIBRARY", "-o", &library],
            vec!["-DELSEWHERE", "-o", &program, "-pthread", &library, &rpath],
        ],
    };
    steps
        .iter()
        .all(|arguments| compile_or_skip(test, "spans.c", arguments))
}

/// What became of the calls of requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Joined {
    right: usize,
    wrong: usize,
    none: usize,
    /// Calls of no request that were put under one.
    made_up: usize,
}

impl Joined {
    fn all(&self) -> usize {
        self.right + self.wrong + self.none
    }
}

/// Joins as the pipeline does: everything that was known at most is known.
fn joined(records: &[Record]) -> Joined {
    let mut join = Join::new(JoinConfig::default());
    let mut joined = Joined::default();
    let mut waiting = Vec::new();
    for record in records {
        join.on_record(record);
        match record {
            Record::Detail(detail) => waiting.push(detail),
            // Asked once what belongs to the call is there, and before it is forgotten.
            Record::Threads(_) => waiting
                .drain(..)
                .for_each(|detail| judge(&join, detail, &mut joined)),
            _ => {}
        }
    }
    waiting
        .drain(..)
        .for_each(|detail| judge(&join, detail, &mut joined));
    joined
}

fn judge(join: &Join, detail: &Detail, joined: &mut Joined) {
    let Subject::Path(path) = &detail.subject else {
        return;
    };
    let context = join.resolve(&affected(detail));
    if path == "/nobody" {
        joined.made_up += usize::from(context.parent.is_some());
        return;
    }
    let Some(id) = path.strip_prefix("/span/") else {
        return;
    };
    let id = u64::from_str_radix(id, 16).unwrap();
    match context.parent {
        Some(parent) => {
            assert_eq!((context.source, parent.flags), (Source::ThreadContext, 1));
            let trace = parent.trace_id;
            let right = parent.span_id == id.to_ne_bytes()
                && trace[..8] == id.to_ne_bytes()
                && trace[8..] == [0x5a; 8];
            joined.right += usize::from(right);
            joined.wrong += usize::from(!right);
        }
        None => joined.none += 1,
    }
}

/// What came of `steps` of each thread of the program, while `meanwhile` is done.
fn run(
    test: &str,
    made: Made,
    how: &str,
    steps: usize,
    ring: u32,
    meanwhile: impl FnOnce(&Live),
) -> Option<Joined> {
    let folder = tempfile::tempdir().unwrap();
    if !kernel_or_skip(test) || !compile(test, folder.path(), made) {
        return None;
    }
    let pod = Cgroup::new(test).unwrap();
    let mut settings = settings(4 << 20, 512, 10);
    settings.capacity.event_ring_bytes = ring;
    let program = folder.path().join("spans");
    let words = [&THREADS.to_string(), &steps.to_string(), how];
    // What this process starts later is left out of its capture.
    let program = Stepped::start(&pod, program.to_str().unwrap(), &words).unwrap();
    let live = start(&pod, settings);
    let running = program.begin().unwrap();
    meanwhile(&live);
    Some(joined(&until_done(live, running)))
}

#[test]
fn calls_are_put_under_the_span_that_their_thread_published() {
    const TEST: &str = "calls_are_put_under_the_span_that_their_thread_published";
    for (made, how) in [
        (Made::Executable, "swap"),
        (Made::Executable, "record"),
        (Made::Library("-mtls-dialect=gnu"), "swap"),
        (Made::Library("-mtls-dialect=gnu2"), "swap"),
    ] {
        let Some(joined) = run(TEST, made, how, 2500, 4 << 20, |_| {}) else {
            return;
        };
        assert_eq!((joined.wrong, joined.made_up), (0, 0), "{made:?} {how}");
        assert!(joined.all() > 2500 * THREADS, "{joined:?}");
        assert!(joined.right * 100 >= joined.all() * 95, "{joined:?}");
    }
}

#[test]
fn while_calls_are_counted_now_and_then_no_span_is_made_up() {
    const TEST: &str = "while_calls_are_counted_now_and_then_no_span_is_made_up";
    let reduced = |live: &Live| {
        for round in 0..20 {
            let mut reducer = live.reducer.lock();
            match round % 2 {
                0 => reducer.start(1, monotonic_ns()),
                _ => reducer.stop(monotonic_ns()),
            }
            drop(reducer);
            std::thread::sleep(Duration::from_millis(60));
        }
    };
    let Some(joined) = run(TEST, Made::Executable, "swap", 5000, 4 << 20, reduced) else {
        return;
    };
    assert_eq!((joined.wrong, joined.made_up), (0, 0), "{joined:?}");
    assert!(joined.right * 100 >= joined.all() * 95, "{joined:?}");
}

#[test]
fn where_changes_are_lost_no_span_is_made_up() {
    const TEST: &str = "where_changes_are_lost_no_span_is_made_up";
    let Some(joined) = run(TEST, Made::Executable, "record", 5000, 4096, |_| {}) else {
        return;
    };
    assert_eq!((joined.wrong, joined.made_up), (0, 0), "{joined:?}");
    assert!(joined.right > 0);
}
