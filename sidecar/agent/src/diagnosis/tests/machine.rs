//! What the shop's containers use of the machine: limits, neighbours, leaks.

use super::shop::*;
use crate::diagnosis::report::FaultClass::*;
use crate::record::*;
use crate::resources::Meter;

const MIB: u64 = 1 << 20;

/// In a second.
#[derive(Clone, Copy)]
pub(super) struct Uses {
    pub(super) ran_ms: u64,
    pub(super) ready_ms: u64,
    /// Periods of a limit, and how many of them it cut; a cut one stands still for 90 ms.
    pub(super) periods: (u64, u64),
    /// MiB, at its end.
    pub(super) memory: u64,
}

const USUAL: Uses = Uses {
    ran_ms: 40,
    ready_ms: 20,
    periods: (0, 0),
    memory: 30,
};

/// Whether and how it is told.
#[derive(Default)]
pub(super) struct Machine {
    /// None: nothing says what containers use.
    pub(super) uses: [Option<Uses>; 3],
    pub(super) limit: Option<u64>,
    told: [Option<ContainerResources>; 3],
    meter: Meter,
}

impl Shop {
    /// Tells what was used in the second that ends now.
    pub(super) fn look(&mut self) {
        for container in [API, CATALOG, REDIS] {
            let index = usize::from(container);
            let Some(uses) = self.machine.uses[index] else {
                continue;
            };
            // From a third less to a third more.
            let around = |shop: &mut Shop, mean: u64| mean * 2 / 3 + shop.jitter(mean * 2 / 3 + 1);
            let (ran_ms, ready_ms) = (around(self, uses.ran_ms), around(self, uses.ready_ms));
            let last = self.machine.told[index];
            let throttling = last.and_then(|last| last.throttling).unwrap_or_default();
            let (periods, cut) = uses.periods;
            let resources = ContainerResources {
                at_ns: self.now,
                container,
                ran_ns: last.map_or(0, |last| last.ran_ns) + ran_ms * MS,
                ready_ns: Some(last.and_then(|last| last.ready_ns).unwrap_or(0) + ready_ms * MS),
                throttling: Some(Throttling {
                    periods: throttling.periods + periods,
                    throttled: throttling.throttled + cut,
                    throttled_ns: throttling.throttled_ns + cut * 90 * MS,
                }),
                memory: Some(MemoryUse {
                    anonymous: uses.memory * MIB + self.jitter(MIB),
                    limit: self.machine.limit,
                }),
            };
            self.machine.told[index] = Some(resources);
            let used = self.machine.meter.used(&resources);
            if let (Some(learning), Some(used)) = (&mut self.learning, used) {
                learning[index].used(&used);
            }
            self.engine.on_record(&Record::Resources(resources));
        }
    }

    fn learnt_using(uses: Uses) -> Self {
        let mut shop = Shop::new();
        shop.machine.uses = [Some(uses); 3];
        Shop::learnt_as(shop)
    }

    /// Seconds in which the containers from `first` on use this.
    fn using(&mut self, first: u16, seconds: u64, rate: u64, uses: impl Fn(u64) -> Uses) {
        for second in 0..seconds {
            for container in first..=REDIS {
                self.machine.uses[usize::from(container)] = Some(uses(second));
            }
            self.work(1, rate);
        }
    }
}

fn cut(uses: Uses) -> Uses {
    Uses {
        ran_ms: 10,
        ready_ms: 800,
        periods: (10, 9),
        ..uses
    }
}

#[test]
fn a_limit_that_was_not_there() {
    let mut shop = Shop::learnt_using(USUAL);
    shop.using(REDIS, 12, 20, |_| cut(USUAL));
    shop.using(REDIS, 50, 20, |_| USUAL);
    let diagnosis = shop.expect(CpuThrottled, "processor limit of redis");
    assert!(diagnosis.local);
    let line = &diagnosis.evidence[0];
    assert!(
        line.starts_with(
            "processor limit reached in 90 % of its periods, its processors held back for 810 ms a second"
        ),
        "{line}"
    );
    let first = shop.diagnoses()[0];
    let delay = first.observed_ns - first.onset_ns;
    assert!(delay <= 5 * SECOND, "{}", shop.brief());
}

