//! Random models and windows of a given size, the same for the same seed: what tests and
//! benchmarks score where no trained bundle is at hand.

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::model::Window;

/// Rows of `gru.after`.
const AFTER_ROWS: usize = 20;

/// Sizes of a sample model.
#[derive(Clone, Copy, Debug)]
pub struct SampleSize {
    /// Vocabulary ids, `unknown` and `gap` included.
    pub vocabulary: usize,
    pub embedding: usize,
    pub hidden: usize,
    pub patterns: usize,
    /// 0 leaves the autoencoder out.
    pub profile: usize,
    pub latent: usize,
    /// Hidden width of the autoencoder.
    pub width: usize,
}

impl Default for SampleSize {
    fn default() -> Self {
        SampleSize {
            vocabulary: 64,
            embedding: 16,
            hidden: 48,
            patterns: 8,
            profile: 96,
            latent: 8,
            width: 32,
        }
    }
}

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct SampleRandom(u64);

impl SampleRandom {
    pub fn new(seed: u64) -> Self {
        SampleRandom(seed)
    }

    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in -1…1.
    pub fn signed(&mut self) -> f32 {
        (self.next_u64() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// Uniform in 0…limit; `limit` is at least one.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next_u64() % limit as u64) as usize
    }
}

impl SampleSize {
    /// Names and shapes of the model's tensors.
    pub fn tensors(&self) -> Vec<(&'static str, Vec<usize>)> {
        let SampleSize {
            vocabulary,
            embedding,
            hidden,
            patterns,
            profile,
            latent,
            width,
        } = *self;
        let mut tensors = vec![
            ("gru.embed", vec![vocabulary, embedding]),
            ("gru.w", vec![3 * hidden, embedding]),
            ("gru.r", vec![3 * hidden, hidden]),
            ("gru.wb", vec![3 * hidden]),
            ("gru.rb", vec![3 * hidden]),
            ("gru.h0", vec![patterns + 1, hidden]),
            ("gru.out.w", vec![vocabulary, hidden]),
            ("gru.out.b", vec![vocabulary]),
            ("gru.after", vec![AFTER_ROWS, vocabulary]),
            ("gru.after.row", vec![patterns + 1, vocabulary + 1]),
        ];
        if profile > 0 {
            tensors.extend([
                ("vae.mean", vec![profile]),
                ("vae.scale", vec![profile]),
                ("vae.enc.w", vec![width, profile]),
                ("vae.enc.b", vec![width]),
                ("vae.mu.w", vec![latent, width]),
                ("vae.mu.b", vec![latent]),
                ("vae.logvar.w", vec![latent, width]),
                ("vae.logvar.b", vec![latent]),
                ("vae.dec.w", vec![width, latent]),
                ("vae.dec.b", vec![width]),
                ("vae.out.w", vec![profile, width]),
                ("vae.out.b", vec![profile]),
            ]);
        }
        tensors
    }

    /// Safetensors bytes of a random model: what a bundle's `model` section holds.
    pub fn model(&self, seed: u64) -> Result<Vec<u8>, safetensors::SafeTensorError> {
        let mut random = SampleRandom::new(seed);
        let mut tensors = Vec::new();
        for (name, shape) in self.tensors() {
            let fan_in = shape.last().copied().unwrap_or(1) as f32;
            let bytes: Vec<u8> = (0..shape.iter().product())
                .map(|_| match name {
                    "vae.scale" => 1.5 + random.signed(),
                    "gru.after.row" => random.below(AFTER_ROWS) as f32,
                    _ if shape.len() == 2 => random.signed() * 2.0 / fan_in.sqrt(),
                    _ => random.signed() * 0.3,
                })
                .flat_map(f32::to_le_bytes)
                .collect();
            tensors.push((name, shape, bytes));
        }
        let mut views = Vec::new();
        for (name, shape, bytes) in &tensors {
            views.push((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?));
        }
        safetensors::serialize(views, None)
    }

    /// `count` windows of `length` random tokens, one in nine without a pattern.
    pub fn windows(&self, count: usize, length: usize, seed: u64) -> Vec<Window> {
        let mut random = SampleRandom::new(seed);
        let window = |_| Window {
            pattern: (self.patterns > 0 && random.below(9) > 0)
                .then(|| random.below(self.patterns) as u32),
            tokens: (0..length)
                .map(|_| random.below(self.vocabulary) as u16)
                .collect(),
        };
        (0..count).map(window).collect()
    }
}
