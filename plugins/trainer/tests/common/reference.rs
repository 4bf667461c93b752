//! What a guest computes from the model's tensors, written as plain loops over the contract.

use std::num::NonZeroUsize;

use safetensors::SafeTensors;
use stethos_bundle::{Bundle, PATTERN_FLOOR};
use stethos_patterns::cluster::PatternIndex;
use stethos_patterns::score::window_score;
use stethos_patterns::{Vocabulary, Window};

pub(crate) struct Matrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    values: Vec<f64>,
}

impl Matrix {
    pub(crate) fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    fn times(&self, x: &[f64], bias: &[f64]) -> Vec<f64> {
        assert_eq!((self.columns, self.rows), (x.len(), bias.len()));
        let dot = |row| self.row(row).iter().zip(x).map(|(a, b)| a * b).sum::<f64>();
        (0..self.rows).map(|row| dot(row) + bias[row]).collect()
    }
}

pub(crate) struct Model<'a>(SafeTensors<'a>);

impl<'a> Model<'a> {
    pub(crate) fn new(bundle: &'a Bundle) -> Self {
        Model(SafeTensors::deserialize(&bundle.model).unwrap())
    }

    /// A vector is a matrix of one column.
    pub(crate) fn matrix(&self, name: &str) -> Matrix {
        let view = self.0.tensor(name).unwrap();
        let values = view
            .data()
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
            .collect();
        let columns = view.shape().get(1).copied().unwrap_or(1);
        Matrix {
            rows: view.shape()[0],
            columns,
            values,
        }
    }

    fn vector(&self, name: &str) -> Vec<f64> {
        self.matrix(name).values
    }

    /// `-ln p` of every id.
    pub(crate) fn surprises(&self, ids: &[u16], pattern: Option<usize>) -> Vec<f32> {
        let (embed, h0) = (self.matrix("gru.embed"), self.matrix("gru.h0"));
        let (w, r) = (self.matrix("gru.w"), self.matrix("gru.r"));
        let (wb, rb) = (self.vector("gru.wb"), self.vector("gru.rb"));
        let (out_w, out_b) = (self.matrix("gru.out.w"), self.vector("gru.out.b"));
        let (after, rows) = (self.matrix("gru.after"), self.matrix("gru.after.row"));
        let hidden = h0.columns;
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let mut h = h0.row(pattern.unwrap_or(h0.rows - 1)).to_vec();
        let mut surprises = Vec::new();
        let pattern = pattern.unwrap_or(h0.rows - 1);
        let mut before = after.columns;
        for &id in ids {
            let mut logits = out_w.times(&h, &out_b);
            let added = after.row(rows.row(pattern)[before] as usize);
            logits
                .iter_mut()
                .zip(added)
                .for_each(|(x, added)| *x += added);
            before = usize::from(id);
            let sum: f64 = logits.iter().map(|x| x.exp()).sum();
            surprises.push((sum.ln() - logits[usize::from(id)]) as f32);
            let a = w.times(embed.row(usize::from(id)), &wb);
            let b = r.times(&h, &rb);
            h = (0..hidden)
                .map(|i| {
                    let z = sigmoid(a[i] + b[i]);
                    let reset = sigmoid(a[hidden + i] + b[hidden + i]);
                    let n = (a[2 * hidden + i] + reset * b[2 * hidden + i]).tanh();
                    (1.0 - z) * n + z * h[i]
                })
                .collect();
        }
        surprises
    }

    /// Mean squared error of the standardised profile's reconstruction from the code's mean.
    /// Mean of the code, and mean squared error of the reconstruction.
    pub(crate) fn assess(&self, profile: &[f32]) -> (Vec<f64>, f64) {
        let (mean, scale) = (self.vector("vae.mean"), self.vector("vae.scale"));
        let x: Vec<f64> = (0..mean.len())
            .map(|i| (f64::from(profile[i]) - mean[i]) / scale[i])
            .collect();
        let layer = |w: &str, b: &str, x: &[f64]| self.matrix(w).times(x, &self.vector(b));
        let relu = |x: Vec<f64>| -> Vec<f64> { x.into_iter().map(|x| x.max(0.0)).collect() };
        let hidden = relu(layer("vae.enc.w", "vae.enc.b", &x));
        let mu = layer("vae.mu.w", "vae.mu.b", &hidden);
        assert_eq!(
            layer("vae.logvar.w", "vae.logvar.b", &hidden).len(),
            mu.len()
        );
        let hidden = relu(layer("vae.dec.w", "vae.dec.b", &mu));
        let y = layer("vae.out.w", "vae.out.b", &hidden);
        let squares = x.iter().zip(&y).map(|(x, y)| (x - y).powi(2));
        (mu, squares.sum::<f64>() / x.len() as f64)
    }
}

/// Scores windows as the sidecar does.
pub(crate) struct Judge<'a> {
    pub(crate) bundle: &'a Bundle,
    pub(crate) model: Model<'a>,
    vocabulary: Vocabulary,
    index: PatternIndex,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(bundle: &'a Bundle) -> Self {
        let cache = NonZeroUsize::new(1024).unwrap();
        Judge {
            bundle,
            model: Model::new(bundle),
            vocabulary: Vocabulary::new(bundle.vocabulary.iter().copied()),
            index: PatternIndex::new(&bundle.patterns, PATTERN_FLOOR, cache),
        }
    }

    pub(crate) fn pattern(&mut self, window: &Window) -> Option<usize> {
        self.index
            .nearest(&window.codes())
            .map(|(pattern, _)| pattern)
    }

    pub(crate) fn ids(&self, window: &Window) -> Vec<u16> {
        window
            .calls
            .iter()
            .map(|call| self.vocabulary.id(&call.token))
            .collect()
    }

    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Whether the window's score is above its limit.
    pub(crate) fn alarms(&mut self, window: &Window) -> bool {
        let pattern = self.pattern(window);
        let surprises = self.model.surprises(&self.ids(window), pattern);
        window_score(&surprises) > self.bundle.thresholds.window_limit(pattern)
    }

    pub(crate) fn share_of_alarms(&mut self, windows: &[Window]) -> f64 {
        let alarms = windows.iter().filter(|window| self.alarms(window)).count();
        alarms as f64 / windows.len() as f64
    }
}
