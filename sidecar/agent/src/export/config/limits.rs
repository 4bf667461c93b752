//! Batch and attribute limits of the environment.

use std::time::Duration;

use crate::export::attributes::AttributeLimits;

use super::Environment;

/// No record has more attributes or links, whatever the environment says.
const MOST: usize = 128;

/// How records are gathered before they are sent: `OTEL_BLRP_*` for logs, `OTEL_BSP_*` for spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// From the first record of a batch to its sending.
    pub delay: Duration,
    /// Records waiting; more are dropped and counted.
    pub max_queue: usize,
    pub max_batch: usize,
    /// Bound on one attempt, and on all attempts of what waits in memory, where the environment sets
    /// it.
    pub export_timeout: Option<Duration>,
}

impl BatchConfig {
    /// A diagnosis leaves at once: the specification's delays of 1 s and 5 s hold only when they
    /// are set.
    pub const DIAGNOSES: BatchConfig = BatchConfig {
        delay: Duration::from_millis(100),
        max_queue: 2048,
        max_batch: 512,
        export_timeout: None,
    };
}

/// Limits on records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub log: AttributeLimits,
    pub span: AttributeLimits,
    pub links: usize,
}

impl Environment<'_> {
    pub(super) fn batch(&mut self, kind: &str, defaults: BatchConfig) -> BatchConfig {
        let name = |what: &str| format!("OTEL_{kind}_{what}");
        let max_queue = self.size(&name("MAX_QUEUE_SIZE"));
        let max_queue = max_queue.unwrap_or(defaults.max_queue);
        let max_batch = self.size(&name("MAX_EXPORT_BATCH_SIZE"));
        if let Some(larger) = max_batch.filter(|batch| *batch > max_queue) {
            let reason = format!("is more than the queue's {max_queue}");
            self.ignored(&name("MAX_EXPORT_BATCH_SIZE"), &larger.to_string(), &reason);
        }
        let delay = self.milliseconds(&name("SCHEDULE_DELAY"));
        BatchConfig {
            delay: delay.unwrap_or(defaults.delay),
            max_queue,
            max_batch: max_batch.unwrap_or(defaults.max_batch).min(max_queue),
            export_timeout: self.timeout(&name("EXPORT_TIMEOUT")),
        }
    }

    pub(super) fn limits(&mut self) -> Limits {
        let links = self.limit("OTEL_SPAN_LINK_COUNT_LIMIT");
        Limits {
            log: self.attributes("LOGRECORD"),
            span: self.attributes("SPAN"),
            links: links.unwrap_or(MOST).min(MOST),
        }
    }

    /// The signal's own limits, else the general ones.
    fn attributes(&mut self, signal: &str) -> AttributeLimits {
        let mut limit = |what: &str| {
            let own = self.limit(&format!("OTEL_{signal}_ATTRIBUTE_{what}_LIMIT"));
            own.or_else(|| self.limit(&format!("OTEL_ATTRIBUTE_{what}_LIMIT")))
        };
        AttributeLimits {
            count: limit("COUNT").unwrap_or(MOST).min(MOST),
            length: limit("VALUE_LENGTH").unwrap_or(usize::MAX),
        }
    }

    fn limit(&mut self, name: &str) -> Option<usize> {
        usize::try_from(self.number(name)?).ok()
    }
}
