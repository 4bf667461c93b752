//! One log record per change of state of a diagnosis.

use std::sync::Arc;

use opentelemetry::logs::{LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::{SpanId, TraceFlags, TraceId};
use opentelemetry_sdk::logs::{SdkLogRecord, SdkLogger, SdkLoggerProvider};

use crate::diagnosis::report::{Diagnosis, IncidentState};

use super::attributes::{self, AttributeLimits, Attributes, MAX_TEXT, Value};
use super::resource::Resource;
use super::{Published, scope};

pub(super) const EVENT_NAME: &str = "stethos.fault.diagnosis";
/// The specification's name for the count where a format has no field for it: the SDK's log
/// records have none.
const DROPPED: &str = "otel.dropped_attributes_count";

#[derive(Debug)]
pub(super) struct LogItem {
    pub(super) resource: Arc<Resource>,
    pub(super) record: SdkLogRecord,
}

/// Makes log records. The logger hands out empty ones, and none goes back to it: a queue takes
/// them.
#[derive(Debug)]
pub(super) struct Records {
    logger: SdkLogger,
    limits: AttributeLimits,
}

impl Records {
    pub(super) fn new(limits: AttributeLimits) -> Self {
        let provider = SdkLoggerProvider::builder().build();
        Records {
            logger: provider.logger_with_scope(scope()),
            limits,
        }
    }

    /// The record, with the ids of the span that the first affected request ran under.
    pub(super) fn item(&self, published: &Published, diagnosis: &Diagnosis) -> LogItem {
        let (severity, severity_text) = severity(diagnosis);
        let mut record = self.logger.create_log_record();
        record.set_event_name(EVENT_NAME);
        record.set_timestamp(published.time(diagnosis.onset_ns));
        record.set_observed_timestamp(published.time(diagnosis.observed_ns));
        record.set_severity_number(severity);
        record.set_severity_text(severity_text);
        record.set_body(attributes::cut(&diagnosis.message, MAX_TEXT).into());
        record.add_attributes(self.attributes(published, diagnosis));
        if let Some(parent) = published.context.parent {
            record.set_trace_context(
                TraceId::from_bytes(parent.trace_id),
                SpanId::from_bytes(parent.span_id),
                Some(TraceFlags::new(parent.flags)),
            );
        }
        LogItem {
            resource: Arc::clone(&published.resource),
            record,
        }
    }

    /// Where some are dropped, their count stands in the last one's place.
    fn attributes(&self, published: &Published, diagnosis: &Diagnosis) -> Attributes {
        let all = attributes::of_diagnosis(published, diagnosis, &published.context);
        let (mut kept, dropped) = attributes::within(all, self.limits);
        if let Some(last) = kept.last_mut().filter(|_| dropped > 0) {
            *last = (DROPPED, Value::Int(i64::from(dropped) + 1));
        }
        kept
    }
}

pub(super) fn severity(diagnosis: &Diagnosis) -> (Severity, &'static str) {
    match diagnosis.state {
        IncidentState::Resolved => (Severity::Info, "INFO"),
        _ if diagnosis.dying => (Severity::Fatal, "FATAL"),
        IncidentState::Confirmed => (Severity::Error, "ERROR"),
        IncidentState::Suspected => (Severity::Warn, "WARN"),
    }
}
