//! Errors that normal work has: whether a higher share of the calls of their kind fails with them.

use std::collections::BTreeMap;

use stethos_patterns::names::CallKind;
use stethos_patterns::{Outcome, Token, WindowCall};

use crate::diagnosis::errno::*;
use crate::diagnosis::signal::{Cause, Signal, Standing};
use crate::diagnosis::signals::{MAX_KEYS, RESTLESS, Scene};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::{SECOND, ShareTest};

/// A higher share of failing calls has to last this long, and to be so many.
const LASTS: (u64, Nanos) = (5, 2 * SECOND);
/// The same of errors that no class is known for.
const UNCLASSED: (u64, Nanos) = (20, 10 * SECOND);
/// Evidence from which on an error is an affected call, nats.
const NOTABLE: f64 = 6.0;
/// No more evidence than that of an error that was never seen, nats.
const MAX_EVIDENCE: f64 = super::NEVER_SEEN;
/// Calls made fewer times while learning have no share of errors to compare with.
const SELDOM: u64 = 100;
/// Errors of one call that are followed.
const MAX_ERRORS: usize = 16;

/// A test for each error of a call (by number) of a container.
#[derive(Debug, Default)]
pub(super) struct Shares {
    calls: BTreeMap<(ContainerIndex, u16), Vec<(Token, ShareTest)>>,
}

impl Shares {
    /// Takes a call that failed, and gives `signal` the standing that the share of such calls has.
    pub(super) fn failed(
        &mut self,
        scene: &Scene<'_>,
        call: &WindowCall,
        signal: Signal,
    ) -> Option<Signal> {
        if scene.reduced || scene.pod.is_starting(scene.pid, call.end_ns()) {
            return None;
        }
        let (p0, p1) = shares(scene, call.token)?;
        let key = (scene.container, call.token.call);
        if self.calls.len() >= MAX_KEYS && !self.calls.contains_key(&key) {
            self.calls.pop_first();
        }
        let tests = self.calls.entry(key).or_default();
        let known = tests.iter().any(|(token, _)| *token == call.token);
        if !known && tests.len() >= MAX_ERRORS {
            return None;
        }
        if !known {
            tests.push((call.token, ShareTest::new()));
        }
        let mut standing = None;
        for (token, test) in tests.iter_mut() {
            if *token != call.token {
                went_otherwise(scene, call, *token, test);
                continue;
            }
            let evidence = test.observe(call.end_ns(), true, p0, p1);
            let Some(run) = test.run() else { continue };
            let (hits, time) = match signal.kind.cause() {
                Cause::Other(_) => UNCLASSED,
                _ => LASTS,
            };
            let lasts = run.last_ns.saturating_sub(run.first_ns) >= time && run.hits >= hits;
            standing = match evidence {
                evidence if evidence >= scene.limit && lasts => {
                    Some((Standing::Opens, evidence.min(MAX_EVIDENCE)))
                }
                evidence if evidence >= NOTABLE => Some((Standing::Hit, 0.0)),
                _ => None,
            };
        }
        standing.map(|(standing, weight)| signal.standing(standing, weight))
    }

    /// Takes a call that went well.
    pub(super) fn went_well(&mut self, scene: &Scene<'_>, call: &WindowCall) {
        if scene.reduced {
            return;
        }
        let tests = self.calls.get_mut(&(scene.container, call.token.call));
        for (token, test) in tests.into_iter().flatten() {
            went_otherwise(scene, call, *token, test);
        }
    }

    pub(super) fn restless(&self) -> bool {
        let mut tests = self.calls.values().flatten();
        tests.any(|(_, test)| test.evidence() > RESTLESS)
    }
}

/// The call did not fail with the error that the test is about.
fn went_otherwise(scene: &Scene<'_>, call: &WindowCall, error: Token, test: &mut ShareTest) {
    if let Some((p0, p1)) = shares(scene, error) {
        test.observe(call.end_ns(), false, p0, p1);
    }
}

/// Share of calls that fail with this error as learned (with a margin of two) and as tested
/// against: five times more for errors that have a class, most calls for those that a different
/// mix of requests brings as well. None when normal work fails too often to tell, or is not known.
fn shares(scene: &Scene<'_>, error: Token) -> Option<(f64, f64)> {
    let model = scene.model?;
    let (failed, attempts) = (model.outcomes(error), model.attempts(error.call));
    let seldom = attempts < SELDOM && failed == 0;
    let p0 = if seldom {
        0.05
    } else {
        2.0 * (failed as f64 + 1.0) / (attempts as f64 + 2.0)
    };
    let classed = !matches!(error.outcome, Outcome::Errno(ENOENT | EACCES | EPERM))
        && scene.table.kind(error.call) != CallKind::Other;
    let p1 = if classed { (5.0 * p0).max(0.1) } else { 0.6 };
    (p0 * 3.0 <= p1 && p1 < 0.97).then_some((p0, p1))
}
