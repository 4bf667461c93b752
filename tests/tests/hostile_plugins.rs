//! Plugins that trap, never return, eat memory or do not start, in a running sidecar: it says so,
//! goes on with the built-in one, and diagnoses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a step that fails ends the test"
)]

#[path = "../guests/component.rs"]
mod guests;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use stethos_tests::{
    asking::Asking,
    collector::Collector,
    programs::stethos,
    server::Server,
    sidecar::Sidecar,
    simulated,
    skip::{Need, kernel_or_skip, skip},
};

const TEST: &str = "hostile_plugins_cost_their_verdicts_and_nothing_else";

/// A guest, what its log says when it fails, and when it is given up.
struct Guest {
    name: &'static str,
    /// Made to its text.
    change: fn(String) -> String,
    fails: &'static str,
    given_up: &'static [&'static str],
    /// As the metric names the reason.
    counted: Option<&'static str>,
}

fn always(text: String) -> String {
    let condition = "(i32.eq (local.get $token) (i32.const 13))";
    assert!(!text.contains("(module") || text.contains(condition));
    text.replace(condition, "(i32.const 1)")
}

const QUARANTINE: &[&str] = &["plugin quarantined"];

const GUESTS: [Guest; 5] = [
    Guest {
        name: "traps",
        change: always,
        fails: "trapped: ",
        given_up: QUARANTINE,
        counted: Some("trap"),
    },
    Guest {
        name: "loops",
        change: always,
        fails: "not done after 200ms",
        given_up: QUARANTINE,
        counted: Some("timeout"),
    },
    Guest {
        name: "grows",
        change: always,
        fails: "asked for more than its 67108864 bytes of memory",
        given_up: QUARANTINE,
        counted: Some("memory"),
    },
    Guest {
        name: "refuses",
        change: always,
        fails: ": never",
        given_up: QUARANTINE,
        counted: Some("refused"),
    },
    Guest {
        name: "never-starts",
        change: |text| text,
        fails: "not done after 200ms",
        given_up: &["plugin does not start"],
        counted: None,
    },
];

fn component(guest: &Guest, folder: &Path) -> PathBuf {
    let path = folder.join(format!("{}.wasm", guest.name));
    fs::write(&path, guests::component_of(guest.name, guest.change)).unwrap();
    path
}

#[test]
fn hostile_plugins_cost_their_verdicts_and_nothing_else() {
    if !kernel_or_skip(TEST) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(mut collector) = Collector::start() else {
        skip(Need::Tool, TEST, "no collector: STETHOS_ROTEL is not set");
        return;
    };
    let mut asking = Asking::start("asking", folder.path());
    let address = asking.server.address.to_string();

    let state = folder.path().join("state");
    for guest in &GUESTS {
        let plugin = component(guest, folder.path());
        let plugin = plugin.to_str().unwrap();
        let log = folder.path().join(format!("{}.log", guest.name));
        let mut sidecar = Sidecar::start(&asking.outside, &asking.pod, &state, &log, |command| {
            command
                .env("STETHOS_PLUGINS_LOAD", format!("[{{file: {plugin}}}]"))
                .env("STETHOS_PLUGINS_DEADLINE", "200ms")
                .env("STETHOS_LEARNING_MIN_DURATION", "5s")
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.http_endpoint())
                .env("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
                .env("OTEL_METRIC_EXPORT_INTERVAL", "500");
        })
        .unwrap();
        // The first one learns, and its plugin meets the model that was just trained.
        sidecar.watching(1, Duration::from_secs(120));
        let limit = Duration::from_secs(30);
        sidecar.logged(&[&format!("plugin `{plugin}`"), guest.fails], limit);
        let mut given_up = guest.given_up.to_vec();
        given_up.push(plugin);
        sidecar.logged(&given_up, limit);
        if let Some(reason) = guest.counted {
            sidecar.logged(&["the built-in plugin takes over", "client"], limit);
            collector.wait("the plugin's counters", limit, |_| {
                let text = collector.text();
                let failures = text.split("Metric #").filter(|metric| {
                    metric.contains("stethos.plugin.failures") && metric.contains(plugin)
                });
                let told = |metric: &str| metric.contains(&format!("error.type: Str({reason})"));
                failures.clone().any(told).then_some(())
            });
        }

        asking.server.stop();
        let refused = sidecar.confirmed(&["dependency.refused"]);
        assert_eq!(refused["stethos.plugin.name"], "generic", "{refused:#?}");
        assert!(refused["stethos.model.id"].is_string(), "{refused:#?}");
        asking.server = Server::start(&address).unwrap();
        sidecar.resolved();
        let log = sidecar.end();
        assert!(!log.contains("panicked"), "{log}");
    }
    collector.end();
}

#[test]
fn a_replay_with_a_hostile_plugin_says_what_the_built_in_one_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (normal, incident, bundle) = (path("normal.rec"), path("incident.rec"), path("a.bundle"));
    fs::write(&normal, simulated::service(60..60)).unwrap();
    fs::write(&incident, simulated::service(40..50)).unwrap();
    let train = ["train", &normal, "-o", &bundle, "--time-limit", "5s"];
    assert!(stethos().args(train).status().unwrap().success());

    for guest in &GUESTS[..2] {
        let plugin = component(guest, folder.path());
        let plugin = plugin.to_str().unwrap();
        let replay = || {
            let mut replay = stethos();
            replay.args(["replay", &incident, "--bundle", &bundle, "--json"]);
            replay.env("STETHOS_PLUGINS_LOAD", format!("[{{file: {plugin}}}]"));
            replay.env("STETHOS_PLUGINS_DEADLINE", "200ms");
            let output = replay.output().unwrap();
            let log = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{log}");
            for told in [guest.fails, "plugin quarantined", "takes over", plugin] {
                assert!(log.contains(told), "no {told:?} in {log}");
            }
            String::from_utf8(output.stdout).unwrap()
        };
        let first = replay();
        assert_eq!(first, replay(), "a replay gives the same each time");
        let confirmed = first
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .find(|line| line["stethos.incident.state"] == "confirmed")
            .unwrap();
        assert_eq!(confirmed["error.type"], "dependency.refused");
        assert_eq!(confirmed["stethos.plugin.name"], "generic");
    }
}
