//! Reports as diagnosis hands them on, for an incident in which a dependency refuses connections.

use std::sync::Arc;

use stethos::diagnosis::report::{
    AffectedCall, Diagnosis, FaultClass, Hypothesis, IncidentState, Report,
};
use stethos::export::{PluginIdentity, PodInfo, Published, Resource};
use stethos::record::{ContainerInfo, ProcessInfo, TraceParent};
use stethos::trace::{Context, ParentKind, Source};

pub(crate) const UNIX_OFFSET: i64 = 1_700_000_000_000_000_000;
pub(crate) const MS: u64 = 1_000_000;

/// The resource of an application that declares its name.
pub(crate) fn resource(service: &str) -> Arc<Resource> {
    let container = ContainerInfo {
        at_ns: 0,
        container: 0,
        name: format!("cri-{service}"),
        id: Some("c0ffee".into()),
        cgroup_path: "/pod/app".into(),
        image: None,
        image_digest: None,
    };
    let process = ProcessInfo {
        at_ns: 0,
        container: 0,
        pid: 40,
        executable: "/usr/bin/app".into(),
        command_line: vec![],
        environment: vec![("OTEL_SERVICE_NAME".into(), service.into())],
        listens: vec![],
    };
    Arc::new(Resource::of_application(
        &container,
        &[process],
        &|_| None,
        &PodInfo::default(),
    ))
}

pub(crate) fn published(service: &str, report: Report, context: Context) -> Published {
    Published {
        report,
        context,
        resource: resource(service),
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

/// The application's own sampled span.
#[allow(dead_code, reason = "each test binary uses its part")]
pub(crate) fn own_span(trace: u8) -> Context {
    let parent = TraceParent {
        trace_id: [trace; 16],
        span_id: [trace; 8],
        flags: 1,
    };
    Context {
        parent: Some(parent),
        kind: Some(ParentKind::Own),
        source: Source::OutgoingTraceparent,
        confidence: 0.95,
        ..Context::default()
    }
}

pub(crate) fn diagnosis(
    service: &str,
    state: IncidentState,
    at_ms: u64,
    context: Context,
) -> Published {
    let diagnosis = Diagnosis {
        incident_id: format!("incident-{service}"),
        state,
        class: FaultClass::DependencyRefused,
        confidence: 0.97,
        hypotheses: vec![Hypothesis {
            class: FaultClass::DependencyRefused,
            confidence: 0.97,
        }],
        container: 0,
        container_name: service.into(),
        pid: 40,
        tid: 41,
        executable: "/usr/bin/app".into(),
        culprit: format!("{service} → 127.0.0.1:6379"),
        onset_ns: 1_000 * MS,
        observed_ns: at_ms * MS,
        ended_ns: (state == IncidentState::Resolved).then_some(at_ms * MS),
        affected_calls: 38,
        message: format!("{service} cannot connect to 127.0.0.1:6379"),
        evidence: vec!["connect ECONNREFUSED 0 → 38/s".into(), "not local".into()],
        expected: vec!["connect:ok".into()],
        actual: vec!["connect:ECONNREFUSED".into()],
        local: false,
        suggestion: "is anything listening on 6379?".into(),
        pattern_id: Some(3),
        stability: Some(0.4),
        dying: false,
        loss_ratio: 0.0,
    };
    published(service, Report::Diagnosis(diagnosis), context)
}

#[allow(dead_code, reason = "each test binary uses its part")]
pub(crate) fn affected(service: &str, start_ms: u64, end_ms: u64, context: Context) -> Published {
    let call = AffectedCall {
        incident_id: format!("incident-{service}"),
        container: 0,
        pid: 40,
        tid: 42,
        fd: 9,
        start_ns: start_ms * MS,
        end_ns: end_ms * MS,
        token: "connect:ECONNREFUSED".into(),
    };
    published(service, Report::Affected(call), context)
}
