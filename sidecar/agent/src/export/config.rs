//! What the `OTEL_*` variables say, read from a lookup so that tests set none.

mod endpoint;
mod environment;
mod limits;

use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_sdk::metrics::Temporality;

pub use limits::{BatchConfig, Limits};

use super::outbox::OutboxConfig;
use super::resource::{self, Lookup, Resource};
use environment::Environment;

/// A variable that Stethos cannot follow: the exporter is not started with half a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable}: {value:?} {reason}")]
pub struct ConfigError {
    pub variable: String,
    pub value: String,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Logs,
    Traces,
    Metrics,
}

impl Signal {
    fn variable_part(self) -> &'static str {
        match self {
            Signal::Logs => "LOGS",
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Logs => "logs",
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
        }
    }
}

/// PEM files for TLS. Of a client's certificate and its key there are both or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Trusted instead of the machine's roots.
    pub certificate: Option<PathBuf>,
    pub client_certificate: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

/// Where and how one signal is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub protocol: Protocol,
    /// Full URL; for HTTP with the signal's path.
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub gzip: bool,
    /// For one attempt.
    pub timeout: Duration,
    pub tls: TlsFiles,
}

/// The exporter's settings: Stethos's own defaults, and what the environment says over them.
#[derive(Clone, Debug)]
pub struct ExportConfig {
    /// `None`: this signal is not exported.
    pub logs: Option<Endpoint>,
    pub traces: Option<Endpoint>,
    pub metrics: Option<Endpoint>,
    pub log_batch: BatchConfig,
    pub span_batch: BatchConfig,
    pub metric_batch: BatchConfig,
    pub limits: Limits,
    pub metric_interval: Duration,
    /// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
    pub temporality: Temporality,
    /// Request spans a minute and incident; what is over is counted on the incident's span.
    pub spans_per_minute: u32,
    /// How long a batch that waits in memory is tried again before it is given up.
    pub retry_for: Duration,
    /// Where logs and spans wait for the collector, a folder below this for each; `None`: in memory,
    /// for [`ExportConfig::retry_for`].
    pub outbox: Option<OutboxConfig>,
    pub own_resource: Resource,
    /// Values that were ignored, one line each, for the log.
    pub warnings: Vec<String>,
}

impl TlsFiles {
    /// Of the general variables, for what is of no single signal.
    pub fn general(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        Environment::new(lookup).tls(None)
    }
}

impl ExportConfig {
    /// Reads the process's environment.
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::read(&|name| std::env::var(name).ok())
    }

    /// Reads the variables of the OpenTelemetry specification. A choice or number that is none is
    /// ignored with a warning, as the specification asks; where there is no sensible default (an
    /// address, headers, half of a client's certificate), it is an error.
    pub fn read(lookup: Lookup<'_>) -> Result<Self, ConfigError> {
        let mut env = Environment::new(lookup);
        if let Some(file) = env.text("OTEL_CONFIG_FILE") {
            env.ignored("OTEL_CONFIG_FILE", &file, "is not supported");
        }
        if let Some(list) = env.text("OTEL_RESOURCE_ATTRIBUTES")
            && resource::parse_attributes(&list).is_none()
        {
            let reason = "is not a list of key=value, percent-encoded";
            env.ignored("OTEL_RESOURCE_ATTRIBUTES", &list, reason);
        }
        let disabled = env.flag("OTEL_SDK_DISABLED");
        let mut endpoint = |signal| match disabled {
            true => Ok(None),
            false => env.endpoint(signal),
        };
        let (logs, traces, metrics) = (
            endpoint(Signal::Logs)?,
            endpoint(Signal::Traces)?,
            endpoint(Signal::Metrics)?,
        );
        let interval = env.milliseconds("OTEL_METRIC_EXPORT_INTERVAL");
        // Old values are not worth more attempts than the specification gives them.
        let metric_timeout = env.timeout("OTEL_METRIC_EXPORT_TIMEOUT");
        let metric_timeout = metric_timeout.unwrap_or(Duration::from_secs(30));
        Ok(ExportConfig {
            logs,
            traces,
            metrics,
            log_batch: env.batch("BLRP", BatchConfig::DIAGNOSES),
            span_batch: env.batch("BSP", BatchConfig::DIAGNOSES),
            metric_batch: BatchConfig {
                export_timeout: Some(metric_timeout),
                ..BatchConfig::DIAGNOSES
            },
            limits: env.limits(),
            metric_interval: interval.unwrap_or(Duration::from_secs(60)),
            temporality: env.temporality(),
            spans_per_minute: 30,
            retry_for: Duration::from_secs(300),
            outbox: None,
            own_resource: Resource::of_stethos(lookup),
            warnings: env.into_warnings(),
        })
    }
}

fn refused(variable: &str, value: &str, reason: &str) -> ConfigError {
    ConfigError {
        variable: variable.into(),
        value: value.into(),
        reason: reason.into(),
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
