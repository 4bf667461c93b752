//! From surprises of tokens to the strangeness of a window.

/// Number of token surprises that decide.
const HIGHEST: usize = 3;

/// Mean of the three highest token surprises in nats (of all, when there are fewer); 0 for an
/// empty window. A long familiar part thus does not dilute a short strange one. Values that are
/// not finite are left out.
pub fn window_score(surprise: &[f32]) -> f64 {
    let mut highest = [f64::NEG_INFINITY; HIGHEST];
    for value in surprise.iter().copied().filter(|value| value.is_finite()) {
        let mut value = f64::from(value);
        for slot in &mut highest {
            if value > *slot {
                std::mem::swap(&mut value, slot);
            }
        }
    }
    let kept: Vec<f64> = highest
        .into_iter()
        .filter(|value| value.is_finite())
        .collect();
    if kept.is_empty() {
        0.0
    } else {
        kept.iter().sum::<f64>() / kept.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_highest_decide_wherever_they_stand() {
        assert_eq!(window_score(&[0.1, 9.0, 0.1, 6.0, 0.2, 3.0]), 6.0);
        assert_eq!(window_score(&[9.0, 6.0, 3.0]), 6.0);
        assert_eq!(window_score(&[4.0, 4.0, 4.0, 1.0]), 4.0);
    }

    #[test]
    fn short_windows_use_what_they_have() {
        assert_eq!(window_score(&[]), 0.0);
        assert_eq!(window_score(&[2.0]), 2.0);
        assert_eq!(window_score(&[2.0, f32::NAN, 4.0]), 3.0);
    }
}
