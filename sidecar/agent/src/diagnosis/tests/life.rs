//! States, bounds, and robustness.

use std::collections::BTreeSet;

use stethos_patterns::descriptors::Exchange;
use stethos_patterns::{Outcome, Role, Token, Window, WindowCall};

use super::shop::*;
use crate::diagnosis::report::{IncidentState, Report};
use crate::diagnosis::verdict::Verdict;
use crate::diagnosis::{DiagnosisConfig, JudgedWindow};
use crate::record::*;

fn disk_full(shop: &mut Shop, seconds: u64, rate: u64) {
    shop.each_second(seconds, |shop| {
        shop.requests(rate, |shop| {
            shop.request_with(
                |_| {},
                |c| {
                    c.call("write", 4, -28, 9);
                },
                400,
            );
        });
    });
}

fn states(shop: &Shop) -> Vec<IncidentState> {
    shop.diagnoses().iter().map(|d| d.state).collect()
}

#[test]
fn the_same_error_again_within_a_minute_is_no_single_one() {
    let mut shop = Shop::learnt();
    for _ in 0..2 {
        shop.request_with(
            |_| {},
            |c| {
                c.call("write", 4, -30, 9);
            },
            400,
        );
        shop.work(30, 20);
    }
    assert_eq!(
        states(&shop),
        [
            IncidentState::Suspected,
            IncidentState::Resolved,
            IncidentState::Confirmed,
            IncidentState::Resolved
        ]
    );
}

#[test]
fn a_single_error_is_suspected_and_goes_away() {
    let mut shop = Shop::learnt();
    shop.request_with(
        |_| {},
        |c| {
            c.call("write", 4, -30, 9);
        },
        400,
    );
    shop.work(10, 20);
    assert_eq!(
        states(&shop),
        [IncidentState::Suspected, IncidentState::Resolved]
    );
    let resolved = shop.diagnoses()[1];
    assert_eq!(resolved.affected_calls, 1);
    assert!(
        resolved
            .ended_ns
            .is_some_and(|end| end < resolved.observed_ns)
    );
}

#[test]
fn coming_back_soon_is_the_same_incident() {
    let mut shop = Shop::learnt();
    for _ in 0..3 {
        disk_full(&mut shop, 3, 20);
        shop.work(6, 20);
    }
    let ids: BTreeSet<_> = shop
        .diagnoses()
        .iter()
        .map(|d| d.incident_id.clone())
        .collect();
    assert_eq!(ids.len(), 1);
    use IncidentState::*;
    assert_eq!(
        states(&shop),
        [
            Confirmed, Resolved, Confirmed, Resolved, Confirmed, Resolved
        ]
    );
    shop.work(30, 20);
    disk_full(&mut shop, 3, 20);
    let ids: BTreeSet<_> = shop
        .diagnoses()
        .iter()
        .map(|d| d.incident_id.clone())
        .collect();
    assert_eq!(ids.len(), 2, "later it is another one");
}

#[test]
fn affected_calls_come_between_first_word_and_last_and_are_bounded() {
    let mut shop = Shop::learnt();
    disk_full(&mut shop, 20, 100);
    shop.work(10, 20);
    let first = shop
        .reports
        .iter()
        .position(|r| matches!(r, Report::Diagnosis(_)));
    let affected = |r: &Report| matches!(r, Report::Affected(_));
    assert!(first < shop.reports.iter().position(affected));
    let last = shop.reports.last();
    assert!(matches!(last, Some(Report::Diagnosis(d)) if d.state == IncidentState::Resolved));
    let count = shop.reports.iter().filter(|r| affected(r)).count();
    let bound = DiagnosisConfig::default().affected_per_minute as usize;
    assert!((bound..=2 * bound).contains(&count), "{count}");
    assert!(
        shop.diagnoses()
            .last()
            .is_some_and(|d| d.affected_calls >= 1900)
    );
}

#[test]
fn loss_in_its_own_time_is_stated() {
    let mut shop = Shop::learnt();
    shop.lose(100_000);
    shop.work(5, 20);
    disk_full(&mut shop, 5, 20);
    assert_eq!(shop.confirmed().loss_ratio, 0.0);
    let mut shop = Shop::learnt();
    disk_full(&mut shop, 3, 20);
    shop.lose(10_000);
    disk_full(&mut shop, 4, 20);
    shop.work(10, 20);
    let resolved = *shop.diagnoses().last().unwrap();
    assert!(resolved.loss_ratio > 0.5, "{resolved:#?}");
}

