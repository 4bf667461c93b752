//! What other parts of the process read from its environment, too. A process of its own has the
//! variables set; each test here is both processes.

use stethos::export::{ExportConfig, Exporter};

use super::{PATIENCE, accepting, incident, logs};

const CHILD: &str = "STETHOS_TEST_CHILD";

/// Whether this is the process with the variables.
async fn is_child() -> bool {
    if std::env::var_os(CHILD).is_none() {
        return false;
    }
    let mut exporter = Exporter::new(ExportConfig::from_environment().unwrap()).unwrap();
    exporter.publish(&incident(1));
    let stats = exporter.shutdown(PATIENCE).await;
    assert_eq!((stats.logs.accepted, stats.spans.accepted), (2, 2));
    true
}

async fn run(test: &str, variables: &[(&str, &str)]) {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    child
        .args([test, "--exact"])
        .env_clear()
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .kill_on_drop(true);
    let output = child.output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The exporters of `opentelemetry-otlp` make the requests.
#[tokio::test]
async fn values_that_are_none_cost_no_record() {
    if is_child().await {
        return;
    }
    let server = accepting().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*server.endpoint()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "1"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "18446744073709551615"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "many"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a"),
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_PROPAGATORS", "none"),
        ("OTEL_CONFIG_FILE", "/nonexistent"),
    ];
    run("process::values_that_are_none_cost_no_record", &variables).await;
    assert_eq!(logs(&server).concat().len(), 2);
}

#[tokio::test]
async fn http_goes_through_the_proxy_that_is_named() {
    if is_child().await {
        return;
    }
    let proxy = accepting().await;
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector.invalid"),
        ("HTTP_PROXY", &*proxy.endpoint()),
    ];
    let test = "process::http_goes_through_the_proxy_that_is_named";
    run(test, &variables).await;
    let requests = proxy.requests();
    assert!(!requests.is_empty());
    for request in requests {
        let head = request.head;
        let whole = "POST http://collector.invalid/v1/";
        assert!(head.starts_with(whole), "{head}");
    }
}
