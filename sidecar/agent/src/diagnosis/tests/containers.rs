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

/// One request every few seconds: there is no second error to wait for.
#[test]
fn a_limit_or_a_disk_that_fails_or_is_full_says_so_once_and_a_read_only_one_twice() {
    let disks = [(-5, true), (-28, true), (-122, true), (-30, false)];
    let disks = disks.map(|(ret, confirmed)| ("fsync", 4, ret, confirmed));
    let limits = [("socket", -1, -24, true), ("clone3", -1, -11, true)];
    let limits = limits.into_iter().chain([("mmap", -1, -12, false)]);
    for (name, fd, ret, confirmed) in disks.into_iter().chain(limits) {
        let mut shop = Shop::learnt();
        shop.request_with(
            |_| {},
            |c| {
                c.call(name, fd, ret, 9);
            },
            400,
        );
        shop.work(10, 20);
        let states: Vec<_> = shop.diagnoses().iter().map(|d| d.state).collect();
        let said = states.contains(&IncidentState::Confirmed);
        assert_eq!(said, confirmed, "{name} {ret}: {}", shop.brief());
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
        let said = shop
            .diagnoses()
            .iter()
            .any(|d| d.state == IncidentState::Confirmed);
        assert_eq!(said, confirmed, "{}", shop.brief());
    }
}

/// Its open was only counted.
#[test]
fn input_output_errors_of_what_is_not_known_to_be_a_file() {
    for (fd, confirmed) in [(33, true), (2, false)] {
        let mut shop = Shop::learnt();
        shop.request_with(
            |_| {},
            |c| {
                c.call("write", fd, -5, 9);
            },
            400,
        );
        shop.work(10, 20);
        let classes: Vec<_> = shop.diagnoses().iter().map(|d| d.class).collect();
        let said = classes.contains(&DiskIoError);
        assert_eq!(said, confirmed, "{fd}: {}", shop.brief());
    }
}

/// Where learning made a connection for one request in fifteen, and a gap after an answer for the others.
#[test]
fn connections_that_are_closed_after_each_answer_as_some_were() {
    fn asks(calls: &mut Calls, idle_us: u64) {
        calls.call("socket", -1, 12, 5).connect(REDIS_AT, 12, 0);
        calls
            .call("sendto", 12, 30, 9)
            .call("recvfrom", 12, 90, 300)
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

/// One request every few seconds: there is no second error to wait for.
#[test]
fn a_file_that_used_to_open_is_forbidden_or_missing_once() {
    for (path, ret, confirmed) in [
        ("/data/item", -13, true),
        ("/data/other", -13, false),
        ("/data/item", -2, true),
        ("/data/other", -2, false),
    ] {
        let mut shop = Shop::learnt();
        shop.request_with(
            |_| {},
            |c| {
                c.open(path, ret);
            },
            400,
        );
        shop.work(10, 1);
        let said = shop
            .diagnoses()
            .iter()
            .any(|d| d.state == IncidentState::Confirmed);
        assert_eq!(said, confirmed, "{path}: {}", shop.brief());
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
    shop.lifecycle(
        API,
        901,
        LifecycleEvent::Exit {
            code: 0,
            group_dead: true,
        },
    );
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
