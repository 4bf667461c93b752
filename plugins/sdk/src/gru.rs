//! The next-token model: a GRU over vocabulary ids, conditioned on the pattern by its initial
//! state.
//!
//! `p(token t) = softmax(out.w · h_t + out.b + after[row])`, where `h_0` is the pattern's initial state,
//! `h_t` has consumed the tokens before `t`, and `row` is that of the pattern and of token `t - 1` in
//! `after.row`; without `after` nothing is added. Gates are in ONNX order z, r, h with
//! `linear_before_reset = 1`.
//!
//! Windows are scored side by side, [`LANES`] at a time, the longest first; the functions of gates and
//! probabilities are tract's kernels. A graph of tract's own operators took 1.7 times as long in the
//! guest, because its GRU goes through the gates window by window.

use tract_core::tract_linalg::element_wise::ElementWise;
use tract_core::tract_linalg::routines::Func;

use crate::lanes::{LANES, Lanes, Product, each, greatest};
use crate::model::{ModelError, Verdict, WINDOW_LIMIT, Window};
use crate::tensors::{Tensors, Values};

pub(crate) struct Gru {
    pub(crate) vocabulary: usize,
    pub(crate) patterns: usize,
    hidden: usize,
    /// `w · embed[id] + wb`, `[vocabulary, 3 * hidden]`: the input side of every step.
    input_gates: Vec<f32>,
    /// `[patterns + 1, hidden]`, the last row for windows without a pattern.
    initial: Vec<f32>,
    recurrent: Product,
    logits: Product,
    after: Option<After>,
    functions: Functions,
}

/// What is added to the logits.
struct After {
    /// `[rows, vocabulary]`.
    values: Vec<f32>,
    /// `[patterns + 1, vocabulary + 1]`: the last row for windows without a pattern, the last column for
    /// the first token.
    rows: Vec<usize>,
}

/// Kernels, each in place over any number of values.
struct Functions {
    sigmoid: Box<dyn ElementWise<f32>>,
    tanh: Box<dyn ElementWise<f32>>,
    exp: Box<dyn ElementWise<f32>>,
}

