//! Classes whose cause is in the container itself: each from its calls.

use super::shop::*;
use crate::diagnosis::report::FaultClass::{self, *};
use crate::diagnosis::report::{IncidentState, Report};
use crate::record::*;

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
    let shop = Shop::broken_catalog(|c| {
        c.open("/data/item", -2);
    });
    let diagnosis = shop.expect(FileMissing, "/data/item");
    assert!(
        diagnosis.message.contains("does not exist"),
        "{}",
        diagnosis.message
    );
    Shop::broken_catalog(|c| {
        c.open("/etc/key", -13);
    })
    .expect(PermissionDenied, "/etc/key");
}

/// Its thread looks for another file within microseconds that never was there.
#[test]
fn a_file_that_is_looked_for_in_vain_as_always_is_not_taken_for_the_missing_one() {
    let mut shop = Shop::learnt_with(|calls| {
        calls.open("/etc/override", -2);
    });
    let mut missing = 0;
    shop.requests(20, |shop| {
        missing += 1;
        let looks = |calls: &mut Calls| {
            calls.open("/data/item", -2);
        };
        shop.request_with(|_| {}, looks, 400);
    });
    shop.work(10, 20);
    shop.expect(FileMissing, "/data/item");
    let affected = shop.diagnoses().last().map(|last| last.affected_calls);
    assert_eq!(affected, Some(missing));
}

/// A server that starts again removes files, its processes look for them at once, and one makes them anew.
/// Where the file is missing indeed, they do so again and again.
#[test]
fn processes_that_start_at_once_may_all_look_for_a_file_that_is_about_to_be_made() {
    for (every, confirmed) in [(MS, false), (SECOND / 4, true)] {
        let mut shop = Shop::learnt();
        let start = shop.now;
        for number in 0..8 {
            shop.now = start + u64::from(number) * every;
            let child = 5000 + number;
            let fork = LifecycleEvent::Fork {
                child_pid: child,
                child_tid: child,
            };
            shop.lifecycle(CATALOG, pid(CATALOG), fork);
            shop.now += MS / 4;
            let mut calls = shop.calls(CATALOG, 1);
            (calls.pid, calls.tid) = (child, child);
            calls.open("/data/item", -2);
            shop.run(calls);
        }
        shop.now = start;
        shop.work(10, 20);
        let said = shop.has_confirmed();
        assert_eq!(said, confirmed, "{}", shop.brief());
    }
}

#[test]
fn limits() {
    let process = "catalog (pid 200)";
    Shop::broken_catalog(|c| {
        c.open("/data/item", -24);
    })
    .expect(FdExhausted, process);
    for (name, ret, class) in [
        ("accept4", -24, FdExhausted),
        ("clone3", -11, ThreadLimit),
        ("mmap", -12, MemoryLimit),
        ("bind", -98, PortInUse),
    ] {
        let mut shop = Shop::broken_catalog(|c| {
            c.call(name, 3, ret, 3);
        });
        // No such call comes again: the silence ends it.
        shop.work(20, 20);
        shop.expect(class, process);
    }
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
    // Started by a name that is a link to a known file; described before or after.
    for (pid, before) in [(902, true), (903, false)] {
        let info = Record::Process(ProcessInfo {
            at_ns: shop.now,
            container: API,
            pid,
            executable: "health".into(),
            command_line: vec!["/bin/link".into()],
            environment: Vec::new(),
            listens: Vec::new(),
        });
        if before {
            shop.engine.on_record(&info);
        }
        let executable = "/bin/link".to_owned();
        shop.lifecycle(API, pid, LifecycleEvent::Exec { executable });
        if !before {
            shop.engine.on_record(&info);
        }
        shop.work(2, 20);
    }
    assert_eq!(shop.reports, []);
    shop.lifecycle(
        API,
        901,
        LifecycleEvent::Exec {
            executable: "/bin/sh".into(),
        },
    );
    shop.work(20, 20);
    shop.ends(API, 901, 0);
    shop.work(20, 20);
    shop.expect(ExecUnexpected, "/bin/sh");
}

#[test]
fn a_script_and_what_it_starts_are_one_incident() {
    let mut shop = Shop::learnt();
    for (pid, program) in [
        (901, "/bin/sh"),
        (902, "/usr/bin/id"),
        (903, "/usr/bin/curl"),
    ] {
        shop.exec(pid, program);
        shop.work(1, 20);
    }
    for pid in [903, 902, 901] {
        shop.exit(pid);
    }
    shop.work(20, 20);
    let diagnosis = shop.expect(ExecUnexpected, "/bin/sh");
    let evidence = diagnosis.evidence.join("\n");
    assert!(evidence.contains("/bin/sh"), "{evidence}");
    let ended = shop.diagnoses().last().unwrap().evidence.join("\n");
    assert!(ended.contains("/usr/bin/curl"), "{ended}");
}

