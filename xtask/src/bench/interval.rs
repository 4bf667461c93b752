//! Where the mean of few rounds lies with 95 % confidence.

/// Student's t, two-sided 95 %, by degrees of freedom from 1; the normal law's beyond.
const T_95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];
const NORMAL_95: f64 = 1.960;

/// A mean, and the ends of its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Interval {
    pub(super) low: f64,
    pub(super) mean: f64,
    pub(super) high: f64,
}

impl Interval {
    /// Student's t-interval of the mean; none for fewer than two values.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let freedom = values.len().checked_sub(1).filter(|&freedom| freedom > 0)?;
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (squares / freedom as f64 / count).sqrt();
        let t = T_95.get(freedom - 1).copied().unwrap_or(NORMAL_95);
        Some(Self {
            low: mean - t * error,
            mean,
            high: mean + t * error,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_that_is_known() {
        // Mean 3, standard deviation √2.5, four degrees of freedom.
        let interval = Interval::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        let half = 2.776 * (2.5_f64 / 5.0).sqrt();
        assert_eq!(interval.mean, 3.0);
        assert!((interval.low - (3.0 - half)).abs() < 1e-9, "{interval:?}");
        assert!((interval.high - (3.0 + half)).abs() < 1e-9, "{interval:?}");
    }

    #[test]
    fn one_round_has_no_interval_and_many_have_a_narrow_one() {
        assert_eq!(Interval::of(&[1.0]), None);
        assert_eq!(Interval::of(&[]), None);
        let many: Vec<f64> = (0..100).map(|value| f64::from(value % 2)).collect();
        let interval = Interval::of(&many).unwrap();
        assert!(interval.low > 0.4 && interval.high < 0.6, "{interval:?}");
    }
}
