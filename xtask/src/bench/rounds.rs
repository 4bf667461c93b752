//! Interleaved rounds: every variant runs once in each round, so that drift of the machine
//! reaches all of them alike.

use anyhow::Result;

/// Median and quartiles of one variant's rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) lower: f64,
    pub(super) median: f64,
    pub(super) upper: f64,
}

impl Spread {
    /// Quartiles by linear interpolation between ranks; zeros when there is nothing.
    pub(super) fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            lower: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            upper: quantile(&sorted, 0.75),
        }
    }
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let rank = share * last as f64;
    let below = sorted[rank.floor() as usize];
    let above = sorted[rank.ceil() as usize];
    below + (above - below) * rank.fract()
}

/// Calls `measure` for every variant in every round; the order turns by one each round, so that
/// no variant always follows the same one. Gives the values of each variant, round by round.
pub(super) fn interleave<V: Copy, T>(
    variants: &[V],
    rounds: u32,
    mut measure: impl FnMut(V) -> Result<T>,
) -> Result<Vec<Vec<T>>> {
    let mut values: Vec<Vec<T>> = variants.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds as usize {
        for step in 0..variants.len() {
            let which = (round + step) % variants.len();
            values[which].push(measure(variants[which])?);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_of_a_known_row() {
        let spread = Spread::of(&[5.0, 1.0, 3.0, 2.0, 4.0]);
        assert_eq!(
            spread,
            Spread {
                lower: 2.0,
                median: 3.0,
                upper: 4.0
            }
        );
        assert_eq!(Spread::of(&[1.0, 2.0]).median, 1.5);
        assert_eq!(Spread::of(&[]).median, 0.0);
    }

    #[test]
    fn every_variant_runs_once_a_round_in_turning_order() {
        let mut order = Vec::new();
        let values = interleave(&['a', 'b', 'c'], 2, |variant| {
            order.push(variant);
            Ok(order.len())
        });
        assert_eq!(order, ['a', 'b', 'c', 'b', 'c', 'a']);
        assert_eq!(values.unwrap(), [[1, 6], [2, 4], [3, 5]]);
    }
}
