//! Normal changes that raise nothing.

use super::shop::*;
use crate::diagnosis::report::FaultClass::*;
use crate::record::*;

#[test]
fn load_up_and_down_and_idle() {
    let mut shop = Shop::learnt();
    shop.work(60, 100);
    shop.work(60, 4);
    shop.each_second(300, |_| {});
    shop.work(60, 20);
    assert_eq!(shop.reports, []);
}

/// Connections that nobody uses any more are closed one after the other.
#[test]
fn what_timers_do_while_nobody_asks() {
    for (at_once, every_seconds, silent) in [(1, 5, true), (4, 1, false)] {
        let mut shop = Shop::learnt();
        shop.each_second(20, |_| {});
        for second in 0..150 {
            shop.each_second(1, |shop| {
                let times = if second % every_seconds == 0 {
                    at_once
                } else {
                    0
                };
                shop.requests(times, |shop| {
                    let mut api = shop.calls(API, 1);
                    api.call("epoll_wait", 3, 0, 1000).call("shutdown", 9, 0, 3);
                    shop.run(api);
                });
            });
        }
        assert_eq!(shop.reports.is_empty(), silent, "{}", shop.brief());
    }
}

#[test]
fn half_as_slow_again() {
    let mut shop = Shop::learnt();
    shop.each_second(120, |shop| {
        shop.requests(20, |shop| shop.request_with(|_| {}, |_| {}, 600));
    });
    assert_eq!(shop.reports, []);
}

#[test]
fn heavy_tails() {
    let mut shop = Shop::new();
    shop.heavy_tail = true;
    let mut shop = Shop::learnt_as(shop);
    shop.work(600, 20);
    assert_eq!(shop.reports, []);
}

#[test]
fn a_client_that_starts_before_its_dependency() {
    let mut shop = Shop::learnt();
    let exec = LifecycleEvent::Exec {
        executable: executable(CATALOG),
    };
    shop.lifecycle(CATALOG, 800, exec);
    for _ in 0..6 {
        let mut calls = shop.calls(CATALOG, 1);
        (calls.pid, calls.tid) = (800, 800);
        calls
            .call("socket", -1, 3, 5)
            .connect(REDIS_AT, 3, -111)
            .call("close", 3, 0, 2);
        shop.run(calls);
        shop.now += 250 * MS;
    }
    shop.work(20, 20);
    assert_eq!(shop.reports, []);
}

#[test]
fn requests_for_what_never_was_there() {
    let mut shop = Shop::learnt();
    let mut asked = 0;
    shop.each_second(60, |shop| {
        shop.requests(20, |shop| {
            asked += 1;
            let path = format!("/data/item-{}", asked % 40);
            let wrong = asked % 10 == 0;
            let open = |calls: &mut Calls| {
                if wrong {
                    calls.open(&path, -2);
                }
            };
            shop.request_with(|_| {}, open, 400);
        });
    });
    assert_eq!(shop.reports, []);
}

#[test]
fn one_slow_moment() {
    let mut shop = Shop::learnt();
    for _ in 0..10 {
        shop.requests(10, |shop| shop.request_with(|_| {}, |_| {}, 60_000));
        shop.now -= 900 * MS;
        shop.work(30, 20);
    }
    assert_eq!(shop.reports, []);
}

/// It refuses for a moment, and breaks off what it had begun.
#[test]
fn a_dependency_that_starts_again() {
    for (seconds, silent) in [(1, true), (3, false)] {
        let mut shop = Shop::learnt();
        let start = shop.now;
        for number in 0..10 * seconds {
            shop.now = start + number * 100 * MS;
            let mut calls = shop.calls(CATALOG, 1);
            match number {
                0 => calls.asks_anew(REDIS_AT, -104, 300),
                _ => calls.call("socket", -1, 12, 5).connect(REDIS_AT, 12, -111),
            };
            calls.call("close", 12, 0, 2);
            shop.run(calls);
        }
        shop.now = start;
        shop.each_second(seconds, |_| {});
        shop.work(15, 20);
        let confirmed = shop.has_confirmed();
        assert_eq!(confirmed, !silent, "{seconds}: {}", shop.brief());
    }
}

