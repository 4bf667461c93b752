//! Inference on tract against a plain forward pass in f64, and its purity.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use safetensors::SafeTensors;
use stethos_plugin_sdk::sample::{SampleRandom, SampleSize};
use stethos_plugin_sdk::{Model, Verdict, Window};

const TOLERANCE: f64 = 1e-4;

fn sizes() -> [SampleSize; 3] {
    let default = SampleSize::default();
    [
        default,
        SampleSize {
            vocabulary: 37,
            embedding: 5,
            hidden: 19,
            patterns: 0,
            profile: 11,
            ..default
        },
        SampleSize {
            vocabulary: 401,
            embedding: 32,
            hidden: 80,
            profile: 0,
            ..default
        },
    ]
}

/// Windows of every length from 1 to 64, shuffled lengths.
fn mixed_windows(size: &SampleSize) -> Vec<Window> {
    let mut random = SampleRandom::new(3);
    (0..150)
        .flat_map(|n| size.windows(1, 1 + (n * 23 + random.below(5)) % 64, 1000 + n as u64))
        .collect()
}

struct Reference<'a>(SafeTensors<'a>);

impl Reference<'_> {
    fn get(&self, name: &str) -> Vec<f64> {
        let view = self.0.tensor(name).unwrap();
        let chunks = view.data().chunks_exact(4);
        chunks
            .map(|b| f32::from_le_bytes(b.try_into().unwrap()).into())
            .collect()
    }

    /// `w · x + b`.
    fn affine(&self, w: &str, b: &str, x: &[f64]) -> Vec<f64> {
        let rows = self.get(w);
        let products = rows
            .chunks_exact(x.len())
            .map(|row| row.iter().zip(x).map(|(w, x)| w * x));
        products
            .zip(self.get(b))
            .map(|(row, b)| row.sum::<f64>() + b)
            .collect()
    }

    /// `place`: of the pattern and the token before in `gru.after.row`.
    fn log_softmax(&self, h: &[f64], place: usize) -> Vec<f64> {
        let mut logits = self.affine("gru.out.w", "gru.out.b", h);
        let row = self.get("gru.after.row")[place] as usize;
        let after = self.get("gru.after");
        let added = &after[row * logits.len()..];
        logits
            .iter_mut()
            .zip(added)
            .for_each(|(x, added)| *x += added);
        let max = logits.iter().copied().fold(f64::MIN, f64::max);
        let norm = logits.iter().map(|x| (x - max).exp()).sum::<f64>().ln() + max;
        logits.iter().map(|x| x - norm).collect()
    }

    /// Log-probabilities before each token of the window.
    fn log_p(&self, size: &SampleSize, window: &Window) -> Vec<Vec<f64>> {
        let (e, n) = (size.embedding, size.hidden);
        let row = window.pattern.map_or(size.patterns, |p| p as usize);
        let mut h = self.get("gru.h0")[row * n..][..n].to_vec();
        let embed = self.get("gru.embed");
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut all = Vec::new();
        let mut before = size.vocabulary;
        for &token in &window.tokens {
            all.push(self.log_softmax(&h, row * (size.vocabulary + 1) + before));
            before = usize::from(token);
            let x = self.affine("gru.w", "gru.wb", &embed[usize::from(token) * e..][..e]);
            let s = self.affine("gru.r", "gru.rb", &h);
            h = (0..n)
                .map(|j| {
                    let z = sigmoid(x[j] + s[j]);
                    let r = sigmoid(x[n + j] + s[n + j]);
                    let candidate = (x[2 * n + j] + r * s[2 * n + j]).tanh();
                    (1.0 - z) * candidate + z * h[j]
                })
                .collect();
        }
        all
    }
}

#[test]
fn surprise_equals_a_plain_forward_pass() {
    for size in sizes() {
        let bytes = size.model(7).unwrap();
        let reference = Reference(SafeTensors::deserialize(&bytes).unwrap());
        let windows = mixed_windows(&size);
        let verdicts = Model::read(&bytes).unwrap().score(&windows).unwrap();
        assert_eq!(verdicts.len(), windows.len());
        let mut worst = 0f64;
        for (window, verdict) in windows.iter().zip(&verdicts) {
            let log_p = reference.log_p(&size, window);
            assert_eq!(verdict.surprise.len(), window.tokens.len());
            assert_eq!(verdict.expected.len(), window.tokens.len());
            for (t, log_p) in log_p.iter().enumerate() {
                let expected = -log_p[usize::from(window.tokens[t])];
                worst = worst.max((f64::from(verdict.surprise[t]) - expected).abs());
                let best = log_p.iter().copied().fold(f64::MIN, f64::max);
                assert!(best - log_p[usize::from(verdict.expected[t])] < TOLERANCE);
            }
        }
        assert!(worst < TOLERANCE, "{size:?}: off by {worst}");
    }
}

