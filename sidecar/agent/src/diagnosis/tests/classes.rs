//! Each class from its cause.

use super::shop::*;
use crate::diagnosis::report::FaultClass::{self, *};
use crate::diagnosis::report::{IncidentState, Report};
use crate::record::*;

/// Twelve seconds in which every request fails at `break_it` in the catalog, then normal work.
fn break_catalog(break_it: impl Fn(&mut Calls)) -> Shop {
    let mut shop = Shop::learnt();
    shop.each_second(12, |shop| {
        shop.requests(20, |shop| {
            shop.request_with(|_| {}, |calls| break_it(calls), 400)
        });
    });
    shop.work(15, 20);
    shop
}

/// The catalog asks for a new connection per request and gets `ret`.
fn connect_fails(ret: i64) -> Shop {
    break_catalog(move |calls| {
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
    assert!(
        line.starts_with("connect ECONNREFUSED 127.0.0.1:6379: "),
        "{line}"
    );
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
        shop.requests(20, |shop| {
            let mut calls = shop.calls(CATALOG, 1);
            calls.call("read", 5, 100, 5).call("socket", -1, 12, 5);
            calls.connect(REDIS_AT, 12, -115);
            calls
                .call("poll", -1, 1, 20)
                .call("getsockopt", 12, 0, 2)
                .call("close", 12, 0, 2);
            calls.call("write", 5, 200, 15);
            shop.run(calls);
        });
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
    let shop = break_catalog(|calls| {
        calls.call("socket", -1, 12, 5).connect(REDIS_AT, 12, 0);
        calls
            .call("sendto", 12, 30, 9)
            .call("recvfrom", 12, -104, 300)
            .call("close", 12, 0, 2);
    });
    shop.expect(DependencyReset, "catalog → 127.0.0.1:6379");
}

#[test]
fn closed_in_the_middle_of_an_exchange() {
    let shop = break_catalog(|calls| {
        calls.call("socket", -1, 12, 5).connect(REDIS_AT, 12, 0);
        calls
            .call("sendto", 12, 30, 9)
            .call("recvfrom", 12, 0, 300)
            .call("close", 12, 0, 2);
    });
    shop.expect(DependencyReset, "catalog → 127.0.0.1:6379");
}

fn write_fails(name: &'static str, ret: i64) -> Shop {
    let mut shop = Shop::learnt();
    shop.each_second(12, |shop| {
        shop.requests(20, |shop| {
            shop.request_with(
                |_| {},
                |c| {
                    c.call(name, 4, ret, 9);
                },
                400,
            );
            // The descriptor is looked up after the error.
            shop.engine.on_record(&Record::Descriptor(DescriptorInfo {
                at_ns: shop.now,
                pid: pid(CATALOG),
                fd: 4,
                target: DescriptorTarget::File("/data/orders.log".into()),
            }));
        });
    });
    shop.work(15, 20);
    shop
}

#[test]
fn disks() {
    let cases: [(&str, i64, FaultClass); 6] = [
        ("write", -28, DiskFull),
        ("fsync", -28, DiskFull),
        ("write", -122, DiskQuota),
        ("write", -27, DiskQuota),
        ("fsync", -5, DiskIoError),
        ("write", -30, DiskReadOnly),
    ];
    for (name, ret, class) in cases {
        let shop = write_fails(name, ret);
        let diagnosis = shop.expect(class, "/data/orders.log");
        assert!(diagnosis.local);
        assert_eq!(diagnosis.container, CATALOG);
    }
}

#[test]
fn files() {
    let shop = break_catalog(|c| {
        c.open("/etc/prices.json", -2);
    });
    let diagnosis = shop.expect(FileMissing, "/etc/prices.json");
    assert!(
        diagnosis.message.contains("does not exist"),
        "{}",
        diagnosis.message
    );
    break_catalog(|c| {
        c.open("/etc/key", -13);
    })
    .expect(PermissionDenied, "/etc/key");
}

#[test]
fn limits() {
    let process = "catalog (pid 200)";
    break_catalog(|c| {
        c.open("/data/item", -24);
    })
    .expect(FdExhausted, process);
    for (name, ret, class) in [
        ("accept4", -24, FdExhausted),
        ("clone3", -11, ThreadLimit),
        ("mmap", -12, MemoryLimit),
        ("bind", -98, PortInUse),
    ] {
        let mut shop = break_catalog(|c| {
            c.call(name, 3, ret, 3);
        });
        // No such call comes again: the silence ends it.
        shop.work(20, 20);
        shop.expect(class, process);
    }
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
fn slow_disk() {
    let mut shop = Shop::learnt();
    shop.each_second(8, |shop| {
        shop.requests(10, |shop| {
            shop.request_with(
                |_| {},
                |c| {
                    c.call("fsync", 4, 0, 80_000);
                },
                400,
            );
        });
    });
    shop.work(20, 20);
    let diagnosis = shop.confirmed();
    assert_eq!(
        (diagnosis.class, diagnosis.container),
        (DiskSlow, CATALOG),
        "{}",
        shop.brief()
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
        calls.call("socket", -1, 12, 5).connect(REDIS_AT, 12, 0);
        calls
            .call("sendto", 12, 30, 9)
            .call("recvfrom", 12, -11, 500_000)
            .call("close", 12, 0, 2);
        shop.run(calls);
    });
    shop.work(10, 20);
    shop.expect(DependencyHung, "catalog → 127.0.0.1:6379");
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

#[test]
fn config_regression() {
    let mut shop = Shop::learnt();
    shop.each_second(40, |shop| {
        // A new connection per request, and no cache: no error anywhere.
        shop.requests(20, |shop| {
            shop.request_with(
                |_| {},
                |c| {
                    c.call("lseek", 4, 0, 3)
                        .call("fsync", 4, 0, 800)
                        .call("lseek", 4, 0, 3);
                },
                400,
            );
        });
    });
    shop.work(20, 20);
    let diagnosis = shop.expect(ConfigRegression, "catalog (pid 200)");
    let first = shop.diagnoses()[0];
    assert!(
        first.observed_ns - first.onset_ns >= 9 * SECOND,
        "{first:#?}"
    );
    assert!(
        diagnosis.actual.contains(&"lseek:ok".to_owned()),
        "{}",
        shop.brief()
    );
}

#[test]
fn unknown_when_no_class_explains_it() {
    let mut shop = Shop::learnt();
    shop.each_second(30, |shop| {
        shop.requests(20, |shop| {
            shop.request_with(
                |_| {},
                |c| {
                    c.call("ioctl", 4, -22, 3);
                },
                400,
            );
        });
    });
    shop.work(15, 20);
    let diagnosis = shop.confirmed();
    assert_eq!(diagnosis.class, Unknown, "{}", shop.brief());
    assert!(
        diagnosis.evidence[0].starts_with("ioctl EINVAL"),
        "{}",
        shop.brief()
    );
}

#[test]
fn unexpected_exec() {
    let mut shop = Shop::learnt();
    shop.lifecycle(
        API,
        900,
        LifecycleEvent::Exec {
            executable: "/bin/health".into(),
        },
    );
    shop.work(2, 20);
    // Started by a name that is a link to a known file.
    shop.lifecycle(
        API,
        902,
        LifecycleEvent::Exec {
            executable: "/bin/link".into(),
        },
    );
    shop.engine.on_record(&Record::Process(ProcessInfo {
        at_ns: shop.now,
        container: API,
        pid: 902,
        executable: "health".into(),
        command_line: vec!["/bin/link".into()],
        environment: Vec::new(),
        listens: Vec::new(),
    }));
    shop.work(2, 20);
    assert_eq!(shop.reports, []);
    shop.lifecycle(
        API,
        901,
        LifecycleEvent::Exec {
            executable: "/bin/sh".into(),
        },
    );
    shop.work(20, 20);
    shop.expect(ExecUnexpected, "/bin/sh");
}

#[test]
fn crash_loop_and_its_end() {
    let mut shop = Shop::learnt();
    let killed = || LifecycleEvent::Exit {
        code: 9,
        group_dead: true,
    };
    shop.lifecycle(CATALOG, pid(CATALOG), killed());
    shop.gone.insert(CATALOG);
    for restart in 0..4 {
        shop.each_second(2, |_| {});
        let exec = LifecycleEvent::Exec {
            executable: executable(CATALOG),
        };
        shop.lifecycle(CATALOG, 600 + restart, exec);
        shop.each_second(1, |_| {});
        if restart < 3 {
            shop.lifecycle(CATALOG, 600 + restart, killed());
        }
    }
    shop.each_second(40, |_| {});
    let diagnosis = shop.expect(ProcessCrashLoop, "catalog (pid 601)");
    assert!(diagnosis.dying);
}

#[test]
fn out_of_memory() {
    let mut shop = Shop::learnt();
    shop.lifecycle(CATALOG, pid(CATALOG), LifecycleEvent::OomKill);
    let killed = LifecycleEvent::Exit {
        code: 9,
        group_dead: true,
    };
    shop.lifecycle(CATALOG, pid(CATALOG), killed);
    shop.gone.insert(CATALOG);
    shop.each_second(20, |_| {});
    let diagnosis = shop.expect(MemoryLimit, "catalog (pid 200)");
    assert!(diagnosis.dying);
}

#[test]
fn without_a_model_only_what_needs_none() {
    let mut shop = Shop::new();
    shop.each_second(5, |shop| {
        shop.requests(20, |shop| {
            shop.request_with(
                |_| {},
                |c| {
                    c.open("/x", -2)
                        .connect(REDIS_AT, 12, -111)
                        .call("read", 5, -104, 5);
                },
                400,
            );
        });
    });
    shop.lifecycle(
        API,
        901,
        LifecycleEvent::Exec {
            executable: "/bin/sh".into(),
        },
    );
    shop.freeze(REDIS);
    shop.each_second(5, |_| {});
    assert_eq!(shop.reports, []);
    shop.each_second(5, |shop| {
        shop.requests(20, |shop| {
            shop.request_with(
                |_| {},
                |c| {
                    c.call("write", 4, -28, 9);
                },
                400,
            );
        });
    });
    assert_eq!(shop.confirmed().class, DiskFull);
    assert!(
        shop.reports
            .iter()
            .any(|r| matches!(r, Report::Affected(_)))
    );
    assert_eq!(shop.diagnoses()[0].state, IncidentState::Confirmed);
}
