//! Profiles that change.

use super::shop::*;
use crate::diagnosis::observation::Stray;
use crate::diagnosis::report::FaultClass::*;

impl Shop {
    /// Work whose profiles are as stable as this, with these values far from their means.
    fn profiles(&mut self, seconds: u64, rate: u64, stability: f64, strays: &[(&str, f32)]) {
        let strays = strays.iter().map(|(name, deviations)| Stray {
            name: (*name).to_owned(),
            deviations: *deviations,
            success: name.ends_with(":ok"),
        });
        let strays: Vec<Stray> = strays.collect();
        for _ in 0..seconds / 2 {
            self.work(2, rate);
            let now = self.now;
            self.engine.on_stability(API, now, stability, &strays);
        }
        self.work(1, rate);
    }
}

const SYNCS: (&str, f32) = ("share of fdatasync:ok", 6.3);

#[test]
fn a_share_that_is_far_off_and_stays_so_is_another_configuration() {
    let mut shop = Shop::learnt();
    shop.profiles(30, 20, 0.6, &[SYNCS]);
    shop.profiles(20, 20, 1.0, &[]);
    let diagnosis = shop.expect(ConfigRegression, "api");
    let line = &diagnosis.evidence[0];
    assert!(
        line.contains("share of fdatasync:ok is not as learned: +6.3"),
        "{line}"
    );
}

#[test]
fn what_is_off_for_a_while_or_not_far_or_under_another_load_is_none() {
    let cases = [
        (10, 20, 6.3),
        (60, 20, 4.5),
        (60, 8, 6.3),
        (60, 50, 6.3),
        (60, 100, 6.3),
    ];
    for (seconds, rate, deviations) in cases {
        let mut shop = Shop::learnt();
        shop.profiles(seconds, rate, 0.6, &[(SYNCS.0, deviations)]);
        shop.profiles(20, rate, 1.0, &[]);
        assert_eq!(shop.reports, [], "{seconds} {rate} {deviations}");
    }
}

#[test]
fn errors_are_not_judged_by_their_share() {
    let mut shop = Shop::learnt();
    let less = ("share of connect:ok", -8.0);
    shop.profiles(60, 20, 0.6, &[("share of openat:ENOENT", 9.0), less]);
    shop.profiles(20, 20, 1.0, &[]);
    assert_eq!(shop.reports, []);
}

#[test]
fn values_that_are_far_off_in_turn_are_none() {
    let mut shop = Shop::learnt();
    for _ in 0..10 {
        shop.profiles(4, 20, 0.6, &[SYNCS]);
        shop.profiles(4, 20, 0.6, &[("share of openat:ok", 7.0)]);
    }
    assert_eq!(shop.reports, []);
}

#[test]
fn another_profile_under_another_load_is_nothing() {
    for (rate, silent) in [(1, true), (90, true), (20, false)] {
        let mut shop = Shop::learnt();
        shop.work(20, rate);
        shop.profiles(90, rate, 0.001, &[]);
        assert_eq!(shop.reports.is_empty(), silent, "{rate}: {}", shop.brief());
    }
}

/// Who is asked seldom has another profile, and is started again.
#[test]
fn another_profile_and_an_end_that_was_asked_for() {
    for (code, refused) in [(15, true), (15, false), (0, false)] {
        let mut shop = Shop::learnt();
        shop.profiles(20, 1, 0.001, &[]);
        shop.ends(API, pid(API), code);
        if refused {
            let mut calls = shop.calls(CATALOG, 1);
            calls.connect(REDIS_AT, 12, -111).call("close", 12, 0, 2);
            shop.run(calls);
        }
        shop.starts(API, pid(API));
        shop.profiles(10, 1, 0.001, &[]);
        shop.profiles(60, 20, 1.0, &[]);
        let confirmed = shop.has_confirmed();
        assert!(!confirmed, "{}", shop.brief());
    }
}
