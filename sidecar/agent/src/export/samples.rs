//! Reports for tests.

use std::sync::Arc;

use crate::diagnosis::report::{
    AffectedCall, Diagnosis, FaultClass, Hypothesis, IncidentState, Report,
};
use crate::record::{ContainerInfo, Nanos, TraceParent};
use crate::trace::{Context, ParentKind, Source, SpanContext};

use super::{PluginIdentity, PodInfo, Published, Resource};

pub(super) const MS: Nanos = 1_000_000;
pub(super) const UNIX_OFFSET: i64 = 1_700_000_000_000_000_000;

pub(super) fn span_context(n: u8, flags: u8) -> SpanContext {
    TraceParent {
        trace_id: [n; 16],
        span_id: [n; 8],
        flags,
    }
}

pub(super) fn under(parent: SpanContext) -> Context {
    Context {
        parent: Some(parent),
        kind: Some(ParentKind::Own),
        source: Source::OutgoingTraceparent,
        confidence: 0.95,
        ..Context::default()
    }
}

pub(super) fn published(report: Report, context: Context) -> Published {
    let container = ContainerInfo {
        at_ns: 0,
        container: 0,
        name: "api".into(),
        id: None,
        cgroup_path: "/pod/api".into(),
        image: None,
        image_digest: None,
    };
    Published {
        report,
        context,
        resource: Arc::new(Resource::of_application(
            &container,
            &[],
            &|_| None,
            &PodInfo::default(),
        )),
        plugin: Some(PluginIdentity {
            name: "generic".into(),
            version: "0.1.0".into(),
        }),
        application_type: Some("http-server".into()),
        model_id: Some("0123456789abcdef".into()),
        capture_mode: "self-contained".into(),
        unix_offset_ns: UNIX_OFFSET,
    }
}

pub(super) fn diagnosis(state: IncidentState, at_ms: u64) -> Diagnosis {
    let hypothesis = |class, confidence| Hypothesis { class, confidence };
    Diagnosis {
        incident_id: "00000000000000a1".into(),
        state,
        class: FaultClass::DependencyRefused,
        confidence: 0.97,
        hypotheses: vec![
            hypothesis(FaultClass::DependencyRefused, 0.97),
            hypothesis(FaultClass::NetworkUnreachable, 0.02),
        ],
        container: 0,
        container_name: "api".into(),
        pid: 40,
        tid: 41,
        executable: "/usr/bin/shop-api".into(),
        culprit: "api → 127.0.0.1:6379".into(),
        onset_ns: 1000 * MS,
        observed_ns: at_ms * MS,
        ended_ns: (state == IncidentState::Resolved).then_some((at_ms - 1) * MS),
        affected_calls: 38,
        message: "api cannot connect to 127.0.0.1:6379".into(),
        evidence: vec!["connect ECONNREFUSED 0 → 38/s (baseline 0 of 12 400)".into()],
        expected: vec!["connect:ok".into(), "sendto:ok".into()],
        actual: vec!["connect:ECONNREFUSED".into()],
        local: false,
        suggestion: "is anything listening on 6379?".into(),
        pattern_id: Some(3),
        stability: Some(0.4),
        dying: false,
        loss_ratio: 0.0,
    }
}

pub(super) fn of_state(state: IncidentState, at_ms: u64) -> Published {
    published(
        Report::Diagnosis(diagnosis(state, at_ms)),
        Context::default(),
    )
}

pub(super) fn affected(start_ms: u64, end_ms: u64, context: Context) -> Published {
    let call = AffectedCall {
        incident_id: "00000000000000a1".into(),
        container: 0,
        pid: 40,
        tid: 42,
        fd: 9,
        start_ns: start_ms * MS,
        end_ns: end_ms * MS,
        token: "connect:ECONNREFUSED".into(),
    };
    published(Report::Affected(call), context)
}
