//! Own answers that say that the request failed: HTTP responses with a status from 500 on.
//!
//! Bundles do not hold how many are usual: they are counted from the start on, while everything is shipped, but
//! for the time in which more fail than before. Few answers say nothing. Other statuses are the clients' affair.

use std::collections::BTreeMap;

use crate::diagnosis::signal::{Kind, Normal, Place, Signal, Standing};
use crate::diagnosis::signals::RESTLESS;
use crate::diagnosis::signals::resources::Judged;
use crate::record::{ContainerIndex, Direction, HttpHead, HttpMessage, Nanos};
use crate::sequential::{SECOND, ShareTest};

const FAILED: u16 = 500;
/// Answers that say what is usual.
const ENOUGH: u64 = 100;
/// Share of answers that fails which is tested against, at least, and in multiples of the usual one.
const FAILS: f64 = 0.1;
const MORE: f64 = 5.0;
const TIMES: u64 = 5;
/// Whatever is behind may start again within this.
const LASTS: Nanos = 3 * SECOND;

#[derive(Debug, Default)]
pub(crate) struct Failing {
    containers: BTreeMap<ContainerIndex, Answers>,
}

#[derive(Debug)]
struct Answers {
    usual: Counted,
    /// Since more fail than usual.
    since: Counted,
    share: ShareTest,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    answers: u64,
    failed: u64,
}

impl Counted {
    fn add(&mut self, other: Counted) {
        self.answers = self.answers.saturating_add(other.answers);
        self.failed = self.failed.saturating_add(other.failed);
    }

    fn share(self) -> f64 {
        self.failed as f64 / self.answers.max(1) as f64
    }
}

impl Failing {
    /// Takes a head; none where it says nothing. `judged`: the container has a learned normal.
    pub(crate) fn observe(&mut self, head: &HttpHead, judged: bool, limit: f64) -> Option<Judged> {
        let (Direction::Outgoing, HttpMessage::Response { status }) =
            (head.direction, &head.message)
        else {
            return None;
        };
        let answers = self
            .containers
            .entry(head.container)
            .or_insert_with(|| Answers {
                usual: Counted::default(),
                since: Counted::default(),
                share: ShareTest::new(),
            });
        let failed = *status >= FAILED;
        let one = Counted {
            answers: 1,
            failed: u64::from(failed),
        };
        let usual = answers.usual;
        let p0 = 2.0 * (usual.failed as f64 + 1.0) / (usual.answers as f64 + 2.0);
        let p1 = (MORE * p0).max(FAILS);
        if usual.answers < ENOUGH || p0 * 3.0 > p1 || p1 > 0.9 || !judged {
            answers.usual.add(one);
            return None;
        }
        let evidence = answers.share.observe(head.at_ns, failed, p0, p1);
        answers.since.add(one);
        let Some(run) = answers.share.run() else {
            let since = std::mem::take(&mut answers.since);
            answers.usual.add(since);
            return Some(Judged::Normal(Kind::Failing));
        };
        if !failed {
            return Some(Judged::Normal(Kind::Failing));
        }
        let lasts = run.last_ns.saturating_sub(run.first_ns) >= LASTS && run.hits >= TIMES;
        let standing = match evidence {
            evidence if evidence >= limit && lasts => Standing::Opens,
            evidence if evidence >= RESTLESS => Standing::Symptom,
            _ => return Some(Judged::Unclear),
        };
        let place = Place {
            container: head.container,
            pid: head.pid,
            tid: head.tid,
            fd: head.fd,
            start_ns: head.at_ns,
            end_ns: head.at_ns,
        };
        let normal = Normal::Share {
            calibrated: usual.share(),
            now: answers.since.share(),
        };
        let signal = Signal::at(place, Kind::Failing, format!("response:{status}"));
        let signal = signal.about(Some(status.to_string())).against(normal);
        Some(Judged::Signal(
            signal.standing(standing, evidence.min(10.0)),
        ))
    }

    pub(crate) fn restless(&self) -> bool {
        let mut containers = self.containers.values();
        containers.any(|answers| answers.share.evidence() > RESTLESS)
    }

    /// Calls are only counted now: not all answers are seen.
    pub(crate) fn rest(&mut self) {
        for answers in self.containers.values_mut() {
            answers.forget();
        }
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        if let Some(answers) = self.containers.get_mut(&container) {
            answers.forget();
        }
    }
}

impl Answers {
    fn forget(&mut self) {
        self.since = Counted::default();
        self.share = ShareTest::new();
    }
}
