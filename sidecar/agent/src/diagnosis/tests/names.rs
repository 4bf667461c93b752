//! Names that are not resolved.

use super::shop::*;
use crate::diagnosis::report::FaultClass::*;

const RESOLVER: &str = "10.96.0.10:53";

fn ask(calls: &mut Calls, sent: i64, readable: i64) {
    calls.call("socket", -1, 15, 5).connect(RESOLVER, 15, 0);
    let wait = if readable > 0 { 700 } else { 900_000 };
    calls.call("sendmmsg", 15, sent, 9);
    calls.call("poll", -1, readable, wait);
}

fn resolve(calls: &mut Calls) {
    ask(calls, 2, 1);
    calls.call("recvfrom", 15, 90, 2).call("close", 15, 0, 2);
}

fn give_up(calls: &mut Calls) {
    ask(calls, 2, 0);
    calls.call("close", 15, 0, 2);
}

/// `broken` for `seconds`, in place of resolving.
fn breaks(shop: &mut Shop, seconds: u64, rate: u64, broken: fn(&mut Calls)) {
    let habit = std::mem::replace(&mut shop.habit, broken);
    shop.work(seconds, rate);
    shop.habit = habit;
    shop.work(20, 20);
}

fn expect_failure(shop: &Shop) {
    let diagnosis = shop.expect(DnsFailure, "catalog → 10.96.0.10:53");
    assert!(!diagnosis.local);
    assert!(diagnosis.suggestion.contains("dig @10.96.0.10"));
    let first = shop.diagnoses()[0];
    let delay = first.observed_ns - first.onset_ns;
    assert!(delay <= 3 * SECOND, "{}", shop.brief());
}

#[test]
fn answers_do_not_come() {
    let mut shop = Shop::learnt_with(resolve);
    breaks(&mut shop, 12, 1, give_up);
    expect_failure(&shop);
}

#[test]
fn nothing_can_be_sent() {
    let mut shop = Shop::learnt_with(resolve);
    breaks(&mut shop, 12, 4, |calls| {
        ask(calls, -1, 1);
        calls.call("close", 15, 0, 2);
    });
    expect_failure(&shop);
}

#[test]
fn nothing_listens_at_the_resolver() {
    let mut shop = Shop::learnt_with(resolve);
    breaks(&mut shop, 12, 4, |calls| {
        ask(calls, 2, 1);
        calls.call("recvfrom", 15, -111, 2).call("close", 15, 0, 2);
    });
    expect_failure(&shop);
}

#[test]
fn a_resolver_that_was_never_asked() {
    let mut shop = Shop::learnt();
    breaks(&mut shop, 12, 1, give_up);
    shop.work(20, 20);
    expect_failure(&shop);
}

#[test]
fn one_lost_answer_and_other_load_are_nothing() {
    let mut shop = Shop::learnt_with(resolve);
    shop.requests(1, |shop| shop.request_with(|_| {}, give_up, 400));
    shop.work(40, 100);
    shop.work(40, 4);
    assert_eq!(shop.reports, []);
}
