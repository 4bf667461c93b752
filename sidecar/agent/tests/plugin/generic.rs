//! The built-in plugin as the sidecar runs it.

use std::sync::Arc;

use stethos::plugin::{
    GENERIC_COMPONENT, HostConfig, Plugin, PluginError, PluginHost, TokenWindow,
};
use stethos_plugin_sdk::sample::{SampleRandom, SampleSize};
use stethos_plugin_sdk::{Model, Window};

use super::{run, window};

fn generic(config: HostConfig) -> Plugin {
    assert!(
        !GENERIC_COMPONENT.is_empty(),
        "`cargo xtask build` makes the generic plugin"
    );
    PluginHost::new(config)
        .unwrap()
        .load("generic", GENERIC_COMPONENT)
        .unwrap()
}

/// Windows of all lengths, for the guest and for the same code run natively.
fn mixed_windows(size: &SampleSize) -> (Vec<TokenWindow>, Vec<Window>) {
    let mut random = SampleRandom::new(5);
    (0..100u64)
        .flat_map(|seed| size.windows(1, 1 + random.below(64), seed))
        .map(|window| {
            let of_guest = TokenWindow {
                pattern: window.pattern,
                tokens: window.tokens.clone(),
            };
            (of_guest, window)
        })
        .unzip()
}

#[test]
fn the_generic_plugin_scores_as_native_code_does_and_purely() {
    let plugin = generic(HostConfig {
        cached_verdicts: 1,
        ..HostConfig::default()
    });
    assert_eq!(plugin.description().application_type, "generic");
    let default = SampleSize::default();
    // Output rows that do and do not fill whole vectors.
    for vocabulary in [default.vocabulary, 37] {
        scores_purely(
            &plugin,
            &SampleSize {
                vocabulary,
                ..default
            },
        );
    }
}

fn scores_purely(plugin: &Plugin, size: &SampleSize) {
    let bytes = size.model(3).unwrap();
    let model = run(plugin.load_model(bytes.clone().into())).unwrap();
    let shape = (
        model.shape.vocabulary,
        model.shape.patterns,
        model.shape.profile,
    );
    assert_eq!(shape, (size.vocabulary as u32, 8, 96));

    let (windows, native) = mixed_windows(size);
    let expected = Model::read(&bytes).unwrap().score(&native).unwrap();
    let verdicts = run(plugin.score(model.id, windows.clone())).unwrap();
    for (verdict, expected) in verdicts.iter().zip(&expected) {
        for (surprise, expected) in verdict.surprise.iter().zip(&expected.surprise) {
            assert!(
                (surprise - expected).abs() < 1e-4,
                "{surprise} in the guest, {expected}"
            );
        }
    }
    let bits = |surprise: &[f32]| surprise.iter().map(|s| s.to_bits()).collect::<Vec<_>>();
    for (window, verdict) in windows.iter().zip(&verdicts).rev() {
        let alone = run(plugin.score(model.id, vec![window.clone()])).unwrap();
        assert_eq!(bits(&alone[0].surprise), bits(&verdict.surprise));
        assert_eq!(alone[0].expected, verdict.expected);
    }

    let profile = vec![0.5; 96];
    let assessed = run(plugin.assess(model.id, vec![profile.clone()])).unwrap();
    let expected = Model::read(&bytes).unwrap().assess(&[profile]).unwrap();
    let difference = assessed[0].reconstruction_error - expected[0].reconstruction_error;
    assert!(difference.abs() < 1e-4 * expected[0].reconstruction_error);
}

#[test]
fn the_generic_plugin_refuses_what_is_no_model_and_lives() {
    let plugin = generic(HostConfig::default());
    let refused = run(plugin.load_model(Arc::new(*b"no safetensors"))).unwrap_err();
    assert!(matches!(refused, PluginError::Refused { .. }), "{refused}");
    let size = SampleSize::default();
    let model = run(plugin.load_model(size.model(3).unwrap().into())).unwrap();
    let refused = run(plugin.score(model.id, vec![window(&[64])])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "plugin `generic`: window 0 has token id 64, the vocabulary has 64"
    );
    assert!(run(plugin.score(model.id, vec![window(&[63])])).is_ok());
    assert_eq!(plugin.metrics().restarts, 0);
}
