//! A bundle as the trainer writes it, in the built-in plugin: it scores as the trainer does, and purely.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../plugins/trainer/tests/common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use stethos::diagnosis::verdict::Verdict;
use stethos::plugin::{GENERIC_COMPONENT, HostConfig, ModelId, Plugin, PluginHost, TokenWindow};
use stethos_bundle::{Bundle, PATTERN_FLOOR};
use stethos_patterns::Vocabulary;
use stethos_patterns::cluster::PatternIndex;
use stethos_trainer::corpus::Sequence;
use stethos_trainer::gru::Gru;
use stethos_trainer::{TrainConfig, train};

use common::{Server, input, refused};

static TRAINED: LazyLock<Bundle> = LazyLock::new(|| {
    let config = TrainConfig {
        steps: 150,
        ..TrainConfig::default()
    };
    train(input(Server::web(1).windows(800)), &config, &mut |_| {}).unwrap()
});

/// The built-in plugin with the trained model, and without a cache worth the name.
static PLUGIN: LazyLock<(Plugin, ModelId)> = LazyLock::new(|| {
    assert!(
        !GENERIC_COMPONENT.is_empty(),
        "`cargo xtask build` makes the generic plugin"
    );
    let config = HostConfig {
        cached_verdicts: 1,
        ..HostConfig::default()
    };
    let host = PluginHost::new(config).unwrap();
    let plugin = host.load("generic", GENERIC_COMPONENT).unwrap();
    let model = run(plugin.load_model(TRAINED.model.as_slice().into())).unwrap();
    (plugin, model.id)
});

fn score(windows: Vec<TokenWindow>) -> Vec<Verdict> {
    let (plugin, model) = &*PLUGIN;
    run(plugin.score(*model, windows)).unwrap()
}

fn run<R>(future: impl Future<Output = R>) -> R {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

/// Distinct windows of another process of the server, as the models see them. Some have no pattern, and some
/// a call that learning never saw.
fn windows(bundle: &Bundle) -> Vec<TokenWindow> {
    let vocabulary = Vocabulary::new(bundle.vocabulary.iter().copied());
    let cache = std::num::NonZeroUsize::MIN;
    let mut patterns = PatternIndex::new(&bundle.patterns, PATTERN_FLOOR, cache);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut distinct = BTreeSet::new();
    for mut window in Server::web(2).windows(600) {
        if random.random_bool(0.1) {
            window = refused(&window);
        }
        let nearest = patterns.nearest(&window.codes());
        let pattern = nearest.map(|(pattern, _)| pattern as u32);
        let pattern = pattern.filter(|_| random.random_bool(0.9));
        let calls = window.calls.iter().take(64);
        let tokens: Vec<u16> = calls.map(|call| vocabulary.id(&call.token)).collect();
        distinct.insert((pattern, tokens));
    }
    let window = |(pattern, tokens)| TokenWindow { pattern, tokens };
    distinct.into_iter().map(window).collect()
}

#[test]
fn the_guest_scores_as_the_trainer_does() {
    let windows = windows(&TRAINED);
    assert!(windows.len() > 100, "{} windows", windows.len());
    let sequence = |window: &TokenWindow| Sequence {
        ids: window.tokens.clone(),
        pattern: window.pattern.map(|pattern| pattern as usize),
        count: 1,
    };
    let sequences: Vec<Sequence> = windows.iter().map(sequence).collect();
    let expected = Gru::read(&TRAINED.model)
        .unwrap()
        .score(&sequences)
        .unwrap();

    let verdicts = score(windows);
    assert_eq!(verdicts.len(), expected.len());
    let mut highest = 0f32;
    for (verdict, expected) in verdicts.iter().zip(&expected) {
        assert_eq!(verdict.surprise.len(), expected.len());
        for (surprise, expected) in verdict.surprise.iter().zip(expected) {
            highest = highest.max(*expected);
            let difference = (surprise - expected).abs();
            assert!(
                difference < 2e-5 * expected.max(1.0),
                "{surprise} in the guest, {expected} in the trainer"
            );
        }
    }
    assert!(highest > 3.0, "nothing surprises: {highest}");
}

#[test]
fn scores_have_the_same_bits_in_any_order_and_batch() {
    let bits = |verdict: Verdict| {
        let surprise = verdict.surprise.iter().map(|one| one.to_bits());
        (surprise.collect::<Vec<_>>(), verdict.expected)
    };
    let windows = windows(&TRAINED);
    let together: Vec<_> = score(windows.clone()).into_iter().map(bits).collect();
    let mut order: Vec<usize> = (0..windows.len()).collect();
    for batch in [1, 7, 100] {
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(batch as u64));
        for places in order.chunks(batch) {
            let asked = places.iter().map(|&place| windows[place].clone());
            let verdicts = score(asked.collect()).into_iter().map(bits);
            for (&place, verdict) in places.iter().zip(verdicts) {
                assert_eq!(verdict, together[place], "batches of {batch}");
            }
        }
    }
}
