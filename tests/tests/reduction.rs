//! What the kernel only counts is not lost: counts and durations equal those of a full capture of
//! the same calls, and the last calls are there at any moment.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt as _,
    time::Duration,
};

use stethos::{
    capture::{
        Live,
        reader::monotonic_ns,
        reduction::{ContextTokens, Kind, KindOf, NoRoom, Reducer},
    },
    record::{Call, Record},
};
use stethos_events::{COUNT_ROWS, duration_class, token};
use stethos_patterns::{Role, descriptors::Exchange};
use stethos_tests::{
    cgroup::{Cgroup, Stepped},
    live::{Checked as _, by_thread, finish, last_accounts, settings, start, stop, windows},
    skip::kernel_or_skip,
};
use syscalls::Sysno;

const KNOWN_CALLS: &str = env!("CARGO_BIN_EXE_known-calls");

fn id(cgroup: &Cgroup) -> u64 {
    std::fs::metadata(cgroup.path()).unwrap().ino()
}

/// Makes the contexts of these records familiar, with room above their longest durations.
fn learn(reducer: &mut Reducer, cgroup: u64, records: &[Record]) {
    let mut ceilings: BTreeMap<Vec<u16>, (ContextTokens, u8)> = BTreeMap::new();
    for calls in by_thread(records).values() {
        let mut context = ContextTokens::default();
        let mut tokens = vec![0; 4];
        for call in calls {
            context = context.after(call.nr, call.ret);
            tokens.rotate_left(1);
            tokens[3] = token(call.nr, call.ret);
            let (_, ceiling) = ceilings.entry(tokens.clone()).or_insert((context, 0));
            *ceiling = (*ceiling).max(duration_class(call.duration_ns) + 6);
        }
    }
    for (context, ceiling) in ceilings.into_values() {
        reducer.learn(cgroup, context, ceiling).unwrap();
    }
}

/// Waits until the reader has handed on all windows that there are, and gives what came.
fn collected(live: &mut Live) -> Vec<Record> {
    let mut all = Vec::new();
    let mut quiet = 0;
    // A busy machine may let the reader wait.
    for _ in 0..25 {
        let before = windows(&all).count();
        std::thread::sleep(Duration::from_millis(400));
        while let Ok(batch) = live.records.try_recv() {
            all.extend(batch);
        }
        let now = windows(&all).count();
        quiet = if now > 0 && now == before {
            quiet + 1
        } else {
            0
        };
        if quiet == 2 {
            break;
        }
    }
    all
}

/// Calls and their durations by kind.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    calls: u64,
    classes: BTreeMap<u8, u64>,
}

fn totals<'a>(calls: impl Iterator<Item = &'a Call>) -> BTreeMap<u16, Totals> {
    let mut all: BTreeMap<u16, Totals> = BTreeMap::new();
    for call in calls {
        let of_kind = all.entry(token(call.nr, call.ret)).or_default();
        of_kind.calls += 1;
        let class = duration_class(call.duration_ns);
        *of_kind.classes.entry(class).or_default() += 1;
    }
    all
}

/// What the kernel counted, by kind.
fn counted(reducer: &Reducer) -> BTreeMap<u16, Totals> {
    let mut all: BTreeMap<u16, Totals> = BTreeMap::new();
    for (Kind { of, .. }, counted) in reducer.counted() {
        let KindOf::Call(token) = of else { continue };
        let of_kind = all.entry(token).or_default();
        of_kind.calls += counted.calls;
        for (class, calls) in (0u8..).zip(counted.classes).filter(|(_, calls)| *calls > 0) {
            *of_kind.classes.entry(class).or_default() += calls;
        }
    }
    all.retain(|_, totals| totals.calls > 0);
    all
}

/// Two runs of the program, the second one with all that the first one did familiar, and one of
/// `sample` familiar windows shipped.
fn learn_and_reduce(
    program: &mut Stepped,
    live: &mut Live,
    cgroup: u64,
    sample: u32,
) -> Vec<Record> {
    program.step().unwrap();
    let learnt = collected(live);
    let mut reducer = live.reducer.lock();
    learn(&mut reducer, cgroup, &learnt);
    reducer.start(sample, monotonic_ns());
    drop(reducer);
    program.step().unwrap();
    learnt
}

