//! What is taken and not given back.

use super::shop::*;
use crate::diagnosis::report::FaultClass::*;

impl Shop {
    /// The catalog keeps so many more descriptors open after each request.
    pub(super) fn leak(&mut self, seconds: u64, each: i32) {
        self.each_second(seconds, |shop| {
            shop.requests(20, |shop| {
                let first = 10 + i64::from(shop.open);
                let keeps = |calls: &mut Calls| {
                    if first % 10 == 0 {
                        // What was closed long ago is given out again.
                        calls.open("/data/old", 6).call("close", 6, 0, 2);
                    }
                    for fd in first..first + i64::from(each) {
                        calls.open("/dev/null", fd);
                    }
                };
                shop.request_with(|_| {}, keeps, 400);
                shop.open += each;
            });
        });
    }
}

#[test]
fn descriptors() {
    for each in [1, 3] {
        let mut shop = Shop::learnt();
        shop.leak(14, each);
        shop.open = 0;
        shop.work(50, 20);
        let diagnosis = shop.expect(FdLeak, "catalog (pid 200)");
        assert!(diagnosis.local);
        let line = &diagnosis.evidence[0];
        assert!(
            line.starts_with("numbers of descriptors climb from 9 to "),
            "{line}"
        );
        assert!(line.ends_with("(baseline at most 9)"), "{line}");
        let first = shop.diagnoses()[0];
        let delay = first.observed_ns - first.onset_ns;
        assert!(delay <= 10 * SECOND, "{}", shop.brief());
    }
}

#[test]
fn descriptors_until_there_are_none() {
    let mut shop = Shop::learnt();
    shop.leak(12, 3);
    shop.each_second(8, |shop| {
        shop.requests(20, |shop| {
            let fails = |calls: &mut Calls| {
                calls.open("/data/x", -24);
            };
            shop.request_with(|_| {}, fails, 400);
        });
    });
    shop.open = 0;
    shop.work(50, 20);
    shop.expect(FdLeak, "catalog (pid 200)");
}

#[test]
fn more_connections_under_more_load() {
    let mut shop = Shop::learnt();
    shop.each_second(60, |shop| {
        shop.open = (shop.open + 2).min(34);
        shop.requests(100, Shop::request);
    });
    assert_eq!(shop.reports, []);
}

#[test]
fn a_start_that_opens_what_it_is_known_to_have_open() {
    let mut shop = Shop::learnt_with(|calls| {
        calls.call("lseek", 60, 0, 1);
    });
    shop.each_second(50, |shop| {
        shop.open += 1;
        shop.requests(20, Shop::request);
    });
    assert_eq!(shop.reports, []);
}

#[test]
fn more_connections_of_other_clients() {
    let mut shop = Shop::learnt();
    shop.each_second(60, |shop| {
        shop.open = (shop.open + 1).min(26);
        shop.requests(20, Shop::request);
    });
    assert_eq!(shop.reports, []);
}
