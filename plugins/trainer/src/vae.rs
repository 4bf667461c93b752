//! Variational autoencoder of profiles (Kingma & Welling 2014): one hidden layer of ReLU on
//! either side of a diagonal Gaussian code.
//!
//! Loss: mean squared error of the standardised profile plus [`VaeConfig::kl_weight`] times the
//! divergence of the code from a unit Gaussian. Inference decodes the code's mean.

use std::time::Duration;

use candle_core::{Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::TrainError;
use crate::epochs::Schedule;
use crate::tensors::{NamedTensor, serialise, uniform};

/// Noise that profiles are learned with by default.
const JITTER: f64 = 0.1;
const LEARNING_RATE: f64 = 0.01;

/// Sizes and effort of an autoencoder.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    /// Size of the hidden layers.
    pub hidden: usize,
    /// Size of the code.
    pub latent: usize,
    /// Gradient steps, each on all profiles.
    pub steps: usize,
    /// Noise on standardised training profiles, so that neighbours of what was seen are learned too.
    pub jitter: f64,
    /// Small against the error, so that the code stays in use.
    pub kl_weight: f64,
    /// Least scale of a value: shares and log-durations that hardly vary in training may vary by
    /// this much.
    pub min_scale: f32,
}

impl Default for VaeConfig {
    fn default() -> Self {
        VaeConfig {
            hidden: 24,
            latent: 4,
            steps: 400,
            jitter: JITTER,
            kl_weight: 1e-3,
            min_scale: 0.05,
        }
    }
}

/// Weights and standardisation.
#[derive(Debug)]
pub struct Vae {
    config: VaeConfig,
    mean: Tensor,
    scale: Tensor,
    enc_w: Var,
    enc_b: Var,
    mu_w: Var,
    mu_b: Var,
    logvar_w: Var,
    logvar_b: Var,
    dec_w: Var,
    dec_b: Var,
    out_w: Var,
    out_b: Var,
}

impl Vae {
    /// Untrained, with the standardisation of `profiles` (of equal length, at least one). `least`: the
    /// least scale of each value, that of the settings where there is none.
    ///
    /// # Errors
    /// The library's.
    pub fn new(
        profiles: &[Vec<f32>],
        least: &[f32],
        config: VaeConfig,
        random: &mut ChaCha8Rng,
    ) -> Result<Self, TrainError> {
        let VaeConfig { hidden, latent, .. } = config;
        let dimension = profiles.first().map_or(0, Vec::len);
        let (mean, scale) = standardisation(profiles, dimension, |place| {
            least.get(place).copied().unwrap_or(config.min_scale)
        });
        let mut linear = |outputs: usize, inputs: usize| -> Result<(Var, Var), TrainError> {
            let bound = 1.0 / (inputs.max(1) as f64).sqrt();
            Ok((
                uniform(&[outputs, inputs], bound, random)?,
                uniform(&[outputs], 0.0, random)?,
            ))
        };
        let (enc_w, enc_b) = linear(hidden, dimension)?;
        let (mu_w, mu_b) = linear(latent, hidden)?;
        let (logvar_w, logvar_b) = linear(latent, hidden)?;
        let (dec_w, dec_b) = linear(hidden, latent)?;
        let (out_w, out_b) = linear(dimension, hidden)?;
        let device = &Device::Cpu;
        Ok(Vae {
            config,
            mean: Tensor::from_vec(mean, dimension, device)?,
            scale: Tensor::from_vec(scale, dimension, device)?,
            enc_w,
            enc_b,
            mu_w,
            mu_b,
            logvar_w,
            logvar_b,
            dec_w,
            dec_b,
            out_w,
            out_b,
        })
    }

