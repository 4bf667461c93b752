//! Verdicts of windows seen before.

use std::sync::Arc;

use stethos::plugin::{HostConfig, PluginError, TokenWindow};

use super::{config, run, started, window};

#[test]
fn windows_seen_before_are_answered_without_the_guest() {
    let (plugin, model) = started("good", config());
    let score = |windows: &[TokenWindow]| run(plugin.score(model.id, windows.to_vec())).unwrap();
    let some = TokenWindow {
        pattern: Some(0),
        tokens: vec![2, 3],
    };
    let windows = [window(&[2, 3]), window(&[4]), window(&[2, 3]), some];
    assert_eq!(
        score(&windows)
            .iter()
            .map(|v| v.surprise.len())
            .collect::<Vec<_>>(),
        [2, 1, 2, 2]
    );
    let metrics = plugin.metrics();
    assert_eq!(
        (metrics.cache_misses, metrics.cache_hits, metrics.batches),
        (3, 1, 1)
    );
    score(&windows);
    let metrics = plugin.metrics();
    assert_eq!(
        (metrics.cache_misses, metrics.cache_hits, metrics.batches),
        (3, 5, 1)
    );

    let other = run(plugin.load_model(Arc::new([]))).unwrap();
    run(plugin.score(other.id, windows.to_vec())).unwrap();
    assert_eq!(
        plugin.metrics().cache_misses,
        6,
        "another model has verdicts of its own"
    );

    run(plugin.unload_model(model.id)).unwrap();
    let gone = run(plugin.score(model.id, windows.to_vec()));
    assert!(matches!(gone, Err(PluginError::UnknownModel { .. })));
}

#[test]
fn kept_verdicts_and_batches_are_bounded() {
    let config = HostConfig {
        cached_verdicts: 2,
        batch: 3,
        ..config()
    };
    let (plugin, model) = started("good", config);
    let windows: Vec<_> = (20..30).map(|token| window(&[token])).collect();
    run(plugin.score(model.id, windows.clone())).unwrap();
    assert_eq!(plugin.metrics().batches, 4);
    run(plugin.score(model.id, windows[8..].to_vec())).unwrap();
    assert_eq!(plugin.metrics().cache_hits, 2);
    run(plugin.score(model.id, windows[..2].to_vec())).unwrap();
    assert_eq!(plugin.metrics().cache_misses, 12);
}
