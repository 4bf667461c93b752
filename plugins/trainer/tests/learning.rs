//! Training on made-up servers: what comes out is calm on normal windows, alarmed by faults,
//! and the same for the same seed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::reference::Judge;
use common::{CONNECT, Server, config, input, refused, reversed};
use stethos_bundle::Bundle;
use stethos_patterns::profile::ProfileBuilder;
use stethos_patterns::{Vocabulary, Window};
use stethos_trainer::{Phase, Progress, TrainConfig, TrainError, train};

fn learn(windows: Vec<Window>) -> Bundle {
    train(input(windows), &config(), &mut |_| {}).unwrap()
}

#[test]
fn web_server_normal_is_calm_and_faults_alarm() {
    let bundle = learn(Server::web(1).windows(3200));
    let mut judge = Judge::new(&bundle);
    let fresh = Server::web(2).windows(1000);
    let normal = judge.share_of_alarms(&fresh);
    assert!(normal <= 0.005, "{normal}");

    let faulty: Vec<Window> = fresh.iter().map(refused).collect();
    let refused = judge.share_of_alarms(&faulty);
    assert!(refused >= 0.99, "{refused}");
    let faulty: Vec<Window> = fresh
        .iter()
        .filter(|window| window.calls.len() > 8)
        .map(reversed)
        .collect();
    let permuted = judge.share_of_alarms(&faulty);
    assert!(permuted >= 0.99, "{permuted}");

    let card = &bundle.card;
    assert!(
        card.loss < 0.5 * f64::from(card.vocabulary).ln(),
        "{card:?}"
    );
    assert!(card.loss < card.markov3_loss, "{card:?}");
    assert_eq!((card.windows, card.held_back_windows), (3200, 800));
}

#[test]
fn cache_normal_is_calm_and_faults_alarm() {
    let bundle = learn(Server::cache(1).windows(2000));
    let mut judge = Judge::new(&bundle);
    let fresh = Server::cache(2).windows(1000);
    let normal = judge.share_of_alarms(&fresh);
    assert!(normal <= 0.005, "{normal}");
    let faulty: Vec<Window> = fresh.iter().map(refused).collect();
    let refused = judge.share_of_alarms(&faulty);
    assert!(refused >= 0.99, "{refused}");
}

#[test]
fn profile_of_the_learned_mix_is_stable_and_of_another_is_not() {
    let bundle = learn(Server::web(1).windows(3200));
    let mut judge = Judge::new(&bundle);
    let vocabulary = Vocabulary::new(bundle.vocabulary.iter().copied());
    let mut builder = ProfileBuilder::new(bundle.profile_layout.clone(), vocabulary, "x86_64");
    let mut stability = |windows: &[Window]| {
        for window in windows {
            builder.window(window, judge.pattern(window));
        }
        let error = judge.model.assess(&builder.finish().values).1;
        bundle.thresholds.stability(error)
    };
    let fresh = Server::web(2).windows(4000);
    for interval in fresh.chunks(1000) {
        assert!(stability(interval) > 0.6);
    }
    assert!(stability(&Server::cache(3).windows(1000)) < 0.1);
}

#[test]
fn more_of_one_kind_of_request_and_less_of_another_is_stable() {
    let bundle = learn(Server::web(1).windows(3200));
    let mut judge = Judge::new(&bundle);
    let vocabulary = Vocabulary::new(bundle.vocabulary.iter().copied());
    let layout = bundle.profile_layout.clone();
    let mut builder = ProfileBuilder::new(layout, vocabulary, "x86_64");
    let (upstream, files): (Vec<Window>, Vec<Window>) = Server::web(3)
        .windows(3000)
        .into_iter()
        .partition(|window| window.calls.iter().any(|call| call.token.call == CONNECT));
    for (upstream_share, file_share) in [(3, 1), (1, 3)] {
        let wanted = |windows: &[Window], share: usize| windows[..150 * share].to_vec();
        let mixed = [
            wanted(&upstream, upstream_share),
            wanted(&files, file_share),
        ]
        .concat();
        for window in mixed {
            builder.window(&window, judge.pattern(&window));
        }
        let error = judge.model.assess(&builder.finish().values).1;
        let stability = bundle.thresholds.stability(error);
        assert!(
            stability > 0.5,
            "{upstream_share} to {file_share}: {stability}"
        );
    }
}