    /// Trained on `profiles` without a limit of time; a function of its arguments.
    ///
    /// # Errors
    /// The library's, or a loss that is not a number.
    pub fn learn(profiles: &[Vec<f32>], config: VaeConfig, seed: u64) -> Result<Self, TrainError> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut vae = Vae::new(profiles, &[], config, &mut random)?;
        vae.train(profiles, None, &mut random, &mut |_, _| {})?;
        Ok(vae)
    }

    /// Trains on `profiles`, all in one step; `observe` is told the share of steps begun and
    /// the loss. Gives the last loss.
    pub(crate) fn train(
        &mut self,
        profiles: &[Vec<f32>],
        allowance: Option<Duration>,
        random: &mut ChaCha8Rng,
        observe: &mut dyn FnMut(f64, f64),
    ) -> Result<f64, TrainError> {
        let VaeConfig {
            steps,
            latent,
            jitter,
            kl_weight,
            ..
        } = self.config;
        let standardised = self.standardise(profiles)?;
        let mut schedule = Schedule::new(steps, LEARNING_RATE, allowance);
        let parameters = ParamsAdamW {
            weight_decay: 0.0,
            ..ParamsAdamW::default()
        };
        let mut optimizer = AdamW::new(self.variables(), parameters)?;
        let mut last = 0.0;
        while let Some(rate) = schedule.next() {
            optimizer.set_learning_rate(rate);
            let jitter = (noise(profiles.len(), self.mean.dims1()?, random)? * jitter)?;
            let (mu, logvar) = self.encode(&(&standardised + jitter)?)?;
            let spread = (noise(profiles.len(), latent, random)? * (&logvar * 0.5)?.exp()?)?;
            let decoded = self.decode(&(&mu + spread)?)?;
            let error = (decoded - &standardised)?.sqr()?.mean_all()?;
            let divergence = ((mu.sqr()? + logvar.exp()?)? - (&logvar + 1.0)?)?;
            let divergence = (divergence.sum_all()? * (0.5 / profiles.len().max(1) as f64))?;
            let loss = (&error + (divergence * kl_weight)?)?;
            optimizer.backward_step(&loss)?;
            last = f64::from(error.to_scalar::<f32>()?);
            if !last.is_finite() {
                let steps = schedule.taken();
                return Err(TrainError::Diverged {
                    model: "autoencoder",
                    loss: last,
                    steps,
                });
            }
            observe(schedule.fraction(), last);
        }
        Ok(last)
    }

    /// Mean squared error of every standardised profile's reconstruction.
    ///
    /// # Errors
    /// The library's.
    pub fn errors(&self, profiles: &[Vec<f32>]) -> Result<Vec<f64>, TrainError> {
        if profiles.is_empty() {
            return Ok(Vec::new());
        }
        let standardised = self.standardise(profiles)?;
        let (mu, _) = self.encode(&standardised)?;
        let errors = (self.decode(&mu)? - standardised)?.sqr()?.mean(1)?;
        Ok(errors
            .to_vec1::<f32>()?
            .into_iter()
            .map(f64::from)
            .collect())
    }

    /// Mean of every profile's code.
    ///
    /// # Errors
    /// The library's.
    pub fn codes(&self, profiles: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, TrainError> {
        if profiles.is_empty() {
            return Ok(Vec::new());
        }
        let (mu, _) = self.encode(&self.standardise(profiles)?)?;
        Ok(mu.to_vec2()?)
    }

    /// The weights as safetensors bytes, named as in a bundle's model.
    ///
    /// # Errors
    /// The library's.
    pub fn serialise(&self) -> Result<Vec<u8>, TrainError> {
        serialise(&self.tensors())
    }

    fn variables(&self) -> Vec<Var> {
        let Vae {
            enc_w,
            enc_b,
            mu_w,
            mu_b,
            logvar_w,
            logvar_b,
            ..
        } = self;
        let Vae {
            dec_w,
            dec_b,
            out_w,
            out_b,
            ..
        } = self;
        [
            enc_w, enc_b, mu_w, mu_b, logvar_w, logvar_b, dec_w, dec_b, out_w, out_b,
        ]
        .into_iter()
        .cloned()
        .collect()
    }

    pub(crate) fn tensors(&self) -> [NamedTensor<'_>; 12] {
        [
            ("vae.mean", &self.mean),
            ("vae.scale", &self.scale),
            ("vae.enc.w", &self.enc_w),
            ("vae.enc.b", &self.enc_b),
            ("vae.mu.w", &self.mu_w),
            ("vae.mu.b", &self.mu_b),
            ("vae.logvar.w", &self.logvar_w),
            ("vae.logvar.b", &self.logvar_b),
            ("vae.dec.w", &self.dec_w),
            ("vae.dec.b", &self.dec_b),
            ("vae.out.w", &self.out_w),
            ("vae.out.b", &self.out_b),
        ]
    }

    fn standardise(&self, profiles: &[Vec<f32>]) -> candle_core::Result<Tensor> {
        let flat: Vec<f32> = profiles.iter().flatten().copied().collect();
        let raw = Tensor::from_vec(flat, (profiles.len(), self.mean.dims1()?), &Device::Cpu)?;
        raw.broadcast_sub(&self.mean)?.broadcast_div(&self.scale)
    }

    fn encode(&self, standardised: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
        let hidden = linear(standardised, &self.enc_w, &self.enc_b)?.relu()?;
        let logvar = linear(&hidden, &self.logvar_w, &self.logvar_b)?;
        Ok((linear(&hidden, &self.mu_w, &self.mu_b)?, logvar))
    }

    fn decode(&self, code: &Tensor) -> candle_core::Result<Tensor> {
        let hidden = linear(code, &self.dec_w, &self.dec_b)?.relu()?;
        linear(&hidden, &self.out_w, &self.out_b)
    }
}

fn linear(input: &Tensor, w: &Tensor, b: &Tensor) -> candle_core::Result<Tensor> {
    input.matmul(&w.t()?)?.broadcast_add(b)
}

fn noise(rows: usize, columns: usize, random: &mut ChaCha8Rng) -> candle_core::Result<Tensor> {
    let values: Vec<f32> = (0..rows * columns)
        .map(|_| random.sample(StandardNormal))
        .collect();
    Tensor::from_vec(values, (rows, columns), &Device::Cpu)
}

/// Mean and standard deviation per value, which is at least `least`.
fn standardisation(
    profiles: &[Vec<f32>],
    dimension: usize,
    least: impl Fn(usize) -> f32,
) -> (Vec<f32>, Vec<f32>) {
    let count = profiles.len().max(1) as f64;
    let moments = (0..dimension).map(|place| {
        let values = || {
            profiles
                .iter()
                .filter_map(move |p| p.get(place))
                .map(|&x| f64::from(x))
        };
        let mean = values().sum::<f64>() / count;
        let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        (mean as f32, (variance.sqrt() as f32).max(least(place)))
    });
    moments.unzip()
}
