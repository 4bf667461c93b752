//! Calls of 64 requests at once are put under the right span, or under none.
#![allow(clippy::unwrap_used, reason = "a step that fails ends the test")]

use stethos_tests::{
    join::{Application, Asked, Joined, Operation, ask, judged},
    skip::{Need, kernel_or_skip, skip},
};

const REQUESTS: u32 = 4000;

/// None where it cannot be tried here.
fn tried(
    test: &str,
    application: Application,
    publish: bool,
    operation: Operation,
) -> Option<Joined> {
    let asked = Asked {
        application,
        publish,
        operation,
        requests: REQUESTS,
    };
    let Some(records) = ask(asked) else {
        skip(
            Need::Tool,
            test,
            &format!("{} is not installed", application.name()),
        );
        return None;
    };
    let joined = judged(&records);
    let (all, asked_for) = (joined.all(), REQUESTS as usize);
    match operation {
        // An answer may be lost on its way without any call that fails.
        Operation::Exchange => assert!((asked_for * 99 / 100..=asked_for).contains(&all)),
        _ => assert_eq!(all, asked_for, "{asked:?}: {joined:?}"),
    }
    Some(joined)
}

#[test]
fn what_threads_publish_is_right() {
    const TEST: &str = "what_threads_publish_is_right";
    if !kernel_or_skip(TEST) || !cfg!(target_arch = "x86_64") {
        return;
    }
    for application in [Application::Threads, Application::Tokio] {
        for operation in [Operation::Open, Operation::Connect] {
            let joined = tried(TEST, application, true, operation).unwrap();
            let wrong = (joined.wrong, joined.trace, joined.linked_wrong);
            assert_eq!(wrong, (0, 0, 0), "{application:?} {operation:?}");
            assert!(joined.right_percent() >= 95.0, "{joined:?}");
        }
    }
}

#[test]
fn requests_that_are_read_put_no_call_under_anothers_span() {
    const TEST: &str = "requests_that_are_read_put_no_call_under_anothers_span";
    if !kernel_or_skip(TEST) {
        return;
    }
    for application in [
        Application::Threads,
        Application::Tokio,
        Application::Http2,
        Application::Node,
    ] {
        for operation in [
            Operation::Open,
            Operation::Connect,
            Operation::Elsewhere,
            Operation::Exchange,
        ] {
            let Some(joined) = tried(TEST, application, false, operation) else {
                break;
            };
            let wrong = (joined.wrong, joined.trace, joined.linked_wrong);
            assert_eq!(
                wrong,
                (0, 0, 0),
                "{application:?} {operation:?}: {joined:?}"
            );
            if operation == Operation::Exchange {
                // It is part of a request that says whose it is.
                assert!(
                    joined.right_percent() >= 95.0,
                    "{application:?}: {joined:?}"
                );
            } else if application != Application::Threads {
                // Where it is not known whose it is, the right one is among those that it may be.
                assert!(
                    joined.right + joined.linked >= joined.all() * 8 / 10,
                    "{joined:?}"
                );
            } else if operation != Operation::Elsewhere {
                assert!(joined.right_percent() >= 80.0, "{joined:?}");
            }
        }
    }
}
