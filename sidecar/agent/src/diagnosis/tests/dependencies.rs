//! Classes whose cause is another process: each from its calls.

use stethos_patterns::descriptors::Exchange;
use stethos_patterns::{Outcome, Role};

use super::shop::*;
use crate::diagnosis::report::FaultClass::*;
use crate::diagnosis::report::IncidentState;
use crate::record::{Record, Reduced};

/// The catalog asks for a new connection per request and gets `ret`.
fn connect_fails(ret: i64) -> Shop {
    Shop::broken_catalog(move |calls| {
        calls
            .call("socket", -1, 12, 5)
            .connect(REDIS_AT, 12, ret)
            .call("close", 12, 0, 2);
    })
}

#[test]
fn refused() {
    let shop = connect_fails(-111);
    let diagnosis = shop.expect(DependencyRefused, "catalog → 127.0.0.1:6379");
    assert!(!diagnosis.local);
    assert_eq!(diagnosis.suggestion, "Is anything listening on 6379?");
    let line = &diagnosis.evidence[0];
    assert!(line.starts_with("connect ECONNREFUSED 0 → "), "{line}");
    assert!(line.ends_with("(baseline 0 of 2 calls)"), "{line}");
    assert!(
        diagnosis
            .actual
            .contains(&"connect:ECONNREFUSED".to_owned()),
        "{}",
        shop.brief()
    );
    assert_eq!(diagnosis.actual.len(), diagnosis.expected.len());
    let first = shop.diagnoses()[0];
    assert!(
        first.observed_ns - first.onset_ns <= 2 * SECOND,
        "{first:#?}"
    );
}

#[test]
fn refused_without_waiting() {
    let mut shop = Shop::learnt();
    shop.each_second(12, |shop| {
        shop.requests(20, Shop::request_that_gives_up_connecting);
    });
    shop.work(15, 20);
    shop.expect(DependencyRefused, "catalog → 127.0.0.1:6379");
    let first = shop.diagnoses()[0];
    assert!(
        first.observed_ns - first.onset_ns <= 2 * SECOND,
        "{}",
        shop.brief()
    );
}

/// One request is enough: its error is as good as one that `connect` returns.
#[test]
fn what_a_socket_says_of_its_connect_is_told_at_once() {
    for (error, class) in [
        (-111, DependencyRefused),
        (-110, DependencyBlackhole),
        (-113, NetworkUnreachable),
        (-104, DependencyReset),
    ] {
        let mut shop = Shop::learnt();
        shop.each_second(6, |shop| {
            shop.request_told_by_the_socket(error);
            shop.requests(20, Shop::request);
        });
        shop.work(15, 20);
        shop.expect(class, "catalog → 127.0.0.1:6379");
        let first = shop.diagnoses()[0];
        assert!(
            first.observed_ns - first.onset_ns <= 3 * SECOND,
            "{}",
            shop.brief()
        );
    }
}

#[test]
fn other_network_errors() {
    connect_fails(-110).expect(DependencyBlackhole, "catalog → 127.0.0.1:6379");
    connect_fails(-113).expect(NetworkUnreachable, "catalog → 127.0.0.1:6379");
    connect_fails(-101).expect(NetworkUnreachable, "catalog → 127.0.0.1:6379");
    let shop = connect_fails(-99);
    assert_eq!(shop.confirmed().class, PortExhausted);
}

#[test]
fn reset() {
    let shop = Shop::broken_catalog(|calls| {
        calls.asks_anew(REDIS_AT, -104, 300).call("close", 12, 0, 2);
    });
    shop.expect(DependencyReset, "catalog → 127.0.0.1:6379");
}

/// The window comes when the descriptor is already closed, and its connect was only counted.
#[test]
fn reset_of_a_connection_that_only_the_kernel_followed() {
    let reduce = |shop: &mut Shop, sample| {
        let at_ns = shop.now;
        let record = Record::Reduced(Reduced { at_ns, sample });
        shop.engine.on_record(&record);
    };
    let mut shop = Shop::learnt();
    reduce(&mut shop, 160);
    shop.each_second(6, |shop| {
        let mut calls = shop.calls(CATALOG, 1);
        let sent_ns = calls.at;
        calls.call("read", 44, -104, 300).call("close", 44, 0, 2);
        let exchange = Exchange {
            pid: calls.pid,
            tid: calls.tid,
            fd: 44,
            role: Role::Client,
            peer: Some(REDIS_AT.to_owned()),
            sent_ns,
            received_ns: sent_ns + 300_000,
            failed: Some(Outcome::Errno(104)),
        };
        shop.engine.on_exchange(calls.container, &exchange);
        shop.run(calls);
    });
    reduce(&mut shop, 0);
    shop.work(15, 20);
    shop.expect(DependencyReset, "catalog → 127.0.0.1:6379");
    let first = shop.diagnoses()[0];
    assert!(
        first.observed_ns - first.onset_ns <= 2 * SECOND,
        "{}",
        shop.brief()
    );
}

