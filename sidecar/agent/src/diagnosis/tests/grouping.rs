//! One cause, one incident.

use super::shop::*;
use crate::diagnosis::report::FaultClass::*;
use crate::diagnosis::report::Report;
use crate::record::*;

#[test]
fn redis_stops_and_everything_above_it_suffers() {
    let mut shop = Shop::learnt();
    shop.ends(REDIS, pid(REDIS), 9);
    shop.gone.insert(REDIS);
    // The open connections end in the middle of an exchange, on three threads.
    let mut last = shop.calls(CATALOG, 1);
    last.call("sendto", 7, 30, 9)
        .call("recvfrom", 7, 0, 90)
        .call("close", 7, 0, 3);
    shop.run(last);
    shop.each_second(15, |shop| {
        shop.requests(20, |shop| {
            for thread in 1..4 {
                let mut catalog = shop.calls(CATALOG, thread);
                catalog.call("read", 5, 100, 5).call("socket", -1, 7, 4);
                catalog.connect(REDIS_AT, 7, -111).call("close", 7, 0, 3);
                // Retries with pauses: the api waits for it.
                catalog.at += 150 * MS;
                catalog
                    .call("socket", -1, 7, 4)
                    .connect(REDIS_AT, 7, -111)
                    .call("close", 7, 0, 3);
                catalog.call("write", 5, 40, 9);
                shop.run(catalog);
            }
            let mut api = shop.calls(API, 1);
            api.call("read", 5, 100, 5).call("sendto", 6, 100, 20);
            api.call("recvfrom", 6, 40, 150_900).call("write", 5, 40, 9);
            shop.run(api);
        });
    });
    shop.each_second(1, |_| {});
    shop.connect(CATALOG, 7, REDIS_AT, 0);
    shop.work(20, 20);
    shop.expect(DependencyRefused, "catalog → 127.0.0.1:6379");
    let diagnosis = *shop.diagnoses().last().unwrap();
    assert_eq!((diagnosis.container, diagnosis.local), (CATALOG, false));
    let evidence = diagnosis.evidence.join("\n");
    assert!(
        evidence.contains("/usr/bin/redis in redis ended with signal 9"),
        "{evidence}"
    );
    assert!(evidence.contains("api: "), "{evidence}");
    // The callers' calls are affected as well.
    assert!(
        shop.reports
            .iter()
            .any(|r| matches!(r, Report::Affected(a) if a.container == API))
    );
}

#[test]
fn redis_is_frozen_and_two_callers_wait() {
    let mut shop = Shop::learnt();
    shop.freeze(REDIS);
    for (container, fd) in [(CATALOG, 7), (API, 6)] {
        let mut calls = shop.calls(container, 1);
        calls.call("read", 5, 100, 5).call("sendto", fd, 30, 20);
        shop.run(calls);
    }
    shop.each_second(12, |_| {});
    shop.frozen.clear();
    for (container, fd) in [(CATALOG, 7), (API, 6)] {
        let mut calls = shop.calls(container, 1);
        calls.call("recvfrom", fd, 90, 10).call("write", 5, 200, 15);
        shop.run(calls);
    }
    shop.work(15, 20);
    let diagnosis = shop.expect(ProcessFrozen, "redis (pid 300)");
    let evidence = diagnosis.evidence.join("\n");
    assert!(
        evidence.contains("catalog: 1 request to 127.0.0.1:6379 without an answer"),
        "{evidence}"
    );
    assert_eq!(diagnosis.hypotheses[0].class, ProcessFrozen);
}

#[test]
fn a_frozen_client_does_not_blame_its_peer() {
    let mut shop = Shop::learnt();
    let mut calls = shop.calls(CATALOG, 1);
    calls.call("read", 5, 100, 5).call("sendto", 7, 30, 20);
    shop.run(calls);
    shop.freeze(CATALOG);
    shop.each_second(10, |_| {});
    shop.frozen.clear();
    shop.work(15, 20);
    shop.expect(ProcessFrozen, "catalog (pid 200)");
}

#[test]
fn two_causes_are_two_incidents() {
    let mut shop = Shop::learnt();
    shop.each_second(10, |shop| {
        shop.requests(20, |shop| {
            shop.request_with(
                |c| {
                    c.open("/etc/prices", -2);
                },
                |c| {
                    c.call("write", 4, -28, 9);
                },
                400,
            );
        });
    });
    shop.work(15, 20);
    let mut classes: Vec<_> = shop
        .diagnoses()
        .iter()
        .map(|d| (d.class, d.container))
        .collect();
    classes.sort();
    classes.dedup();
    assert_eq!(classes, [(DiskFull, CATALOG), (FileMissing, API)]);
}

#[test]
fn disk_full_below_a_slow_answer_is_the_cause() {
    let mut shop = Shop::learnt();
    shop.each_second(15, |shop| {
        shop.requests(5, |shop| {
            shop.request_with(
                |_| {},
                |c| {
                    c.call("write", 4, -28, 100_000);
                },
                400,
            );
        });
    });
    shop.work(20, 20);
    let diagnosis = shop.confirmed();
    assert_eq!(
        (diagnosis.class, diagnosis.container),
        (DiskFull, CATALOG),
        "{}",
        shop.brief()
    );
}

#[test]
fn a_frozen_pod_is_one_incident() {
    let mut shop = Shop::learnt();
    for container in [API, CATALOG, REDIS] {
        shop.freeze(container);
    }
    shop.each_second(10, |_| {});
    shop.frozen.clear();
    shop.work(15, 20);
    assert_eq!(shop.confirmed().class, ProcessFrozen);
}

#[test]
fn what_ends_a_process_again_and_again_is_the_cause() {
    let mut shop = Shop::learnt();
    shop.ends(CATALOG, pid(CATALOG), 256);
    shop.gone.insert(CATALOG);
    for restart in 0..5 {
        shop.lifecycle(
            CATALOG,
            600 + restart,
            LifecycleEvent::Exec {
                executable: executable(CATALOG),
            },
        );
        let mut calls = shop.calls(CATALOG, 1);
        (calls.pid, calls.tid) = (600 + restart, 600 + restart);
        calls
            .open("/lib/libc.so", 3)
            .call("socket", -1, 3, 5)
            .call("bind", 3, -98, 5);
        shop.run(calls);
        shop.each_second(2, |_| {});
        shop.ends(CATALOG, 600 + restart, 256);
    }
    shop.each_second(40, |_| {});
    let diagnosis = shop.confirmed();
    assert_eq!(diagnosis.class, PortInUse, "{}", shop.brief());
    assert!(
        diagnosis.evidence.iter().any(|line| line.contains("ended")),
        "{}",
        shop.brief()
    );
}
