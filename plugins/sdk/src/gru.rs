//! The next-token model: a GRU over vocabulary ids, conditioned on the pattern by its initial
//! state.
//!
//! `p(token t) = softmax(out.w · h_t + out.b + after[row])`, where `h_0` is the pattern's initial state,
//! `h_t` has consumed the tokens before `t`, and `row` is that of the pattern and of token `t - 1` in
//! `after.row`; without `after` nothing is added. Gates are in ONNX order z, r, h with
//! `linear_before_reset = 1`.

use tract_core::internal::*;
use tract_core::ops::array::TypedConcat;
use tract_core::ops::einsum::EinSum;
use tract_core::ops::gru_seq::GruSeq;
use tract_core::ops::nn::{Softmax, SoftmaxKind};

use crate::model::{ModelError, Verdict, WINDOW_LIMIT, Window};
use crate::tensors::{Tensors, Values};

/// Rows of one tract run. Every run has exactly this many, empty rows included, so that the
/// same kernels see each window whatever it is batched with: that is what makes its verdict
/// bit-identical in any batch.
const ROWS: usize = 8;

/// Window lengths that plans are built for; a window runs in the first that holds it.
const LENGTHS: [usize; 4] = [8, 16, 32, WINDOW_LIMIT];

/// Rows of the output layer come in multiples of this, the added ones with `NEVER` for a bias.
/// Softmax sums a row in an order that depends on where in a vector it begins; so all rows begin
/// alike.
const OUTPUTS: usize = 16;
/// Logit of an id that does not exist.
const NEVER: f32 = -1e30;

pub(crate) struct Gru {
    pub(crate) vocabulary: usize,
    /// Outputs of a plan for one token: `vocabulary` and what fills it up.
    outputs: usize,
    pub(crate) patterns: usize,
    hidden: usize,
    /// `w · embed[id] + wb`, `[vocabulary, 3 * hidden]`: the input side of every step.
    input_gates: Vec<f32>,
    /// `[patterns + 1, hidden]`, the last row for windows without a pattern.
    initial: Vec<f32>,
    after: Option<After>,
    plans: Vec<Plan>,
}

/// What is added to the logits.
struct After {
    /// `[rows, vocabulary]`.
    values: Vec<f32>,
    /// `[patterns + 1, vocabulary + 1]`: the last row for windows without a pattern, the last column for
    /// the first token.
    rows: Vec<usize>,
}

/// Logits and probabilities of the tokens of `ROWS` windows, both `[ROWS, length, outputs]`.
struct Plan {
    length: usize,
    state: TypedSimpleState,
}

impl Gru {
    pub(crate) fn read(tensors: &Tensors) -> Result<Self, ModelError> {
        let (vocabulary, embedding) = tensors.matrix_shape("gru.embed")?;
        let (states, hidden) = tensors.matrix_shape("gru.h0")?;
        if vocabulary > usize::from(u16::MAX) + 1 {
            return Err(ModelError::Shape {
                tensor: "gru.embed",
                expected: "at most 65536 rows".into(),
                found: vocabulary.to_string(),
            });
        }
        let embed = tensors.get("gru.embed", &[vocabulary, embedding])?;
        let w = tensors.get("gru.w", &[3 * hidden, embedding])?;
        let wb = tensors.get("gru.wb", &[3 * hidden])?;
        let initial = tensors.get("gru.h0", &[states, hidden])?.values;
        let after = match tensors.contains("gru.after") {
            true => Some(After::read(tensors, states, vocabulary)?),
            false => None,
        };
        let outputs = vocabulary.next_multiple_of(OUTPUTS);
        let mut out_w = tensors.get("gru.out.w", &[vocabulary, hidden])?;
        out_w.shape[0] = outputs;
        out_w.values.resize(outputs * hidden, 0.0);
        let mut out_b = tensors.get("gru.out.b", &[vocabulary])?;
        out_b.shape = vec![1, 1, outputs];
        out_b.values.resize(outputs, NEVER);
        let weights = Weights {
            r: tensors
                .get("gru.r", &[3 * hidden, hidden])?
                .into_tensor()?
                .into_arc_tensor(),
            // The input side's bias is in `input_gates` already; a projected `GruSeq` reads
            // the recurrent half only.
            bias: Values {
                shape: vec![6 * hidden],
                values: [
                    vec![0.0; 3 * hidden],
                    tensors.get("gru.rb", &[3 * hidden])?.values,
                ]
                .concat(),
            }
            .into_tensor()?
            .into_arc_tensor(),
            out_w: out_w.into_tensor()?.into_arc_tensor(),
            out_b: out_b.into_tensor()?.into_arc_tensor(),
        };
        let mut plans = Vec::with_capacity(LENGTHS.len());
        for length in LENGTHS {
            plans.push(weights.plan(length, hidden)?);
        }
        Ok(Gru {
            vocabulary,
            outputs,
            patterns: states - 1,
            hidden,
            input_gates: project(&embed, &w, &wb),
            initial,
            after,
            plans,
        })
    }