#[test]
fn closed_in_the_middle_of_an_exchange() {
    let shop = Shop::broken_catalog(|calls| {
        calls.asks_anew(REDIS_AT, 0, 300).call("close", 12, 0, 2);
    });
    shop.expect(DependencyReset, "catalog → 127.0.0.1:6379");
}

#[test]
fn slow_dependency() {
    let mut shop = Shop::learnt();
    shop.each_second(8, |shop| {
        shop.requests(4, |shop| shop.request_with(|_| {}, |_| {}, 120_000));
    });
    shop.work(20, 20);
    let diagnosis = shop.expect(DependencySlow, "catalog → 127.0.0.1:6379");
    let first = shop.diagnoses()[0];
    assert!(first.affected_calls <= 12, "{first:#?}");
    assert!(
        diagnosis.evidence[0].contains("baseline median 4"),
        "{:?}",
        diagnosis.evidence
    );
    assert!(
        diagnosis.evidence.iter().any(|l| l.starts_with("api: ")),
        "{:?}",
        diagnosis.evidence
    );
}

#[test]
fn hung_dependency_outside_the_pod() {
    let mut shop = Shop::learnt();
    hang(&mut shop, 8);
    let first = shop.diagnoses()[0].clone();
    assert!(
        first.observed_ns - first.onset_ns <= 4 * SECOND,
        "{first:#?}"
    );
    answer(&mut shop);
    shop.work(10, 20);
    shop.expect(DependencyHung, "catalog → 127.0.0.1:6379");
}

/// The catalog's request to redis gets no answer, nor does the api's to the catalog.
fn hang(shop: &mut Shop, seconds: u64) {
    let mut catalog = shop.calls(CATALOG, 1);
    catalog.call("read", 5, 100, 5).call("sendto", 7, 30, 20);
    shop.run(catalog);
    let mut api = shop.calls(API, 1);
    api.call("read", 5, 100, 5).call("sendto", 6, 100, 20);
    shop.run(api);
    shop.each_second(seconds, |_| {});
}

fn answer(shop: &mut Shop) {
    let mut catalog = shop.calls(CATALOG, 1);
    catalog
        .call("recvfrom", 7, 90, 10)
        .call("write", 5, 200, 15);
    shop.run(catalog);
    let mut api = shop.calls(API, 1);
    api.call("recvfrom", 6, 200, 100).call("write", 5, 250, 20);
    shop.run(api);
}

#[test]
fn client_gives_up_before_the_hang_is_seen() {
    let mut shop = Shop::learnt();
    shop.each_second(8, |shop| {
        let mut calls = shop.calls(CATALOG, 1);
        calls
            .asks_anew(REDIS_AT, -11, 500_000)
            .call("close", 12, 0, 2);
        shop.run(calls);
    });
    shop.work(10, 20);
    shop.expect(DependencyHung, "catalog → 127.0.0.1:6379");
}

/// Its answers are lost, or late: the peer does not hang.
#[test]
fn who_answers_others_while_a_client_gives_up_is_slow() {
    let mut shop = Shop::learnt();
    shop.each_second(12, |shop| {
        let start = shop.now;
        let mut calls = shop.calls(CATALOG, 2);
        calls.call("socket", -1, 12, 5).connect(REDIS_AT, 12, 0);
        calls.call("sendto", 12, 30, 9);
        shop.run(calls);
        shop.requests(16, Shop::request);
        shop.now = start + 800 * MS;
        let mut calls = shop.calls(CATALOG, 2);
        calls.call("close", 12, 0, 2);
        shop.run(calls);
        shop.now = start;
    });
    shop.work(15, 20);
    shop.expect(DependencySlow, "catalog → 127.0.0.1:6379");
}

/// One request every few seconds.
#[test]
fn two_resets_within_a_minute_are_enough() {
    for (apart, confirmed) in [(45, true), (90, false)] {
        let mut shop = Shop::learnt();
        for _ in 0..2 {
            let mut calls = shop.calls(CATALOG, 1);
            calls.asks_anew(REDIS_AT, -104, 300).call("close", 12, 0, 2);
            shop.run(calls);
            shop.work(apart, 1);
        }
        let said = shop
            .diagnoses()
            .iter()
            .any(|d| d.class == DependencyReset && d.state == IncidentState::Confirmed);
        assert_eq!(said, confirmed, "{apart}: {}", shop.brief());
    }
}

#[test]
fn frozen_process() {
    let mut shop = Shop::learnt();
    shop.freeze(REDIS);
    hang(&mut shop, 8);
    let first = shop.diagnoses()[0].clone();
    assert!(
        first.observed_ns - first.onset_ns <= 4 * SECOND,
        "{first:#?}"
    );
    shop.frozen.clear();
    answer(&mut shop);
    shop.work(10, 20);
    let diagnosis = shop.expect(ProcessFrozen, "redis (pid 300)");
    assert!(diagnosis.local);
    assert_eq!(diagnosis.container, REDIS);
}
