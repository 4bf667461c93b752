//! Guests that misbehave cost their batch, are counted, restart, and end in quarantine.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use stethos::plugin::{Plugin, PluginError};

use super::{config, run, started, window};

/// What the guests misbehave on.
fn bad() -> Vec<stethos::plugin::TokenWindow> {
    vec![window(&[13])]
}

/// The error of a guest on its bad window, after which it must answer the next good one.
fn survived(name: &str) -> (PluginError, Plugin) {
    let (plugin, model) = started(name, config());
    let verdicts = run(plugin.score(model.id, vec![window(&[2, 3])])).unwrap();
    assert_eq!(verdicts[0].surprise, [0.0, 0.0]);
    let error = run(plugin.score(model.id, bad())).unwrap_err();
    let verdicts = run(plugin.score(model.id, vec![window(&[4]), window(&[5, 6, 7])])).unwrap();
    assert_eq!(verdicts[1].expected, [0, 0, 0]);
    assert!(!plugin.metrics().quarantined);
    (error, plugin)
}

#[test]
fn a_trap_costs_its_batch_only() {
    let (error, plugin) = survived("traps");
    assert!(matches!(error, PluginError::Trap { .. }), "{error}");
    assert!(
        error.to_string().starts_with("plugin `traps`: trapped: "),
        "{error}"
    );
    let metrics = plugin.metrics();
    assert_eq!(
        (metrics.traps, metrics.restarts, metrics.batches),
        (1, 1, 3)
    );

    let (error, _) = survived("recurses");
    assert!(matches!(error, PluginError::Trap { .. }), "{error}");
    let (error, _) = survived("points-outside");
    assert!(matches!(error, PluginError::Trap { .. }), "{error}");
}

#[test]
fn a_guest_that_never_returns_is_stopped_at_its_deadline() {
    let (error, plugin) = survived("loops");
    let limit = config().deadline;
    assert_eq!(
        error,
        PluginError::Timeout {
            name: "loops".into(),
            limit
        }
    );
    let metrics = plugin.metrics();
    assert_eq!((metrics.timeouts, metrics.restarts), (1, 1));
    assert!(metrics.guest_time >= limit);
}

#[test]
fn a_guest_gets_no_more_memory_than_its_limit() {
    let (error, plugin) = survived("grows");
    assert_eq!(
        error,
        PluginError::Memory {
            name: "grows".into(),
            limit: 64 << 20
        }
    );
    let metrics = plugin.metrics();
    assert_eq!((metrics.memory_refusals, metrics.traps), (1, 0));
    assert_eq!(
        metrics.memory_bytes,
        2 << 16,
        "the memory of the failed guest is given back"
    );
}

#[test]
fn an_answer_that_would_fill_the_host_is_a_trap() {
    let (error, _) = survived("repeats");
    assert!(matches!(error, PluginError::Trap { .. }), "{error}");
}

#[test]
fn a_verdict_that_is_not_one_is_an_error_of_the_plugin() {
    for (name, reason) in [
        ("short", "0 verdicts for windows, expected 1"),
        ("short-verdict", "0 surprises for tokens, expected 1"),
        ("not-a-number", "surprise NaN"),
        ("strange-id", "expected id 64 in a vocabulary of 64"),
    ] {
        let (error, plugin) = survived(name);
        assert_eq!(
            error,
            PluginError::Invalid {
                name: name.into(),
                reason: reason.into()
            }
        );
        assert_eq!(plugin.metrics().invalid_answers, 1);
    }
    let (plugin, model) = started("good", config());
    let one = run(plugin.assess(model.id, vec![vec![0.0; 4]])).unwrap();
    assert_eq!(one[0].latent, [0.0, 0.0]);
    let error = run(plugin.assess(model.id, vec![vec![0.0; 4]; 2])).unwrap_err();
    let reason = "1 assessments for profiles, expected 2".into();
    assert_eq!(
        error,
        PluginError::Invalid {
            name: "good".into(),
            reason
        }
    );
}

#[test]
fn an_error_of_the_guest_itself_does_not_restart_it() {
    let (error, plugin) = survived("refuses");
    assert_eq!(error.to_string(), "plugin `refuses`: never");
    let metrics = plugin.metrics();
    assert_eq!((metrics.refusals, metrics.restarts), (1, 0));
}

#[test]
fn failures_in_a_row_are_backed_off_and_then_quarantined() {
    let (plugin, model) = started("traps", config());
    let score = |windows| run(plugin.score(model.id, windows));
    assert!(matches!(score(bad()), Err(PluginError::Trap { .. })));
    assert!(matches!(score(bad()), Err(PluginError::Trap { .. })));
    assert!(matches!(
        score(bad()),
        Err(PluginError::BackingOff { failures: 2, .. })
    ));
    assert_eq!(plugin.metrics().traps, 2);
    loop {
        match score(bad()) {
            Err(PluginError::Trap { .. } | PluginError::BackingOff { .. }) => {
                thread::sleep(Duration::from_millis(20));
            }
            other => {
                let quarantined = PluginError::Quarantined {
                    name: "traps".into(),
                    failures: 5,
                };
                assert_eq!(other, Err(quarantined.clone()));
                assert_eq!(score(vec![window(&[2])]), Err(quarantined.clone()));
                assert_eq!(
                    run(plugin.load_model(Arc::new([]))).err(),
                    Some(quarantined)
                );
                break;
            }
        }
    }
    let metrics = plugin.metrics();
    assert_eq!((metrics.traps, metrics.quarantined), (5, true));
}

#[test]
fn a_success_between_failures_keeps_a_plugin_out_of_quarantine() {
    let (plugin, model) = started("traps", config());
    for token in 20..30 {
        assert!(matches!(
            run(plugin.score(model.id, bad())),
            Err(PluginError::Trap { .. })
        ));
        assert!(run(plugin.score(model.id, vec![window(&[token])])).is_ok());
    }
    let metrics = plugin.metrics();
    assert_eq!((metrics.traps, metrics.quarantined), (10, false));
}

#[test]
fn a_plugin_outlives_its_host_and_ends_with_its_last_handle() {
    let (plugin, model) = started("loops", config());
    let clone = plugin.clone();
    drop(plugin);
    let error = run(clone.score(model.id, bad())).unwrap_err();
    assert!(
        matches!(error, PluginError::Timeout { .. }),
        "the clock runs on: {error}"
    );
}
