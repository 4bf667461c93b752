//! The tensors mean what the contract says: plain loops over them give the library's figures.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::reference::{Judge, Model};
use common::{Server, config, input};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use stethos_patterns::{Vocabulary, Window};
use stethos_trainer::corpus::{BLOCKS, HELD_BACK_EVERY};
use stethos_trainer::vae::{Vae, VaeConfig};
use stethos_trainer::{TrainConfig, train};

#[test]
fn names_and_shapes() {
    let config = TrainConfig {
        steps: 10,
        embedding: 5,
        hidden: 7,
        ..config()
    };
    let bundle = train(input(Server::web(1).windows(300)), &config, &mut |_| {}).unwrap();
    let (v, p) = (bundle.vocabulary.len() + 2, bundle.patterns.len());
    let (e, h, l, w) = (5, 7, config.latent, config.vae_hidden);
    let d = bundle.profile_layout.dimension();
    let expected = [
        ("gru.embed", v, e),
        ("gru.w", 3 * h, e),
        ("gru.r", 3 * h, h),
        ("gru.wb", 3 * h, 1),
        ("gru.rb", 3 * h, 1),
        ("gru.h0", p + 1, h),
        ("gru.out.w", v, h),
        ("gru.out.b", v, 1),
        ("gru.after.row", p + 1, v + 1),
        ("vae.mean", d, 1),
        ("vae.scale", d, 1),
        ("vae.enc.w", w, d),
        ("vae.enc.b", w, 1),
        ("vae.mu.w", l, w),
        ("vae.mu.b", l, 1),
        ("vae.logvar.w", l, w),
        ("vae.logvar.b", l, 1),
        ("vae.dec.w", w, l),
        ("vae.dec.b", w, 1),
        ("vae.out.w", d, w),
        ("vae.out.b", d, 1),
    ];
    let model = Model::new(&bundle);
    for (name, rows, columns) in expected {
        let matrix = model.matrix(name);
        assert_eq!((matrix.rows, matrix.columns), (rows, columns), "{name}");
    }
}

/// The model card's loss was computed by the library on the held-back windows; the same windows
/// through the plain loops give the same loss.
#[test]
fn plain_loops_give_the_library_s_loss() {
    let config = TrainConfig {
        steps: 60,
        ..config()
    };
    let windows = Server::web(1).windows(800);
    let bundle = train(input(windows.clone()), &config, &mut |_| {}).unwrap();
    let mut judge = Judge::new(&bundle);
    let block = |place: usize| place * BLOCKS / windows.len();
    let held_back: Vec<&Window> = windows
        .iter()
        .enumerate()
        .filter(|(place, _)| block(*place) % HELD_BACK_EVERY == HELD_BACK_EVERY - 1)
        .map(|(_, window)| window)
        .collect();
    let (mut sum, mut tokens) = (0.0, 0);
    for window in held_back {
        let pattern = judge.pattern(window);
        let surprises = judge.model.surprises(&judge.ids(window), pattern);
        sum += surprises.iter().map(|&s| f64::from(s)).sum::<f64>();
        tokens += surprises.len();
    }
    let loss = sum / tokens as f64;
    assert!(
        (loss - bundle.card.loss).abs() < 1e-5,
        "{loss} {}",
        bundle.card.loss
    );
}

#[test]
fn autoencoder_through_plain_loops() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let profiles: Vec<Vec<f32>> = (0..10u8)
        .map(|i| (0..6u8).map(|j| f32::from(i * j % 7) / 3.0).collect())
        .collect();
    let config = VaeConfig {
        hidden: 5,
        latent: 2,
        ..VaeConfig::default()
    };
    let vae = Vae::new(&profiles, &[], config, &mut random).unwrap();
    let mut bundle = train(
        input(Server::web(1).windows(100)),
        &TrainConfig {
            steps: 1,
            ..common::config()
        },
        &mut |_| {},
    )
    .unwrap();
    bundle.model = vae.serialise().unwrap();
    let model = Model::new(&bundle);
    let (errors, codes) = (vae.errors(&profiles), vae.codes(&profiles));
    let judged = errors.unwrap().into_iter().zip(codes.unwrap());
    for (profile, (error, code)) in profiles.iter().zip(judged) {
        let (expected, expected_error) = model.assess(profile);
        assert!((expected_error - error).abs() < 1e-5);
        assert_eq!(code.len(), expected.len());
        for (value, expected) in code.iter().zip(&expected) {
            assert!((f64::from(*value) - expected).abs() < 1e-5);
        }
    }
}

#[test]
fn unknown_tokens_have_id_zero_and_surprise() {
    let bundle = train(input(Server::web(1).windows(600)), &config(), &mut |_| {}).unwrap();
    let mut judge = Judge::new(&bundle);
    let window = common::refused(&Server::web(5).window());
    let place = judge
        .ids(&window)
        .iter()
        .position(|&id| id == Vocabulary::UNKNOWN)
        .unwrap();
    let pattern = judge.pattern(&window);
    let surprises = judge.model.surprises(&judge.ids(&window), pattern);
    let highest = surprises.iter().copied().fold(0.0, f32::max);
    assert_eq!(surprises[place], highest);
}