    /// Verdicts in the order of `windows`.
    pub(crate) fn score(&mut self, windows: &[Window]) -> Result<Vec<Verdict>, ModelError> {
        for (index, window) in windows.iter().enumerate() {
            self.check(index, window)?;
        }
        let mut verdicts = vec![Verdict::default(); windows.len()];
        let mut shortest = 1;
        for plan in 0..self.plans.len() {
            let length = self.plans[plan].length;
            let fitting: Vec<usize> = (0..windows.len())
                .filter(|&index| (shortest..=length).contains(&windows[index].tokens.len()))
                .collect();
            for rows in fitting.chunks(ROWS) {
                self.run(plan, windows, rows, &mut verdicts)?;
            }
            shortest = length + 1;
        }
        Ok(verdicts)
    }

    fn check(&self, index: usize, window: &Window) -> Result<(), ModelError> {
        if window.tokens.len() > WINDOW_LIMIT {
            return Err(ModelError::WindowLength {
                index,
                length: window.tokens.len(),
            });
        }
        if let Some(pattern) = window
            .pattern
            .filter(|&pattern| pattern as usize >= self.patterns)
        {
            return Err(ModelError::Pattern {
                index,
                pattern,
                patterns: self.patterns,
            });
        }
        match window
            .tokens
            .iter()
            .find(|&&token| usize::from(token) >= self.vocabulary)
        {
            Some(&token) => Err(ModelError::Token {
                index,
                token,
                vocabulary: self.vocabulary,
            }),
            None => Ok(()),
        }
    }

    /// Scores the windows at `rows` (at most `ROWS`) with plan number `plan`.
    fn run(
        &mut self,
        plan: usize,
        windows: &[Window],
        rows: &[usize],
        verdicts: &mut [Verdict],
    ) -> Result<(), ModelError> {
        let (hidden, vocabulary, outputs) = (self.hidden, self.vocabulary, self.outputs);
        let Plan { length, state } = &mut self.plans[plan];
        let (steps, gates) = (*length - 1, 3 * hidden);
        let mut input = Tensor::zero::<f32>(&[ROWS, steps, gates])?;
        let mut initial = Tensor::zero::<f32>(&[ROWS, 1, hidden])?;
        let mut added = Tensor::zero::<f32>(&[ROWS, *length, outputs])?;
        {
            let mut input = input.try_as_plain_ram_mut()?;
            let mut initial = initial.try_as_plain_ram_mut()?;
            let input = input.as_slice_mut::<f32>()?.chunks_exact_mut(steps * gates);
            let initial = initial.as_slice_mut::<f32>()?.chunks_exact_mut(hidden);
            for ((input, initial), &row) in input.zip(initial).zip(rows) {
                let window = &windows[row];
                let from = window
                    .pattern
                    .map_or(self.patterns, |pattern| pattern as usize);
                initial.copy_from_slice(&self.initial[from * hidden..][..hidden]);
                for (step, &token) in input.chunks_exact_mut(gates).zip(&window.tokens) {
                    step.copy_from_slice(&self.input_gates[usize::from(token) * gates..][..gates]);
                }
            }
        }
        if let Some(after) = &self.after {
            let mut added = added.try_as_plain_ram_mut()?;
            let added = added.as_slice_mut::<f32>()?;
            for (added, &row) in added.chunks_exact_mut(*length * outputs).zip(rows) {
                let pattern = windows[row].pattern.map_or(self.patterns, |p| p as usize);
                let tokens = windows[row].tokens.iter().map(|token| usize::from(*token));
                let before = std::iter::once(vocabulary).chain(tokens);
                for (added, before) in added.chunks_exact_mut(outputs).zip(before) {
                    let from = after.rows[pattern * (vocabulary + 1) + before] * vocabulary;
                    added[..vocabulary].copy_from_slice(&after.values[from..][..vocabulary]);
                }
            }
        }
        let inputs = [input, initial, added].map(IntoTValue::into_tvalue);
        let output = state.run(inputs.into_iter().collect())?;
        let logits = output[0].try_as_plain_ram()?;
        let p = output[1].try_as_plain_ram()?;
        let logits = logits.as_slice::<f32>()?.chunks_exact(*length * outputs);
        let p = p.as_slice::<f32>()?.chunks_exact(*length * outputs);
        for ((logits, p), &row) in logits.zip(p).zip(rows) {
            let places = logits.chunks_exact(outputs).zip(p.chunks_exact(outputs));
            for (&token, (logits, p)) in windows[row].tokens.iter().zip(places) {
                let best = most_likely(&logits[..vocabulary]);
                // By way of the most likely id: its p is at least 1 / vocabulary, while the
                // token's own may be too small for an f32.
                let below_best = logits[best] - logits[usize::from(token)];
                verdicts[row]
                    .surprise
                    .push((below_best - p[best].ln()).max(0.0));
                verdicts[row].expected.push(best as u16);
            }
        }
        Ok(())
    }
}