/// Kinds of calls have as many rows as there are; what was forgotten gives its row to another.
#[test]
fn rows_are_given_to_other_kinds_once_theirs_are_forgotten() {
    if !kernel_or_skip("rows_are_given_to_other_kinds_once_theirs_are_forgotten") {
        return;
    }
    let pod = Cgroup::new("rows").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["flood", "1", "1000"]).unwrap();
    let mut live = start(&pod, settings(1 << 20, 64, 10));
    let (shared, getppid) = (live.reducer.clone(), Sysno::getppid.id() as u16);
    let known = (0..4).fold(ContextTokens::default(), |context, _| {
        context.after(getppid, 1)
    });
    let kind = Kind {
        cgroup: id(&pod),
        of: KindOf::Call(token(getppid, 1)),
    };
    let counted = || {
        shared
            .lock()
            .counted()
            .get(&kind)
            .map_or(0, |counted| counted.calls)
    };

    shared.lock().learn(id(&pod), known, u8::MAX).unwrap();
    shared.lock().start(1, monotonic_ns());
    program.step().unwrap();
    let first = counted();
    assert!((990..=1000).contains(&first), "{first}");
    {
        let mut reducer = shared.lock();
        reducer.forget();
        // Told, and then given back.
        reducer.counted_since();
        // Kinds of other containers fill all rows, whichever they had before.
        let other = |at: usize| known.after((at % 500) as u16, -(at as i64 / 500) - 1);
        let results = (0..).map(|at| reducer.learn(1 << 40 | at as u64, other(at), u8::MAX));
        let full = results.take(2 * COUNT_ROWS).find_map(Result::err);
        assert_eq!(full, Some(NoRoom::Rows));
        assert!(reducer.counted().values().all(|counted| counted.calls == 0));
        assert_eq!(reducer.learn(id(&pod), known, u8::MAX), Err(NoRoom::Rows));
        reducer.forget();
        reducer.counted_since();
        reducer.learn(id(&pod), known, u8::MAX).unwrap();
    }
    assert_eq!(counted(), 0);
    program.step().unwrap();
    let second = counted();
    assert!((990..=1000).contains(&second), "{second}");
    program.finish().unwrap();
    let account = last_accounts(&stop(&mut live))[&0];
    assert_eq!(account.seen, account.accounted(), "{account:?}");
}

fn exchanges(records: &[Record]) -> Vec<&Exchange> {
    let timed = records.iter().filter_map(|record| match record {
        Record::Exchange(timed) => Some(&timed.exchange),
        _ => None,
    });
    timed.filter(|exchange| exchange.received_ns > 0).collect()
}

#[test]
fn exchanges_are_timed_where_calls_are_only_counted() {
    if !kernel_or_skip("exchanges_are_timed_where_calls_are_only_counted") {
        return;
    }
    const ROUNDS: usize = 100;
    /// What takes 2 ms is in this class or above.
    const SLOW: u8 = duration_class(1_900_000);
    let pod = Cgroup::new("exchanges").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["talk", "1", "100"]).unwrap();
    let mut live = start(&pod, settings(4 << 20, 512, 10));
    live.reducer.lock().start(1, monotonic_ns());

    // None is familiar: all are told of.
    program.step().unwrap();
    let records = collected(&mut live);
    let told = exchanges(&records);
    let of = |wanted| -> Vec<&&Exchange> {
        let role = told.iter().filter(|exchange| exchange.role == wanted);
        role.collect()
    };
    let (asked, answered) = (of(Role::Client), of(Role::Server));
    assert_eq!((asked.len(), answered.len()), (ROUNDS, ROUNDS));
    let peers: BTreeSet<Option<&str>> = asked.iter().map(|one| one.peer.as_deref()).collect();
    let [Some(peer)] = peers.iter().copied().collect::<Vec<_>>()[..] else {
        panic!("{peers:?}");
    };
    let peer = peer.to_owned();
    // Half of them on the connection's copy.
    let copies: BTreeSet<i32> = asked.iter().map(|one| one.fd).collect();
    assert_eq!(copies.len(), 2);
    for exchange in &told {
        assert!(exchange.failed.is_none(), "{exchange:?}");
        assert!(
            duration_class(exchange.duration_ns()) >= SLOW,
            "{exchange:?}"
        );
    }

    // All are: they are counted.
    {
        let mut reducer = live.reducer.lock();
        reducer.learn_answers(id(&pod), &peer, u8::MAX).unwrap();
        reducer.learn_service(id(&pod), u8::MAX).unwrap();
    }
    program.step().unwrap();
    let reducer = live.reducer.clone();
    let records = stop(&mut live);
    assert_eq!(exchanges(&records), Vec::<&Exchange>::new());
    let reducer = reducer.lock();
    for of in [KindOf::Answers(peer), KindOf::Service] {
        let kind = Kind {
            cgroup: id(&pod),
            of,
        };
        let counted = &reducer.counted()[&kind];
        assert_eq!(counted.calls as usize, ROUNDS, "{kind:?}");
        let slow: u64 = counted.classes[usize::from(SLOW)..].iter().sum();
        assert_eq!(slow as usize, ROUNDS, "{kind:?}: {counted:?}");
        assert!(counted.waited_ns >= 1_900_000 * ROUNDS as u64);
    }
    program.finish().unwrap();
}

#[test]
fn what_is_counted_equals_what_is_shipped() {
    if !kernel_or_skip("what_is_counted_equals_what_is_shipped") {
        return;
    }
    let pod = Cgroup::new("counted").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["mixed", "4", "400"]).unwrap();
    let mut live = start(&pod, settings(4 << 20, 512, 10));
    // Every window is shipped, and what is familiar is counted as well.
    learn_and_reduce(&mut program, &mut live, id(&pod), 1);
    program.finish().unwrap();
    let records = stop(&mut live);

    let account = last_accounts(&records)[&0];
    assert_eq!(account.seen, account.accounted(), "{account:?}");
    let shipped = windows(&records).flat_map(|window| &window.calls);
    let wanted = totals(shipped.filter(|call| call.counted));
    assert_eq!(counted(&live.reducer.lock()), wanted);
    let calls: u64 = wanted.values().map(|totals| totals.calls).sum();
    assert!(calls * 4 > account.seen, "{calls} counted, {account:?}");
}