#[test]
fn assessment_equals_a_plain_forward_pass() {
    for size in sizes().into_iter().filter(|size| size.profile > 0) {
        let bytes = size.model(9).unwrap();
        let reference = Reference(SafeTensors::deserialize(&bytes).unwrap());
        let mut random = SampleRandom::new(1);
        let profiles: Vec<Vec<f32>> = (0..5)
            .map(|_| (0..size.profile).map(|_| random.signed() * 3.0).collect())
            .collect();
        let assessments = Model::read(&bytes).unwrap().assess(&profiles).unwrap();
        let relu = |x: Vec<f64>| x.into_iter().map(|x| x.max(0.0)).collect::<Vec<_>>();
        for (profile, assessment) in profiles.iter().zip(&assessments) {
            let (mean, scale) = (reference.get("vae.mean"), reference.get("vae.scale"));
            let x: Vec<f64> = (0..size.profile)
                .map(|i| (f64::from(profile[i]) - mean[i]) / scale[i])
                .collect();
            let code = reference.affine(
                "vae.mu.w",
                "vae.mu.b",
                &relu(reference.affine("vae.enc.w", "vae.enc.b", &x)),
            );
            let out = reference.affine(
                "vae.out.w",
                "vae.out.b",
                &relu(reference.affine("vae.dec.w", "vae.dec.b", &code)),
            );
            let error = out
                .iter()
                .zip(&x)
                .map(|(o, x)| (o - x).powi(2))
                .sum::<f64>()
                / size.profile as f64;
            assert!((f64::from(assessment.reconstruction_error) - error).abs() < TOLERANCE * error);
            for (got, code) in assessment.latent.iter().zip(&code) {
                assert!((f64::from(*got) - code).abs() < TOLERANCE);
            }
        }
    }
}

fn bits(verdict: &Verdict) -> (Vec<u32>, Vec<u16>) {
    (
        verdict.surprise.iter().map(|s| s.to_bits()).collect(),
        verdict.expected.clone(),
    )
}

#[test]
fn scores_have_the_same_bits_in_any_order_and_batch() {
    for size in sizes() {
        let mut model = Model::read(&size.model(11).unwrap()).unwrap();
        let windows = mixed_windows(&size);
        let alone: Vec<_> = windows
            .iter()
            .map(|window| bits(&model.score(std::slice::from_ref(window)).unwrap()[0]))
            .collect();
        let together: Vec<_> = model.score(&windows).unwrap().iter().map(bits).collect();
        assert_eq!(alone, together);
        let backwards: Vec<Window> = windows.iter().rev().cloned().collect();
        for batch in [3, 8, 17] {
            let mut scored = Vec::new();
            for part in backwards.chunks(batch) {
                scored.extend(model.score(part).unwrap().iter().map(bits));
            }
            scored.reverse();
            assert_eq!(alone, scored, "batches of {batch}");
        }
    }
}

#[test]
fn what_does_not_fit_the_model_is_refused_by_place() {
    let size = SampleSize::default();
    let mut model = Model::read(&size.model(1).unwrap()).unwrap();
    let good = Window {
        pattern: Some(7),
        tokens: vec![63; 64],
    };
    let mut refused = |window: Window| {
        model
            .score(&[good.clone(), window])
            .unwrap_err()
            .to_string()
    };
    let error = refused(Window {
        pattern: None,
        tokens: vec![2, 64],
    });
    assert_eq!(error, "window 1 has token id 64, the vocabulary has 64");
    let error = refused(Window {
        pattern: Some(8),
        tokens: vec![2],
    });
    assert_eq!(error, "window 1 has pattern 8, the model has 8");
    let error = refused(Window {
        pattern: None,
        tokens: vec![2; 65],
    });
    assert_eq!(error, "window 1 has 65 tokens, more than 64");
    let error = model
        .assess(&[vec![0.0; 96], vec![0.0; 95]])
        .unwrap_err()
        .to_string();
    assert_eq!(error, "profile 1 has 95 entries, expected 96");
    assert_eq!(
        model.score(&[Window::default()]).unwrap(),
        [Verdict::default()]
    );
}

#[test]
fn damaged_models_are_refused_by_tensor() {
    let size = SampleSize::default();
    let bytes = size.model(1).unwrap();
    let refused = |bytes: &[u8]| Model::read(bytes).err().map(|error| error.to_string());
    assert!(
        refused(&bytes[..bytes.len() - 4])
            .unwrap()
            .starts_with("model is not a safetensors")
    );
    assert!(
        refused(b"")
            .unwrap()
            .starts_with("model is not a safetensors")
    );

    let rename = |from: &str, to: &str| {
        let mut bytes = bytes.clone();
        let at = bytes
            .windows(from.len())
            .position(|part| part == from.as_bytes())
            .unwrap();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        bytes
    };
    let missing = refused(&rename("\"gru.rb\"", "\"gru.rx\""));
    assert_eq!(missing.unwrap(), "model has no tensor gru.rb");

    let mut nan = bytes.clone();
    let end = nan.len();
    nan[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(refused(&nan).unwrap().contains("is not finite at"));

    let mut row = bytes.clone();
    let rows = SafeTensors::deserialize(&bytes).unwrap();
    let rows = rows.tensor("gru.after.row").unwrap();
    let at = rows.data().as_ptr().addr() - bytes.as_ptr().addr();
    row[at..at + 4].copy_from_slice(&20f32.to_le_bytes());
    assert_eq!(
        refused(&row).unwrap(),
        "tensor gru.after.row has 20 at 0, which is none of 20 rows"
    );

    let swapped = SampleSize {
        embedding: 48,
        hidden: 16,
        ..size
    }
    .model(1)
    .unwrap();
    assert!(Model::read(&swapped).is_ok());
    assert_eq!(
        refused(&rename("\"shape\":[144,48]", "\"shape\":[48,144]")).unwrap(),
        "tensor gru.r has shape [48, 144], expected [144, 48]"
    );
}
