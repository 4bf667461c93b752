//! Calls on files that take longer than they ever did.

use std::collections::BTreeMap;

use stethos_patterns::names::CallKind;
use stethos_patterns::{Role, Token, WindowCall};

use crate::diagnosis::signal::{Kind, Signal, Standing};
use crate::diagnosis::signals::exchanges::duration;
use crate::diagnosis::signals::{MAX_KEYS, RESTLESS, Scene};
use crate::record::{ContainerIndex, Nanos};
use crate::sequential::{SECOND, ShareTest};

const SLOW_SHARE: f64 = 0.8;
const SLOW_LASTS: Nanos = 2 * SECOND;

/// Waiting is what other calls are for (`epoll_wait`, `accept`, a read of a socket): only work
/// on files is judged by its duration.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    tests: BTreeMap<(ContainerIndex, Token), ShareTest>,
}

impl Durations {
    pub(crate) fn judge(&mut self, scene: &Scene<'_>, call: &WindowCall) -> Option<Signal> {
        let works = matches!(
            scene.table.kind(call.token.call),
            CallKind::Read | CallKind::Write | CallKind::Sync | CallKind::File | CallKind::Open
        );
        if scene.reduced
            || !works
            || !(call.role == Role::File || scene.table.is_open(call.token.call))
        {
            return None;
        }
        let model = scene.model?;
        let mut normal = model.call_limit(call.token, call.role)?;
        let slow = call.duration_ns > normal.ceiling_ns;
        let path = slow.then(|| scene.pod.file(scene.pid, call.fd)).flatten();
        if slow {
            normal = model.file_limit(call.token, call.role, path)?;
        }
        let hit = call.duration_ns > normal.ceiling_ns;
        let key = (scene.container, call.token);
        if !hit && !self.tests.contains_key(&key) {
            return None;
        }
        if self.tests.len() >= MAX_KEYS && !self.tests.contains_key(&key) {
            return None;
        }
        let test = self.tests.entry(key).or_insert_with(ShareTest::new);
        let evidence = test.observe(call.end_ns(), hit, normal.p0, SLOW_SHARE);
        if !hit {
            return None;
        }
        let lasted = test
            .run()
            .is_some_and(|r| r.hits >= 3 && r.last_ns - r.first_ns >= SLOW_LASTS);
        let name = scene.table.token_name(&call.token);
        let signal = Signal::at(
            scene.place(call),
            Kind::SlowCall { token: call.token },
            name,
        )
        .about(path.map(str::to_owned))
        .against(duration(&normal));
        Some(match evidence >= scene.limit && lasted {
            true => signal.standing(Standing::Opens, evidence.min(12.0)),
            false => signal,
        })
    }

    pub(crate) fn restless(&self) -> bool {
        self.tests.values().any(|test| test.evidence() > RESTLESS)
    }

    pub(crate) fn reset(&mut self, container: ContainerIndex) {
        self.tests.retain(|(c, _), _| *c != container);
    }
}