/// A small generator (xorshift), so that a failing case is found again.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn feed_anything(shop: &mut Shop, seed: u64) {
    let mut numbers = Numbers(seed);
    for _ in 0..3000 {
        let container = numbers.next(5) as u16;
        let pid = 100 * (numbers.next(4) as u32 + 1);
        let at_ns = match numbers.next(20) {
            0 => 0,
            1 => u64::MAX,
            _ => shop.now.saturating_add(numbers.next(40 * SECOND)),
        };
        anything(shop, &mut numbers, container, pid, at_ns);
    }
}

fn anything(shop: &mut Shop, numbers: &mut Numbers, container: u16, pid: u32, at_ns: Nanos) {
    let fd = numbers.next(9) as i32 - 1;
    let (tid, ret) = (pid + numbers.next(3) as u32, numbers.next(150) as i64 - 140);
    let nr = numbers.next(440) as u16;
    let call = Call {
        nr,
        fd,
        ret,
        enter_ns: at_ns,
        duration_ns: numbers.next(u64::MAX),
        no_return: false,
        counted: false,
    };
    let engine = &mut shop.engine;
    match numbers.next(9) {
        0..3 => {
            let calls: Vec<_> = (0..numbers.next(6))
                .map(|i| WindowCall {
                    token: Token::new(numbers.next(440) as u16, ret),
                    role: [Role::None, Role::File, Role::Client, Role::Server][i as usize % 4],
                    fd,
                    ret,
                    enter_ns: at_ns,
                    duration_ns: numbers.next(SECOND),
                })
                .collect();
            let verdict = Verdict {
                surprise: vec![
                    [0.1, 9.0, f32::NAN][numbers.next(3) as usize];
                    numbers.next(8) as usize
                ],
                expected: vec![numbers.next(9) as u16; numbers.next(8) as usize],
            };
            let window = Window {
                container,
                pid,
                tid,
                sequence: 0,
                weight: 1,
                whole: true,
                calls,
            };
            engine.on_window(&JudgedWindow {
                window,
                pattern: Some(7),
                verdict: Some(verdict),
            });
        }
        3 => {
            let exchange = Exchange {
                pid,
                tid,
                fd,
                role: [Role::Client, Role::Server, Role::Other][numbers.next(3) as usize],
                peer: (numbers.next(2) == 0).then(|| REDIS_AT.to_owned()),
                sent_ns: at_ns,
                received_ns: numbers.next(2) * numbers.next(u64::MAX),
                failed: (numbers.next(3) == 0).then_some(Outcome::Ok),
            };
            engine.on_exchange(container, &exchange);
            engine.on_pending(container, &[exchange]);
        }
        4 => {
            let event = match numbers.next(4) {
                0 => LifecycleEvent::Fork {
                    child_pid: pid + 100,
                    child_tid: tid,
                },
                1 => LifecycleEvent::Exec {
                    executable: "/bin/x".into(),
                },
                2 => LifecycleEvent::Exit {
                    code: ret as i32,
                    group_dead: true,
                },
                _ => LifecycleEvent::OomKill,
            };
            engine.on_record(&Record::Lifecycle(Lifecycle {
                at_ns,
                container,
                pid,
                tid,
                event,
            }));
        }
        5 => {
            let threads = vec![ThreadState {
                container,
                pid,
                tid,
                state: [RunState::Running, RunState::Stopped, RunState::Frozen][fd as usize % 3],
                inside: None,
                last: Some(call),
            }];
            engine.on_record(&Record::Threads(ThreadsSnapshot { at_ns, threads }));
        }
        6 => engine.on_stability(container, at_ns, f64::from(tid) % 1.0, &[]),
        7 => {
            let subject = Subject::Path(format!("/{fd}"));
            let detail = Detail {
                at_ns,
                container,
                pid,
                tid,
                nr,
                fd,
                ret,
                subject,
            };
            engine.on_record(&Record::Detail(detail));
        }
        _ => engine.on_record(&Record::Tick(Tick {
            at_ns,
            accounts: vec![(
                container,
                Account {
                    seen: numbers.next(u64::MAX),
                    ..Account::default()
                },
            )],
            skipped_recursion: 0,
        })),
    }
    shop.reports.extend(shop.engine.drain());
}

#[test]
fn any_order_is_survived_and_gives_the_same_again() {
    for seed in 1..8 {
        let mut runs = [Shop::learnt(), Shop::learnt()];
        for shop in &mut runs {
            feed_anything(shop, seed);
        }
        assert_eq!(runs[0].reports, runs[1].reports);
        let confidences = runs[0].diagnoses().into_iter().map(|d| d.confidence);
        assert!(confidences.into_iter().all(|c| (0.0..=1.0).contains(&c)));
    }
}
