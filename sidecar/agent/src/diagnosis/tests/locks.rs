//! Threads that wait for each other.

use super::shop::*;
use crate::diagnosis::report::FaultClass::*;

const CULPRIT: &str = "catalog (pid 200)";

/// Every `nth` request waits `us` for a lock.
fn contend(shop: &mut Shop, seconds: u64, nth: u64, us: u64) {
    let mut asked = 0;
    let habit = std::mem::replace(&mut shop.habit, |_| {});
    shop.each_second(seconds, |shop| {
        shop.requests(20, |shop| {
            asked += 1;
            let waits = if asked % nth == 0 { us } else { 20 };
            let lock = |calls: &mut Calls| {
                calls.call("futex", -1, 0, waits);
            };
            shop.request_with(|_| {}, lock, 400);
        });
    });
    shop.habit = habit;
}

fn learnt() -> Shop {
    Shop::learnt_with(|calls| {
        calls.call("futex", -1, 0, 20);
    })
}

#[test]
fn a_lock_that_is_held_for_long() {
    for nth in [1, 8] {
        let mut shop = learnt();
        contend(&mut shop, 20, nth, 40_000);
        shop.work(20, 20);
        let diagnosis = shop.expect(LockContention, CULPRIT);
        assert!(diagnosis.local);
        assert!(
            diagnosis.evidence[0].contains("own answers spent most of their time in futex"),
            "{}",
            shop.brief()
        );
        let first = shop.diagnoses()[0];
        let delay = first.observed_ns - first.onset_ns;
        assert!(delay <= 15 * SECOND, "{}", shop.brief());
    }
}

#[test]
fn waits_between_requests_are_idle() {
    let mut shop = learnt();
    shop.each_second(60, |shop| {
        let mut idle = shop.calls(CATALOG, 3);
        idle.call("futex", -1, 0, 900_000);
        shop.run(idle);
        shop.requests(20, Shop::request);
    });
    let diagnoses = shop.diagnoses();
    let mut classes = diagnoses.iter().map(|diagnosis| diagnosis.class);
    assert!(
        classes.all(|class| class == ConfigRegression),
        "{}",
        shop.brief()
    );
}

#[test]
fn rare_waits_and_other_load_are_nothing() {
    let mut shop = learnt();
    contend(&mut shop, 60, 200, 40_000);
    shop.work(60, 100);
    shop.work(60, 4);
    assert_eq!(shop.reports, []);
}

#[test]
fn an_accepted_lock_may_be_held() {
    let mut shop = learnt();
    contend(&mut shop, 15, 4, 40_000);
    let id = shop.last_id();
    shop.accept(&id);
    shop.reports.clear();
    contend(&mut shop, 30, 4, 40_000);
    assert_eq!(shop.reports, [], "{}", shop.brief());
}

/// A thread of the catalog reads a request, does `then`, and stands in `futex`.
fn stand(shop: &mut Shop, thread: u32, then: fn(&mut Calls)) {
    let mut calls = shop.calls(CATALOG, thread);
    calls.call("read", 5, 100, 5);
    then(&mut calls);
    shop.stands.push((CATALOG, thread, "futex", calls.at));
    shop.run(calls);
}

#[test]
fn threads_that_wait_for_each_other() {
    let mut shop = learnt();
    stand(&mut shop, 7, |_| {});
    stand(&mut shop, 8, |_| {});
    shop.work(8, 20);
    shop.stands.clear();
    shop.work(40, 20);
    let diagnosis = shop.expect(Deadlock, CULPRIT);
    assert!(
        diagnosis.evidence[0].starts_with("2 threads in futex in the middle of a request"),
        "{}",
        shop.brief()
    );
    let first = shop.diagnoses()[0];
    let delay = first.observed_ns - first.onset_ns;
    assert!(delay <= 4 * SECOND, "{}", shop.brief());
}

#[test]
fn connections_pile_up_behind_a_deadlock() {
    let mut shop = learnt();
    stand(&mut shop, 7, |_| {});
    stand(&mut shop, 8, |_| {});
    shop.leak(14, 1);
    shop.stands.clear();
    shop.open = 0;
    shop.work(50, 20);
    shop.expect(Deadlock, CULPRIT);
}

#[test]
fn idle_threads_are_not_stuck() {
    let mut shop = learnt();
    stand(&mut shop, 7, |calls| {
        calls.call("write", 5, 200, 15);
    });
    shop.work(20, 20);
    shop.each_second(300, |_| {});
    assert_eq!(shop.reports, []);
}

#[test]
fn whoever_has_the_lock_may_wait_for_something_else() {
    let mut shop = learnt();
    stand(&mut shop, 7, |_| {});
    stand(&mut shop, 8, |_| {});
    shop.stands[1].2 = "fsync";
    shop.work(8, 20);
    assert_eq!(shop.reports, []);
}
