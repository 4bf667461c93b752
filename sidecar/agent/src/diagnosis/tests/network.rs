//! What counters of the network and sockets say of a peer.

use super::shop::*;
use crate::diagnosis::report::FaultClass::{self, *};
use crate::record::*;

/// Counters of a second of 500 segments.
fn counted(again: u64) -> NetworkCounters {
    NetworkCounters {
        sent: 500,
        sent_again: again,
        ..NetworkCounters::default()
    }
}

/// What the pod's namespace counts, second by second.
#[derive(Default)]
struct Namespace(NetworkCounters);

impl Namespace {
    fn add(&mut self, counted: NetworkCounters) -> Option<NetworkCounters> {
        let all = &mut self.0;
        all.sent += counted.sent;
        all.sent_again += counted.sent_again;
        all.syn_again += counted.syn_again;
        all.still_queued += counted.still_queued;
        all.unreachable += counted.unreachable;
        Some(self.0)
    }
}

fn told(shop: &mut Shop, counters: Option<NetworkCounters>, sockets: Vec<SocketState>) {
    shop.engine.on_record(&Record::Network(NetworkState {
        at_ns: shop.now + SECOND - MS,
        pid: pid(CATALOG),
        counters,
        sockets,
    }));
}

/// Seconds in which one request in five loses a segment between catalog and redis, as far as the
/// calls show it.
fn late_answers(seconds: u64, counted: Option<NetworkCounters>) -> Shop {
    let mut shop = Shop::learnt();
    let mut namespace = Namespace::default();
    shop.each_second(seconds, |shop| {
        let mut number = 0;
        shop.requests(20, |shop| {
            number += 1;
            let wait_us = if number % 5 == 0 { 230_000 } else { 300 };
            shop.request_with(|_| {}, |_| {}, wait_us);
        });
        if let Some(counted) = counted {
            let counters = namespace.add(counted);
            told(shop, counters, Vec::new());
        }
    });
    shop
}

#[test]
fn lost_segments_are_told_from_a_slow_peer() {
    let mut shop = late_answers(12, Some(counted(40)));
    let first = shop.diagnoses()[0].clone();
    assert!(
        first.observed_ns - first.onset_ns <= 10 * SECOND,
        "{first:#?}"
    );
    shop.work(40, 20);
    let diagnosis = shop.expect(NetworkLoss, "catalog → 127.0.0.1:6379");
    assert!(!diagnosis.local);
    assert!(
        diagnosis.evidence[0].contains("sent again"),
        "{:?}",
        diagnosis.evidence
    );
}

/// Seconds in which one answer in five is late, and the socket to redis sends so many segments again
/// in each, few among those of the namespace.
fn late_answers_of_a_socket(again: u32, rtt_us: u32) -> Shop {
    let mut shop = Shop::learnt();
    let (mut namespace, mut sent_again) = (Namespace::default(), 0);
    shop.each_second(14, |shop| {
        let mut number = 0;
        shop.requests(20, |shop| {
            number += 1;
            let wait_us = if number % 10 == 0 { 230_000 } else { 300 };
            shop.request_with(|_| {}, |_| {}, wait_us);
        });
        sent_again += again;
        let counters = namespace.add(counted(2));
        let seen = SocketState {
            sent_again,
            rtt_us,
            ..socket(SocketState::ESTABLISHED, 0, 0)
        };
        told(shop, counters, vec![seen]);
    });
    shop.work(40, 20);
    shop
}

#[test]
fn a_socket_that_sends_again_tells_of_loss_that_is_little_in_all() {
    let shop = late_answers_of_a_socket(1, 400);
    shop.expect(NetworkLoss, "catalog → 127.0.0.1:6379");
    // It sent again before, at some time; or the way itself takes longer than the timer.
    assert_none(&late_answers_of_a_socket(0, 400), NetworkLoss);
    assert_none(&late_answers_of_a_socket(1, 250_000), NetworkLoss);
}

#[test]
fn what_only_asks_for_connections_is_no_loss() {
    let connects = NetworkCounters {
        syn_again: 40,
        ..counted(40)
    };
    let shop = late_answers(12, Some(connects));
    assert_none(&shop, NetworkLoss);
}

/// Short connections lose those first: what else is lost may be little.
#[test]
fn what_asks_for_connections_is_lost_with_the_rest() {
    let connects = NetworkCounters {
        syn_again: 36,
        ..counted(44)
    };
    let mut shop = late_answers(5, Some(connects));
    shop.work(40, 20);
    let diagnosis = shop.expect(NetworkLoss, "catalog → 127.0.0.1:6379");
    let share = "sent again, answers from 127.0.0.1:6379 late: 9 % now";
    let first = &diagnosis.evidence[0];
    assert!(first.contains(share), "{first}");
}

#[test]
fn segments_that_stay_on_this_machine_tell_a_narrow_way() {
    let late = NetworkCounters {
        still_queued: 36,
        ..counted(40)
    };
    let mut shop = late_answers(12, Some(late));
    shop.work(40, 20);
    shop.expect(NetworkThrottled, "catalog → 127.0.0.1:6379");
}

#[test]
fn without_counters_nothing_is_lost() {
    assert_none(&late_answers(12, None), NetworkLoss);
}

#[test]
fn lost_segments_that_nobody_feels_are_silent() {
    let mut shop = Shop::learnt();
    let mut namespace = Namespace::default();
    shop.each_second(20, |shop| {
        shop.requests(20, Shop::request);
        let counters = namespace.add(counted(40));
        told(shop, counters, Vec::new());
    });
    assert_eq!(shop.reports, []);
}

