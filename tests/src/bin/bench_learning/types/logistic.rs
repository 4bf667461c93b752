//! Logistic regression whose weights may be bound to a sign.

use super::chosen::Sign;

const STEPS: i32 = 3000;
const RATE: f64 = 0.05;
/// Weight of the penalty on squared weights, for one sample.
const PENALTY: f64 = 1.0 / 300.0;

/// Values of the figures of a sample, whether it is one of the type, and its weight.
pub(super) struct Sample {
    pub(super) values: Vec<f32>,
    pub(super) positive: bool,
    pub(super) weight: f64,
}

/// Weights and bias that make the weighted loss least (Adam, then each weight cut to its sign).
pub(super) fn learn(samples: &[Sample], signs: &[Sign]) -> (Vec<f64>, f64) {
    let figures = signs.len();
    let all: f64 = samples.iter().map(|sample| sample.weight).sum();
    let penalty = PENALTY / samples.len().max(1) as f64;
    let mut theta = vec![0.0; figures + 1];
    let (mut first, mut second) = (vec![0.0; figures + 1], vec![0.0; figures + 1]);
    for step in 1..=STEPS {
        let mut gradient: Vec<f64> = theta.iter().map(|weight| penalty * weight).collect();
        gradient[figures] = 0.0;
        for sample in samples {
            let sum = sum(&theta, &sample.values);
            let wrong = 1.0 / (1.0 + (-sum).exp()) - f64::from(u8::from(sample.positive));
            let wrong = wrong * sample.weight / all;
            for (gradient, value) in gradient.iter_mut().zip(&sample.values) {
                *gradient += wrong * f64::from(*value);
            }
            gradient[figures] += wrong;
        }
        for (at, gradient) in gradient.iter().enumerate() {
            first[at] = 0.9 * first[at] + 0.1 * gradient;
            second[at] = 0.999 * second[at] + 0.001 * gradient * gradient;
            let mean = first[at] / (1.0 - 0.9_f64.powi(step));
            let spread = second[at] / (1.0 - 0.999_f64.powi(step));
            theta[at] -= RATE * mean / (spread.sqrt() + 1e-8);
            theta[at] = match signs.get(at) {
                Some(Sign::Plus) => theta[at].max(0.0),
                Some(Sign::Minus) => theta[at].min(0.0),
                _ => theta[at],
            };
        }
    }
    let bias = theta.pop().unwrap_or_default();
    (theta, bias)
}

fn sum(theta: &[f64], values: &[f32]) -> f64 {
    let bias = theta.last().copied().unwrap_or_default();
    let terms = theta.iter().zip(values);
    bias + terms
        .map(|(weight, value)| weight * f64::from(*value))
        .sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_keeps_its_sign_and_the_rest_tells_the_classes_apart() {
        let sample = |values: [f32; 2], positive| Sample {
            values: values.to_vec(),
            positive,
            weight: 1.0,
        };
        let samples = [
            sample([0.0, 1.0], false),
            sample([0.1, 0.9], false),
            sample([1.0, 0.2], true),
            sample([0.9, 0.0], true),
        ];
        let (weights, bias) = learn(&samples, &[Sign::Plus, Sign::Plus]);
        assert!(weights[0] > 0.0);
        assert_eq!(weights[1], 0.0);
        for sample in &samples {
            let fit = bias + weights[0] * f64::from(sample.values[0]);
            assert_eq!(fit > 0.0, sample.positive);
        }
        let (weights, _) = learn(&samples, &[Sign::Any, Sign::Any]);
        assert!(weights[1] < 0.0);
    }
}