#[test]
fn a_limit_that_cuts_a_part_of_its_periods() {
    let mut shop = Shop::learnt_using(USUAL);
    shop.using(REDIS, 20, 20, |_| Uses {
        periods: (10, 2),
        ..USUAL
    });
    shop.using(REDIS, 50, 20, |_| USUAL);
    shop.expect(CpuThrottled, "processor limit of redis");
}

#[test]
fn a_limit_that_is_met_now_and_then() {
    // Of which learning saw nothing.
    let mut shop = Shop::learnt_using(USUAL);
    shop.using(API, 300, 20, |second| Uses {
        periods: (10, u64::from(second % 10 == 0)),
        ..USUAL
    });
    assert_eq!(shop.reports, []);
}

#[test]
fn a_limit_that_makes_everything_slow_is_one_incident() {
    let mut shop = Shop::learnt_using(USUAL);
    shop.machine.uses[usize::from(REDIS)] = Some(cut(USUAL));
    shop.each_second(12, |shop| {
        shop.requests(20, |shop| shop.request_with(|_| {}, |_| {}, 90_000));
    });
    shop.using(REDIS, 50, 20, |_| USUAL);
    shop.expect(CpuThrottled, "processor limit of redis");
}

#[test]
fn a_limit_that_cuts_more_than_it_used_to() {
    let usual = Uses {
        periods: (10, 2),
        ..USUAL
    };
    let mut shop = Shop::learnt_using(usual);
    shop.using(API, 60, 20, |second| Uses {
        periods: (10, if second % 5 == 0 { 5 } else { 2 }),
        ..usual
    });
    assert_eq!(shop.reports, [], "a busy second now and then");
    shop.using(API, 20, 20, |_| cut(usual));
    shop.using(API, 50, 20, |_| usual);
    assert!(!shop.diagnoses().is_empty());
    assert!(
        shop.diagnoses().iter().all(|d| d.class == CpuThrottled),
        "{}",
        shop.brief()
    );
}

#[test]
fn a_limit_that_five_times_the_load_reaches() {
    let mut shop = Shop::learnt_using(USUAL);
    shop.using(API, 60, 100, |_| cut(USUAL));
    assert_eq!(shop.reports, []);
}

fn waiting(uses: Uses) -> Uses {
    Uses {
        ran_ms: 35,
        ready_ms: 700,
        ..uses
    }
}

#[test]
fn neighbours_that_take_the_processor() {
    let mut shop = Shop::learnt_using(USUAL);
    shop.machine.uses = [Some(waiting(USUAL)); 3];
    shop.each_second(20, |shop| {
        shop.requests(20, |shop| shop.request_with(|_| {}, |_| {}, 90_000));
    });
    shop.using(API, 50, 20, |_| USUAL);
    let diagnosis = shop.expect(CpuContention, "api");
    assert!(!diagnosis.local);
    let evidence = diagnosis.evidence.join("\n");
    assert!(
        evidence.contains("process ready but not running 9"),
        "{evidence}"
    );
    assert!(
        evidence.contains(" % of the time (baseline 3"),
        "{evidence}"
    );
    let first = shop.diagnoses()[0];
    let delay = first.observed_ns - first.onset_ns;
    assert!(delay <= 9 * SECOND, "{}", shop.brief());
}

#[test]
fn neighbours_that_nobody_feels_are_none_and_hide_nothing() {
    let mut shop = Shop::learnt_using(USUAL);
    shop.using(API, 20, 20, |_| waiting(USUAL));
    assert_eq!(shop.reports, []);
    shop.machine.uses = [Some(waiting(USUAL)); 3];
    shop.each_second(5, |shop| {
        shop.requests(20, |shop| {
            shop.request_with(
                |_| {},
                |c| {
                    c.open("/etc/key", -13);
                },
                400,
            );
        });
    });
    shop.using(API, 60, 20, |_| USUAL);
    shop.expect(PermissionDenied, "/etc/key");
}

#[test]
fn neighbours_and_another_profile_are_not_felt_either() {
    let mut shop = Shop::learnt_using(USUAL);
    for _ in 0..10 {
        shop.using(API, 2, 20, |_| waiting(USUAL));
        let now = shop.now;
        shop.engine.on_stability(API, now, 0.001, &[]);
    }
    assert_eq!(shop.reports, []);
}