/// Windows side by side, and what is worked out of them.
struct Abreast<'a> {
    windows: Vec<&'a Window>,
    /// Row of the initial states.
    starts: Vec<usize>,
    state: Vec<Lanes>,
    /// Input side of the gates, then the gates.
    gates: Vec<Lanes>,
    /// Recurrent side of the gates.
    recurrent: Vec<Lanes>,
    /// Logits, then their exponentials.
    logits: Vec<Lanes>,
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
        let values = |name, shape: &[usize]| Ok::<_, ModelError>(tensors.get(name, shape)?.values);
        let embed = tensors.get("gru.embed", &[vocabulary, embedding])?;
        let w = tensors.get("gru.w", &[3 * hidden, embedding])?;
        let wb = tensors.get("gru.wb", &[3 * hidden])?;
        let after = match tensors.contains("gru.after") {
            true => Some(After::read(tensors, states, vocabulary)?),
            false => None,
        };
        Ok(Gru {
            vocabulary,
            patterns: states - 1,
            hidden,
            input_gates: project(&embed, &w, &wb),
            initial: values("gru.h0", &[states, hidden])?,
            recurrent: Product::new(
                &values("gru.r", &[3 * hidden, hidden])?,
                &values("gru.rb", &[3 * hidden])?,
            ),
            logits: Product::new(
                &values("gru.out.w", &[vocabulary, hidden])?,
                &values("gru.out.b", &[vocabulary])?,
            ),
            after,
            functions: Functions {
                sigmoid: Func::Sigmoid.ew_f32()?,
                tanh: Func::Tanh.ew_f32()?,
                exp: Func::Exp.ew_f32()?,
            },
        })
    }

    /// Verdicts in the order of `windows`.
    pub(crate) fn score(&self, windows: &[Window]) -> Result<Vec<Verdict>, ModelError> {
        for (index, window) in windows.iter().enumerate() {
            self.check(index, window)?;
        }
        let mut order: Vec<usize> = (0..windows.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(windows[index].tokens.len()));
        let mut verdicts = vec![Verdict::default(); windows.len()];
        for places in order.chunks(LANES) {
            let abreast = places.iter().map(|&place| &windows[place]).collect();
            let scored = self.score_abreast(abreast)?;
            for (&place, verdict) in places.iter().zip(scored) {
                verdicts[place] = verdict;
            }
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

    /// Scores at most `LANES` windows, the longest of which is the first.
    fn score_abreast(&self, windows: Vec<&Window>) -> Result<Vec<Verdict>, ModelError> {
        let verdict = |window: &&Window| Verdict {
            surprise: Vec::with_capacity(window.tokens.len()),
            expected: Vec::with_capacity(window.tokens.len()),
        };
        let mut verdicts: Vec<Verdict> = windows.iter().map(verdict).collect();
        let mut abreast = self.begin(windows);
        let length = abreast
            .windows
            .first()
            .map_or(0, |first| first.tokens.len());
        for place in 0..length {
            let lasting = abreast.windows.iter();
            let lasting = lasting
                .take_while(|window| window.tokens.len() > place)
                .count();
            if place > 0 {
                self.consume(&mut abreast, place - 1, lasting)?;
            }
            self.judge(&mut abreast, place, &mut verdicts[..lasting])?;
        }
        Ok(verdicts)
    }

    fn begin<'a>(&self, windows: Vec<&'a Window>) -> Abreast<'a> {
        let start = |window: &&Window| window.pattern.map_or(self.patterns, |one| one as usize);
        let mut abreast = Abreast {
            starts: windows.iter().map(start).collect(),
            windows,
            state: self.recurrent.input(),
            gates: vec![[0.0; LANES]; 3 * self.hidden],
            recurrent: self.recurrent.output(),
            logits: self.logits.output(),
        };
        for (lane, start) in abreast.starts.iter().enumerate() {
            let initial = &self.initial[start * self.hidden..][..self.hidden];
            for (state, initial) in abreast.state.iter_mut().zip(initial) {
                state[lane] = *initial;
            }
        }
        abreast
    }

    /// Takes the first `lasting` windows' tokens at `place` into their states.
    fn consume(
        &self,
        abreast: &mut Abreast,
        place: usize,
        lasting: usize,
    ) -> Result<(), ModelError> {
        let hidden = self.hidden;
        let Abreast {
            windows,
            state,
            gates,
            recurrent,
            ..
        } = abreast;
        self.recurrent.run(state, recurrent);
        for (lane, window) in windows[..lasting].iter().enumerate() {
            let from = usize::from(window.tokens[place]) * 3 * hidden;
            let input = &self.input_gates[from..][..3 * hidden];
            for (gate, input) in gates.iter_mut().zip(input) {
                gate[lane] = *input;
            }
        }
        let (zr, n) = gates.split_at_mut(2 * hidden);
        let (of_zr, of_n) = recurrent.split_at(2 * hidden);
        for (gate, recurrent) in zr.iter_mut().zip(of_zr) {
            each(gate, recurrent, |gate, recurrent| gate + recurrent);
        }
        self.functions.sigmoid.run(zr.as_flattened_mut())?;
        let (z, r) = zr.split_at(hidden);
        for ((n, r), recurrent) in n.iter_mut().zip(r).zip(of_n) {
            let mut reset = *r;
            each(&mut reset, recurrent, |r, recurrent| r * recurrent);
            each(n, &reset, |n, reset| n + reset);
        }
        self.functions.tanh.run(n.as_flattened_mut())?;
        for ((state, n), z) in state.iter_mut().zip(n).zip(z) {
            each(state, n, |state, n| state - n);
            each(state, z, |state, z| state * z);
            each(state, n, |state, n| state + n);
        }
        Ok(())
    }

    /// Says of the token at `place` of each window how surprising it is, and which one is most likely.
    fn judge(
        &self,
        abreast: &mut Abreast,
        place: usize,
        verdicts: &mut [Verdict],
    ) -> Result<(), ModelError> {
        self.logits.run(&abreast.state, &mut abreast.logits);
        let logits = &mut abreast.logits[..self.vocabulary];
        if let Some(after) = &self.after {
            for (lane, (window, start)) in abreast.windows.iter().zip(&abreast.starts).enumerate() {
                let before = place
                    .checked_sub(1)
                    .and_then(|before| window.tokens.get(before));
                let before = before.map_or(self.vocabulary, |token| usize::from(*token));
                let row = after.rows[start * (self.vocabulary + 1) + before];
                let added = &after.values[row * self.vocabulary..][..self.vocabulary];
                for (logit, added) in logits.iter_mut().zip(added) {
                    logit[lane] += added;
                }
            }
        }
        let (best, most_likely) = greatest(logits);
        for logit in logits.iter_mut() {
            each(logit, &best, |logit, best| logit - best);
        }
        let own = |lane: usize| -logits[usize::from(abreast.windows[lane].tokens[place])][lane];
        let below_best: Vec<f32> = (0..verdicts.len()).map(own).collect();
        self.functions.exp.run(logits.as_flattened_mut())?;
        let mut sum = [0.0; LANES];
        for exp in logits.iter() {
            each(&mut sum, exp, |sum, exp| sum + exp);
        }
        for (lane, verdict) in verdicts.iter_mut().enumerate() {
            // By way of the most likely id: the token's own probability may be too small for an f32.
            verdict
                .surprise
                .push((below_best[lane] + sum[lane].ln()).max(0.0));
            verdict.expected.push(most_likely[lane] as u16);
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
