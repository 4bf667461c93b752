//! The next-token model: a GRU (reset gate after the recurrent product, ONNX
//! `linear_before_reset = 1`) whose initial state is chosen by the window's pattern.
//!
//! With `x = embed[token]`, per gate `g` of z, r, h:
//! `a_g = w_g·x + wb_g`, `b_g = r_g·h + rb_g`, `z = σ(a_z + b_z)`, `r = σ(a_r + b_r)`,
//! `n = tanh(a_h + r ⊙ b_h)`, `h' = (1 - z) ⊙ n + z ⊙ h`. The distribution of a token is
//! `softmax(out.w·h + out.b + after[row])` with the state before it was consumed, and the row of the
//! window's pattern and of the token before.

use candle_core::{D, DType, Device, Tensor, Var};
use candle_nn::ops::{log_softmax, sigmoid};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use stethos_patterns::Vocabulary;

use crate::TrainError;
use crate::corpus::Sequence;
use crate::followers::Followers;
use crate::tensors::{Named, NamedTensor, uniform};

/// Sequences scored at a time.
const SCORED: usize = 256;

/// Model sizes.
#[derive(Clone, Copy, Debug)]
pub struct GruShape {
    pub vocabulary: usize,
    pub embedding: usize,
    pub hidden: usize,
    pub patterns: usize,
}

/// Weights of the model.
#[derive(Debug)]
pub struct Gru {
    shape: GruShape,
    embed: Var,
    w: Var,
    r: Var,
    wb: Var,
    rb: Var,
    h0: Var,
    out_w: Var,
    out_b: Var,
    followers: Option<Followers>,
}

/// Sequences side by side, padded to the longest: tensors `[length, batch]`.
#[derive(Debug)]
pub struct Batch {
    inputs: Tensor,
    /// Ids to predict, `[length·batch, 1]`.
    targets: Tensor,
    /// Weight of each target, 0 for padding, `[length·batch]`.
    weights: Tensor,
    /// Row of the initial states, `[batch]`.
    rows: Tensor,
    /// Row of what is added to the logits, `[length·batch]`.
    after: Tensor,
    length: usize,
}

/// How often inputs are withheld in training, so that the model stays sound after tokens and
/// without patterns that it does not know.
#[derive(Clone, Copy, Debug)]
pub struct Withhold {
    /// Share of tokens that enter as unknown or gap.
    pub tokens: f64,
    /// Share of sequences that start without their pattern.
    pub patterns: f64,
}

impl Gru {
    /// Untrained.
    ///
    /// # Errors
    /// The library's.
    pub fn new(
        shape: GruShape,
        followers: Option<Followers>,
        random: &mut ChaCha8Rng,
    ) -> Result<Self, TrainError> {
        let GruShape {
            vocabulary: v,
            embedding: e,
            hidden: h,
            patterns: p,
        } = shape;
        let bound = 1.0 / (h as f64).sqrt();
        Ok(Gru {
            shape,
            embed: uniform(&[v, e], 0.5, random)?,
            w: uniform(&[3 * h, e], bound, random)?,
            r: uniform(&[3 * h, h], bound, random)?,
            wb: uniform(&[3 * h], bound, random)?,
            rb: uniform(&[3 * h], bound, random)?,
            h0: uniform(&[p + 1, h], bound, random)?,
            out_w: uniform(&[v, h], bound, random)?,
            out_b: uniform(&[v], bound, random)?,
            followers,
        })
    }

    /// The weights in the `model` tensors of a bundle.
    ///
    /// # Errors
    /// A tensor is missing or of another shape, or the library's.
    pub fn read(model: &[u8]) -> Result<Self, TrainError> {
        let tensors = Named::read(model)?;
        let (v, e) = tensors.matrix("gru.embed")?;
        let (states, h) = tensors.matrix("gru.h0")?;
        let patterns = states.checked_sub(1).ok_or(TrainError::Tensor("gru.h0"))?;
        let followers = match tensors.contains("gru.after") {
            true => Some(Followers::read(&tensors, v, patterns)?),
            false => None,
        };
        Ok(Gru {
            shape: GruShape {
                vocabulary: v,
                embedding: e,
                hidden: h,
                patterns,
            },
            embed: tensors.variable("gru.embed", &[v, e])?,
            w: tensors.variable("gru.w", &[3 * h, e])?,
            r: tensors.variable("gru.r", &[3 * h, h])?,
            wb: tensors.variable("gru.wb", &[3 * h])?,
            rb: tensors.variable("gru.rb", &[3 * h])?,
            h0: tensors.variable("gru.h0", &[states, h])?,
            out_w: tensors.variable("gru.out.w", &[v, h])?,
            out_b: tensors.variable("gru.out.b", &[v])?,
            followers,
        })
    }

    /// The weights to be trained.
    pub fn variables(&self) -> Vec<Var> {
        let Gru {
            embed,
            w,
            r,
            wb,
            rb,
            h0,
            out_w,
            out_b,
            ..
        } = self;
        [embed, w, r, wb, rb, h0, out_w, out_b]
            .into_iter()
            .cloned()
            .collect()
    }

