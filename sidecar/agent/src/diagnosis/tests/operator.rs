//! What an operator accepts and mutes, and what does not become normal by lasting.

use super::shop::*;
use crate::accepted::Accepted;
use crate::diagnosis::Refused;
use crate::diagnosis::report::FaultClass::*;
use crate::diagnosis::report::{FaultClass, IncidentState};
use crate::record::*;

impl Shop {
    /// As the pipeline does it.
    pub(super) fn accept(&mut self, id: &str) -> Accepted {
        let acceptance = self.engine.acceptance(id).unwrap();
        let mut catalog = Accepted::default();
        for (container, more) in acceptance.containers {
            let all = self.engine.accepted(container).merged(&more).unwrap();
            if container == CATALOG {
                catalog = all.clone();
            }
            self.engine.set_accepted(container, all);
        }
        self.engine.close_accepted(&acceptance.incident_id);
        self.reports.extend(self.engine.drain());
        catalog
    }

    pub(super) fn last_id(&self) -> String {
        self.diagnoses().last().unwrap().incident_id.clone()
    }

    fn classes(&self) -> Vec<(FaultClass, IncidentState)> {
        let all = self.diagnoses();
        all.iter().map(|d| (d.class, d.state)).collect()
    }

    /// Requests with a call of the catalog that is not as learned.
    fn odd(&mut self, seconds: u64, call: impl Fn(&mut Calls) + Copy) {
        self.each_second(seconds, |shop| {
            shop.requests(20, |shop| shop.request_with(|_| {}, call, 400));
        });
    }

    /// The catalog waits this long for redis.
    fn slow(&mut self, seconds: u64, us: u64) {
        self.each_second(seconds, |shop| {
            shop.requests(10, |shop| shop.request_with(|_| {}, |_| {}, us));
        });
    }

    pub(super) fn exec(&mut self, pid: u32, executable: &str) {
        let executable = executable.to_owned();
        self.lifecycle(API, pid, LifecycleEvent::Exec { executable });
    }

    pub(super) fn exit(&mut self, pid: u32) {
        self.ends(API, pid, 0);
    }
}

#[test]
fn an_accepted_error_is_silent_for_its_path_alone() {
    let mut shop = Shop::learnt();
    shop.odd(4, |c| {
        c.open("/etc/key", -13);
    });
    let id = shop.last_id();
    shop.accept(&id[..4]);
    let closed = *shop.diagnoses().last().unwrap();
    assert_eq!(closed.state, IncidentState::Resolved);
    assert!(
        closed.message.starts_with("Accepted as normal after"),
        "{}",
        closed.message
    );
    shop.reports.clear();
    // The same goes on, and comes again later.
    let denied = |c: &mut Calls| {
        c.open("/etc/key", -13);
    };
    shop.odd(30, denied);
    shop.work(60, 20);
    shop.odd(30, denied);
    assert_eq!(shop.classes(), [], "{}", shop.brief());
    assert!(!shop.engine.open_incidents().any(|_| true));
    // Another path, and another error of the same path, are not.
    shop.odd(4, |c| {
        c.open("/etc/other", -13);
    });
    assert_eq!(shop.classes()[0].0, PermissionDenied, "{}", shop.brief());
    shop.work(40, 20);
    shop.reports.clear();
    shop.odd(4, |c| {
        c.open("/etc/key", -24);
    });
    assert_eq!(shop.classes()[0].0, FdExhausted, "{}", shop.brief());
}

#[test]
fn an_accepted_error_of_a_file_that_is_named_late_is_silent() {
    let mut shop = Shop::learnt();
    let full = |shop: &mut Shop, seconds, path: &str| {
        shop.each_second(seconds, |shop| {
            // A new descriptor each second, looked up after its first error.
            shop.run({
                let mut calls = shop.calls(CATALOG, 1);
                calls.call("close", 4, 0, 3);
                calls
            });
            shop.requests(20, |shop| {
                let write = |c: &mut Calls| {
                    c.call("write", 4, -28, 9);
                };
                shop.request_with(|_| {}, write, 400);
                shop.engine.on_record(&Record::Descriptor(DescriptorInfo {
                    at_ns: shop.now,
                    pid: pid(CATALOG),
                    fd: 4,
                    target: DescriptorTarget::File(path.into()),
                }));
            });
        });
    };
    full(&mut shop, 4, "/data/orders.log");
    let id = shop.last_id();
    shop.accept(&id);
    shop.reports.clear();
    full(&mut shop, 30, "/data/orders.log");
    assert_eq!(shop.classes(), [], "{}", shop.brief());
    full(&mut shop, 4, "/data/other.log");
    assert_eq!(shop.classes()[0].0, DiskFull, "{}", shop.brief());
}

