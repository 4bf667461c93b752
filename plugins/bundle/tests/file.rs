//! The bundle file: written and read back, and refused when anything is wrong with it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use safetensors::tensor::{Dtype, TensorView};
use stethos_bundle::file::VERSION;
use stethos_bundle::{Bundle, BundleError, ModelCard, Subject, Thresholds, WIDENED};
use stethos_patterns::baseline::BaselineBuilder;
use stethos_patterns::cluster::FrozenPattern;
use stethos_patterns::profile::ProfileLayout;
use stethos_patterns::usage::{Usage, UsageRow};
use stethos_patterns::{Role, Token, Vocabulary, WindowCall};

fn tensors(vocabulary: usize, patterns: usize) -> Vec<u8> {
    let bytes = |count: usize| -> Vec<u8> {
        (0..count)
            .flat_map(|i| (i as f32 / 7.0).to_le_bytes())
            .collect()
    };
    let (embed, h0) = (bytes(vocabulary * 3), bytes((patterns + 1) * 2));
    let tensors = [
        (
            "gru.embed",
            TensorView::new(Dtype::F32, vec![vocabulary, 3], &embed).unwrap(),
        ),
        (
            "gru.h0",
            TensorView::new(Dtype::F32, vec![patterns + 1, 2], &h0).unwrap(),
        ),
    ];
    safetensors::serialize(tensors, None).unwrap()
}

fn bundle() -> Bundle {
    let vocabulary = vec![Token::new(0, 1), Token::new(42, -111), Token::new(257, -2)];
    let pattern = FrozenPattern {
        id: 7,
        medoid: vec![1, 2, 3],
        windows: 10,
        distinct: 2,
        mean_similarity: 1.0 / 3.0,
    };
    let mut baseline = BaselineBuilder::new();
    baseline.call(&WindowCall {
        token: vocabulary[0],
        role: Role::Server,
        fd: 3,
        ret: 1,
        enter_ns: 5,
        duration_ns: 1234,
    });
    baseline.failure(
        vocabulary[2],
        "a path with \"quotes\", \"stethos.digest\":\" and ünïcode",
    );
    Bundle {
        card: ModelCard {
            container: "shop".to_owned(),
            arch: "x86_64".to_owned(),
            created_unix: 1_795_000_000,
            windows: 100,
            distinct_windows: 10,
            calls: 1000,
            seconds: 30.1,
            vocabulary: 5,
            patterns: 1,
            embedding: 3,
            hidden: 2,
            unseen_mass: 0.1 + 0.2,
            coverage: 0.9,
            silhouette: 0.4,
            steps: 9,
            held_back_windows: 25,
            training_loss: 0.4,
            loss: 0.5,
            markov3_loss: 0.7,
            markov8_loss: 0.6,
            widened: false,
            trainer: "0.1.0".to_owned(),
            seed: 1,
            subject: Some(Subject {
                tenant: "default".to_owned(),
                workload: "shop/ünïcode".to_owned(),
                command: "00ff".to_owned(),
                image: None,
            }),
        },
        profile_layout: ProfileLayout::new(&Vocabulary::new(vocabulary.clone()), 1),
        vocabulary,
        patterns: vec![pattern],
        thresholds: Thresholds {
            false_alarm_rate: 1e-3,
            patterns: vec![3.3, 4.4],
            reconstruction_median: 0.2,
            reconstruction_limit: 0.6,
        },
        baseline: baseline.finish(),
        usage: Usage {
            rows: vec![UsageRow {
                call: "read".to_owned(),
                role: Role::Server,
                failed: false,
                calls: 1,
                bytes: 5,
            }],
            executables: vec!["/bin/shop".to_owned()],
            ..Usage::default()
        },
        model: tensors(5, 1),
    }
}

#[test]
fn reads_back_what_was_written() {
    let written = bundle();
    let bytes = written.write().unwrap();
    let read = Bundle::read(&bytes, "a.bundle").unwrap();
    assert_eq!(read.card, written.card);
    assert_eq!(read.vocabulary, written.vocabulary);
    assert_eq!(read.patterns, written.patterns);
    assert_eq!(read.thresholds, written.thresholds);
    assert_eq!(read.baseline, written.baseline);
    assert_eq!(read.profile_layout, written.profile_layout);
    assert_eq!(read.write().unwrap(), bytes);
    assert_eq!(read.id(), written.id());
    assert_eq!(read.id().len(), 16);

    let (before, after) = (&written.model, &read.model);
    let before = safetensors::SafeTensors::deserialize(before).unwrap();
    let after = safetensors::SafeTensors::deserialize(after).unwrap();
    assert_eq!(
        before.tensor("gru.embed").unwrap(),
        after.tensor("gru.embed").unwrap()
    );
    assert_eq!(before.len(), after.len());
}