impl After {
    fn read(tensors: &Tensors, states: usize, vocabulary: usize) -> Result<Self, ModelError> {
        let (count, _) = tensors.matrix_shape("gru.after")?;
        let rows = tensors
            .get("gru.after.row", &[states, vocabulary + 1])?
            .values;
        let row = |(index, found): (usize, f32)| {
            let row = found as usize;
            let is_row = row as f32 == found && row < count;
            is_row.then_some(row).ok_or(ModelError::Row {
                tensor: "gru.after.row",
                index,
                found,
                rows: count,
            })
        };
        Ok(After {
            values: tensors.get("gru.after", &[count, vocabulary])?.values,
            rows: rows
                .into_iter()
                .enumerate()
                .map(row)
                .collect::<Result<_, _>>()?,
        })
    }
}

struct Weights {
    r: Arc<Tensor>,
    bias: Arc<Tensor>,
    out_w: Arc<Tensor>,
    out_b: Arc<Tensor>,
}

impl Weights {
    fn plan(&self, length: usize, hidden: usize) -> TractResult<Plan> {
        let mut model = TypedModel::default();
        let gates = model.add_source("gates", f32::fact([ROWS, length - 1, 3 * hidden]))?;
        let initial = model.add_source("initial", f32::fact([ROWS, 1, hidden]))?;
        let outputs = self.out_w.shape()[0];
        let after = model.add_source("after", f32::fact([ROWS, length, outputs]))?;
        let r = model.add_const("r", self.r.clone())?;
        let bias = model.add_const("bias", self.bias.clone())?;
        let out_w = model.add_const("out.w", self.out_w.clone())?;
        let out_b = model.add_const("out.b", self.out_b.clone())?;
        let gru = GruSeq {
            hidden,
            has_bias: true,
            chunk: 1,
            emit_y: true,
            reset_every_turn: true,
            projected: true,
            packed_r: None,
        };
        let states = model.wire_node("gru", gru, &[gates, r, bias, initial])?[0];
        let states = model.wire_node("states", TypedConcat { axis: 1 }, &[initial, states])?[0];
        let product = EinSum::new("bth,vh->btv".parse()?, f32::datum_type());
        let logits = model.wire_node("logits", product, &[states, out_w])?[0];
        let add = tract_core::ops::math::add;
        let logits = model.wire_node("biased", add(), &[logits, out_b])?[0];
        let logits = model.wire_node("added", add(), &[logits, after])?[0];
        let softmax = Softmax {
            axes: tvec!(2),
            quant_output_dt: None,
            kind: SoftmaxKind::Softmax,
        };
        let p = model.wire_node("p", softmax, &[logits])?[0];
        model.select_output_outlets(&[logits, p])?;
        Ok(Plan {
            length,
            state: model.into_optimized()?.into_runnable()?.spawn()?,
        })
    }
}

/// `w · embed[id] + wb` for each id, `[vocabulary, 3 * hidden]`.
fn project(embed: &Values, w: &Values, wb: &Values) -> Vec<f32> {
    let embedding = embed.shape[1];
    let mut gates = Vec::with_capacity(embed.shape[0] * wb.values.len());
    for id in embed.values.chunks_exact(embedding) {
        for (row, bias) in w.values.chunks_exact(embedding).zip(&wb.values) {
            gates.push(row.iter().zip(id).map(|(w, x)| w * x).sum::<f32>() + bias);
        }
    }
    gates
}

/// Index of the greatest entry, the first of equals.
fn most_likely(logits: &[f32]) -> usize {
    let mut best = 0;
    for (id, value) in logits.iter().enumerate() {
        if *value > logits[best] {
            best = id;
        }
    }
    best
}