#[test]
fn an_accepted_slowdown_is_silent_until_it_is_much_slower() {
    let mut shop = Shop::learnt();
    shop.slow(10, 40_000);
    assert_eq!(shop.classes()[0].0, DependencySlow, "{}", shop.brief());
    let id = shop.last_id();
    shop.accept(&id);
    shop.reports.clear();
    shop.slow(60, 50_000);
    assert_eq!(shop.classes(), [], "{}", shop.brief());
    shop.slow(10, 300_000);
    assert_eq!(shop.classes()[0].0, DependencySlow, "{}", shop.brief());
}

#[test]
fn an_accepted_program_may_run_and_no_other() {
    let mut shop = Shop::learnt();
    shop.exec(901, "/bin/report");
    shop.work(2, 20);
    let id = shop.last_id();
    shop.accept(&id);
    shop.reports.clear();
    shop.exec(902, "/bin/report");
    shop.work(5, 20);
    assert_eq!(shop.classes(), [], "{}", shop.brief());
    shop.exec(903, "/bin/miner");
    shop.work(5, 20);
    assert_eq!(shop.classes()[0].0, ExecUnexpected, "{}", shop.brief());
    // In another container it is still unexpected.
    shop.reports.clear();
    let executable = "/bin/report".to_owned();
    shop.lifecycle(REDIS, 904, LifecycleEvent::Exec { executable });
    shop.work(5, 20);
    assert!(
        shop.diagnoses().iter().any(|d| d.container == REDIS),
        "{}",
        shop.brief()
    );
}

#[test]
fn what_only_models_can_say_asks_for_a_new_learning_and_hides_nothing_else() {
    let mut shop = Shop::learnt();
    let other = |c: &mut Calls| {
        c.call("lseek", 4, 0, 3)
            .call("fsync", 4, 0, 800)
            .call("lseek", 4, 0, 3);
    };
    shop.odd(40, other);
    assert_eq!(shop.classes()[0].0, ConfigRegression, "{}", shop.brief());
    let id = shop.last_id();
    let accepted = shop.accept(&id);
    assert!(accepted.relearning);
    shop.reports.clear();
    shop.odd(60, other);
    assert_eq!(shop.classes(), [], "{}", shop.brief());
    shop.odd(4, |c| {
        c.open("/etc/key", -13);
    });
    assert_eq!(shop.classes()[0].0, PermissionDenied, "{}", shop.brief());
    shop.work(40, 20);
    shop.reports.clear();
    // Once that is learned, the next change counts again.
    shop.engine.set_accepted(CATALOG, Accepted::default());
    shop.odd(40, other);
    assert_eq!(shop.classes()[0].0, ConfigRegression, "{}", shop.brief());
}

#[test]
fn an_incident_that_is_over_can_be_accepted_and_others_are_named() {
    let mut shop = Shop::learnt();
    let denied = |c: &mut Calls| {
        c.open("/etc/key", -13);
    };
    shop.odd(4, denied);
    shop.work(60, 20);
    let id = shop.last_id();
    assert!(!shop.engine.acceptance(&id[..6]).unwrap().open);
    let unknown = shop.engine.acceptance("zz").unwrap_err().to_string();
    let named = format!("{id} (permission.denied, over)");
    assert!(
        unknown.contains("\"zz\"") && unknown.contains(&named),
        "{unknown}"
    );
    assert!(matches!(
        shop.engine.acceptance(""),
        Err(Refused::Unknown { .. })
    ));
    shop.accept(&id);
    shop.reports.clear();
    shop.odd(10, denied);
    assert_eq!(shop.classes(), [], "{}", shop.brief());
}

