//! A small bundle: what tests keep, share and refuse where no trained one is at hand.

use stethos_patterns::{
    Token, Vocabulary, baseline::Baseline, profile::ProfileLayout, usage::Usage,
};

use crate::{Bundle, ModelCard, Thresholds};

/// Sound, but for nothing in particular; `seed` tells it from others.
pub fn bundle(seed: u64) -> Bundle {
    let vocabulary = vec![Token::new(0, 1)];
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
            coverage: 0.0,
            silhouette: 0.0,
            steps: 1,
            held_back_windows: 0,
            training_loss: 0.0,
            loss: 0.0,
            markov3_loss: 0.0,
            markov8_loss: 0.0,
            widened: false,
            trainer: "0".to_owned(),
            seed,
            subject: None,
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
        usage: Usage::default(),
        model: tensors(),
    }
}

/// A safetensors file of zeros: four values for three vocabulary ids and one beginning.
fn tensors() -> Vec<u8> {
    let header = r#"{"gru.embed":{"dtype":"F32","shape":[3,1],"data_offsets":[0,12]},"gru.h0":{"dtype":"F32","shape":[1,1],"data_offsets":[12,16]}}"#;
    let padded = format!("{header:<width$}", width = header.len().next_multiple_of(8));
    let mut model = (padded.len() as u64).to_le_bytes().to_vec();
    model.extend(padded.into_bytes());
    model.extend([0; 16]);
    model
}
