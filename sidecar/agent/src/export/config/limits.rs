//! Batch and attribute limits of the environment.

use std::time::Duration;

use crate::export::attributes::AttributeLimits;

use super::{ConfigError, Environment};

/// How records are gathered before they are sent: `OTEL_BLRP_*` for logs, `OTEL_BSP_*` for spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchConfig {
    /// From the first record of a batch to its sending.
    pub delay: Duration,
    /// Records waiting; more are dropped and counted.
    pub max_queue: usize,
    pub max_batch: usize,
    /// Bound on all attempts of one batch, where the environment sets it.
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
    pub(super) fn batch(
        &self,
        kind: &str,
        defaults: BatchConfig,
    ) -> Result<BatchConfig, ConfigError> {
        let size = |what: &str, default: usize| {
            let number = self.number(&format!("OTEL_{kind}_{what}"))?;
            let set = number
                .filter(|n| *n > 0)
                .and_then(|n| usize::try_from(n).ok());
            Ok::<_, ConfigError>(set.unwrap_or(default))
        };
        let max_queue = size("MAX_QUEUE_SIZE", defaults.max_queue)?;
        let delay = self.milliseconds(&format!("OTEL_{kind}_SCHEDULE_DELAY"))?;
        Ok(BatchConfig {
            delay: delay.unwrap_or(defaults.delay),
            max_queue,
            max_batch: size("MAX_EXPORT_BATCH_SIZE", defaults.max_batch)?.min(max_queue),
            export_timeout: self.milliseconds(&format!("OTEL_{kind}_EXPORT_TIMEOUT"))?,
        })
    }

    pub(super) fn limits(&self) -> Result<Limits, ConfigError> {
        let number = |names: [&str; 2]| {
            for name in names {
                if let Some(n) = self.number(name)? {
                    return Ok::<_, ConfigError>(usize::try_from(n).ok());
                }
            }
            Ok(None)
        };
        let attributes = |signal: &str| {
            let count = format!("OTEL_{signal}_ATTRIBUTE_COUNT_LIMIT");
            let length = format!("OTEL_{signal}_ATTRIBUTE_VALUE_LENGTH_LIMIT");
            Ok::<_, ConfigError>(AttributeLimits {
                count: number([&count, "OTEL_ATTRIBUTE_COUNT_LIMIT"])?
                    .unwrap_or(128)
                    .min(128),
                length: number([&length, "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"])?
                    .unwrap_or(usize::MAX),
            })
        };
        let links = self
            .number("OTEL_SPAN_LINK_COUNT_LIMIT")?
            .unwrap_or(128)
            .min(128);
        Ok(Limits {
            log: attributes("LOGRECORD")?,
            span: attributes("SPAN")?,
            links: usize::try_from(links).unwrap_or(128),
        })
    }
}