#[test]
fn five_times_the_load_is_silent() {
    let mut shop = Shop::learnt();
    let mut namespace = Namespace::default();
    shop.each_second(20, |shop| {
        shop.requests(100, Shop::request);
        let five = NetworkCounters {
            sent: 2500,
            ..counted(10)
        };
        let counters = namespace.add(five);
        told(shop, counters, Vec::new());
    });
    assert_eq!(shop.reports, []);
}

fn assert_none(shop: &Shop, class: FaultClass) {
    let found = shop.diagnoses().iter().any(|d| d.class == class);
    assert!(!found, "{}", shop.brief());
}

fn socket(state: u8, unacknowledged: u32, retries: u8) -> SocketState {
    SocketState {
        pid: pid(CATALOG),
        fd: 7,
        peer: (state == SocketState::ESTABLISHED).then(|| REDIS_AT.to_owned()),
        state,
        unacknowledged,
        retries,
        ..SocketState::default()
    }
}

/// The catalog's request to a redis that is no container of the pod gets no answer; its socket stands
/// as it is told.
fn stuck(counted: NetworkCounters, sockets: &[SocketState]) -> Shop {
    let mut shop = Shop::learnt();
    let mut namespace = Namespace::default();
    told(&mut shop, Some(namespace.0), Vec::new());
    let mut catalog = shop.calls(CATALOG, 1);
    catalog.call("read", 5, 100, 5).call("sendto", 7, 30, 20);
    shop.run(catalog);
    let mut asked = false;
    shop.each_second(8, |shop| {
        let wanted = shop.engine.sockets();
        asked |= wanted.is_some_and(|wanted| wanted.contains(&(pid(CATALOG), 7)));
        let seen = if asked { sockets.to_vec() } else { Vec::new() };
        let counters = namespace.add(counted);
        told(shop, counters, seen);
    });
    assert!(asked, "the socket of what waits is looked at");
    shop
}

fn first_is(shop: &Shop, class: FaultClass, within: u64) {
    let first = &shop.diagnoses()[0];
    assert_eq!(first.class, class, "{}", shop.brief());
    let confirmed = shop.confirmed();
    assert_eq!(confirmed.class, class, "{}", shop.brief());
    assert!(
        confirmed.observed_ns - confirmed.onset_ns <= within,
        "{confirmed:#?}"
    );
}

#[test]
fn what_is_acknowledged_and_not_answered_hangs() {
    let shop = stuck(counted(0), &[socket(SocketState::ESTABLISHED, 0, 0)]);
    first_is(&shop, DependencyHung, 4 * SECOND);
}

/// The answer may have been lost, and come yet.
#[test]
fn an_answer_that_is_missing_while_segments_are_lost_is_waited_for() {
    let shop = stuck(counted(40), &[socket(SocketState::ESTABLISHED, 0, 0)]);
    let first = &shop.diagnoses()[0];
    assert!(
        first.observed_ns - first.onset_ns >= 9 * SECOND / 2,
        "{}",
        shop.brief()
    );
}

#[test]
fn what_is_not_acknowledged_went_into_a_black_hole() {
    let shop = stuck(counted(1), &[socket(SocketState::ESTABLISHED, 1, 2)]);
    first_is(&shop, DependencyBlackhole, 4 * SECOND);
}

#[test]
fn messages_that_there_is_no_way_say_so() {
    let unreachable = NetworkCounters {
        unreachable: 1,
        ..counted(1)
    };
    let shop = stuck(unreachable, &[socket(SocketState::ESTABLISHED, 1, 2)]);
    first_is(&shop, NetworkUnreachable, 4 * SECOND);
}

#[test]
fn a_full_queue_of_connections_is_no_black_hole() {
    let mut connects = socket(SocketState::SYN_SENT, 1, 3);
    connects.peer = None;
    let acknowledged = socket(SocketState::ESTABLISHED, 0, 0);
    let shop = stuck(counted(1), &[connects, acknowledged]);
    assert_eq!(shop.confirmed().class, DependencyHung, "{}", shop.brief());
}

#[test]
fn another_connection_with_the_number_says_nothing() {
    let other = SocketState {
        peer: Some("10.0.0.9:1".to_owned()),
        ..socket(SocketState::ESTABLISHED, 1, 5)
    };
    let shop = stuck(counted(1), &[other]);
    assert_none(&shop, DependencyBlackhole);
}

/// Connects that are given up at once, while the namespace counts so many messages a second.
fn refused_at_once(unreachable: u64) -> Shop {
    let mut shop = Shop::learnt();
    let mut namespace = Namespace::default();
    told(&mut shop, Some(namespace.0), Vec::new());
    shop.each_second(8, |shop| {
        shop.requests(20, Shop::request_that_gives_up_connecting);
        let messages = NetworkCounters {
            unreachable,
            ..counted(0)
        };
        let counters = namespace.add(messages);
        told(shop, counters, Vec::new());
    });
    shop
}

#[test]
fn connections_given_up_at_once_are_refused_or_have_no_way() {
    assert_eq!(refused_at_once(0).confirmed().class, DependencyRefused);
    assert_eq!(refused_at_once(20).confirmed().class, NetworkUnreachable);
}

#[test]
fn what_queues_on_the_way_for_seconds_tells_a_narrow_one() {
    let queues = SocketState {
        unsent_bytes: 4000,
        ..socket(SocketState::ESTABLISHED, 9, 0)
    };
    let found = |sockets: &[SocketState]| {
        let mut shop = Shop::learnt();
        shop.each_second(12, |shop| {
            shop.requests(4, |shop| shop.request_with(|_| {}, |_| {}, 240_000));
            let _ = shop.engine.sockets();
            told(shop, None, sockets.to_vec());
        });
        shop.work(40, 4);
        shop.confirmed().class
    };
    assert_eq!(found(&[]), DependencySlow);
    assert_eq!(found(&[queues]), NetworkThrottled);
}
