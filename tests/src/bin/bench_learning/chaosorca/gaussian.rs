//! Normal distribution of vectors by its principal axes.

/// Sweeps over all pairs of axes; a few dozen dimensions need fewer than ten.
const SWEEPS: usize = 30;

/// That of greatest variance first.
pub(crate) struct Gaussian {
    mean: Vec<f64>,
    axes: Vec<Axis>,
    noise: f64,
}

struct Axis {
    variance: f64,
    direction: Vec<f64>,
}

impl Gaussian {
    /// Of `rows` of equal length; `noise` is a standard deviation that every axis has beside its own.
    pub(crate) fn new(rows: &[Vec<f64>], noise: f64) -> Self {
        let length = rows.first().map_or(0, Vec::len);
        let count = rows.len().max(1) as f64;
        let mean = |place: usize| rows.iter().map(|row| row[place]).sum::<f64>() / count;
        let mean: Vec<f64> = (0..length).map(mean).collect();
        let covariance = |i: usize, j: usize| {
            let products = rows
                .iter()
                .map(|row| (row[i] - mean[i]) * (row[j] - mean[j]));
            products.sum::<f64>() / count
        };
        let covariance: Vec<Vec<f64>> = (0..length)
            .map(|i| (0..length).map(|j| covariance(i, j)).collect())
            .collect();
        let mut axes = axes_of(covariance);
        axes.sort_by(|a, b| b.variance.total_cmp(&a.variance));
        Gaussian { mean, axes, noise }
    }

    /// Squared Mahalanobis distance.
    pub(crate) fn distance(&self, row: &[f64]) -> f64 {
        let variances = self
            .axes
            .iter()
            .map(|axis| axis.variance.max(0.0) + self.noise.powi(2));
        self.squares(row)
            .zip(variances)
            .map(|(square, variance)| square / variance)
            .sum()
    }

    /// Square of what the first `components` axes leave of the deviation from the mean.
    pub(crate) fn residual(&self, row: &[f64], components: usize) -> f64 {
        self.squares(row).skip(components).sum()
    }

    /// Of the deviation along each axis.
    fn squares(&self, row: &[f64]) -> impl Iterator<Item = f64> {
        let centred: Vec<f64> = row
            .iter()
            .zip(&self.mean)
            .map(|(x, mean)| x - mean)
            .collect();
        self.axes.iter().map(move |axis| {
            let parts = axis.direction.iter().zip(&centred);
            parts.map(|(a, b)| a * b).sum::<f64>().powi(2)
        })
    }
}

/// Eigenvalues and eigenvectors of a symmetric matrix: cyclic Jacobi rotations (Golub & Van Loan,
/// Matrix Computations, 8.5).
fn axes_of(mut matrix: Vec<Vec<f64>>) -> Vec<Axis> {
    let length = matrix.len();
    let unit = |i: usize| (0..length).map(move |j| f64::from(u8::from(i == j)));
    let mut directions: Vec<Vec<f64>> = (0..length).map(|i| unit(i).collect()).collect();
    for _ in 0..SWEEPS {
        for p in 0..length {
            for q in p + 1..length {
                if matrix[p][q] == 0.0 {
                    continue;
                }
                let tau = (matrix[q][q] - matrix[p][p]) / (2.0 * matrix[p][q]);
                let tangent = tau.signum() / (tau.abs() + tau.hypot(1.0));
                let cosine = 1.0 / tangent.hypot(1.0);
                let sine = tangent * cosine;
                for row in &mut matrix {
                    (row[p], row[q]) = rotated(row[p], row[q], cosine, sine);
                }
                for rows in [&mut matrix, &mut directions] {
                    let (before, from_q) = rows.split_at_mut(q);
                    for (a, b) in before[p].iter_mut().zip(&mut from_q[0]) {
                        (*a, *b) = rotated(*a, *b, cosine, sine);
                    }
                }
            }
        }
    }
    let axis = |(index, direction): (usize, Vec<f64>)| Axis {
        variance: matrix[index][index],
        direction,
    };
    directions.into_iter().enumerate().map(axis).collect()
}

fn rotated(a: f64, b: f64, cosine: f64, sine: f64) -> (f64, f64) {
    (cosine * a - sine * b, sine * a + cosine * b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_deviations_along_the_axes() {
        let rows = [[-2.0, 0.0], [2.0, 0.0], [0.0, -1.0], [0.0, 1.0]].map(Vec::from);
        // Variances 2 and 1/2.
        let normal = Gaussian::new(&rows, 0.0);
        assert!((normal.distance(&[2.0, 1.0]) - 4.0).abs() < 1e-9);
        assert!((normal.residual(&[2.0, 1.0], 1) - 1.0).abs() < 1e-9);
        assert!(normal.residual(&[2.0, 1.0], 2).abs() < 1e-9);
        let noisy = Gaussian::new(&rows, 2.0);
        assert!((noisy.distance(&[2.0, 0.0]) - 4.0 / 6.0).abs() < 1e-9);
    }

    #[test]
    fn axes_lie_as_the_rows_do() {
        // Along (1, 1, 0) far, along (1, -1, 0) near, along (0, 0, 1) between.
        let rows = [[5.0, 5.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, 3.0]];
        let both = rows
            .iter()
            .flat_map(|row| [row.to_vec(), row.map(|x| -x).to_vec()]);
        let normal = Gaussian::new(&both.collect::<Vec<_>>(), 0.0);
        let variances: Vec<f64> = normal.axes.iter().map(|axis| axis.variance).collect();
        for (variance, expected) in variances.iter().zip([50.0 / 3.0, 3.0, 2.0 / 3.0]) {
            assert!((variance - expected).abs() < 1e-9, "{variances:?}");
        }
        assert!(normal.residual(&[7.0, 7.0, 0.0], 1) < 1e-9);
        assert!((normal.residual(&[1.0, -1.0, 0.0], 2) - 2.0).abs() < 1e-9);
    }
}
