//! Whose span the failing calls of 64 requests at once are put under: one line of JSON for each application,
//! way, and kind of call. `bench-join REQUESTS`.
#![allow(clippy::print_stdout, reason = "what it measures is its output")]

use serde_json::json;
use stethos_tests::join::{Application, Asked, Operation, ask, judged};

fn main() {
    let requests = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let requests = requests.unwrap_or(10_000);
    for application in [
        Application::Threads,
        Application::Tokio,
        Application::Http2,
        Application::Node,
    ] {
        for publish in [false, true] {
            // Nothing publishes contexts in Node this way.
            if publish && application == Application::Node {
                continue;
            }
            for operation in [
                Operation::Open,
                Operation::Connect,
                Operation::Elsewhere,
                Operation::Exchange,
            ] {
                let asked = Asked {
                    application,
                    publish,
                    operation,
                    requests,
                };
                let Some(records) = ask(asked) else {
                    eprintln!("{} is not installed", application.name());
                    continue;
                };
                let joined = judged(&records);
                let line = json!({
                    "application": application.name(),
                    "rung": if publish { "thread_context" } else { "traceparent" },
                    "operation": operation.name(),
                    "requests": requests,
                    "right": joined.right,
                    "trace": joined.trace,
                    "wrong": joined.wrong,
                    "linked": joined.linked,
                    "linked_wrong": joined.linked_wrong,
                    "none": joined.none,
                });
                println!("{line}");
            }
        }
    }
}