#[test]
fn counts_and_durations_are_those_of_a_full_capture() {
    if !kernel_or_skip("counts_and_durations_are_those_of_a_full_capture") {
        return;
    }
    let pod = Cgroup::new("reduced").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["mixed", "4", "400"]).unwrap();
    let mut reduced = start(&pod, settings(4 << 20, 512, 10));
    let mut full = start(&pod, settings(4 << 20, 512, 10));
    let learnt = learn_and_reduce(&mut program, &mut reduced, id(&pod), 64);
    program.finish().unwrap();
    let mut whole = collected(&mut full);
    let records = stop(&mut reduced);
    whole.extend(stop(&mut full));

    let account = last_accounts(&records)[&0];
    assert_eq!(account.seen, account.accounted(), "{account:?}");
    assert_eq!(
        account.lost_ring_full + account.lost_no_slot,
        0,
        "{account:?}"
    );

    // From before the first call to the end, in both: what one of them handed on before the
    // reduction began, the other may have handed on after it.
    let mut found = totals(
        windows(&learnt)
            .chain(windows(&records))
            .flat_map(|window| &window.calls)
            .filter(|call| !call.counted),
    );
    for (token, counted) in counted(&reduced.reducer.lock()) {
        let of_kind = found.entry(token).or_default();
        of_kind.calls += counted.calls;
        for (class, calls) in counted.classes {
            *of_kind.classes.entry(class).or_default() += calls;
        }
    }
    let wanted = totals(windows(&whole).flat_map(|window| &window.calls));
    let calls = |all: &BTreeMap<u16, Totals>| -> BTreeMap<u16, u64> {
        all.iter().map(|(token, of)| (*token, of.calls)).collect()
    };
    assert_eq!(calls(&found), calls(&wanted));
    // Two sets of programs look at the clocks one after the other: a thread that is preempted
    // between them gives them durations that differ by nanoseconds, seldom by a class.
    for (token, wanted) in wanted {
        let elsewhere = differing(&found[&token].classes, &wanted.classes);
        assert!(
            elsewhere <= wanted.calls / 200 + 2,
            "{elsewhere} of {} calls of kind {token}: {:?}, not {:?}",
            wanted.calls,
            found[&token].classes,
            wanted.classes
        );
    }

    let shipped: usize = windows(&records).map(|window| window.calls.len()).sum();
    let all: usize = windows(&whole).map(|window| window.calls.len()).sum();
    assert!(shipped * 2 < all, "{shipped} of {all} calls were shipped");
    // What was never learnt is shipped: here nothing is, but for new threads' first calls.
    assert!(windows(&records).any(|window| window.counted_before > 0));
}

/// Calls that are in another class here than there.
fn differing(here: &BTreeMap<u8, u64>, there: &BTreeMap<u8, u64>) -> u64 {
    let of = |all: &BTreeMap<u8, u64>, class| all.get(&class).copied().unwrap_or(0);
    here.keys()
        .chain(there.keys())
        .collect::<BTreeSet<_>>()
        .into_iter()
        .map(|class| of(here, *class).saturating_sub(of(there, *class)))
        .sum()
}

#[test]
fn the_last_calls_are_there_whatever_was_handed_over() {
    if !kernel_or_skip("the_last_calls_are_there_whatever_was_handed_over") {
        return;
    }
    let pod = Cgroup::new("recent").unwrap();
    let mut program = Stepped::start(&pod, KNOWN_CALLS, &["sequence", "1", "1000"]).unwrap();
    // A ring of one page is full at once.
    let live = start(&pod, settings(4096, 512, 500));
    program.step().unwrap();
    let recent = live.slots.recent(id(&pod));
    program.finish().unwrap();
    finish(live);

    // The thread of the step has ended; its last calls stand where it had its slot.
    let wanted = [
        Sysno::getppid,
        Sysno::getuid,
        Sysno::close,
        Sysno::openat,
        Sysno::connect,
    ];
    let known: Vec<_> = recent
        .iter()
        .map(|thread| {
            let calls = thread.calls.iter().map(|call| call.nr);
            calls
                .filter(|nr| wanted.iter().any(|known| known.id() == i32::from(*nr)))
                .collect::<Vec<_>>()
        })
        .max_by_key(Vec::len)
        .unwrap();
    assert!(known.len() >= 100, "{recent:?}");
    let start = wanted
        .iter()
        .position(|call| call.id() == i32::from(known[0]))
        .unwrap();
    // The end of the thread closes and unmaps; those come after the known ones.
    for (nr, call) in known
        .iter()
        .zip(wanted.iter().cycle().skip(start))
        .take(100)
    {
        assert_eq!(i32::from(*nr), call.id());
    }
}
