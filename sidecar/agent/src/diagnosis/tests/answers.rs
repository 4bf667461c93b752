//! Requests that fail, and connections that are not kept, without an error of a call.

use std::collections::BTreeSet;

use super::shop::*;
use crate::diagnosis::report::FaultClass::*;
use crate::diagnosis::report::IncidentState;

/// Where learning made a connection for one request in fifteen, and a gap after an answer for the others.
#[test]
fn connections_that_are_closed_after_each_answer_as_some_were() {
    fn asks(calls: &mut Calls, idle_us: u64) {
        calls
            .asks_anew(REDIS_AT, 90, 300)
            .call("futex", -1, 0, idle_us)
            .call("close", 12, 0, 2);
    }
    for (idle_us, confirmed) in [(100, true), (200_000, false)] {
        let mut shop = Shop::learnt_with(|calls| {
            if (calls.at / SECOND).is_multiple_of(15) {
                asks(calls, 100);
            }
        });
        shop.each_second(30, |shop| {
            shop.requests(20, |shop| {
                shop.request_with(|_| {}, |calls| asks(calls, idle_us), 400);
            });
        });
        shop.work(20, 20);
        let said = |line: &String| line.contains("closed right after an answer");
        let evidence = shop.diagnoses().iter().any(|d| {
            d.class == ConfigRegression
                && d.state == IncidentState::Confirmed
                && d.evidence.iter().any(said)
        });
        assert_eq!(evidence, confirmed, "{idle_us}: {}", shop.brief());
    }
}

/// No call fails: the program itself finds out that something is wrong.
#[test]
fn requests_that_fail_without_an_error_are_unknown() {
    for (status, every, confirmed) in [(500, 2, true), (404, 2, false), (500, 60, false)] {
        let mut shop = Shop::learnt();
        for second in 0..40 {
            let fails = second >= 20;
            shop.each_second(1, |shop| {
                let mut number = 0;
                shop.requests(20, |shop| {
                    number += 1;
                    shop.request();
                    let failed = fails && (second * 20 + number) % every == 0;
                    shop.answered(if failed { status } else { 200 });
                });
            });
        }
        shop.each_second(20, |shop| {
            shop.requests(20, |shop| {
                shop.request();
                shop.answered(200);
            });
        });
        if !confirmed {
            assert_eq!(shop.reports, [], "{status} {every}: {}", shop.brief());
            continue;
        }
        let diagnosis = shop.expect(Unknown, "catalog (pid 200)");
        let line = &diagnosis.evidence[0];
        assert!(line.starts_with("own answers with status 500: "), "{line}");
        let first = shop.diagnoses()[0];
        assert!(
            first.observed_ns - first.onset_ns <= 9 * SECOND,
            "{first:#?}"
        );
    }
}

/// A request that fails because of a full disk is no other fault.
#[test]
fn requests_that_fail_because_of_an_error_are_its_consequence() {
    let mut shop = Shop::learnt();
    for second in 0..40 {
        shop.each_second(1, |shop| {
            shop.requests(20, |shop| {
                let full = |calls: &mut Calls| {
                    if second >= 20 {
                        calls.call("write", 4, -28, 9);
                    }
                };
                shop.request_with(|_| {}, full, 400);
                shop.answered(if second >= 20 { 500 } else { 200 });
            });
        });
    }
    shop.work(20, 20);
    let diagnosis = shop.expect(DiskFull, "catalog (pid 200)");
    let said = |line: &String| line.starts_with("own answers with status 500");
    assert!(diagnosis.evidence.iter().any(said), "{}", shop.brief());
}

/// The api asks through a proxy, so that nothing tells whom, and passes on what it is told.
#[test]
fn requests_that_fail_because_another_containers_do_are_its_consequence() {
    for (passed_on, incidents) in [(507, 1), (500, 2)] {
        let mut shop = Shop::new();
        shop.catalog_at = "127.0.0.1:15001";
        let mut shop = Shop::learnt_as(shop);
        for second in 0..40 {
            let full = second >= 20;
            shop.each_second(1, |shop| {
                shop.requests(20, |shop| {
                    let store = |calls: &mut Calls| {
                        if full {
                            calls.call("write", 4, -28, 9);
                        }
                    };
                    shop.request_with(|_| {}, store, 400);
                    shop.answered(if full { 507 } else { 200 });
                    shop.answered_by(API, if full { passed_on } else { 200 });
                });
            });
        }
        shop.each_second(20, |shop| {
            shop.requests(20, |shop| {
                shop.request();
                shop.answered(200);
                shop.answered_by(API, 200);
            });
        });
        let said = shop.diagnoses();
        let ids: BTreeSet<_> = said.iter().map(|d| &d.incident_id).collect();
        assert_eq!(ids.len(), incidents, "{passed_on}: {}", shop.brief());
        if incidents == 1 {
            let diagnosis = shop.expect(DiskFull, "catalog (pid 200)");
            let said = |line: &String| line.starts_with("api: own answers with status 507");
            assert!(diagnosis.evidence.iter().any(said), "{}", shop.brief());
        }
    }
}