/// The api is refused by a catalog that ended with `code`, for six seconds or for half of one.
fn catalog_is_away(code: i32, long: bool) -> Shop {
    let mut shop = Shop::learnt();
    shop.work(5, 20);
    shop.ends(CATALOG, pid(CATALOG), code);
    let seconds = if long { 6 } else { 1 };
    shop.each_second(seconds, |shop| {
        let mut number = 0;
        shop.requests(20, |shop| {
            number += 1;
            if number > 10 && !long {
                return;
            }
            let mut calls = shop.calls(API, 1);
            calls
                .call("socket", -1, 12, 5)
                .connect(CATALOG_AT, 12, -111);
            calls.call("close", 12, 0, 2);
            shop.run(calls);
        });
    });
    shop.work(10, 20);
    shop
}

#[test]
fn a_container_that_was_asked_to_end_may_be_away_for_a_moment() {
    assert_eq!(catalog_is_away(15, false).reports, []);
    for shop in [catalog_is_away(15, true), catalog_is_away(9, false)] {
        assert_eq!(
            shop.confirmed().class,
            DependencyRefused,
            "{}",
            shop.brief()
        );
    }
}

#[test]
fn restart_of_a_known_process() {
    let mut shop = Shop::learnt();
    shop.work(10, 20);
    shop.ends(CATALOG, pid(CATALOG), 15);
    for child in 0..3 {
        shop.starts(CATALOG, 700 + child);
        let mut prologue = shop.calls(CATALOG, 1);
        (prologue.pid, prologue.tid) = (700 + child, 700 + child);
        for path in [
            "/etc/ld.so.preload",
            "/lib/a.so",
            "/lib/a.so",
            "/usr/lib/b.so",
            "/conf.d/x",
        ] {
            prologue.open(&format!("{path}{child}"), -2);
        }
        prologue
            .call("ioctl", 1, -25, 2)
            .call("access", -1, -2, 4)
            .call("brk", -1, 4096, 1);
        shop.run(prologue);
        shop.work(20, 20);
        if child < 2 {
            shop.ends(CATALOG, 700 + child, 0);
        }
    }
    assert_eq!(shop.reports, []);
}

#[test]
fn clients_come_and_go() {
    let mut shop = Shop::learnt();
    shop.each_second(60, |shop| {
        shop.work(1, 20);
        shop.now -= SECOND;
        let mut api = shop.calls(API, 2);
        api.call("accept4", 3, 20, 5)
            .call("read", 20, 10, 5)
            .call("write", 20, -32, 5);
        api.call("read", 20, -104, 5).call("close", 20, 0, 5);
        // An idle connection that the peer closes, and a new one.
        api.call("recvfrom", 6, 0, 5)
            .call("close", 6, 0, 5)
            .call("socket", -1, 6, 5);
        api.connect(CATALOG_AT, 6, 0);
        shop.run(api);
    });
    let alarms: Vec<_> = shop.diagnoses().iter().map(|d| d.class).collect();
    // The new calls are a lasting change of behaviour in a twentieth of the windows only.
    assert_eq!(alarms, []);
}

#[test]
fn nothing_there_yet_is_not_an_error() {
    let mut shop = Shop::learnt();
    shop.each_second(30, |shop| {
        shop.work(1, 20);
        shop.now -= SECOND;
        let mut calls = shop.calls(CATALOG, 3);
        calls
            .call("read", 11, -11, 2)
            .call("connect", 13, -115, 4)
            .call("futex", -1, -110, 900);
        shop.run(calls);
    });
    assert_eq!(shop.reports, []);
}

#[test]
fn a_path_that_is_looked_for_once() {
    let mut shop = Shop::learnt();
    // Log rotation: the file is away for a moment, then made anew.
    for rotation in 0..5 {
        shop.work(40, 20);
        let mut calls = shop.calls(CATALOG, 2);
        calls.call("rename", -1, 0, 9).call("close", 4, 0, 3);
        calls.open("/data/orders.log", 4).call("write", 4, 10, 30);
        if rotation == 0 {
            calls.open("/data/rotated", -2);
        }
        shop.run(calls);
    }
    let alarms: Vec<_> = shop
        .diagnoses()
        .iter()
        .map(|d| (d.class, d.state))
        .collect();
    assert!(
        alarms.len() <= 2,
        "at most suspected and resolved: {alarms:?}"
    );
}