/// Requests wait before they are read, where no call shows it.
#[test]
fn neighbours_that_leave_next_to_nothing_are_felt() {
    let mut shop = Shop::learnt_using(USUAL);
    shop.using(API, 20, 20, |_| Uses {
        ready_ms: 2200,
        ..waiting(USUAL)
    });
    shop.using(API, 50, 20, |_| USUAL);
    shop.expect(CpuContention, "api");
}

#[test]
fn what_waits_for_other_reasons() {
    // One container alone; five times the load; what the pod runs itself; a limit.
    let mut shop = Shop::learnt_using(USUAL);
    shop.using(REDIS, 60, 20, |_| waiting(USUAL));
    shop.using(REDIS, 10, 20, |_| USUAL);
    shop.using(API, 60, 100, |_| waiting(USUAL));
    shop.using(API, 10, 20, |_| USUAL);
    shop.using(API, 60, 20, |_| Uses {
        ran_ms: 200,
        ready_ms: 3000,
        ..USUAL
    });
    assert_eq!(shop.reports, []);
    // Learned on a machine that was as busy.
    let mut shop = Shop::learnt_using(waiting(USUAL));
    shop.using(API, 60, 20, |_| Uses {
        ready_ms: 1000,
        ..waiting(USUAL)
    });
    assert_eq!(shop.reports, []);
}

#[test]
fn memory_that_climbs() {
    for (each, limit) in [(7, None), (30, Some(1024 * MIB))] {
        let mut shop = Shop::learnt_using(USUAL);
        shop.machine.limit = limit;
        shop.using(REDIS, 40, 20, |second| Uses {
            memory: 30 + each * second,
            ..USUAL
        });
        let confirmed = shop.confirmed().clone();
        assert_eq!(confirmed.class, MemoryLeak, "{}", shop.brief());
        let line = &confirmed.evidence[0];
        assert!(line.starts_with("anonymous memory climbs from 3"), "{line}");
        assert_eq!(
            line.contains("the limit of 1.0 GiB is reached in"),
            limit.is_some(),
            "{line}"
        );
        let before = confirmed.observed_ns - confirmed.onset_ns;
        assert!(before < 26 * SECOND, "{}", shop.brief());
    }
}

#[test]
fn memory_that_is_left_to_reach_its_limit_is_told_of_before() {
    let mut shop = Shop::learnt_using(USUAL);
    shop.machine.limit = Some(500 * MIB);
    shop.using(REDIS, 15, 20, |second| Uses {
        memory: 30 + 31 * second,
        ..USUAL
    });
    assert_eq!(shop.confirmed().class, MemoryLeak, "{}", shop.brief());
}

#[test]
fn memory_that_climbs_slowly_is_told_of_within_minutes() {
    let mut shop = Shop::learnt_using(USUAL);
    shop.using(REDIS, 900, 20, |second| Uses {
        memory: 30 + second / 10,
        ..USUAL
    });
    assert_eq!(shop.confirmed().class, MemoryLeak, "{}", shop.brief());
}

#[test]
fn memory_that_is_needed() {
    // Five times the load; a start; a garbage collector.
    let mut shop = Shop::learnt_using(USUAL);
    shop.using(API, 60, 100, |second| Uses {
        memory: 30 + 4 * second.min(25),
        ..USUAL
    });
    shop.using(API, 60, 20, |second| Uses {
        memory: 5 + second.min(25),
        ..USUAL
    });
    shop.using(API, 600, 20, |second| Uses {
        memory: 20 + 8 * (second % 7),
        ..USUAL
    });
    assert_eq!(shop.reports, []);
    // One that grew in learning, and grows with the load.
    let mut shop = Shop::new();
    shop.machine.uses = [Some(USUAL); 3];
    shop.learning = Some(Default::default());
    shop.connect(API, 6, CATALOG_AT, 0);
    shop.connect(CATALOG, 7, REDIS_AT, 0);
    shop.using(API, 60, 20, |second| Uses {
        memory: 30 + second,
        ..USUAL
    });
    shop.watch();
    shop.using(API, 300, 100, |second| Uses {
        memory: 90 + 5 * second,
        ..USUAL
    });
    assert_eq!(shop.reports, []);
}

#[test]
fn without_a_source_nothing_is_said() {
    let mut shop = Shop::learnt();
    shop.using(API, 60, 20, |second| Uses {
        memory: 30 + 30 * second,
        ..cut(USUAL)
    });
    assert_eq!(shop.reports, []);
}