#[test]
fn same_seed_same_bytes() {
    let config = TrainConfig {
        steps: 40,
        ..config()
    };
    let run = |seed, created_unix| {
        let config = TrainConfig {
            seed,
            ..config.clone()
        };
        let mut input = input(Server::web(1).windows(600));
        input.created_unix = created_unix;
        train(input, &config, &mut |_| {}).unwrap()
    };
    let first = run(7, 1);
    assert_eq!(first.write().unwrap(), run(7, 1).write().unwrap());
    assert_ne!(first.model, run(8, 1).model);

    let mut later = run(7, 2);
    assert_ne!(first.id(), later.id());
    later.card.created_unix = 1;
    assert_eq!(first.id(), later.id());
}

#[test]
fn order_of_the_windows_does_not_matter() {
    let config = TrainConfig {
        steps: 20,
        ..config()
    };
    let windows = Server::cache(1).windows(300);
    let reversed = windows.iter().rev().cloned().collect();
    let learn = |windows| train(input(windows), &config, &mut |_| {}).unwrap();
    assert_eq!(learn(windows).model, learn(reversed).model);
}

#[test]
fn widened_learning_gives_wider_limits() {
    let config = TrainConfig {
        steps: 20,
        ..config()
    };
    let windows = Server::cache(1).windows(300);
    let learn = |widened| {
        let input = stethos_trainer::TrainingInput {
            widened,
            ..input(windows.clone())
        };
        train(input, &config, &mut |_| {}).unwrap()
    };
    let (plain, wide) = (learn(false), learn(true));
    assert!(wide.card.widened);
    for (plain, wide) in plain
        .thresholds
        .patterns
        .iter()
        .zip(&wide.thresholds.patterns)
    {
        assert!(wide > plain);
    }
    assert!(wide.thresholds.reconstruction_limit > plain.thresholds.reconstruction_limit);
}

#[test]
fn progress_goes_through_all_phases() {
    let config = TrainConfig {
        steps: 60,
        ..config()
    };
    let mut seen: Vec<Progress> = Vec::new();
    train(input(Server::cache(1).windows(300)), &config, &mut |p| {
        seen.push(p)
    })
    .unwrap();
    let mut phases: Vec<Phase> = seen.iter().map(|progress| progress.phase).collect();
    phases.dedup();
    let all = [
        Phase::Patterns,
        Phase::Sequences,
        Phase::Profiles,
        Phase::Calibration,
    ];
    assert_eq!(phases, all);
    assert!(seen.iter().all(|p| (0.0..=1.0).contains(&p.fraction)));
    let losses: Vec<f64> = seen
        .iter()
        .filter(|p| p.phase == Phase::Sequences)
        .filter_map(|p| p.loss)
        .collect();
    assert!(losses.last() < losses.first(), "{losses:?}");
}

#[test]
fn time_limit_cuts_training() {
    let config = TrainConfig {
        steps: 1_000_000,
        time_limit: Some(Duration::from_millis(50)),
        ..config()
    };
    let bundle = train(input(Server::web(1).windows(600)), &config, &mut |_| {}).unwrap();
    assert!(bundle.card.steps < 10_000, "{}", bundle.card.steps);
}

#[test]
fn too_little_is_refused_with_what_is_needed() {
    let error = train(input(Server::web(1).windows(20)), &config(), &mut |_| {}).unwrap_err();
    assert!(matches!(
        error,
        TrainError::TooLittle {
            what: "windows",
            found: 20,
            needed: 64
        }
    ));
    let config = TrainConfig {
        hidden: 0,
        ..config()
    };
    let error = train(input(Server::web(1).windows(200)), &config, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("hidden"), "{error}");
}
