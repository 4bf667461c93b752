//! Floods of requests, and programs that compute for others.

use super::shop::*;
use crate::diagnosis::report::FaultClass::*;
use crate::record::*;

const MINER: u32 = 950;
const POOL: &str = "203.0.113.7:3333";

#[test]
fn a_flood_of_requests() {
    let mut shop = Shop::learnt();
    shop.work(15, 400);
    shop.work(50, 20);
    let diagnosis = shop.expect(RequestFlood, "api (pid 100)");
    assert!(!diagnosis.local);
    let line = &diagnosis.evidence[0];
    assert!(
        line.starts_with("requests answered: 400/s (baseline 20/s"),
        "{line}"
    );
    let first = shop.diagnoses()[0];
    let delay = first.observed_ns - first.onset_ns;
    assert!(delay <= 6 * SECOND, "{}", shop.brief());
}

#[test]
fn six_times_the_load_is_none() {
    let mut shop = Shop::learnt();
    shop.work(60, 120);
    assert_eq!(shop.reports, []);
}

/// Starts a program in the api's container that connects to `peer` and then computes for
/// `seconds`, with `more` calls each second.
fn compute(shop: &mut Shop, program: &str, peer: &str, seconds: u64, more: fn(&mut Calls)) {
    let executable = program.to_owned();
    shop.lifecycle(API, MINER, LifecycleEvent::Exec { executable });
    let own = |shop: &Shop| {
        let mut calls = shop.calls(API, 0);
        (calls.pid, calls.tid) = (MINER, MINER);
        calls
    };
    let mut calls = own(shop);
    calls.call("socket", -1, 3, 5).connect(peer, 3, 0);
    shop.run(calls);
    shop.computes = Some((API, MINER));
    shop.each_second(seconds, |shop| {
        let mut calls = own(shop);
        for _ in 0..20 {
            calls.call("sched_yield", -1, 0, 0);
        }
        more(&mut calls);
        shop.run(calls);
        shop.requests(20, Shop::request);
    });
    shop.computes = None;
    shop.ends(API, MINER, 9);
    shop.work(50, 20);
}

#[test]
fn a_miner() {
    // Also one that is a script of a known interpreter.
    for program in ["/tmp/xmrig", "/bin/health"] {
        let mut shop = Shop::learnt();
        compute(&mut shop, program, POOL, 30, |_| {});
        let diagnosis = shop.expect(CpuMiner, &format!("{} (pid 950)", &program[5..]));
        assert!(diagnosis.message.contains(POOL), "{}", diagnosis.message);
        assert_eq!(diagnosis.executable, program);
        // Nor is it anything else at first.
        assert_eq!(shop.diagnoses()[0].class, CpuMiner, "{}", shop.brief());
    }
}

#[test]
fn jobs_that_compute() {
    let mut shop = Shop::learnt();
    // A known program with a known peer; one that sends what it packs.
    compute(&mut shop, "/bin/health", CATALOG_AT, 30, |_| {});
    compute(&mut shop, "/bin/health", POOL, 30, |calls| {
        for _ in 0..20 {
            calls.call("read", 4, 4096, 5).call("sendto", 3, 4096, 20);
        }
    });
    assert_eq!(shop.reports, []);
    compute(&mut shop, "/usr/bin/tar", POOL, 30, |calls| {
        for _ in 0..20 {
            calls.call("read", 4, 4096, 5).call("sendto", 3, 4096, 20);
        }
    });
    shop.expect(ExecUnexpected, "/usr/bin/tar");
}

/// A container whose programs open nothing, and some that look for their libraries.
#[test]
fn what_an_unknown_program_does_not_find_is_not_missing() {
    let mut shop = Shop::learnt();
    for number in 960..964 {
        let executable = "/tmp/tool".to_owned();
        shop.lifecycle(REDIS, number, LifecycleEvent::Exec { executable });
        let mut calls = shop.calls(REDIS, 1);
        (calls.pid, calls.tid) = (number, number);
        for _ in 0..3 {
            calls.open("/lib/none.so", -2);
        }
        shop.run(calls);
    }
    shop.work(15, 20);
    let classes = shop.diagnoses().into_iter().map(|one| one.class);
    let classes: std::collections::BTreeSet<_> = classes.collect();
    assert_eq!(classes, [ExecUnexpected].into(), "{}", shop.brief());
}

#[test]
fn a_shell_that_becomes_a_miner_is_one_incident() {
    let mut shop = Shop::learnt();
    let executable = "/bin/sh".to_owned();
    shop.lifecycle(API, MINER, LifecycleEvent::Exec { executable });
    shop.work(1, 20);
    compute(&mut shop, "/bin/health", POOL, 30, |_| {});
    assert_eq!(shop.confirmed().class, CpuMiner, "{}", shop.brief());
}
