//! Products of one matrix with a vector of each of several windows, which lie side by side in the lanes of
//! vector registers.
//!
//! What a lane gets depends on its own vector alone, down to the order in which its sums are taken: that is
//! what makes a window's verdict bit-identical in any batch.

/// Windows side by side.
pub(crate) const LANES: usize = 8;

/// One value of each window.
pub(crate) type Lanes = [f32; LANES];

/// Rows that are summed up at a time: their sums, and what is multiplied, fit into sixteen registers of
/// four values.
const ROWS: usize = 5;

/// Columns in one turn of the loop over them. At the end of a turn, where a WebAssembly engine looks at the
/// deadline, all sums are written to memory.
const COLUMNS: usize = 4;

/// `w · x + b`.
pub(crate) struct Product {
    columns: usize,
    /// Groups of `ROWS` rows, each column by column; what fills the last group up is zero.
    weights: Vec<[f32; ROWS]>,
    /// One for each group.
    biases: Vec<[f32; ROWS]>,
}

impl Product {
    /// `weights`: one row after another, as many as there are `biases`.
    pub(crate) fn new(weights: &[f32], biases: &[f32]) -> Self {
        let width = weights.len() / biases.len().max(1);
        let columns = width.next_multiple_of(COLUMNS);
        let groups = biases.len().div_ceil(ROWS);
        let mut product = Product {
            columns,
            weights: vec![[0.0; ROWS]; groups * columns],
            biases: vec![[0.0; ROWS]; groups],
        };
        for (row, (weights, bias)) in weights.chunks(width.max(1)).zip(biases).enumerate() {
            let (group, place) = (row / ROWS, row % ROWS);
            product.biases[group][place] = *bias;
            let group = &mut product.weights[group * columns..][..columns];
            for (column, weight) in group.iter_mut().zip(weights) {
                column[place] = *weight;
            }
        }
        product
    }

    /// Zeros for what is multiplied; those beyond its own length stay zero.
    pub(crate) fn input(&self) -> Vec<Lanes> {
        vec![[0.0; LANES]; self.columns]
    }

    /// Zeros for the result, and for what is beyond it.
    pub(crate) fn output(&self) -> Vec<Lanes> {
        vec![[0.0; LANES]; self.biases.len() * ROWS]
    }

    pub(crate) fn run(&self, input: &[Lanes], output: &mut [Lanes]) {
        let groups = self.weights.chunks_exact(self.columns).zip(&self.biases);
        let (output, _) = output.as_chunks_mut::<ROWS>();
        for ((weights, biases), output) in groups.zip(output) {
            *output = group(weights, biases, input);
        }
    }
}

fn group(weights: &[[f32; ROWS]], biases: &[f32; ROWS], input: &[Lanes]) -> [Lanes; ROWS] {
    let mut sums = biases.map(|bias| [bias; LANES]);
    let (weights, _) = weights.as_chunks::<COLUMNS>();
    let (input, _) = input.as_chunks::<COLUMNS>();
    for ([w0, w1, w2, w3], [x0, x1, x2, x3]) in weights.iter().zip(input) {
        add_column(&mut sums, w0, x0);
        add_column(&mut sums, w1, x1);
        add_column(&mut sums, w2, x2);
        add_column(&mut sums, w3, x3);
    }
    sums
}

#[inline(always)]
fn add_column(sums: &mut [Lanes; ROWS], weights: &[f32; ROWS], input: &Lanes) {
    for (sums, weight) in sums.iter_mut().zip(weights) {
        for (sum, input) in sums.iter_mut().zip(input) {
            *sum += weight * input;
        }
    }
}

/// Each lane's greatest value, and the index of the first such.
pub(crate) fn greatest(values: &[Lanes]) -> (Lanes, [u32; LANES]) {
    let mut best = [f32::NEG_INFINITY; LANES];
    let mut index = [0; LANES];
    for (at, values) in (0..).zip(values) {
        for ((best, index), value) in best.iter_mut().zip(&mut index).zip(values) {
            let is_greater = value > best;
            *best = if is_greater { *value } else { *best };
            *index = if is_greater { at } else { *index };
        }
    }
    (best, index)
}

/// Puts `of` both values into each lane of `to`.
#[inline(always)]
pub(crate) fn each(to: &mut Lanes, other: &Lanes, of: impl Fn(f32, f32) -> f32) {
    for (to, other) in to.iter_mut().zip(other) {
        *to = of(*to, *other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equals_the_first_is_the_greatest() {
        let mut values = [[-1.0, -2.0, 0.5, 7.0, 0.0, 0.0, 0.0, 0.0]; 4];
        values[2][..4].copy_from_slice(&[0.0, -3.0, 0.25, 7.5]);
        values[3][..4].copy_from_slice(&[0.0, -1.5, 0.25, 7.5]);
        let (best, index) = greatest(&values);
        assert_eq!(best, [0.0, -1.5, 0.5, 7.5, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(index, [2, 3, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn every_lane_has_its_own_product() {
        for (rows, columns) in [(1, 1), (5, 4), (7, 6), (11, 13)] {
            let weight = |row: usize, column: usize| (row * 10 + column) as f32;
            let weights: Vec<f32> = (0..rows * columns)
                .map(|at| weight(at / columns, at % columns))
                .collect();
            let biases: Vec<f32> = (0..rows).map(|row| row as f32 / 4.0).collect();
            let product = Product::new(&weights, &biases);
            let (mut input, mut output) = (product.input(), product.output());
            for (column, lanes) in input[..columns].iter_mut().enumerate() {
                *lanes = std::array::from_fn(|lane| (column * lane) as f32);
            }
            product.run(&input, &mut output);
            for (row, sums) in output[..rows].iter().enumerate() {
                for (lane, sum) in sums.iter().enumerate() {
                    let terms = (0..columns).map(|at| weight(row, at) * (at * lane) as f32);
                    let expected = terms.sum::<f32>() + biases[row];
                    assert_eq!(*sum, expected, "{rows} × {columns}");
                }
            }
        }
    }
}
