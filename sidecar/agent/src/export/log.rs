//! One log record per change of state of a diagnosis.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};

use crate::diagnosis::report::{Diagnosis, IncidentState};

use super::Published;
use super::attributes::{self, AttributeLimits, MAX_TEXT};
use super::resource::Resource;

pub(super) const EVENT_NAME: &str = "stethos.fault.diagnosis";

#[derive(Debug)]
pub(super) struct LogItem {
    pub(super) resource: Arc<Resource>,
    pub(super) record: LogRecord,
}

/// The record, with the ids of the span that the first affected request ran under.
pub(super) fn item(
    published: &Published,
    diagnosis: &Diagnosis,
    limits: AttributeLimits,
) -> LogItem {
    let all = attributes::of_diagnosis(published, diagnosis, &published.context);
    let (attributes, dropped_attributes_count) = attributes::to_otlp(&all, limits);
    let (severity, severity_text) = severity(diagnosis);
    let body = any_value::Value::StringValue(attributes::cut(&diagnosis.message, MAX_TEXT));
    let mut record = LogRecord {
        time_unix_nano: published.unix(diagnosis.onset_ns),
        observed_time_unix_nano: published.unix(diagnosis.observed_ns),
        severity_number: severity.into(),
        severity_text: severity_text.into(),
        body: Some(AnyValue { value: Some(body) }),
        attributes,
        dropped_attributes_count,
        event_name: EVENT_NAME.into(),
        ..LogRecord::default()
    };
    if let Some(parent) = published.context.parent {
        record.trace_id = parent.trace_id.to_vec();
        record.span_id = parent.span_id.to_vec();
        record.flags = parent.flags.into();
    }
    LogItem {
        resource: Arc::clone(&published.resource),
        record,
    }
}

pub(super) fn severity(diagnosis: &Diagnosis) -> (SeverityNumber, &'static str) {
    match diagnosis.state {
        IncidentState::Resolved => (SeverityNumber::Info, "INFO"),
        _ if diagnosis.dying => (SeverityNumber::Fatal, "FATAL"),
        IncidentState::Confirmed => (SeverityNumber::Error, "ERROR"),
        IncidentState::Suspected => (SeverityNumber::Warn, "WARN"),
    }
}