/// Catalog ends each time with `code`, three seconds after it was started; the last one stays.
fn catalog_ends(code: i32, times: u32) -> Shop {
    let mut shop = Shop::learnt();
    shop.ends(CATALOG, pid(CATALOG), code);
    shop.gone.insert(CATALOG);
    for restart in 1..=times {
        shop.each_second(2, |_| {});
        shop.starts(CATALOG, 599 + restart);
        shop.each_second(1, |_| {});
        if restart < times {
            shop.ends(CATALOG, 599 + restart, code);
        }
    }
    shop.each_second(40, |_| {});
    shop
}

#[test]
fn crash_loop_and_its_end() {
    let diagnosis = catalog_ends(9, 4)
        .expect(ProcessCrashLoop, "catalog (pid 600)")
        .clone();
    assert!(diagnosis.dying);
    let lines = diagnosis.evidence.join("\n");
    assert!(lines.contains("ended 2 times in 3"), "{lines}");
}

#[test]
fn a_crash_is_suspected_at_once_and_the_second_is_a_loop() {
    let shop = catalog_ends(11, 2);
    let said: Vec<_> = shop
        .diagnoses()
        .iter()
        .map(|d| (d.class, d.state))
        .collect();
    let first = (ProcessCrashLoop, IncidentState::Suspected);
    assert_eq!(said.first(), Some(&first), "{}", shop.brief());
    assert!(shop.diagnoses()[0].message.contains("crashed"));
    let confirmed = said.contains(&(ProcessCrashLoop, IncidentState::Confirmed));
    assert!(confirmed, "{}", shop.brief());
    assert_eq!(
        said.last(),
        Some(&(ProcessCrashLoop, IncidentState::Resolved))
    );
}

#[test]
fn one_crash_stays_a_suspicion() {
    for code in [4, 6, 7, 8, 11] {
        let shop = catalog_ends(code, 1);
        let said: Vec<_> = shop
            .diagnoses()
            .iter()
            .map(|d| (d.class, d.state))
            .collect();
        let expected = [
            (ProcessCrashLoop, IncidentState::Suspected),
            (ProcessCrashLoop, IncidentState::Resolved),
        ];
        assert_eq!(said, expected, "signal {code}: {}", shop.brief());
    }
}

#[test]
fn processes_that_end_together_are_no_loop() {
    let mut shop = Shop::learnt();
    shop.ends(CATALOG, pid(CATALOG), 256);
    for worker in 0..5 {
        shop.starts(CATALOG, 700 + worker);
    }
    shop.work(3, 20);
    (0..5).for_each(|worker| shop.ends(CATALOG, 700 + worker, 256));
    shop.work(10, 20);
    assert_eq!(shop.reports, []);
}

/// A server that is killed takes its workers with it, and makes anew at its start what they look for at once.
#[test]
fn what_is_missed_by_workers_of_a_server_that_crashes_is_not_missing() {
    let mut shop = Shop::learnt();
    for start in 0..4 {
        let main = if start == 0 {
            pid(CATALOG)
        } else {
            700 + 10 * start
        };
        if start > 0 {
            shop.starts(CATALOG, main);
        }
        for worker in 1..=3 {
            let pid = 700 + 10 * start + worker;
            shop.starts(CATALOG, pid);
            let mut calls = shop.calls(CATALOG, 1);
            (calls.pid, calls.tid) = (pid, pid);
            calls.open("/data/item", -2);
            shop.run(calls);
        }
        shop.each_second(if start == 3 { 40 } else { 2 }, |_| {});
        if start < 3 {
            shop.ends(CATALOG, main, 9);
            (1..=3).for_each(|worker| shop.ends(CATALOG, 700 + 10 * start + worker, 256));
        }
    }
    shop.expect(ProcessCrashLoop, "catalog (pid 710)");
}

#[test]
fn who_is_asked_to_end_or_fails_twice_is_not_in_a_loop() {
    for code in [15, 2, 1, 256] {
        assert_eq!(catalog_ends(code, 2).diagnoses().len(), 0, "code {code}");
    }
    catalog_ends(256, 3).expect(ProcessCrashLoop, "catalog (pid 601)");
}

#[test]
fn out_of_memory() {
    let mut shop = Shop::learnt();
    shop.lifecycle(CATALOG, pid(CATALOG), LifecycleEvent::OomKill);
    shop.ends(CATALOG, pid(CATALOG), 9);
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

#[test]
fn a_process_that_stood_still_before_the_start_is_frozen() {
    let mut shop = Shop::learnt();
    shop.freeze_unseen(REDIS);
    let began = shop.now;
    shop.each_second(6, |_| {});
    let report = shop.confirmed();
    assert_eq!((report.class, report.container), (ProcessFrozen, REDIS));
    assert!(report.onset_ns >= began);
}