#[test]
fn a_card_without_a_subject_reads_back_without_one() {
    let mut written = bundle();
    written.card.subject = None;
    let read = Bundle::read(&written.write().unwrap(), "a.bundle").unwrap();
    assert_eq!(read.card, written.card);
}

#[test]
fn wider_limits_are_wider_all_over() {
    let (plain, wide) = (bundle().thresholds, bundle().thresholds.widened());
    let pairs = plain.patterns.iter().zip(&wide.patterns);
    assert!(
        pairs
            .into_iter()
            .all(|(plain, wide)| *wide == plain * WIDENED)
    );
    assert_eq!(
        wide.reconstruction_limit,
        plain.reconstruction_limit * WIDENED
    );
    assert_eq!(wide.reconstruction_median, plain.reconstruction_median);
}

#[test]
fn any_safetensors_reader_sees_tensors_and_card() {
    let bytes = bundle().write().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("gru.h0").unwrap().shape(), [2, 2]);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let card = &header.metadata().as_ref().unwrap()["stethos.card"];
    assert!(card.contains("\"container\":\"shop\""), "{card}");
}

#[test]
fn another_content_has_another_id() {
    let mut other = bundle();
    other.thresholds.patterns[0] += 1e-12;
    assert_ne!(other.id(), bundle().id());
}

#[test]
fn every_truncation_is_refused() {
    let bytes = bundle().write().unwrap();
    for length in 0..bytes.len() {
        match Bundle::read(&bytes[..length], "cut.bundle") {
            Err(BundleError::Truncated { name, position, .. }) => {
                assert_eq!((name.as_str(), position), ("cut.bundle", length));
            }
            other => panic!("{length}: {other:?}"),
        }
    }
}

#[test]
fn every_flipped_byte_is_refused() {
    let bytes = bundle().write().unwrap();
    for place in 0..bytes.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut damaged = bytes.clone();
            damaged[place] ^= flip;
            let error = Bundle::read(&damaged, "bad.bundle").expect_err("damaged at {place}");
            let message = error.to_string();
            assert!(message.starts_with("bad.bundle: "), "{message}");
            assert!(message.contains("byte "), "{message}");
        }
    }
}

#[test]
fn more_than_the_file_is_refused() {
    let mut bytes = bundle().write().unwrap();
    let end = bytes.len();
    bytes.push(0);
    let error = Bundle::read(&bytes, "long.bundle").unwrap_err();
    assert!(
        matches!(error, BundleError::Damaged { position, .. } if position == end),
        "{error}"
    );
}

#[test]
fn foreign_files_are_refused() {
    let elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0";
    let text = b"{\"model\": \"this is JSON, not a bundle\"}";
    let plain = tensors(5, 1);
    for foreign in [elf.as_slice(), text, &plain] {
        let error = Bundle::read(foreign, "what.bin").unwrap_err();
        assert!(matches!(error, BundleError::Foreign { .. }), "{error}");
    }
}

#[test]
fn another_version_is_named() {
    let bytes = bundle().write().unwrap();
    let wanted = format!("\"stethos.version\":\"{VERSION}\"").into_bytes();
    let at = bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
        .unwrap();
    let mut other = bytes.clone();
    other[at + wanted.len() - 2] = b'9';
    let error = Bundle::read(&other, "new.bundle").unwrap_err();
    let expected = BundleError::Version {
        name: "new.bundle".to_owned(),
        position: at,
        found: "9".to_owned(),
        supported: VERSION,
    };
    assert_eq!(error, expected);
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let mut limits = bundle();
    limits.thresholds.patterns.pop();
    let mut number = bundle();
    number.thresholds.patterns[0] = f64::INFINITY;
    let mut twice = bundle();
    twice.vocabulary[1] = twice.vocabulary[0];
    let mut rows = bundle();
    rows.model = tensors(6, 1);
    for (bundle, part) in [
        (limits, "thresholds"),
        (number, "thresholds"),
        (twice, "vocabulary"),
        (rows, "model"),
    ] {
        assert_eq!(bundle.id(), "");
        match bundle.write() {
            Err(BundleError::Inconsistent { part: found, .. }) => assert_eq!(found, part),
            other => panic!("{part}: {other:?}"),
        }
    }
}

#[test]
fn stability_falls_from_the_median_through_the_limit() {
    let thresholds = bundle().thresholds;
    assert_eq!(thresholds.stability(0.1), 1.0);
    assert_eq!(thresholds.stability(0.2), 1.0);
    assert!((thresholds.stability(0.6) - 0.5).abs() < 1e-12);
    assert!(thresholds.stability(6.0) < 0.001);
    assert_eq!(thresholds.stability(f64::NAN), 0.0);
    assert_eq!(thresholds.window_limit(Some(0)), 3.3);
    assert_eq!(thresholds.window_limit(None), 4.4);
    assert_eq!(thresholds.window_limit(Some(9)), 4.4);
}