#[test]
fn a_stalled_machine() {
    let mut shop = Shop::learnt();
    for _ in 0..3 {
        let mut catalog = shop.calls(CATALOG, 1);
        catalog.call("read", 5, 100, 5).call("sendto", 7, 30, 20);
        shop.run(catalog);
        shop.now += 20 * SECOND;
        shop.each_second(1, |_| {});
        let mut catalog = shop.calls(CATALOG, 1);
        catalog
            .call("recvfrom", 7, 90, 10)
            .call("write", 5, 200, 15);
        shop.run(catalog);
        shop.work(10, 20);
    }
    assert_eq!(shop.reports, []);
}

#[test]
fn busy_and_idle_processes_are_not_frozen() {
    let mut shop = Shop::learnt();
    let call = |ret| Call {
        nr: nr("write"),
        fd: 5,
        ret,
        enter_ns: shop.now,
        duration_ns: MS,
        no_return: false,
        counted: false,
    };
    let state = |tid, state, inside, last| ThreadState {
        container: REDIS,
        pid: 300,
        tid,
        state,
        inside,
        last,
    };
    let waits = InsideCall {
        nr: nr("futex"),
        fd: -1,
        enter_ns: shop.now,
    };
    let busy = vec![state(300, RunState::Running, None, Some(call(1)))];
    let idle = vec![
        state(300, RunState::Running, None, Some(call(-512))),
        state(301, RunState::Sleeping, Some(waits), Some(call(-4))),
    ];
    let one_of_two = vec![
        state(300, RunState::Stopped, None, Some(call(-512))),
        state(301, RunState::Sleeping, Some(waits), Some(call(-4))),
    ];
    let unseen = vec![state(300, RunState::Running, None, None)];
    for threads in [busy, idle, one_of_two, unseen] {
        for second in 1..20 {
            let at_ns = shop.now + second * SECOND;
            shop.engine.on_record(&Record::Threads(ThreadsSnapshot {
                at_ns,
                threads: threads.clone(),
            }));
        }
    }
    assert_eq!(shop.engine.drain(), []);
}

/// Clients ask for what is not there, as they always did.
#[test]
fn a_path_that_learning_asked_for_in_vain_is_asked_for_more() {
    let mut shop = Shop::learnt_with(|calls| {
        for _ in 0..9 {
            calls.open("/data/index", 9);
        }
        calls.open("/data/none", -2);
    });
    shop.each_second(30, |shop| {
        shop.requests(20, |shop| {
            let often = |calls: &mut Calls| {
                for _ in 0..40 {
                    calls.open("/data/none", -2);
                }
            };
            shop.request_with(|_| {}, often, 400);
        });
    });
    let missing = shop
        .diagnoses()
        .into_iter()
        .find(|d| d.class == FileMissing);
    assert_eq!(missing, None);
}

/// Processes of a server that starts again and again look for what it makes anew.
#[test]
fn a_file_that_is_made_anew_again_and_again() {
    for found in [true, false] {
        let mut shop = Shop::learnt();
        for start in 0..4 {
            shop.starts(CATALOG, 700 + start);
            let open = |shop: &mut Shop, ret| {
                let mut calls = shop.calls(CATALOG, 1);
                (calls.pid, calls.tid) = (700 + start, 700 + start);
                calls.open("/data/item", ret);
                shop.run(calls);
            };
            open(&mut shop, -2);
            shop.each_second(2, |_| {});
            if found {
                open(&mut shop, 9);
            }
            shop.each_second(8, |_| {});
        }
        let confirmed = shop.has_confirmed();
        assert_eq!(confirmed, !found, "{}", shop.brief());
    }
}

/// A server that asks for large pages first, started twice in a minute.
#[test]
fn memory_that_a_starting_process_does_not_get() {
    for (age, silent) in [(1, true), (8, false)] {
        let mut shop = Shop::learnt();
        shop.ends(CATALOG, pid(CATALOG), 256);
        for start in 0..2 {
            shop.starts(CATALOG, 700 + start);
            shop.work(age, 20);
            let mut calls = shop.calls(CATALOG, 1);
            (calls.pid, calls.tid) = (700 + start, 700 + start);
            calls.call("mmap", -1, -12, 3);
            shop.run(calls);
            shop.work(20, 20);
            shop.ends(CATALOG, 700 + start, 256);
        }
        assert_eq!(shop.reports.is_empty(), silent, "{}", shop.brief());
    }
}
