use std::collections::HashMap;

use super::*;

fn read(variables: &[(&str, &str)]) -> Result<ExportConfig, ConfigError> {
    let map: HashMap<_, _> = variables.iter().copied().collect();
    ExportConfig::read(&|name| map.get(name).map(|v| v.to_string()))
}

#[test]
fn defaults_are_http_on_localhost_with_a_path_per_signal() {
    let config = read(&[]).unwrap();
    let logs = config.logs.unwrap();
    assert_eq!(logs.url, "http://localhost:4318/v1/logs");
    assert_eq!((logs.protocol, logs.gzip), (Protocol::HttpProtobuf, false));
    assert_eq!(logs.timeout, Duration::from_secs(10));
    assert_eq!(
        config.traces.unwrap().url,
        "http://localhost:4318/v1/traces"
    );
    assert_eq!(
        config.metrics.unwrap().url,
        "http://localhost:4318/v1/metrics"
    );
    assert_eq!(config.metric_interval, Duration::from_secs(60));
    assert!(config.warnings.is_empty());
}

#[test]
fn a_signals_own_variable_stands_over_the_general_one() {
    let config = read(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://otel.example/base/"),
        (
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
            "http://127.0.0.1:9/only/logs",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "Api-Key=a%20b, x=y=z"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "t=1"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/client.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
        ("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "/other.pem"),
    ])
    .unwrap();
    let (logs, traces, metrics) = (
        config.logs.unwrap(),
        config.traces.unwrap(),
        config.metrics.unwrap(),
    );
    assert_eq!(logs.url, "http://127.0.0.1:9/only/logs");
    assert_eq!(traces.url, "https://otel.example/base/v1/traces");
    assert_eq!(
        (metrics.url.as_str(), metrics.protocol),
        ("https://otel.example/base/", Protocol::Grpc)
    );
    let header = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(logs.headers, [header("api-key", "a b"), header("x", "y=z")]);
    assert_eq!(traces.headers, [header("t", "1")]);
    assert_eq!((logs.gzip, traces.gzip), (false, true));
    assert_eq!(traces.timeout, Duration::from_millis(1500));
    assert_eq!(traces.tls.certificate.as_deref(), Some("/ca.pem".as_ref()));
    assert_eq!(
        traces.tls.client_key.as_deref(),
        Some("/other.pem".as_ref())
    );
    assert_eq!(logs.tls.client_key.as_deref(), Some("/key.pem".as_ref()));
}

#[test]
fn grpc_endpoints_may_lack_a_scheme() {
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317");
    let url = |variables: &[_]| read(variables).unwrap().logs.unwrap().url;
    assert_eq!(url(&[grpc]), "http://localhost:4317");
    assert_eq!(url(&[grpc, endpoint]), "https://collector:4317");
    let insecure = ("OTEL_EXPORTER_OTLP_INSECURE", "true");
    assert_eq!(url(&[grpc, endpoint, insecure]), "http://collector:4317");
}

#[test]
fn disabling_the_sdk_or_a_signal_disables_the_export() {
    let off = read(&[("OTEL_SDK_DISABLED", "true")]).unwrap();
    assert!(off.logs.is_none() && off.traces.is_none() && off.metrics.is_none());
    let some = read(&[
        ("OTEL_METRICS_EXPORTER", "none"),
        ("OTEL_SDK_DISABLED", "false"),
    ])
    .unwrap();
    assert!(some.logs.is_some() && some.traces.is_some() && some.metrics.is_none());
}

#[test]
fn batch_limit_and_metric_variables_are_read() {
    let config = read(&[
        ("OTEL_BLRP_SCHEDULE_DELAY", "700"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "7"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "5000"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "20"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "9"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "1000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "250"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "900"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "Delta"),
    ])
    .unwrap();
    assert_eq!(config.log_batch.delay, Duration::from_millis(700));
    assert_eq!(
        (config.log_batch.max_queue, config.log_batch.max_batch),
        (10, 10)
    );
    assert_eq!(config.span_batch.max_batch, 7);
    assert_eq!(
        config.span_batch.export_timeout,
        Some(Duration::from_secs(5))
    );
    assert_eq!(
        (config.limits.log.length, config.limits.log.count),
        (20, 128)
    );
    assert_eq!(
        (config.limits.span.length, config.limits.span.count),
        (20, 9)
    );
    assert_eq!(config.limits.links, 128);
    assert_eq!(config.metric_interval, Duration::from_millis(250));
    assert_eq!(
        config.temporality,
        opentelemetry_sdk::metrics::Temporality::Delta
    );
}

#[test]
fn a_general_endpoint_keeps_its_path_and_its_query() {
    for (base, logs) in [
        ("http://c:4318/", "http://c:4318/v1/logs"),
        ("https://c/otlp", "https://c/otlp/v1/logs"),
        ("http://c/otlp/?key=a/b", "http://c/otlp/v1/logs?key=a/b"),
    ] {
        let config = read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", base)]).unwrap();
        assert_eq!(config.logs.unwrap().url, logs);
    }
}

#[test]
fn names_of_choices_may_have_capitals_and_exporters_may_be_lists() {
    let config = read(&[
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZip"),
        ("OTEL_LOGS_EXPORTER", "console, OTLP"),
        ("OTEL_TRACES_EXPORTER", "None"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
    ])
    .unwrap();
    let logs = config.logs.unwrap();
    assert_eq!((logs.protocol, logs.gzip), (Protocol::Grpc, true));
    assert!(config.traces.is_none() && config.metrics.is_some());
    let ignored = ["console", "prometheus"];
    assert_eq!(config.warnings.len(), ignored.len());
    for (warning, name) in config.warnings.iter().zip(ignored) {
        assert!(warning.contains(name), "{warning}");
    }
}

#[test]
fn no_time_is_no_limit_for_time_outs() {
    let config = read(&[
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "0"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "0"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "0"),
    ])
    .unwrap();
    let days = Duration::from_secs(40 * 24 * 3600);
    assert!(config.logs.unwrap().timeout > days);
    assert!(config.log_batch.export_timeout.unwrap() > days);
    assert!(config.metric_batch.export_timeout.unwrap() > days);
    assert_eq!(config.log_batch.delay, Duration::ZERO);
}

#[test]
fn empty_values_are_unset() {
    let asked = std::cell::RefCell::new(Vec::new());
    let empty = |name: &str| {
        asked.borrow_mut().push(name.to_owned());
        Some(" ".to_owned())
    };
    let config = ExportConfig::read(&empty).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.logs, read(&[]).unwrap().logs);
    assert_eq!(config.limits, read(&[]).unwrap().limits);
    assert_eq!(TlsFiles::general(&empty).unwrap(), TlsFiles::default());
    assert!(asked.borrow().len() > 50);
}

#[test]
fn a_clients_certificate_comes_with_its_key() {
    for (one, other) in [
        ("CLIENT_CERTIFICATE", "CLIENT_KEY"),
        ("CLIENT_KEY", "CLIENT_CERTIFICATE"),
    ] {
        let name = format!("OTEL_EXPORTER_OTLP_{one}");
        let error = read(&[(&name, "/a.pem")]).unwrap_err();
        assert_eq!(error.variable, name);
        assert!(error.reason.contains(other), "{error}");
        let map = |asked: &str| (asked == name).then(|| "/a.pem".to_owned());
        assert_eq!(TlsFiles::general(&map).unwrap_err(), error);
    }
}

#[test]
fn what_is_no_value_is_ignored_aloud() {
    let wrong = [
        ("OTEL_CONFIG_FILE", "/otel.yaml"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b"),
        ("OTEL_SDK_DISABLED", "1"),
        ("OTEL_LOGS_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "yes"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "zstd"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "18446744073709551615"),
        ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "4000"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "many"),
        ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "1.5"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "sometimes",
        ),
    ];
    let (config, default) = (read(&wrong).unwrap(), read(&[]).unwrap());
    assert_eq!(config.logs, default.logs);
    assert_eq!(config.traces, default.traces);
    assert_eq!(config.span_batch, default.span_batch);
    assert_eq!(config.log_batch.max_queue, default.log_batch.max_queue);
    assert_eq!(config.log_batch.max_batch, default.log_batch.max_queue);
    assert_eq!(config.limits, default.limits);
    assert_eq!(config.temporality, default.temporality);
    assert_eq!(config.own_resource, default.own_resource);
    for (name, value) in wrong {
        let is_it = |w: &&String| w.starts_with(name) && w.contains(&format!("{value:?}"));
        let told = config.warnings.iter().filter(is_it).count();
        assert_eq!(told, usize::from(value != "grpc"), "{name}={value}");
    }
}

#[test]
fn addresses_and_headers_that_cannot_be_read_are_refused() {
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "ftp://x"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret"),
    ] {
        let error = read(&[(name, value)]).unwrap_err();
        assert_eq!(error.variable, name);
        assert!(name != "OTEL_EXPORTER_OTLP_HEADERS" || !error.to_string().contains("secret"));
    }
}