#[test]
fn the_beginning_of_several_ids_is_ambiguous() {
    let mut shop = Shop::learnt();
    // More incidents than there are first digits.
    for n in 0..20 {
        shop.odd(3, |c| {
            c.open(&format!("/etc/key-{n}"), -13);
        });
        shop.work(40, 20);
    }
    let digits = (0..16).map(|digit| format!("{digit:x}"));
    let found: Vec<_> = digits.map(|digit| shop.engine.acceptance(&digit)).collect();
    let ambiguous = found.iter().find_map(|found| match found {
        Err(error @ Refused::Ambiguous { .. }) => Some(error.to_string()),
        _ => None,
    });
    let text = ambiguous.unwrap();
    assert!(text.matches("permission.denied").count() >= 2, "{text}");
}

#[test]
fn a_muted_incident_says_nothing_until_the_time_is_over() {
    let denied = |c: &mut Calls| {
        c.open("/etc/key", -13);
    };
    let mut shop = Shop::learnt();
    shop.odd(4, denied);
    let id = shop.last_id();
    shop.engine.mute(&id[..5], 120 * SECOND).unwrap();
    shop.reports.clear();
    // It goes on, ends, and comes again as another incident.
    shop.odd(20, denied);
    shop.work(60, 20);
    shop.odd(20, denied);
    assert_eq!(shop.reports, [], "{}", shop.brief());
    // Another cause is told of meanwhile.
    shop.odd(3, |c| {
        c.open("/etc/key", -13).call("clone3", 3, -11, 3);
    });
    assert!(
        shop.classes()
            .iter()
            .any(|(class, _)| *class == ThreadLimit),
        "{}",
        shop.brief()
    );
    shop.reports.clear();
    shop.odd(30, denied);
    let said = shop.diagnoses();
    assert!(
        said.iter().any(|d| d.class == PermissionDenied
            && d.state == IncidentState::Confirmed
            && d.message.contains("Muted for ")),
        "{}",
        shop.brief()
    );
}

#[test]
fn the_end_of_an_incident_that_was_muted_is_told_with_the_end_of_the_mute() {
    let mut shop = Shop::learnt();
    shop.odd(4, |c| {
        c.open("/etc/key", -13);
    });
    let id = shop.last_id();
    shop.engine.mute(&id, 90 * SECOND).unwrap();
    shop.reports.clear();
    shop.work(80, 20);
    assert_eq!(shop.reports, []);
    shop.work(20, 20);
    let said = shop.diagnoses();
    assert_eq!(said.len(), 1, "{}", shop.brief());
    assert_eq!(said[0].state, IncidentState::Resolved);
    assert!(said[0].message.contains(" withheld"), "{}", said[0].message);
}

#[test]
fn an_unexpected_program_is_an_incident_as_long_as_it_runs() {
    let mut shop = Shop::learnt();
    shop.exec(901, "/bin/miner");
    // Its child goes on when it has ended.
    let fork = LifecycleEvent::Fork {
        child_pid: 902,
        child_tid: 902,
    };
    shop.lifecycle(API, 901, fork);
    shop.work(30, 20);
    shop.exit(901);
    shop.work(1800, 2);
    assert!(shop.engine.open_incidents().any(|_| true));
    assert_eq!(shop.classes(), [(ExecUnexpected, IncidentState::Confirmed)]);
    shop.exit(902);
    shop.work(20, 20);
    shop.expect(ExecUnexpected, "/bin/miner");
}

#[test]
fn a_slowdown_that_lasts_stays_an_incident() {
    let mut shop = Shop::learnt();
    shop.slow(3 * 3600, 40_000);
    let states = shop.classes();
    assert!(
        states.iter().all(|(class, state)| {
            *class == DependencySlow && *state != IncidentState::Resolved
        }),
        "{}",
        shop.brief()
    );
    assert_eq!(shop.engine.open_incidents().count(), 1);
    shop.work(40, 20);
    assert_eq!(shop.confirmed().class, DependencySlow);
    let last = shop.diagnoses().last().map(|d| d.state);
    assert_eq!(last, Some(IncidentState::Resolved));
}