    pub(crate) fn tensors(&self) -> Vec<NamedTensor<'_>> {
        let followers = self.followers.iter().flat_map(|followers| {
            [
                ("gru.after", &followers.table),
                ("gru.after.row", &followers.rows),
            ]
        });
        let learned: [NamedTensor<'_>; 8] = [
            ("gru.embed", &self.embed),
            ("gru.w", &self.w),
            ("gru.r", &self.r),
            ("gru.wb", &self.wb),
            ("gru.rb", &self.rb),
            ("gru.h0", &self.h0),
            ("gru.out.w", &self.out_w),
            ("gru.out.b", &self.out_b),
        ];
        learned.into_iter().chain(followers).collect()
    }

    /// Row of the initial states for a pattern; the last one is for none.
    fn row(&self, pattern: Option<usize>) -> u32 {
        let none = self.shape.patterns;
        pattern.filter(|&p| p < none).unwrap_or(none) as u32
    }

    /// `sequences` with their weights.
    ///
    /// # Errors
    /// The library's.
    pub fn batch(
        &self,
        sequences: &[(&Sequence, f64)],
        withhold: Option<(Withhold, &mut ChaCha8Rng)>,
    ) -> Result<Batch, TrainError> {
        let length = sequences
            .iter()
            .map(|(s, _)| s.ids.len())
            .max()
            .unwrap_or(0)
            .max(1);
        let width = sequences.len();
        let mut targets = vec![0u32; length * width];
        let mut weights = vec![0f32; length * width];
        let mut rows = Vec::with_capacity(width);
        for (column, (sequence, weight)) in sequences.iter().enumerate() {
            rows.push(self.row(sequence.pattern));
            for (place, &id) in sequence.ids.iter().enumerate() {
                targets[place * width + column] = u32::from(id);
                weights[place * width + column] = *weight as f32;
            }
        }
        let mut inputs = targets.clone();
        if let Some((withhold, random)) = withhold {
            for input in &mut inputs {
                if random.random_bool(withhold.tokens) {
                    let gap = random.random_bool(0.5);
                    *input = u32::from(if gap {
                        Vocabulary::GAP
                    } else {
                        Vocabulary::UNKNOWN
                    });
                }
            }
            for row in &mut rows {
                if random.random_bool(withhold.patterns) {
                    *row = self.row(None);
                }
            }
        }
        let mut after = vec![0u32; length * width];
        if let Some(followers) = &self.followers {
            for (place, row) in after.iter_mut().enumerate() {
                let before = place.checked_sub(width).map(|before| inputs[before]);
                *row = followers.row(rows[place % width], before);
            }
        }
        let device = &Device::Cpu;
        Ok(Batch {
            after: Tensor::from_vec(after, length * width, device)?,
            inputs: Tensor::from_vec(inputs, (length, width), device)?,
            targets: Tensor::from_vec(targets, (length * width, 1), device)?,
            weights: Tensor::from_vec(weights, length * width, device)?,
            rows: Tensor::from_vec(rows, width, device)?,
            length,
        })
    }

    /// `-ln p` of every target, `[length·batch]`.
    fn surprises(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let hidden = self.shape.hidden;
        // One product per distinct token rather than per token.
        let inputs = self.embed.matmul(&self.w.t()?)?.broadcast_add(&self.wb)?;
        let recurrent = self.r.t()?.contiguous()?;
        let mut state = self.h0.index_select(&batch.rows, 0)?;
        let mut states = vec![state.clone()];
        for place in 0..batch.length - 1 {
            let a = inputs.index_select(&batch.inputs.get(place)?, 0)?;
            let b = state.matmul(&recurrent)?.broadcast_add(&self.rb)?;
            let gates = (a.narrow(1, 0, 2 * hidden)? + b.narrow(1, 0, 2 * hidden)?)?;
            let gates = sigmoid(&gates)?;
            let z = gates.narrow(1, 0, hidden)?;
            let r = gates.narrow(1, hidden, hidden)?;
            let b = (r * b.narrow(1, 2 * hidden, hidden)?)?;
            let n = (a.narrow(1, 2 * hidden, hidden)? + b)?.tanh()?;
            state = (&n + (z * (state - &n)?)?)?;
            states.push(state.clone());
        }
        let states = Tensor::cat(&states, 0)?;
        let mut logits = states
            .matmul(&self.out_w.t()?)?
            .broadcast_add(&self.out_b)?;
        if let Some(followers) = &self.followers {
            logits = (logits + followers.table.index_select(&batch.after, 0)?)?;
        }
        log_softmax(&logits, D::Minus1)?
            .gather(&batch.targets, 1)?
            .squeeze(1)?
            .neg()
    }

    /// Weighted sum of `-ln p` over the targets divided by `scale`. With one scale for all
    /// batches, gradients weigh batches by what is in them.
    ///
    /// # Errors
    /// The library's.
    pub fn loss(&self, batch: &Batch, scale: f64) -> Result<Tensor, TrainError> {
        let sum = (self.surprises(batch)? * &batch.weights)?.sum_all()?;
        Ok((sum / scale)?)
    }

    /// `-ln p(token | pattern, tokens before)` of every token of every sequence.
    ///
    /// # Errors
    /// The library's.
    pub fn score(&self, sequences: &[Sequence]) -> Result<Vec<Vec<f32>>, TrainError> {
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|&index| sequences[index].ids.len());
        let mut scores = vec![Vec::new(); sequences.len()];
        for chunk in order.chunks(SCORED) {
            let weighted: Vec<_> = chunk
                .iter()
                .map(|&index| (&sequences[index], 1.0))
                .collect();
            let batch = self.batch(&weighted, None)?;
            let surprises = self
                .surprises(&batch)?
                .to_dtype(DType::F32)?
                .to_vec1::<f32>()?;
            for (column, &index) in chunk.iter().enumerate() {
                let places = 0..sequences[index].ids.len();
                scores[index] = places
                    .map(|t| surprises[t * chunk.len() + column])
                    .collect();
            }
        }
        Ok(scores)
    }
}
