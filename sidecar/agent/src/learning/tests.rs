use std::{path::Path, time::Duration};

use stethos_bundle::{ModelCard, Thresholds};
use stethos_patterns::{Token, Vocabulary, baseline::Baseline, profile::ProfileLayout};

use super::*;
use crate::record::{ContainerInfo, Tick};

const SECOND: Nanos = 1_000_000_000;

fn learning(state_dir: &Path) -> Learning {
    let settings = Settings {
        bounds: Bounds {
            unseen: 0.01,
            min_duration: Duration::from_secs(60),
            min_calls: 1,
            ceiling: Duration::from_secs(600),
        },
        state_dir: state_dir.to_owned(),
        time_limit: Duration::from_secs(1),
        nice: 0,
        memory: 1 << 30,
    };
    let header = Header {
        arch: "x86_64".to_owned(),
        kernel: "6.1.0".to_owned(),
        unix_offset_ns: 0,
        capture_mode: "broker".to_owned(),
        target: "self-pod".to_owned(),
    };
    Learning::new(settings, &header).unwrap()
}

fn container(name: &str) -> Record {
    Record::Container(ContainerInfo {
        at_ns: SECOND,
        container: 0,
        name: name.to_owned(),
        id: None,
        cgroup_path: String::new(),
        image: None,
        image_digest: None,
    })
}

fn process() -> Record {
    Record::Process(ProcessInfo {
        at_ns: SECOND,
        container: 0,
        pid: 10,
        executable: "serve".to_owned(),
        command_line: vec!["serve".to_owned()],
        environment: vec![],
        listens: vec![],
    })
}

/// What a second later has changed.
fn tick(learning: &mut Learning, at_ns: Nanos) -> Vec<Change> {
    let tick = Tick {
        at_ns,
        accounts: vec![],
        skipped_recursion: 0,
    };
    assert!(learning.on_record(&Record::Tick(tick)).is_none());
    learning.on_tick()
}

fn key() -> Key {
    Key::new("api", "x86_64", "serve", &["serve".to_owned()])
}

/// A small bundle; `seed` tells it from others.
fn bundle(seed: u64) -> Bundle {
    let vocabulary = vec![Token::new(0, 1)];
    let header = r#"{"gru.embed":{"dtype":"F32","shape":[3,1],"data_offsets":[0,12]},"gru.h0":{"dtype":"F32","shape":[1,1],"data_offsets":[12,16]}}"#;
    let padded = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    let mut model = (padded.len() as u64).to_le_bytes().to_vec();
    model.extend(padded.into_bytes());
    model.extend([0; 16]);
    Bundle {
        card: ModelCard {
            container: "api".to_owned(),
            arch: "x86_64".to_owned(),
            created_unix: 0,
            windows: 1,
            distinct_windows: 1,
            calls: 1,
            seconds: 1.0,
            vocabulary: 3,
            patterns: 0,
            embedding: 1,
            hidden: 1,
            unseen_mass: 0.0,
            epochs: 1,
            held_back_windows: 0,
            training_loss: 0.0,
            loss: 0.0,
            markov3_loss: 0.0,
            markov8_loss: 0.0,
            widened: false,
            trainer: "0".to_owned(),
            seed,
        },
        profile_layout: ProfileLayout::new(&Vocabulary::new(vocabulary.clone()), 0),
        vocabulary,
        patterns: vec![],
        thresholds: Thresholds {
            false_alarm_rate: 1e-3,
            patterns: vec![1.0],
            reconstruction_median: 0.1,
            reconstruction_limit: 0.5,
        },
        baseline: Baseline::default(),
        model,
    }
}

fn is_watching(change: Option<&Change>, bundle: &Bundle) -> bool {
    matches!(change, Some(Change::Watching { id, .. }) if *id == bundle.id())
}

#[test]
fn a_bundle_is_found_by_the_name_that_came_late() {
    let folder = tempfile::tempdir().unwrap();
    let stored = bundle(1);
    let mut learning = learning(folder.path());
    learning
        .store
        .save(&key(), &stored.write().unwrap())
        .unwrap();
    assert!(learning.on_record(&container("cgroup-7")).is_none());
    assert!(tick(&mut learning, 9 * SECOND).is_empty());
    assert!(learning.on_record(&container("api")).is_none());
    let change = learning.on_record(&process());
    assert!(is_watching(change.as_ref(), &stored), "{change:?}");
}

#[test]
fn what_is_not_named_for_long_is_learned_until_its_bundle_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let stored = bundle(1);
    let mut learning = learning(folder.path());
    learning
        .store
        .save(&key(), &stored.write().unwrap())
        .unwrap();
    learning.on_record(&container("cgroup-7"));
    let changes = tick(&mut learning, 11 * SECOND);
    assert!(matches!(changes[..], [Change::Learning { container: 0 }]));
    assert!(tick(&mut learning, 12 * SECOND).is_empty());
    learning.on_record(&container("api"));
    let change = learning.on_record(&process());
    assert!(is_watching(change.as_ref(), &stored), "{change:?}");
    // What a training that ran meanwhile gives is of no use any more.
    let late = learning.trained(0, Ok(bundle(2).write().unwrap()));
    assert!(late.is_none(), "{late:?}");
}

#[test]
fn models_of_a_container_without_a_name_are_kept_under_the_one_that_comes() {
    let folder = tempfile::tempdir().unwrap();
    let trained = bundle(3);
    let mut learning = learning(folder.path());
    learning.on_record(&container("cgroup-7"));
    tick(&mut learning, 11 * SECOND);
    let phase = &mut learning.containers.get_mut(&0).unwrap().phase;
    assert!(phase.start_training().is_some());
    let change = learning.trained(0, Ok(trained.write().unwrap()));
    assert!(is_watching(change.as_ref(), &trained), "{change:?}");
    assert!(learning.store.load(&key()).unwrap().is_none());
    learning.on_record(&container("api"));
    let change = learning.on_record(&process());
    assert!(is_watching(change.as_ref(), &trained), "{change:?}");
    let kept = learning.store.load(&key()).unwrap().unwrap();
    assert_eq!(kept.id(), trained.id());
}
